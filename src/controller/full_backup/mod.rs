//! FullBackup → a Job that takes it, and what became of it. A FullBackup that has ended is never touched again, until it is deleted.

mod apply;
mod build;
mod deletion;
mod dereference;
mod result;
mod status;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

pub use deletion::{DELETE, is_gone, tell_gone};
pub use status::COMPLETE;

use super::{Context, Error};
use crate::api::{BackupPolicy, FullBackup, Phase};

/// How often a Job under way is asked how far it is.
const POLL: Duration = Duration::from_secs(5);
/// How often somebody looks whether the policy is there (and right) by now.
const WAIT: Duration = Duration::from_secs(30);

/// The policy that a FullBackup is of, whoever made it.
pub fn policy_of(full: &FullBackup) -> Option<ObjectRef<BackupPolicy>> {
    Some(ObjectRef::new(&full.spec.policy_ref.name).within(full.metadata.namespace.as_deref()?))
}

/// Looks at one FullBackup.
pub async fn reconcile(full: Arc<FullBackup>, context: Arc<Context>) -> Result<Action, Error> {
    let now = Timestamp::now();
    if full.metadata.deletion_timestamp.is_some() {
        apply::forget(&context, &full);
        return deletion::reconcile(&context, &full, now).await;
    }
    deletion::guard(&context, &full).await?;
    if status::phase(&full).is_terminal() {
        apply::forget(&context, &full);
        return Ok(Action::await_change());
    }
    let seen = dereference::dereference(&full, &context).await;
    // A Job that is there goes on whatever becomes of the policy.
    let applied = match (&seen.job, status::phase(&full)) {
        (Some(_), _) | (None, Phase::Running) => Ok(()),
        (None, _) => match validate::validate(&full, &seen) {
            Ok(validated) => {
                let resources = build::build(&full, &validated, &context.settings.image)?;
                apply::apply(&context, resources, &seen).await
            }
            Err(validate::Refusal { forever, reason, message }) => {
                let status = status::refused(&full, forever, reason, message, now);
                status::write(&context, &full, status, now).await?;
                return Ok(if forever { Action::await_change() } else { Action::requeue(WAIT) });
            }
        },
    };
    let refused = applied.as_ref().err().filter(|error| error.is_refusal());
    let standing = result::standing(&full, &seen, refused, now);
    if let (result::Standing::Failed { stop: true, .. }, Some(job)) = (&standing, &seen.job) {
        context.applier.stop_retrying(job).await?;
    }
    let status = status::compute(&full, standing, now);
    let ended = status.phase.is_terminal();
    status::write(&context, &full, status, now).await?;
    applied?;
    Ok(if ended { Action::await_change() } else { Action::requeue(POLL) })
}
