use super::{Context, Error};
use crate::api::FullBackup;
use kube::runtime::controller::Action;
use std::sync::Arc;
pub async fn reconcile(_: Arc<FullBackup>, _: Arc<Context>) -> Result<Action, Error> {
    Ok(Action::await_change())
}
