//! When a policy's archive is verified, and what is said of it. Pure: a Job's name follows from the moment it was due, or from what a person asked
//! for, so that it runs once for each; what was begun is remembered in the status when the Job is long gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::Validated;
use super::build::verify_manifests;
use super::status::INTACT;
use crate::api::report::VerifyOutcome;
use crate::api::{BackupPolicy, Phase, ProgressStatus, VERIFY_NOW, VerificationStatus, VerifyDepth};
use crate::controller::conditions::{self, Verdict, word};
use crate::controller::engine_pod::{self, EnginePod, MANIFEST};
use crate::controller::figures::{bytes, shortened};
use crate::controller::names::{POLICY, child_of, labels, suffixed, suffixed_job};
use crate::controller::{Error, secrets, standing};

/// What the pod of a verify does, as a label.
pub const VERIFY: &str = "verify";
/// A Job that ended is kept this long.
const KEPT_SECONDS: i32 = 24 * 3600;
/// Attempts after the first one: a deep one goes on where the one before was.
const RETRIES: i32 = 5;
/// Findings that a status shows, and characters of each.
const SHOWN: (usize, usize) = (20, 500);

/// How a verify stands.
pub type Standing = standing::Standing<VerifyOutcome>;

/// What there is of it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Jobs, newest first.
    pub jobs: Vec<Arc<Job>>,
    /// Their pods, newest first.
    pub pods: Vec<Arc<Pod>>,
    /// What the pods read.
    pub config_map: Option<Arc<ConfigMap>>,
    /// How far the one under way has come.
    pub progress: Option<ProgressStatus>,
}

/// A verify to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Name of the Job.
    pub job: String,
    /// How much is looked at.
    pub depth: VerifyDepth,
}

/// Name of the ConfigMap.
pub fn manifests_name(policy: &str) -> String {
    suffixed(policy, VERIFY)
}

/// Their labels.
pub fn labels_of(policy: &str) -> BTreeMap<String, String> {
    labels(VERIFY, POLICY, policy)
}

impl Seen {
    /// How the newest one stands; none where there is none.
    pub fn standing(&self) -> Option<(&Arc<Job>, Standing)> {
        let job = self.jobs.first()?;
        let is_of =
            |pod: &&Arc<Pod>| pod.owner_references().iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref());
        let pods: Vec<Arc<Pod>> = self.pods.iter().filter(is_of).cloned().collect();
        Some((job, Standing::of(job, &pods, |outcome| outcome.verify.clone())))
    }

    /// Whether one has not ended.
    pub fn is_under_way(&self) -> bool {
        self.standing().is_some_and(|(_, standing)| !standing.has_ended())
    }

    fn has(&self, name: &str) -> bool {
        self.jobs.iter().any(|job| job.name_any() == name)
    }
}

/// What a person asked for by the annotation: how much is looked at. What cannot be read asks for the lesser.
fn asked(policy: &BackupPolicy) -> Option<(&String, VerifyDepth)> {
    let text = policy.annotations().get(VERIFY_NOW)?;
    let is_deep = text.split('@').next().is_some_and(|depth| depth.eq_ignore_ascii_case("deep"));
    Some((text, if is_deep { VerifyDepth::Deep } else { VerifyDepth::Quick }))
}

fn name_of_request(policy: &str, text: &str) -> String {
    suffixed_job(policy, &format!("{VERIFY}-{:08x}", crc32fast::hash(text.as_bytes())))
}

fn name_of_due(policy: &str, due: Timestamp) -> String {
    suffixed_job(policy, &format!("{VERIFY}-{}", due.strftime("%Y%m%d-%H%M%S")))
}

/// When the schedule last asked for one, if that was in the policy's life.
fn last_due(policy: &BackupPolicy, validated: &Validated, now: Timestamp) -> Option<Timestamp> {
    let due = validated.verifies.as_ref()?.last_due(now)?;
    let made = policy.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |Time(made)| *made);
    (due > made).then_some(due)
}

fn known(policy: &BackupPolicy) -> VerificationStatus {
    policy.status.as_ref().and_then(|status| status.verification.clone()).unwrap_or_default()
}

/// The one to begin now, if one is wanted and none runs: what a person asked for before what is due.
pub fn due(policy: &BackupPolicy, validated: &Validated, seen: &Seen, now: Timestamp) -> Option<Begin> {
    if seen.is_under_way() {
        return None;
    }
    let known = known(policy);
    let wanted = asked(policy).filter(|(text, _)| known.last_request.as_ref() != Some(text));
    if let Some((text, depth)) = wanted {
        let job = name_of_request(&validated.name, text);
        if !seen.has(&job) {
            return Some(Begin { job, depth });
        }
    }
    let due = last_due(policy, validated, now)?;
    let served: Option<Timestamp> = known.last_schedule_time.and_then(|text| text.parse().ok());
    let job = name_of_due(&validated.name, due);
    let depth = validated.verify.as_ref()?.depth;
    (served.is_none_or(|served| due > served) && !seen.has(&job)).then_some(Begin { job, depth })
}

/// When the next one is due.
pub fn next(validated: &Validated, now: Timestamp) -> Option<Timestamp> {
    validated.verifies.as_ref()?.next_after(now)
}

/// What a Job needs.
pub fn build(
    policy: &BackupPolicy,
    validated: &Validated,
    begin: &Begin,
    image: &str,
) -> Result<(ConfigMap, Job), Error> {
    let labels = labels_of(&validated.name);
    let config_map = ConfigMap {
        metadata: child_of(policy, manifests_name(&validated.name), labels.clone()),
        data: Some([(MANIFEST.to_owned(), verify_manifests(validated)?)].into()),
        ..ConfigMap::default()
    };
    let is_deep = begin.depth == VerifyDepth::Deep;
    let deep = is_deep.then(|| "--deep".to_owned());
    let decryption = validated.verify.as_ref().and_then(|verify| verify.decryption.as_ref()).filter(|_| is_deep);
    let secrets = validated.secrets.iter().cloned().chain(secrets::of_decryption(decryption)).collect();
    let pod = EnginePod {
        image,
        arguments: std::iter::once(VERIFY.to_owned()).chain(deep).collect(),
        manifests: &config_map,
        secrets: &secrets,
        storage: &validated.storage,
        copies: &[],
        ends: true,
        template: validated.job_template.as_ref(),
    };
    let job = engine_pod::job(
        child_of(policy, begin.job.clone(), labels.clone()),
        RETRIES,
        KEPT_SECONDS,
        pod.template(labels),
    );
    Ok((config_map, job))
}

/// Whether nobody wants any of it (any more).
pub fn is_off(policy: &BackupPolicy, validated: &Validated) -> bool {
    validated.verify.is_none() && asked(policy).is_none()
}

/// What the status says of it; none where nothing is verified.
pub fn status(
    policy: &BackupPolicy,
    validated: &Validated,
    seen: &Seen,
    begun: Option<&Begin>,
    now: Timestamp,
) -> Option<VerificationStatus> {
    if is_off(policy, validated) {
        return None;
    }
    let mut status = known(policy);
    let is_begun = |name: &str| seen.has(name) || begun.is_some_and(|begin| begin.job == name);
    if let Some((text, _)) = asked(policy).filter(|(text, _)| is_begun(&name_of_request(&validated.name, text))) {
        status.last_request = Some(text.clone());
    }
    if let Some(due) = last_due(policy, validated, now).filter(|due| is_begun(&name_of_due(&validated.name, *due))) {
        status.last_schedule_time = Some(due.to_string());
    }
    status.progress = None;
    match seen.standing().map(|(_, standing)| standing) {
        _ if begun.is_some() => status.phase = Some(Phase::Pending),
        None => {}
        Some(Standing::Waits { .. }) => status.phase = Some(Phase::Pending),
        Some(Standing::Runs) => {
            status.phase = Some(Phase::Running);
            status.progress = seen.progress.clone();
        }
        Some(Standing::Failed { .. }) => status.phase = Some(Phase::Failed),
        Some(Standing::Done(outcome)) => {
            status.phase = Some(Phase::Succeeded);
            if let Some(outcome) = outcome.filter(|outcome| counts(&status, outcome)) {
                take(&mut status, outcome);
            }
        }
    }
    Some(status)
}

/// What a deep verify found only a deep one can find mended.
fn counts(known: &VerificationStatus, outcome: &VerifyOutcome) -> bool {
    let stands = known.depth == Some(VerifyDepth::Deep) && known.findings.is_some_and(|findings| findings > 0);
    !stands || depth_of(outcome) == VerifyDepth::Deep
}

fn depth_of(outcome: &VerifyOutcome) -> VerifyDepth {
    if outcome.depth == "Deep" { VerifyDepth::Deep } else { VerifyDepth::Quick }
}

fn take(status: &mut VerificationStatus, outcome: VerifyOutcome) {
    let depth = depth_of(&outcome);
    let VerifyOutcome { at, depth: _, objects: _, bytes: _, undecoded: _, findings, shown, affected } = outcome;
    if findings == 0 {
        status.last_intact = Some(at.clone());
    }
    status.last_run = Some(at);
    status.depth = Some(depth);
    status.findings = Some(findings);
    status.shown = shown.into_iter().take(SHOWN.0).map(|text| shortened(&text, SHOWN.1)).collect();
    status.affected = Some(shortened(&affected, SHOWN.1)).filter(|affected| !affected.is_empty());
}

/// What is said of the archive's integrity; none where nothing new is known.
pub fn verdict(policy: &BackupPolicy, seen: &Seen) -> Option<Verdict> {
    let old = policy.status.as_ref().and_then(|status| conditions::find(&status.conditions, INTACT));
    let is_damaged = old.is_some_and(|old| old.status == "False");
    let nothing_known = old.is_none_or(|old| old.status == "Unknown");
    match seen.standing()?.1 {
        Standing::Done(None) => None,
        Standing::Done(Some(outcome)) if !counts(&known(policy), &outcome) => None,
        Standing::Done(Some(outcome)) => {
            let VerifyOutcome { at, depth, objects, bytes: size, undecoded, findings, shown, affected } = outcome;
            if findings == 0 {
                let mut message = format!("{at} ({depth}): {objects} objects of {} are what was stored", bytes(size));
                if undecoded > 0 {
                    message +=
                        &format!("; {undecoded} encrypted ones were compared with their checksums, and not decoded");
                }
                return Some(Verdict::yes("Intact", message));
            }
            let some: Vec<String> = shown.iter().take(3).map(|text| shortened(text, SHOWN.1)).collect();
            let message = format!(
                "{at} ({depth}): {findings} findings; affected: {affected}. {}; status.verification shows more, and `tidemark verify` all",
                some.join("; ")
            );
            Some(Verdict::no("Damaged", message))
        }
        // What is known stays known while another look is taken, and where it fails.
        Standing::Failed { reason, message, .. } if !is_damaged => {
            let message = format!(
                "whether the archive is intact is not known: {message}. It is verified again when that is next due"
            );
            Some(Verdict::unknown(&word(&reason), message))
        }
        Standing::Waits { reason, message } if nothing_known => Some(Verdict::unknown(&word(&reason), message)),
        Standing::Runs if nothing_known => Some(Verdict::unknown("Running", "the archive is being verified")),
        Standing::Failed { .. } | Standing::Waits { .. } | Standing::Runs => None,
    }
}

/// The damage that is known, by what is said now or else was said last: a policy with it is not ready.
pub fn damage(policy: &BackupPolicy, validated: &Validated, now: Option<&Verdict>) -> Option<Verdict> {
    if is_off(policy, validated) {
        return None;
    }
    let old = policy.status.as_ref().and_then(|status| conditions::find(&status.conditions, INTACT));
    let old = old.filter(|old| old.status == "False").map(|old| Verdict::no(&old.reason, &old.message));
    now.map_or(old, |now| Some(now.clone()).filter(|now| now.holds == Some(false)))
}

#[cfg(test)]
mod tests;
