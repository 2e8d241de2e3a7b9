//! RestoreRequest → a plan, then a fresh server (or one that exists) that is restored, proved and opened. A request that has ended is never
//! touched again, and neither is the server it made: that is its user's.

mod apply;
mod build;
mod dereference;
mod manifests;
mod names;
mod news;
mod next;
mod server;
mod status;
mod validate;
mod work;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

pub use status::phase;

use super::{Context, Error};
use crate::api::RestoreRequest;
use next::{Doing, Step, View};

/// How often a pod at work is asked how far it is.
const POLL: Duration = Duration::from_secs(4);
/// How often somebody looks whether what is waited for is there by now. (What Kubernetes does wakes us by itself.)
const WAIT: Duration = Duration::from_secs(15);

/// Looks at one request.
pub async fn reconcile(request: Arc<RestoreRequest>, context: Arc<Context>) -> Result<Action, Error> {
    let now = Timestamp::now();
    if request.metadata.deletion_timestamp.is_some() || status::phase(&request).is_terminal() {
        let namespace = request.namespace().unwrap_or_default();
        context.applier.forget("RestoreRequest", &namespace, &request.name_any());
        return Ok(Action::await_change());
    }
    let seen = dereference::dereference(&request, &context).await;
    if let Some(job) = &seen.pruned_by {
        let status = status::refused(&request, validate::Refusal::pruning(job), now);
        news::write(&context, &request, status, now).await?;
        return Ok(Action::requeue(POLL));
    }
    let validated = match validate::validate(&request, &seen) {
        Ok(validated) => validated,
        Err(refusal) => {
            let forever = refusal.forever;
            news::write(&context, &request, status::refused(&request, refusal, now), now).await?;
            return Ok(if forever { Action::await_change() } else { Action::requeue(WAIT) });
        }
    };
    let step = next::next(&View::new(&request, &validated, &seen, now));
    let resources = build::build(&request, &validated, &step, &seen, &context.settings.image)?;
    let applied = apply::apply(&context, resources, &seen).await;
    let look = match &step {
        Step::Plan(Doing::Runs(_)) | Step::Restore(Doing::Runs(_)) | Step::Open(_) => POLL,
        _ => WAIT,
    };
    // What did not happen is not said; what was refused is.
    if applied.as_ref().err().is_none_or(Error::is_refusal) {
        let status = status::compute(&request, &validated, step, &applied, now);
        news::write(&context, &request, status, now).await?;
    }
    applied.map(|_| Action::requeue(look))
}
