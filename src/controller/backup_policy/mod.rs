//! BackupPolicy → a pod that streams, FullBackups when they are due, and a status that says what can be restored.

mod apply;
mod build;
mod copies;
mod dereference;
mod fulls;
mod holdings;
mod news;
mod purge_risk;
mod refresh;
mod retention;
mod status;
mod validate;
mod verification;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;

pub use build::{manifests, prune_manifests};
pub use retention::PRUNE;
pub use status::is_ready;
pub use validate::{Refusal, Validated, validate};

use super::{Context, Error};
use crate::api::BackupPolicy;

/// Looks at one policy.
pub async fn reconcile(policy: Arc<BackupPolicy>, context: Arc<Context>) -> Result<Action, Error> {
    let now = Timestamp::now();
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let seen = dereference::dereference(&policy, &context).await;
    apply::hold(&context, &seen.retention).await?;
    let validated = match validate(&policy) {
        Ok(validated) => validated,
        Err(refusal) => {
            let status = status::refused(&policy, refusal, now);
            status::write(&context, &policy, status, now).await?;
            return Ok(Action::await_change());
        }
    };
    let resources = build::build(&policy, &validated, &context.settings.image)?;
    let applied = apply::apply(&context, &policy, resources, &seen).await;
    let facts = fulls::Facts::new(&policy, &validated, &seen);
    let decision = fulls::decide(&facts, now);
    let taken = apply::carry_out(&context, &policy, &decision, &seen).await;
    let pruned = apply::prune(&context, &policy, &validated, &facts, &seen).await;
    let (begun, verified) = match apply::verify(&context, &policy, &validated, &seen, now).await {
        Ok(begun) => (begun, Ok(())),
        Err(error) => (None, Err(error)),
    };
    let told = apply::tell_gone(&context, &policy, &seen, now).await;
    let failed = applied.and(taken).and(pruned).and(verified).and(told);
    refresh::refresh(&context, &policy, &seen, now).await;
    // Anything else passes by itself.
    let refused = failed.as_ref().err().filter(|error| error.is_refusal());
    let mut status = status::compute(&policy, &validated, &seen, &facts, &decision, refused, now);
    status.verification = verification::status(&policy, &validated, &seen.verification, begun.as_ref(), now);
    let due = decision.look_at.into_iter().chain(verification::next(&validated, now)).min();
    let look = next_look(&status, &seen, due, now);
    status::write(&context, &policy, status, now).await?;
    failed?;
    Ok(Action::requeue(look))
}

/// While a pod runs it is asked how it is, sooner when something is not as wanted; else nothing happens before the next full or verify is `due`.
fn next_look(
    status: &crate::api::BackupPolicyStatus,
    seen: &dereference::Facts,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Duration {
    // The clock may be set while a long sleep lasts.
    const LONGEST: Duration = Duration::from_secs(300);
    let is_verified = seen.verification.is_under_way();
    let poll = match (seen.stream.is_running() || is_verified, status::is_ready(status) && !is_verified) {
        (false, _) => LONGEST,
        (true, true) => Duration::from_secs(10),
        (true, false) => Duration::from_secs(5),
    };
    let due = due.map(|moment| Duration::try_from(moment.duration_since(now)).unwrap_or_default());
    // A little later than due, rather than a little sooner.
    let due = due.map_or(LONGEST, |wait| wait + Duration::from_millis(100));
    poll.min(due).max(Duration::from_secs(1))
}
