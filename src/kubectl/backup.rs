//! `kubectl tidemark backup`.

use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::args::BackupArgs;
use super::cluster::Cluster;
use super::error::Error;
use super::follow::follow;
use crate::api::{BackupPolicy, DeletionPolicy, FullBackup, FullBackupSpec, ObjectRef};

/// Makes a FullBackup.
pub async fn run(cluster: &Cluster, args: BackupArgs) -> Result<(), Error> {
    let BackupArgs { policy, name, wait } = args;
    // A FullBackup of a policy that is not there would wait for it.
    cluster.get::<BackupPolicy>(&policy).await?;
    let made = cluster.create(&full_backup(&policy, name)).await?;
    println!("fullbackup.tidemark.dev/{} created", made.name_any());
    if !wait {
        return Ok(());
    }
    let status = follow(cluster, &made).await?.status.unwrap_or_default();
    let figure = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    println!("{} stored in {}, shows {}", figure(status.size), figure(status.duration), figure(status.consistent_at));
    Ok(())
}

fn full_backup(policy: &str, name: Option<String>) -> FullBackup {
    let spec = FullBackupSpec {
        policy_ref: ObjectRef { name: policy.to_owned() },
        method: None,
        deletion_policy: DeletionPolicy::default(),
    };
    // The API server adds five letters.
    let generate_name = name.is_none().then(|| format!("{policy}-now-"));
    FullBackup { metadata: ObjectMeta { name, generate_name, ..ObjectMeta::default() }, spec, status: None }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn a_full_is_asked_for_by_name_or_by_the_policys() {
        let body = |name: Option<&str>| to_value(full_backup("orders", name.map(str::to_owned))).unwrap();
        let expected = |metadata| {
            json!({"apiVersion": "tidemark.dev/v1alpha1", "kind": "FullBackup", "metadata": metadata,
                "spec": {"policyRef": {"name": "orders"}, "deletionPolicy": "Retain"}})
        };
        assert_eq!(body(None), expected(json!({"generateName": "orders-now-"})));
        assert_eq!(body(Some("before")), expected(json!({"name": "before"})));
    }
}
