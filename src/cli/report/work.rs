use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Snapshot, Subject};
use crate::api::report::PodReport;
use crate::api::{ProgressStatus, RestorePlanStatus};
use crate::cli::progress::duration;
use crate::model::{Flavor, Progress};
use crate::restore::plan::Plan;

/// A `backup` or a `restore`; clones share what is known.
#[derive(Clone, Debug)]
pub struct WorkSubject {
    verb: &'static str,
    policy: String,
    progress: Progress,
    plan: Arc<Mutex<Option<RestorePlanStatus>>>,
}

impl WorkSubject {
    /// A verb that begins.
    pub fn new(verb: &'static str, policy: &str, progress: Progress) -> Self {
        Self { verb, policy: policy.to_owned(), progress, plan: Arc::default() }
    }

    /// Notes what a restore is going to do.
    pub fn planned(&self, plan: RestorePlanStatus) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }
}

impl Subject for WorkSubject {
    fn snapshot(&self) -> Snapshot {
        let reading = self.progress.read();
        let progress = ProgressStatus {
            step: reading.phase.to_owned(),
            done_bytes: reading.done_bytes,
            total_bytes: reading.total_bytes,
        };
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let report = PodReport { verb: self.verb.to_owned(), progress: Some(progress), plan, ..PodReport::default() };
        Snapshot { policy: self.policy.clone(), ready: true, report, figures: None }
    }
}

/// A plan as a status shows it.
pub fn plan_status(plan: &Plan) -> RestorePlanStatus {
    let newest = plan.restored_to.map(|time| format!("newest: the transaction committed {}", time.timestamp()));
    RestorePlanStatus {
        base: plan.base.id.clone(),
        flavor: Some(flavor_word(plan.flavor).to_owned()),
        server_version: Some(plan.server_version.clone()),
        binlogs: plan.files.len() as u64,
        first_binlog: plan.files.first().map(|part| part.file.name.clone()),
        last_binlog: plan.files.last().map(|part| format!("{}:{}", part.file.name, part.end)),
        bytes: plan.base.bytes.saturating_add(plan.replay_bytes),
        eta: Some(estimate(plan.eta_s)),
        notes: plan.explanation.iter().cloned().chain(newest).chain(plan.forks.iter().cloned()).collect(),
    }
}

/// An estimate has no fractions of a second.
fn estimate(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { duration(Duration::from_secs(seconds)) }
}

/// A flavor as manifests spell it.
pub(super) fn flavor_word(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Mysql => "mysql",
        Flavor::Mariadb => "mariadb",
    }
}
