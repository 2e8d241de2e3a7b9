use super::{Context, Error};
use crate::api::RestoreRequest;
use kube::runtime::controller::Action;
use std::sync::Arc;
pub async fn reconcile(_: Arc<RestoreRequest>, _: Arc<Context>) -> Result<Action, Error> {
    Ok(Action::await_change())
}
