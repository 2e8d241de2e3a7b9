//! A FullBackup with `deletionPolicy: Delete` goes only when its full is gone from the archive: a finalizer holds it while a Job deletes that.
//! A full that must not go keeps its object, with a condition that says why.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;

use super::status::COMPLETE;
use super::{POLL, WAIT};
use crate::api::{BackupPolicy, DeletionPolicy, FullBackup, FullBackupStatus, Phase};
use crate::controller::backup_policy::{self, Validated};
use crate::controller::conditions::{self, Verdict, updated, word};
use crate::controller::context::seen;
use crate::controller::names::{self, FULL_BACKUP, POLICY, label_value, suffixed_job};
use crate::controller::prune::{Prune, Standing, standing};
use crate::controller::{Context, Error, readers};

/// Holds an object until its full is gone from the archive.
pub const FINALIZER: &str = "tidemark.dev/archive";
/// Its full is gone from the archive.
pub const DELETED: &str = "Deleted";

/// What the Job's pod does, as a label.
pub const DELETE: &str = "delete";
/// A Job that was refused is tried again when it has been gone for so long.
const KEPT_SECONDS: i32 = 3600;
const WAY_OUT: &str = "To remove this object and keep the full, set spec.deletionPolicy: Retain";

/// What to do with an object that is to go.
#[derive(Clone, Debug)]
enum Next {
    /// It goes; what somebody should know.
    Release(Option<String>),
    /// It waits, and says why.
    Wait(Verdict),
    /// A Job is to be made.
    Begin(Box<Validated>),
    /// What a Job was refused may be granted by now: it goes, and another one is made.
    BeginAgain,
}

/// What is known of the deletion.
#[derive(Clone, Debug, Default)]
struct Seen {
    policy: Option<Arc<BackupPolicy>>,
    job: Option<Arc<Job>>,
    pods: Vec<Arc<Pod>>,
    /// The RestoreRequest that reads the archive.
    restoring: Option<String>,
    /// When the newest full of the policy was taken.
    newest_full: Option<Timestamp>,
    config_map: Option<Arc<ConfigMap>>,
}

/// Sees to it that an object has the finalizer exactly if its deletion policy asks for it.
pub async fn guard(context: &Context, full: &FullBackup) -> Result<(), Error> {
    let wanted = full.spec.deletion_policy == DeletionPolicy::Delete;
    if wanted == is_held(full) {
        return Ok(());
    }
    let mut finalizers: Vec<String> = full.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    finalizers.extend(wanted.then(|| FINALIZER.to_owned()));
    context.applier.finalizers(full, &finalizers).await
}

fn is_held(full: &FullBackup) -> bool {
    full.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Looks at one that is to go.
pub async fn reconcile(context: &Context, full: &FullBackup, now: Timestamp) -> Result<Action, Error> {
    if !is_held(full) {
        return Ok(Action::await_change());
    }
    let seen = dereference(full, context);
    let under_way = seen.job.as_ref().filter(|job| !standing(job, &seen.pods).has_ended());
    if let Some(job) = under_way.filter(|_| seen.restoring.is_some()) {
        // It is made anew afterwards.
        context.applier.delete(&**job).await?;
    }
    match next(full, &seen) {
        Next::Release(note) => {
            if let Some(note) = note {
                context.event(full, EventType::Warning, "FullKept", note).await;
            }
            if let Some(config_map) = &seen.config_map {
                context.applier.delete(&**config_map).await?;
            }
            let others: Vec<String> = full.finalizers().iter().filter(|f| *f != FINALIZER).cloned().collect();
            context.applier.finalizers(full, &others).await?;
            Ok(Action::await_change())
        }
        Next::Wait(verdict) => {
            if let (Some(false), Some(job)) = (verdict.holds, &seen.job) {
                context.applier.stop_retrying(job).await?;
            }
            say(context, full, verdict, now).await?;
            Ok(Action::requeue(WAIT))
        }
        Next::BeginAgain => {
            if let Some(job) = &seen.job {
                context.applier.delete(&**job).await?;
            }
            Ok(Action::requeue(POLL))
        }
        Next::Begin(validated) => {
            let Some(policy) = &seen.policy else { return Ok(Action::requeue(WAIT)) };
            let (config_map, job) = build(full, policy, &validated, &context.settings.image)?;
            let made = async {
                context.applier.apply(&config_map, seen.config_map.as_deref()).await?;
                context.applier.create(&job).await
            };
            match made.await {
                Err(error) if error.is_refusal() => {
                    let message = format!("{}. {WAY_OUT}", crate::controller::error::text(&error));
                    say(context, full, Verdict::no("JobRefused", message), now).await?;
                    Ok(Action::requeue(WAIT))
                }
                made => {
                    made?;
                    Ok(Action::requeue(POLL))
                }
            }
        }
    }
}

/// Whether it is noted of an object that its full is gone.
pub fn is_gone(full: &FullBackup) -> bool {
    let conditions = full.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, DELETED).is_some_and(|deleted| deleted.status == "True")
}

/// Notes that the full of an object that stays is gone from the archive.
pub async fn tell_gone(context: &Context, full: &FullBackup, now: Timestamp) -> Result<(), Error> {
    let message = "the archive holds this full no longer: retention let it go, or somebody deleted it. This object is but a note of it";
    say(context, full, Verdict::yes("Gone", message), now).await
}

async fn say(context: &Context, full: &FullBackup, verdict: Verdict, now: Timestamp) -> Result<(), Error> {
    let old = full.status.clone().unwrap_or_default();
    let (refused, note) = (verdict.holds == Some(false), format!("{}: {}", verdict.reason, verdict.message));
    let told = conditions::find(&old.conditions, DELETED).map(|condition| condition.reason.clone());
    let news = refused && told.as_deref() != Some(verdict.reason.as_str());
    let conditions = updated(&old.conditions, full.metadata.generation, now, [(DELETED, verdict)]);
    let status = FullBackupStatus { conditions, ..old.clone() };
    if status != old && context.applier.status(full, &status).await? && news {
        context.event(full, EventType::Warning, "NotDeleted", note).await;
    }
    Ok(())
}

fn dereference(full: &FullBackup, context: &Context) -> Seen {
    let (namespace, name) = (full.namespace().unwrap_or_default(), full.name_any());
    let policy = seen(&context.seen.policies, &namespace, &full.spec.policy_ref.name);
    let uid = full.uid().unwrap_or_default();
    let job = seen(&context.seen.jobs, &namespace, &child_name(&name));
    let job = job.filter(|job| job.labels().get(names::REQUEST_UID) == Some(&uid));
    let mut pods =
        context.seen.job_pods_with(&namespace, &[(FULL_BACKUP, &label_value(&name)), (names::REQUEST_UID, &uid)]);
    let job_uid = job.as_ref().and_then(|job| job.uid());
    pods.retain(|pod| pod.owner_references().iter().any(|owner| Some(&owner.uid) == job_uid.as_ref()));
    let restoring = policy.as_ref().and_then(|policy| readers::restore_under_way(&context.seen, policy));
    let newest_full = newest(context, &namespace, &full.spec.policy_ref.name);
    Seen {
        policy,
        job,
        pods,
        restoring,
        newest_full,
        config_map: seen(&context.seen.config_maps, &namespace, &child_name(&name)),
    }
}

fn newest(context: &Context, namespace: &str, policy: &str) -> Option<Timestamp> {
    let of_it =
        |full: &FullBackup| full.namespace().as_deref() == Some(namespace) && full.spec.policy_ref.name == policy;
    let taken = |full: &Arc<FullBackup>| {
        let status = full.status.as_ref().filter(|status| status.phase == Phase::Succeeded && of_it(full))?;
        conditions::find(&status.conditions, COMPLETE).map(|complete| complete.last_transition_time.0)
    };
    context.seen.full_backups.state().iter().filter_map(taken).max()
}

fn child_name(full: &str) -> String {
    suffixed_job(full, DELETE)
}

/// Decides.
fn next(full: &FullBackup, seen: &Seen) -> Next {
    let Some(id) = full.status.as_ref().and_then(|status| status.id.as_deref()) else {
        // It was not taken, or nobody knows: what is not complete is swept by retention.
        return Next::Release(None);
    };
    if is_gone(full) || full.spec.deletion_policy == DeletionPolicy::Retain {
        return Next::Release(None);
    }
    let held = seen.restoring.as_ref().map(|request| {
        let message = format!(
            "full {id} is not deleted while RestoreRequest {request} reads the archive: it goes when that has ended"
        );
        Next::Wait(Verdict::unknown("RestoreUnderWay", message))
    });
    if let Some(job) = &seen.job {
        let stands = standing(job, &seen.pods);
        if let (Some(held), false) = (&held, stands.has_ended()) {
            return held.clone();
        }
        return match stands {
            Standing::Done(_) => Next::Release(None),
            Standing::Runs => Next::Wait(Verdict::unknown("Running", format!("full {id} is being deleted"))),
            Standing::Waits { reason, message } => Next::Wait(Verdict { holds: None, reason: word(&reason), message }),
            Standing::Failed { .. } if seen.newest_full > job.creation_timestamp().map(|Time(made)| made) => {
                Next::BeginAgain
            }
            Standing::Failed { reason, message, stop: _ } => {
                let message =
                    format!("{message}. It is tried again after the next full, or within the hour or two. {WAY_OUT}");
                Next::Wait(Verdict::no(&word(&reason), message))
            }
        };
    }
    let Some(policy) = seen.policy.as_ref().filter(|policy| policy.metadata.deletion_timestamp.is_none()) else {
        // Nobody knows where the archive is any more; an object that waits for ever helps nobody.
        return Next::Release(Some(format!(
            "full {id} stays in the archive: BackupPolicy {} is gone",
            full.spec.policy_ref.name
        )));
    };
    if let Some(held) = held {
        return held;
    }
    match backup_policy::validate(policy) {
        Ok(validated) => Next::Begin(Box::new(validated)),
        Err(refusal) => {
            let name = &full.spec.policy_ref.name;
            let message = format!("BackupPolicy {name} must be mended first: {}. {WAY_OUT}", refusal.message());
            Next::Wait(Verdict::no("PolicyInvalid", message))
        }
    }
}

/// The Job, which is the policy's: an object that goes takes with it what is its own.
fn build(
    full: &FullBackup,
    policy: &BackupPolicy,
    validated: &Validated,
    image: &str,
) -> Result<(ConfigMap, Job), Error> {
    let name = full.name_any();
    let mut labels: BTreeMap<String, String> = names::labels(DELETE, FULL_BACKUP, &name);
    labels.insert(POLICY.to_owned(), label_value(&validated.name));
    labels.insert(names::REQUEST_UID.to_owned(), full.uid().unwrap_or_default());
    let id = full.status.as_ref().and_then(|status| status.id.as_deref());
    let (job, config_map) = (child_name(&name), child_name(&name));
    Prune { policy, validated, job, config_map, labels, full: id, kept_seconds: KEPT_SECONDS }.build(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(rest: &str, status: &str) -> FullBackup {
        let text = format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: FullBackup, metadata: {{name: f, namespace: shop, uid: u, finalizers: [other, \
             {FINALIZER}]}}, spec: {{policyRef: {{name: orders}}{rest}}}, status: {{{status}}}}}"
        );
        serde_yaml::from_str(&text).unwrap()
    }

    fn policy() -> Arc<BackupPolicy> {
        Arc::new(serde_yaml::from_str(include_str!("../backup_policy/testdata/policy.yaml")).unwrap())
    }

    fn job(condition: &str) -> Option<Arc<Job>> {
        let text = format!(
            "{{metadata: {{creationTimestamp: '2026-11-28T11:00:00Z'}}, status: {{conditions: [{{type: {condition}, status: 'True', reason: R, message: m}}]}}}}"
        );
        Some(Arc::new(serde_yaml::from_str(&text).unwrap()))
    }

    #[test]
    fn it_goes_when_its_full_is_gone_and_stays_while_that_is_refused() {
        let (delete, taken) = (", deletionPolicy: Delete", "phase: Succeeded, id: '20261121T120000Z-1'");
        let seen = |job| Seen { policy: Some(policy()), job, ..Seen::default() };
        assert!(matches!(next(&full(delete, taken), &seen(None)), Next::Begin(_)));
        assert!(matches!(next(&full(delete, taken), &seen(job("Complete"))), Next::Release(None)));
        let Next::Wait(refused) = next(&full(delete, taken), &seen(job("Failed"))) else { panic!() };
        assert!(refused.holds == Some(false) && refused.message.contains("deletionPolicy: Retain"), "{refused:?}");
        let later = Seen { newest_full: Some("2026-11-28T12:00:00Z".parse().unwrap()), ..seen(job("Failed")) };
        assert!(matches!(next(&full(delete, taken), &later), Next::BeginAgain), "what was in its way may be gone");
        let Next::Wait(running) = next(&full(delete, taken), &seen(job("Suspended"))) else { panic!() };
        assert_eq!(running.holds, None);
        // A restore reads the archive.
        for job in [None, job("Suspended")] {
            let held = Seen { restoring: Some("rescue".to_owned()), ..seen(job) };
            let Next::Wait(held) = next(&full(delete, taken), &held) else { panic!() };
            assert_eq!((held.holds, held.reason.as_str()), (None, "RestoreUnderWay"));
        }
        let done = Seen { restoring: Some("rescue".to_owned()), ..seen(job("Complete")) };
        assert!(matches!(next(&full(delete, taken), &done), Next::Release(None)));
        // The ways out, and what holds nothing.
        assert!(matches!(next(&full("", taken), &seen(job("Failed"))), Next::Release(None)));
        assert!(matches!(next(&full(delete, "phase: Running"), &seen(None)), Next::Release(None)));
        let Next::Release(Some(note)) = next(&full(delete, taken), &Seen::default()) else { panic!() };
        assert!(note.contains("stays in the archive"), "{note}");
        let mut wrong = (*policy()).clone();
        wrong.spec.method = crate::api::Method::Clone;
        let wrong = Seen { policy: Some(Arc::new(wrong)), ..Seen::default() };
        assert!(matches!(next(&full(delete, taken), &wrong), Next::Wait(verdict) if verdict.reason == "PolicyInvalid"));
    }

    #[test]
    fn the_job_deletes_that_full_alone_and_is_the_policys() {
        let full = full(", deletionPolicy: Delete", "phase: Succeeded, id: '20261121T120000Z-1'");
        let (config_map, job) = build(&full, &policy(), &backup_policy::validate(&policy()).unwrap(), "image").unwrap();
        let spec = job.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        assert_eq!(spec.containers[0].args.as_ref().unwrap()[..3], ["prune", "--full", "20261121T120000Z-1"]);
        for owner in [job.owner_references(), config_map.owner_references()] {
            assert_eq!((owner[0].kind.as_str(), owner[0].name.as_str()), ("BackupPolicy", "orders"));
        }
        assert_eq!(job.labels()[names::REQUEST_UID], "u");
    }
}
