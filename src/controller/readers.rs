//! Restores and prunes of one archive keep out of each other's way: what a restore reads must not go meanwhile. A prune under way is
//! stopped, none begins, and a restore is planned only when no pod deletes any more. (A Job is stopped by deleting it, and made anew later:
//! to a Job that is suspended, Kubernetes counts the pod that it takes away as a failure.)

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::context::{Seen, seen};
use super::names::{COMPONENT, POLICY};
use super::reports::job_condition;
use super::restore_request;
use super::storage::location;
use super::{backup_policy, full_backup};
use crate::api::{BackupPolicy, RestoreRequest, StorageSpec};

/// The RestoreRequest that has not ended and reads a policy's archive, if there is one: its name, with its namespace where that is another.
pub fn restore_under_way(stores: &Seen, policy: &BackupPolicy) -> Option<String> {
    let requests = stores.restore_requests.state();
    let own = policy.namespace();
    requests.iter().find(|request| reads(stores, request, policy)).map(|request| match request.namespace() {
        Some(other) if Some(&other) != own.as_ref() => format!("{} in namespace {other}", request.name_any()),
        _ => request.name_any(),
    })
}

/// Whether a request has not ended, and what it reads is a policy's archive.
fn reads(stores: &Seen, request: &RestoreRequest, policy: &BackupPolicy) -> bool {
    !restore_request::phase(request).is_terminal() && may_read(stores, request, policy)
}

/// Whether what a request reads, or did read, is a policy's archive.
pub fn may_read(stores: &Seen, request: &RestoreRequest, policy: &BackupPolicy) -> bool {
    let (namespace, own) = (request.namespace().unwrap_or_default(), policy.namespace().unwrap_or_default());
    let named = request.spec.policy_ref.as_ref().map(|reference| reference.name.as_str());
    // Whatever became of its storage since it was planned.
    if named == Some(&policy.name_any()) && namespace == own {
        return true;
    }
    let ours = location(&own, &policy.spec.storage);
    archive(stores, request).is_some_and(|storage| location(&namespace, &storage) == ours)
}

fn archive(stores: &Seen, request: &RestoreRequest) -> Option<StorageSpec> {
    let of_policy = || {
        let name = &request.spec.policy_ref.as_ref()?.name;
        let policy = seen(&stores.policies, &request.namespace().unwrap_or_default(), name)?;
        Some(policy.spec.storage.clone())
    };
    request.spec.storage.clone().or_else(of_policy)
}

/// Name of the Job or pod that deletes from the archive of a request at this moment, if one does. One that is told to stop does until it is
/// gone.
pub fn prune_under_way(stores: &Seen, request: &RestoreRequest) -> Option<String> {
    let deletes = |namespace: Option<String>, labels: &BTreeMap<String, String>| {
        let component = labels.get(COMPONENT).map(String::as_str);
        let policy = || seen(&stores.policies, &namespace.unwrap_or_default(), labels.get(POLICY)?);
        [Some(backup_policy::PRUNE), Some(full_backup::DELETE)].contains(&component)
            && policy().is_some_and(|policy| reads(stores, request, &policy))
    };
    let jobs = stores.jobs.state();
    let mut jobs = jobs.iter().filter(|job| !has_ended(job) && deletes(job.namespace(), job.labels()));
    let pods = stores.pods.state();
    let mut pods = pods.iter().filter(|pod| !is_over(pod) && deletes(pod.namespace(), pod.labels()));
    jobs.next().map(|job| job.name_any()).or_else(|| pods.next().map(|pod| pod.name_any()))
}

fn has_ended(job: &Job) -> bool {
    ["Complete", "Failed"].into_iter().any(|type_| job_condition(job, type_).is_some())
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use kube::Resource;
    use kube::runtime::reflector::{self, Store};
    use kube::runtime::watcher::Event;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::controller::watches::Gone;

    fn store<K>(objects: &[String]) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
    {
        let (store, mut writer) = reflector::store();
        for object in objects {
            writer.apply_watcher_event(&Event::Apply(serde_yaml::from_str(object).unwrap()));
        }
        store
    }

    fn seen(requests: &[String], jobs: &[String], pods: &[String]) -> Seen {
        let policy = |name: &str| {
            format!(
                "{{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {{name: {name}, namespace: shop}}, spec: {{source: {{host: db, \
                 credentialsSecretRef: {{name: l}}}}, storage: {{s3: {{bucket: backups, prefix: {name}}}}}}}}}"
            )
        };
        Seen {
            policies: store(&[policy("orders"), policy("users")]),
            full_backups: store(&[]),
            restore_requests: store(requests),
            stateful_sets: store(&[]),
            jobs: store(jobs),
            config_maps: store(&[]),
            services: store(&[]),
            pods: store(pods),
            gone_pods: Gone::default(),
        }
    }

    fn request(namespace: &str, archive: &str, phase: &str) -> String {
        format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: RestoreRequest, metadata: {{name: rescue, namespace: {namespace}}}, spec: {{{archive}, \
             target: {{latest: true}}, into: {{image: i, storage: {{size: 1Gi}}}}}}, status: {{phase: {phase}}}}}"
        )
    }

    const BY_NAME: &str = "policyRef: {name: orders}";
    const BY_PLACE: &str = "storage: {s3: {bucket: backups, prefix: orders/}}";

    #[test]
    fn a_restore_that_has_not_ended_holds_the_archive_that_it_reads_by_whatever_name() {
        let holds = |namespace: &str, archive: &str, phase: &str| {
            let seen = seen(&[request(namespace, archive, phase)], &[], &[]);
            let policy = super::seen(&seen.policies, "shop", "orders").unwrap();
            restore_under_way(&seen, &policy)
        };
        for phase in ["Pending", "Running"] {
            assert_eq!(holds("shop", BY_NAME, phase).as_deref(), Some("rescue"));
            assert_eq!(holds("night", BY_PLACE, phase).as_deref(), Some("rescue in namespace night"));
        }
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(holds("shop", BY_NAME, phase), None);
        }
        assert_eq!(holds("shop", "policyRef: {name: users}", "Running"), None);
        assert_eq!(holds("night", BY_NAME, "Running"), None, "a policy of that name in another namespace");
        assert_eq!(holds("night", "storage: {s3: {bucket: backups, prefix: users}}", "Running"), None);
    }

    #[test]
    fn a_restore_waits_until_no_pod_deletes_from_its_archive() {
        let labels = |component: &str, policy: &str| {
            format!("labels: {{{COMPONENT}: {component}, {POLICY}: {policy}}}, namespace: shop")
        };
        let job = |component: &str, policy: &str, condition: &str| {
            format!(
                "{{metadata: {{name: job, {}}}, status: {{conditions: [{{type: {condition}, status: 'True'}}]}}}}",
                labels(component, policy)
            )
        };
        let pod = |phase: &str| {
            format!("{{metadata: {{name: pod, {}}}, status: {{phase: {phase}}}}}", labels("prune", "orders"))
        };
        let waits_for = |jobs: &[String], pods: &[String]| {
            let text = request("night", BY_PLACE, "Pending");
            let seen = seen(std::slice::from_ref(&text), jobs, pods);
            prune_under_way(&seen, &serde_yaml::from_str(&text).unwrap())
        };
        for component in ["prune", "delete"] {
            assert_eq!(waits_for(&[job(component, "orders", "Suspended")], &[]).as_deref(), Some("job"));
            assert_eq!(waits_for(&[job(component, "users", "Suspended")], &[]), None);
            for ended in ["Complete", "Failed"] {
                assert_eq!(waits_for(&[job(component, "orders", ended)], &[]), None);
            }
        }
        assert_eq!(waits_for(&[job("backup", "orders", "Suspended")], &[]), None);
        // Its Job is gone, and it is on its way out.
        assert_eq!(waits_for(&[], &[pod("Running")]).as_deref(), Some("pod"));
        assert_eq!(waits_for(&[], &[pod("Succeeded")]), None);
    }
}
