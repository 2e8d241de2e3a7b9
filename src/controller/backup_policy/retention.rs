//! When a policy's archive is pruned, and what is said of it. Pure: the Job's name follows from the newest full, so that it runs once behind
//! each, and again when the Job has been gone for a day.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;

use super::Validated;
use super::fulls::{Facts, State};
use crate::api::BackupPolicy;
use crate::api::report::PruneOutcome;
use crate::controller::Error;
use crate::controller::conditions::{Verdict, word};
use crate::controller::figures::bytes;
use crate::controller::names::{POLICY, labels, suffixed, suffixed_job};
use crate::controller::prune::{Prune, Standing, standing};

/// What a retention Job's pod does, as a label.
pub const PRUNE: &str = "prune";
/// It waits for a restore.
pub const HELD: &str = "RestoreUnderWay";
/// A Job that ended is kept this long, and then run again.
const KEPT_SECONDS: i32 = 24 * 3600;

/// What there is of it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Retention Jobs of the policy, newest first.
    pub jobs: Vec<Arc<Job>>,
    /// Their pods, newest first.
    pub pods: Vec<Arc<Pod>>,
    /// What the pods read.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The RestoreRequest that reads the archive, which must not lose what it reads.
    pub restoring: Option<String>,
}

/// Name of the ConfigMap.
pub fn manifests_name(policy: &str) -> String {
    suffixed(policy, PRUNE)
}

/// Their labels.
pub fn labels_of(policy: &str) -> BTreeMap<String, String> {
    labels(PRUNE, POLICY, policy)
}

impl Seen {
    /// How the newest prune stands; none where there is none.
    pub fn standing(&self) -> Option<(&Arc<Job>, Standing)> {
        let job = self.jobs.first()?;
        let pods: Vec<Arc<Pod>> = self.pods.iter().filter(|pod| is_of(pod, job)).cloned().collect();
        Some((job, standing(job, &pods)))
    }

    /// What the newest prune did, if it is done and says so.
    pub fn done(&self) -> Option<PruneOutcome> {
        match self.standing()?.1 {
            Standing::Done(outcome) => outcome,
            Standing::Waits { .. } | Standing::Runs | Standing::Failed { .. } => None,
        }
    }

    /// The Job that has not ended.
    pub fn under_way(&self) -> Option<&Arc<Job>> {
        self.standing().filter(|(_, standing)| !standing.has_ended()).map(|(job, _)| job)
    }
}

fn is_of(pod: &Pod, job: &Job) -> bool {
    pod.owner_references().iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// Name of the Job to begin now, if one is due: behind the newest full that succeeded, one at a time. It waits while something is restored.
pub fn due(validated: &Validated, facts: &Facts<'_>, seen: &Seen) -> Option<String> {
    validated.retention.as_ref()?;
    let ended = |state: State| match state {
        State::Succeeded { ended, .. } => Some(ended),
        State::UnderWay | State::Failed { .. } => None,
    };
    let (_, newest) = facts.fulls.iter().filter_map(|full| Some((ended(full.state)?, &full.name))).max()?;
    let name = suffixed_job(&facts.policy, &format!("{PRUNE}-{:08x}", crc32fast::hash(newest.as_bytes())));
    let begun = seen.jobs.iter().any(|job| job.name_any() == name);
    (!begun && seen.under_way().is_none()).then_some(name)
}

/// What a Job of that name needs.
pub fn build(
    policy: &BackupPolicy,
    validated: &Validated,
    job: String,
    image: &str,
) -> Result<(ConfigMap, Job), Error> {
    let (config_map, labels) = (manifests_name(&validated.name), labels_of(&validated.name));
    Prune { policy, validated, job, config_map, labels, full: None, kept_seconds: KEPT_SECONDS }.build(image)
}

/// What is said of the newest prune; none where nothing new is known.
pub fn verdict(validated: &Validated, facts: &Facts<'_>, seen: &Seen) -> Option<Verdict> {
    validated.retention.as_ref()?;
    if let Some(request) = &seen.restoring
        && (seen.under_way().is_some() || due(validated, facts, seen).is_some())
    {
        let message = format!(
            "nothing is deleted while RestoreRequest {request} reads the archive: it goes on when that has ended"
        );
        return Some(Verdict::unknown(HELD, message));
    }
    Some(match seen.standing()?.1 {
        Standing::Runs => Verdict::unknown("Running", "the archive is being pruned"),
        Standing::Waits { reason, message } => Verdict { holds: None, reason: word(&reason), message },
        Standing::Failed { reason, message, stop: _ } => Verdict::no(
            &word(&reason),
            format!("nothing more is deleted for now: {message}. It is tried again after the next full, or in a day"),
        ),
        Standing::Done(None) => Verdict::yes("Pruned", "what retention lets go is deleted"),
        Standing::Done(Some(outcome)) => {
            let PruneOutcome { at, fulls, files, bytes: gone, hidden, kept_fulls, kept: _, notes } = outcome;
            let room = if hidden { "hidden" } else { "freed" };
            let what = format!(
                "{fulls} fulls and {files} binlog files deleted, {} {room}, {kept_fulls} fulls stay",
                bytes(gone)
            );
            Verdict::yes("Pruned", std::iter::once(format!("{at}: {what}")).chain(notes).collect::<Vec<_>>().join("; "))
        }
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::controller::backup_policy::fulls::Full;
    use crate::controller::backup_policy::validate;

    fn policy(retention: bool) -> BackupPolicy {
        let mut policy: BackupPolicy = serde_yaml::from_str(include_str!("testdata/policy.yaml")).unwrap();
        policy.spec.retention = policy.spec.retention.filter(|_| retention);
        policy
    }

    fn facts(fulls: &[(&str, Option<i64>)]) -> Facts<'static> {
        let full = |(name, ended): &(&str, Option<i64>)| Full {
            name: (*name).to_owned(),
            ours: true,
            began: Timestamp::UNIX_EPOCH,
            due: None,
            state: ended.map_or(State::UnderWay, |at| {
                let ended = Timestamp::from_second(at).unwrap();
                State::Succeeded { ended, shows: ended }
            }),
        };
        Facts {
            policy: "orders".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            schedule: None,
            fulls: fulls.iter().map(full).collect(),
            archive: None,
            stream: None,
            streams: true,
            streams_since: None,
            last_known: None,
        }
    }

    fn job(name: &str, condition: &str) -> Arc<Job> {
        let text = format!(
            "{{metadata: {{name: {name}, uid: u}}, status: {{conditions: [{{type: {condition}, status: 'True', reason: R, message: m}}]}}}}"
        );
        Arc::new(serde_yaml::from_str(&text).unwrap())
    }

    #[test]
    fn it_runs_once_behind_each_full_one_at_a_time() {
        let validated = validate(&policy(true)).unwrap();
        let two = facts(&[("a", Some(10)), ("b", Some(20)), ("c", None)]);
        let first = due(&validated, &two, &Seen::default()).unwrap();
        assert!(first.starts_with("orders-prune-"), "{first}");
        let seen = |job: Arc<Job>| Seen { jobs: vec![job], ..Seen::default() };
        assert_eq!(due(&validated, &two, &seen(job(&first, "Complete"))), None);
        assert_eq!(due(&validated, &two, &seen(job(&first, "Failed"))), None);
        let three = facts(&[("a", Some(10)), ("b", Some(20)), ("c", Some(30))]);
        let next = due(&validated, &three, &seen(job(&first, "Complete"))).unwrap();
        assert_ne!(next, first);
        assert_eq!(due(&validated, &three, &seen(job(&first, "Suspended"))), None, "the last one runs");
        assert_eq!(due(&validated, &facts(&[("c", None)]), &Seen::default()), None);
        assert_eq!(due(&validate(&policy(false)).unwrap(), &two, &Seen::default()), None);
    }

    #[test]
    fn while_something_is_restored_a_prune_waits_and_says_for_what() {
        let validated = validate(&policy(true)).unwrap();
        let one = facts(&[("a", Some(10))]);
        let name = due(&validated, &one, &Seen::default()).unwrap();
        let said = |jobs: Vec<Arc<Job>>| {
            let seen = Seen { jobs, restoring: Some("rescue".to_owned()), ..Seen::default() };
            verdict(&validated, &one, &seen).unwrap()
        };
        for waits in [vec![], vec![job(&name, "Suspended")]] {
            let said = said(waits);
            assert_eq!((said.holds, said.reason.as_str()), (None, HELD));
            assert!(said.message.contains("RestoreRequest rescue"), "{said:?}");
        }
        // Of one that was done before nothing new is said.
        assert_eq!(said(vec![job(&name, "Complete")]).reason, "Pruned");
    }

    #[test]
    fn a_prune_is_a_job_that_reads_the_rules_and_the_time_zone() {
        let policy = policy(true);
        let validated = validate(&policy).unwrap();
        let (config_map, job) = build(&policy, &validated, "orders-prune-1".to_owned(), "image").unwrap();
        let spec = job.spec.unwrap();
        let container = &spec.template.spec.as_ref().unwrap().containers[0];
        assert_eq!(container.args.as_ref().unwrap()[0], "prune");
        assert_eq!(spec.template.spec.as_ref().unwrap().service_account_name.as_deref(), Some("backups"));
        let text = &config_map.data.unwrap()["manifest.yaml"];
        assert!(text.contains("window: 30d") && text.contains("timeZone: Europe/Berlin"), "{text}");
    }

    #[test]
    fn a_failure_and_what_was_done_are_said() {
        let validated = validate(&policy(true)).unwrap();
        let one = facts(&[("a", Some(10))]);
        assert_eq!(verdict(&validated, &one, &Seen::default()), None);
        let failed = verdict(&validated, &one, &Seen { jobs: vec![job("j", "Failed")], ..Seen::default() }).unwrap();
        assert_eq!((failed.holds, failed.reason.as_str()), (Some(false), "R"));
        let pod: Pod = serde_yaml::from_str(
            "{metadata: {ownerReferences: [{apiVersion: v1, kind: Job, name: j, uid: u}]}, status: {containerStatuses: [{name: tidemark, image: '', \
             imageID: '', ready: false, restartCount: 0, state: {terminated: {exitCode: 0, message: '{\"prune\":{\"at\":\"T\",\"fulls\":3,\"files\":7, \
             \"bytes\":2048,\"keptFulls\":9}}'}}}]}}",
        )
        .unwrap();
        let seen = Seen { jobs: vec![job("j", "Complete")], pods: vec![Arc::new(pod)], ..Seen::default() };
        let done = verdict(&validated, &one, &seen).unwrap();
        assert_eq!(done, Verdict::yes("Pruned", "T: 3 fulls and 7 binlog files deleted, 2.0KiB freed, 9 fulls stay"));
    }
}
