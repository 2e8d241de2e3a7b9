//! What to do next: the whole life of a restore in one function. Pure.
//!
//! ```text
//! Plan ─▶ Planned ─▶ (dry run: Finish)
//!            ├─▶ fresh server:    Restore ─▶ Proved ─▶ Open ─▶ Finish (the server is its user's from here on)
//!            └─▶ existing server: Restore ─▶ Proved ─▶ Finish
//! ```
//!
//! How far a request is stands in its status (conditions `Planned` and `Proved`) and in the server's pod template; the rest is looked at
//! anew each time. So it does not matter where an operator, a pod or a node was lost.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::dereference::{Facts, Found};
use super::status::{PLANNED, PROVED};
use super::validate::{Into, Validated};
use super::work::{Work, condition, of_job, of_server, ready_since, trouble};
use crate::api::report::{Outcome, PodError, PodReport, RestoreOutcome};
use crate::api::{RestorePlanStatus, RestoreRequest};
use crate::controller::conditions;
use crate::controller::names::OPEN;
use crate::controller::reports::waits_for;

/// What decides.
#[derive(Clone, Debug)]
pub struct View {
    /// Whether the plan is known.
    pub planned: bool,
    /// Whether what was restored is proved.
    pub proved: bool,
    /// Whether only the plan is asked for.
    pub dry_run: bool,
    /// The plan being made.
    pub plan: Work,
    /// Where it is restored to.
    pub target: Target,
}

/// The server to restore into.
#[derive(Clone, Debug)]
pub enum Target {
    /// One that exists; the Job, and when it was done.
    Existing(Work, Option<Timestamp>),
    /// A fresh one.
    Fresh(Server),
}

/// A fresh server.
#[derive(Clone, Debug, PartialEq)]
pub enum Server {
    /// It was not made, or is gone.
    Absent,
    /// Something of another request has its name.
    Taken,
    /// It is shut, and being restored.
    Shut(Work),
    /// It is to be open, and is not ready; why.
    Opening(String, String),
    /// It takes connections, since when.
    Open(Timestamp),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// See to it that it is planned.
    Plan(Doing),
    /// Plan again: what was found is lost.
    PlanAgain,
    /// Note the plan.
    Planned(Box<RestorePlanStatus>),
    /// See to it that it is restored.
    Restore(Doing),
    /// Note that it is restored and proved, and how, as far as that is known.
    Proved(Box<Outcome>),
    /// See to it that the server opens.
    Open(Doing),
    /// It is done: leave to the user what is theirs.
    Finish(Finished),
    /// It failed: see to it that nothing tries again.
    Fail(PodError),
}

/// How it goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Doing {
    /// It waits for something.
    Waits {
        /// A condition's reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// It is under way; what it says of itself.
    Runs(Option<Box<PodReport>>),
}

/// How it was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It was only planned.
    Planned,
    /// The server that exists was restored, then.
    Restored(Timestamp),
    /// The fresh server is open, since then.
    Opened(Timestamp),
}

/// Decides.
pub fn next(view: &View) -> Step {
    let View { planned, proved, dry_run, plan, target } = view;
    if !planned {
        return match plan {
            Work::Ended(outcome) => match &outcome.plan {
                Some(plan) => Step::Planned(Box::new(plan.clone())),
                None => Step::PlanAgain,
            },
            Work::Lost => Step::PlanAgain,
            work => go_on(work, "Planning", "the plan is being made", Step::Plan),
        };
    }
    if *dry_run {
        return Step::Finish(Finished::Planned);
    }
    match (target, proved) {
        (Target::Existing(work, _), false) => restore(work),
        (Target::Existing(_, done), true) => Step::Finish(Finished::Restored(done.unwrap_or(Timestamp::UNIX_EPOCH))),
        (Target::Fresh(Server::Absent), false) => restore(&Work::Absent),
        (Target::Fresh(Server::Taken), _) => restore(&Work::Taken),
        (Target::Fresh(Server::Shut(work)), false) => restore(work),
        // It is opened only once it is proved; whoever took the note away did not undo that.
        (Target::Fresh(Server::Opening(..) | Server::Open(_)), false) => Step::Proved(Box::default()),
        (Target::Fresh(Server::Absent), true) => Step::Fail(PodError {
            reason: "ServerGone".to_owned(),
            message:
                "the restored server was deleted before it opened, and its disk with it: make another RestoreRequest"
                    .to_owned(),
            transient: false,
        }),
        (Target::Fresh(Server::Shut(_)), true) => {
            Step::Open(Doing::waits("Opening", "the server is started again, open to everybody"))
        }
        (Target::Fresh(Server::Opening(reason, message)), true) => Step::Open(Doing::waits(reason, message)),
        (Target::Fresh(Server::Open(since)), true) => Step::Finish(Finished::Opened(*since)),
    }
}

fn restore(work: &Work) -> Step {
    match work {
        Work::Ended(outcome) => Step::Proved(outcome.clone()),
        // It ends well only when it is proved.
        Work::Lost => {
            Step::Proved(Box::new(Outcome { restore: Some(RestoreOutcome::default()), ..Outcome::default() }))
        }
        work => go_on(work, "Restoring", "what is needed is being made", Step::Restore),
    }
}

fn go_on(work: &Work, reason: &str, message: &str, step: impl Fn(Doing) -> Step) -> Step {
    match work {
        Work::Absent => step(Doing::waits(reason, message)),
        Work::Taken => step(Doing::taken()),
        Work::Waits { reason, message } => step(Doing::waits(reason, message)),
        Work::Runs(report) => step(Doing::Runs(report.clone())),
        Work::Failed(error) => Step::Fail(error.clone()),
        Work::Ended(_) | Work::Lost => step(Doing::waits("Ending", "its pod has ended")),
    }
}

impl Doing {
    /// It waits.
    pub fn waits(reason: &str, message: &str) -> Self {
        Doing::Waits { reason: reason.to_owned(), message: message.to_owned() }
    }

    /// It waits for a name.
    pub fn taken() -> Self {
        Doing::waits(
            "NameTaken",
            "what it would make is there already and is not of this request (a server that an earlier request of this name restored, for \
             example), and is left alone: delete that, or make a RestoreRequest of another name",
        )
    }
}

impl View {
    /// Looks at what is known.
    pub fn new(request: &RestoreRequest, validated: &Validated, seen: &Facts, now: Timestamp) -> Self {
        let status = request.status.as_ref();
        let holds = |type_| {
            let condition = status.and_then(|status| conditions::find(&status.conditions, type_));
            condition.is_some_and(|condition| condition.status == "True")
        };
        let report = seen.report.as_ref();
        let target = match validated.into {
            Into::Fresh(_) => Target::Fresh(server(seen)),
            Into::Existing(_) => {
                let complete = seen.job.ours().and_then(|job| condition(job, "Complete"));
                let done = complete.and_then(|complete| complete.last_transition_time.as_ref()).map(|time| time.0);
                Target::Existing(of_job(&seen.job, &seen.job_pods, report, now), Some(done.unwrap_or(now)))
            }
        };
        Self {
            planned: holds(PLANNED) && status.is_some_and(|status| status.plan.is_some()),
            proved: holds(PROVED),
            dry_run: validated.dry_run,
            plan: of_job(&seen.plan_job, &seen.plan_pods, None, now),
            target,
        }
    }
}

fn server(seen: &Facts) -> Server {
    let stateful_set = match &seen.stateful_set {
        Found::Nothing => return Server::Absent,
        Found::Others => return Server::Taken,
        Found::Ours(stateful_set) => stateful_set,
    };
    let is_open = |pod: &Pod| pod.labels().contains_key(OPEN);
    let template = stateful_set.spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let (open, shut): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = seen.server_pods.iter().cloned().partition(|pod| is_open(pod));
    if !template.is_some_and(|labels| labels.contains_key(OPEN)) {
        return Server::Shut(of_server(&shut, seen.report.as_ref()));
    }
    let Some(pod) = open.first() else {
        return Server::Opening("Opening".to_owned(), "the server is started again, open to everybody".to_owned());
    };
    if let Some(since) = ready_since(pod) {
        return Server::Open(since);
    }
    let waits = trouble(pod).or_else(|| waits_for(pod));
    let (reason, message) = waits.unwrap_or_else(|| ("Opening".to_owned(), "the server is starting".to_owned()));
    Server::Opening(reason, message)
}

#[cfg(test)]
mod tests;
