//! When a policy takes a full. Pure: what is known and the clock → a decision, and every name follows from what is known. So an operator
//! that is started anew, or two that overlap, decide the same and make the same object; nothing is remembered but what the cluster holds.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::Validated;
use super::dereference::{self, is_of};
use super::status::STREAMING;
use crate::api::report::{ArchiveReport, StreamReport};
use crate::api::{BackupPolicy, ConcurrencyPolicy, DeletionPolicy, FullBackup, FullBackupSpec, ObjectRef, Phase};
use crate::controller::conditions;
use crate::controller::figures::shortened;
use crate::controller::full_backup::{COMPLETE, is_gone};
use crate::controller::names::{self, child_of, suffixed_job};
use crate::schedule::{Due, Schedule, due};

/// Pause behind the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Failed FullBackups of a policy that are kept to look at.
const FAILURES_KEPT: usize = 6;
/// What is later than this from now was written by a clock that was wrong: it must not stop backups until then.
const SKEW: Duration = Duration::from_secs(600);
/// How long a new policy waits for its stream to say what the archive holds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of a policy's fulls.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The policy's name.
    pub policy: String,
    /// When it was made.
    pub created: Timestamp,
    /// When fulls are due.
    pub schedule: Option<&'a Schedule>,
    /// Its FullBackups.
    pub fulls: Vec<Full>,
    /// The archive as the stream's pod last read it.
    pub archive: Option<&'a ArchiveReport>,
    /// The stream as it is now.
    pub stream: Option<&'a StreamReport>,
    /// Since when it works without a break; none while it does not.
    pub streams_since: Option<Timestamp>,
    /// Whether there is a stream, which will tell what the archive holds.
    pub streams: bool,
    /// The moment the newest full shows, as far as the policy's status knows.
    pub last_known: Option<Timestamp>,
}

/// One FullBackup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    /// Its name.
    pub name: String,
    /// Whether the policy made it.
    pub ours: bool,
    /// When it was due or was made, whichever is later.
    pub began: Timestamp,
    /// When it was due by schedule, if it was made for that.
    pub due: Option<Timestamp>,
    /// How it is.
    pub state: State,
}

/// How a FullBackup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    UnderWay,
    Succeeded { ended: Timestamp, shows: Timestamp },
    Failed { ended: Timestamp },
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Begin this one.
    pub start: Option<Start>,
    /// Stop these, which are under way.
    pub stop: Vec<String>,
    /// Failed ones that nobody will look at any more.
    pub forget: Vec<String>,
    /// Look again then at the latest.
    pub look_at: Option<Timestamp>,
    /// Failures since the last full that succeeded.
    pub failures: usize,
}

/// A full to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its name, which follows from why it is taken.
    pub name: String,
    /// When it was due by schedule, if that is why.
    pub due: Option<Timestamp>,
    /// Why, in words.
    pub reason: String,
}

/// Why a full is wanted, before it is known whether one may begin.
struct Trigger {
    /// The name of the first attempt.
    name: String,
    /// Later attempts are named by a moment that is not before this one.
    moment: Timestamp,
    due: Option<Timestamp>,
    reason: String,
}

/// Decides. `now` is the operator's clock, which may have been wrong before.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let facts = facts.believable(now);
    let failures = facts.failures();
    let newest_failure = failures.iter().max().copied();
    let decision = Decision { forget: facts.forgettable(), failures: failures.len(), ..Decision::default() };
    let Some(trigger) = facts.trigger(now) else { return Decision { look_at: facts.next(now), ..decision } };
    let name = match newest_failure {
        None => trigger.name,
        Some(ended) => {
            let again = ended + pause(failures.len());
            // What kept both from the source or the store has been mended since.
            let again = facts.streams_since.filter(|since| *since > ended).map_or(again, |since| since.min(again));
            if now < again {
                return Decision { look_at: Some(again), ..decision };
            }
            names::suffixed_job(&facts.policy, &stamp(again.max(trigger.moment)))
        }
    };
    // Begun already; what is known is older than that.
    if facts.fulls.iter().any(|full| full.name == name) {
        return Decision { look_at: facts.next(now), ..decision };
    }
    let concurrency = facts.schedule.map(|schedule| schedule.concurrency).unwrap_or_default();
    let (ours, others): (Vec<&Full>, Vec<&Full>) =
        facts.fulls.iter().filter(|full| full.state == State::UnderWay).partition(|full| full.ours);
    let stop = match concurrency {
        ConcurrencyPolicy::Allow => Vec::new(),
        ConcurrencyPolicy::Forbid if ours.is_empty() && others.is_empty() => Vec::new(),
        // What a person asked for is not stopped.
        ConcurrencyPolicy::Replace if others.is_empty() => ours.iter().map(|full| full.name.clone()).collect(),
        ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Replace => {
            return Decision { look_at: facts.next(now), ..decision };
        }
    };
    let start = Start { name, due: trigger.due, reason: trigger.reason };
    Decision { start: Some(start), stop, look_at: facts.next(now), ..decision }
}

/// Pause behind that many failures.
fn pause(failures: usize) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

/// A moment as a part of a name.
fn stamp(moment: Timestamp) -> String {
    moment.strftime("%Y%m%d-%H%M%S").to_string()
}

impl<'a> Facts<'a> {
    /// Gathers them.
    pub fn new(policy: &BackupPolicy, validated: &'a Validated, seen: &'a dereference::Facts) -> Self {
        let last_known = policy.status.as_ref().and_then(|status| status.last_full_time.as_deref()?.parse().ok());
        let report = seen.stream.report();
        Self {
            policy: policy.name_any(),
            created: policy.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |Time(moment)| *moment),
            schedule: validated.schedule.as_ref(),
            fulls: seen.full_backups.iter().filter(|full| !is_gone(full)).map(|full| Full::new(full, policy)).collect(),
            archive: report.and_then(|report| report.archive.as_ref()),
            stream: report.and_then(|report| report.stream.as_ref()),
            streams: validated.binlog.enabled,
            streams_since: streams_since(policy),
            last_known,
        }
    }

    /// Without what a wrong clock wrote into the future: it says nothing about when something was.
    fn believable(&self, now: Timestamp) -> Self {
        let past = |moment: Timestamp, else_: Timestamp| if moment <= now + SKEW { moment } else { else_ };
        let fulls = self.fulls.iter().map(|full| {
            let Full { name, ours, began, due, state } = full.clone();
            let began = past(began, Timestamp::UNIX_EPOCH);
            let state = match state {
                State::UnderWay => State::UnderWay,
                State::Succeeded { ended, shows } => {
                    State::Succeeded { ended: past(ended, began), shows: past(shows, began) }
                }
                State::Failed { ended } => State::Failed { ended: past(ended, began) },
            };
            Full { name, ours, began, due, state }
        });
        let last_known = self.last_known.filter(|moment| past(*moment, now) == *moment);
        Self { fulls: fulls.collect(), last_known, ..self.clone() }
    }

    /// The newest full that succeeded: when it ended.
    fn newest_success(&self) -> Option<Timestamp> {
        let ended = |full: &Full| match full.state {
            State::Succeeded { ended, .. } => Some(ended),
            State::UnderWay | State::Failed { .. } => None,
        };
        self.fulls.iter().filter_map(ended).max()
    }

    /// The moment the newest full shows, of all that is known.
    pub fn newest_shown(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_emptied(now) {
            return None;
        }
        let shows = |full: &Full| match full.state {
            State::Succeeded { shows, .. } => Some(shows),
            State::UnderWay | State::Failed { .. } => None,
        };
        let archived = self.archive.and_then(|archive| archive.last_full_time.as_deref()?.parse().ok());
        self.fulls.iter().filter_map(shows).chain(archived).chain(self.last_known).max()
    }

    /// Whether the archive was read after the last full that succeeded, and holds none.
    fn is_emptied(&self, now: Timestamp) -> bool {
        let Some(archive) = self.archive.filter(|archive| archive.fulls == 0) else { return false };
        let Ok(read_at) = archive.read_at.parse::<Timestamp>() else { return false };
        // Two clocks, either of which may run ahead: a reading just behind it counts as one just before.
        self.newest_success().is_none_or(|ended| read_at.min(now) > ended + Duration::from_secs(60))
    }

    /// When each of the policy's own fulls since the last one that succeeded failed.
    fn failures(&self) -> Vec<Timestamp> {
        let success = self.newest_success().unwrap_or(Timestamp::MIN);
        let ended = |full: &Full| match full.state {
            State::Failed { ended } if full.ours && ended > success => Some(ended),
            State::Failed { .. } | State::UnderWay | State::Succeeded { .. } => None,
        };
        self.fulls.iter().filter_map(ended).collect()
    }

    /// Names of failed ones beyond those that are kept.
    fn forgettable(&self) -> Vec<String> {
        let failed = |full: &Full| match full.state {
            State::Failed { ended } if full.ours => Some((ended, full.name.clone())),
            State::Failed { .. } | State::UnderWay | State::Succeeded { .. } => None,
        };
        let mut failed: Vec<_> = self.fulls.iter().filter_map(failed).collect();
        failed.sort_by(|a, b| b.cmp(a));
        failed.into_iter().skip(FAILURES_KEPT).map(|(_, name)| name).collect()
    }

    fn trigger(&self, now: Timestamp) -> Option<Trigger> {
        if let Some(gap) = self.open_gap() {
            let name = suffixed_job(&self.policy, &format!("gap-{:08x}", crc32fast::hash(gap.as_bytes())));
            let reason = format!("the binary log has a gap: {}", shortened(&gap, 200));
            return Some(Trigger { name, moment: Timestamp::MIN, due: None, reason });
        }
        let begun = |full: &Full| !matches!(full.state, State::Failed { .. });
        let began = self.fulls.iter().filter(|full| begun(full)).map(|full| full.began);
        // The archive's moments are of the clock of the stream's pod.
        let last = began.chain(self.newest_shown(now)).filter(|moment| *moment <= now + SKEW).max();
        let none = self.is_emptied(now) && !self.fulls.iter().any(|full| full.state == State::UnderWay);
        let last = if none { None } else { last };
        let unread = self.archive.is_none() && self.streams;
        let schedule = self.schedule?;
        if last.is_none() && unread && schedule.immediate && now < self.created + PATIENCE {
            return None;
        }
        let served = self.newest_success().map_or(self.created, |ended| ended.max(self.created));
        let (moment, by_schedule, reason) = match due(Some(schedule), last, served, now) {
            Due::At(_) | Due::Never => return None,
            Due::Now(reason) if last.is_none() && schedule.immediate => (served, None, reason),
            Due::Now(reason) => {
                let moment = schedule.missed(last.unwrap_or(served), now)?;
                (moment, Some(moment), reason)
            }
        };
        let name = suffixed_job(&self.policy, &stamp(moment));
        Some(Trigger { name, moment, due: by_schedule, reason: reason.to_owned() })
    }

    /// Transactions that the archive lacks behind its newest full: nothing can be restored to now. None where a window grows.
    pub fn open_gap(&self) -> Option<String> {
        let archive = self.archive?;
        let read_at: Timestamp = archive.read_at.parse().ok()?;
        // What was read before the last full is of a time before it.
        if self.newest_success().is_some_and(|ended| ended >= read_at) {
            return None;
        }
        let gaps: Vec<&str> =
            archive.windows.iter().map(|w| w.gap.as_ref().map(|gap| gap.gtids.as_str())).collect::<Option<_>>()?;
        let newest = gaps.last()?;
        if gaps.iter().all(|gtids| !gtids.is_empty()) {
            return Some((*newest).to_owned());
        }
        // With GTIDs a window that ends for another reason (the stream has not come as far as the full yet) has none; without, none has.
        let stream = self.stream.filter(|stream| !stream.gtids_on)?;
        let told =
            stream.gaps.iter().filter_map(|gap| gap.reason.as_deref()).chain(stream.losses.iter().map(String::as_str));
        let told: Vec<&str> = told.collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// When to look again, if nothing happens before.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let schedule = self.schedule.filter(|schedule| !schedule.suspend)?;
        let patience = Some(self.created + PATIENCE).filter(|moment| *moment > now && self.fulls.is_empty());
        patience.into_iter().chain(schedule.next_after(now)).min()
    }
}

fn streams_since(policy: &BackupPolicy) -> Option<Timestamp> {
    let streaming = conditions::find(&policy.status.as_ref()?.conditions, STREAMING)?;
    (streaming.status == "True").then_some(streaming.last_transition_time.0)
}

impl Full {
    fn new(full: &FullBackup, policy: &BackupPolicy) -> Self {
        let created = full.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |Time(moment)| *moment);
        let due: Option<Timestamp> = full.annotations().get(names::DUE).and_then(|text| text.parse().ok());
        let status = full.status.clone().unwrap_or_default();
        let ended = conditions::find(&status.conditions, COMPLETE).map_or(created, |c| c.last_transition_time.0);
        let shows = status.consistent_at.as_deref().and_then(|text| text.parse().ok()).unwrap_or(ended);
        Self {
            name: full.name_any(),
            ours: is_of(full, policy),
            began: due.unwrap_or(created).max(created),
            due,
            state: match status.phase {
                Phase::Pending | Phase::Running => State::UnderWay,
                Phase::Succeeded => State::Succeeded { ended, shows },
                Phase::Failed => State::Failed { ended },
            },
        }
    }
}

/// The FullBackup to make.
pub fn build(policy: &BackupPolicy, start: &Start) -> FullBackup {
    let Start { name, due, reason } = start;
    let labels = [
        (names::MANAGED_BY.0.to_owned(), names::MANAGED_BY.1.to_owned()),
        (names::POLICY.to_owned(), names::label_value(&policy.name_any())),
    ];
    let mut annotations = vec![(names::REASON.to_owned(), reason.clone())];
    annotations.extend(due.map(|due| (names::DUE.to_owned(), due.to_string())));
    let metadata = child_of(policy, name.clone(), labels.into());
    FullBackup {
        metadata: ObjectMeta { annotations: Some(annotations.into_iter().collect()), ..metadata },
        spec: FullBackupSpec {
            policy_ref: ObjectRef { name: policy.name_any() },
            method: None,
            deletion_policy: DeletionPolicy::default(),
        },
        status: None,
    }
}

#[cfg(test)]
mod tests;
