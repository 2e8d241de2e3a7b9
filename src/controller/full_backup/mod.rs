use super::{Context, Error};
use crate::api::FullBackup;
use kube::runtime::controller::Action;
use std::sync::Arc;
pub async fn reconcile(_: Arc<FullBackup>, _: Arc<Context>) -> Result<Action, Error> {
    Ok(Action::await_change())
}

/// The policy that a FullBackup is of, whoever made it.
pub fn policy_of(full: &FullBackup) -> Option<kube::runtime::reflector::ObjectRef<crate::api::BackupPolicy>> {
    let name = &full.spec.policy_ref.name;
    Some(kube::runtime::reflector::ObjectRef::new(name).within(full.metadata.namespace.as_deref()?))
}

/// It is in the archive.
pub const COMPLETE: &str = "Complete";
