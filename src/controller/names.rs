//! Names and labels of what the operator makes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

/// On everything the operator makes; its watches ask for these alone.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "tidemark");
/// What a pod does: `stream`, `backup`, `plan`, `restore`, `server`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The BackupPolicy that something works for.
pub const POLICY: &str = "tidemark.dev/policy";
/// The FullBackup that something works for.
pub const FULL_BACKUP: &str = "tidemark.dev/full-backup";
/// The RestoreRequest that something works for.
pub const RESTORE_REQUEST: &str = "tidemark.dev/restore-request";
/// The very object, of all that ever had its name, that something works for.
pub const REQUEST_UID: &str = "tidemark.dev/request-uid";
/// On the pod of a restored server once anybody may connect.
pub const OPEN: &str = "tidemark.dev/open";
/// Hash of the manifests a pod was started with: another one starts it anew.
pub const MANIFEST_HASH: &str = "tidemark.dev/manifest-hash";

/// On a stream's StatefulSet: what its claims were made from, which cannot be changed afterwards.
pub const CLAIMS: &str = "tidemark.dev/claims";
/// On the pod of a stream: when it was last told to look for better credentials (RFC 3339).
pub const LOOK_AGAIN: &str = "tidemark.dev/look-again";

/// On a FullBackup that a policy made: the moment it was due (RFC 3339).
pub const DUE: &str = "tidemark.dev/due";
/// On a FullBackup that a policy made: why.
pub const REASON: &str = "tidemark.dev/reason";

/// Longest name of an object whose pods carry it in a label or a host name.
const NAME_MAX: usize = 63;

/// `name-suffix`, shortened with a hash of `name` where it would be too long: two long names stay two.
pub fn suffixed(name: &str, suffix: &str) -> String {
    // A StatefulSet adds `-0` and a hash to pods' names and labels.
    joined(name, suffix, NAME_MAX - 12)
}

/// The same for an object whose name is a label of its pods as it is: a Job, or a FullBackup that has one.
pub fn suffixed_job(name: &str, suffix: &str) -> String {
    joined(name, suffix, NAME_MAX)
}

fn joined(name: &str, suffix: &str, chars_max: usize) -> String {
    let room = chars_max.saturating_sub(suffix.len() + 1);
    if name.len() <= room {
        return format!("{name}-{suffix}");
    }
    let hash = format!("{:08x}", crc32fast::hash(name.as_bytes()));
    let kept: String = name.chars().take(room.saturating_sub(9)).collect();
    format!("{}-{hash}-{suffix}", kept.trim_end_matches(['-', '.']))
}

/// A label's value for an object's name, which may be longer than a label can be.
pub fn label_value(name: &str) -> String {
    if name.len() <= NAME_MAX {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME_MAX - 9).collect();
    format!("{}-{:08x}", kept.trim_end_matches(['-', '.']), crc32fast::hash(name.as_bytes()))
}

/// Labels of what belongs to `owner_label`=`owner` and does `component`.
pub fn labels(component: &str, owner_label: &str, owner: &str) -> BTreeMap<String, String> {
    [
        (MANAGED_BY.0, MANAGED_BY.1.to_owned()),
        ("app.kubernetes.io/name", "tidemark".to_owned()),
        (COMPONENT, component.to_owned()),
        (owner_label, label_value(owner)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Metadata of a child of `owner`, which goes when its owner goes.
pub fn child_of<K: Resource<DynamicType = ()>>(
    owner: &K,
    name: String,
    labels: BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: owner.namespace(),
        labels: Some(labels),
        owner_references: owner.controller_owner_ref(&()).map(|reference: OwnerReference| vec![reference]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_distinct_and_fit() {
        let (a, b) = ("a".repeat(250), format!("{}b", "a".repeat(249)));
        for name in [&a, &b] {
            assert!(suffixed(name, "stream").len() <= NAME_MAX - 12, "{}", suffixed(name, "stream"));
            assert!(label_value(name).len() <= NAME_MAX);
        }
        assert_ne!(suffixed(&a, "stream"), suffixed(&b, "stream"));
        assert_ne!(label_value(&a), label_value(&b));
        assert_eq!(suffixed("orders", "stream"), "orders-stream");
        assert_eq!(suffixed_job(&a[..47], "20261125-023000").len(), NAME_MAX);
        assert!(suffixed_job(&a[..48], "20261125-023000").len() <= NAME_MAX);
        assert_ne!(suffixed_job(&a, "1"), suffixed_job(&b, "1"));
    }
}
