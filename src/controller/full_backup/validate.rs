//! Raw spec and its policy → what can be done, or why it cannot (yet).

use super::dereference::Facts;
use crate::api::{BackupPolicy, FullBackup, FullBackupSpec, ObjectRef, unsupported};
use crate::controller::backup_policy::{self, Validated as Policy};

/// A full that can be taken.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Of what.
    pub policy: Policy,
}

/// Why it cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether it never will: the object itself asks for what cannot be done.
    pub forever: bool,
    /// A condition's reason.
    pub reason: &'static str,
    /// In words, with the way out.
    pub message: String,
}

/// Checks.
pub fn validate(full: &FullBackup, seen: &Facts) -> Result<Validated, Refusal> {
    check(full, seen.policy.as_deref())
}

fn check(full: &FullBackup, policy: Option<&BackupPolicy>) -> Result<Validated, Refusal> {
    let FullBackupSpec { policy_ref: ObjectRef { name }, method: _, deletion_policy: _ } = &full.spec;
    if let Some((field, message)) = unsupported::of_full(&full.spec) {
        let message = format!("{field}: {message}. A FullBackup cannot be changed: make another one");
        return Err(Refusal { forever: true, reason: "Unsupported", message });
    }
    let Some(policy) = policy.filter(|policy| policy.metadata.deletion_timestamp.is_none()) else {
        let message = format!(
            "spec.policyRef: there is no BackupPolicy {name:?} in this namespace: it begins as soon as there is one"
        );
        return Err(Refusal { forever: false, reason: "PolicyMissing", message });
    };
    match backup_policy::validate(policy) {
        Ok(policy) => Ok(Validated { policy }),
        Err(refusal) => {
            let message = format!("BackupPolicy {name:?} must be mended first: {}", refusal.message());
            Err(Refusal { forever: false, reason: "PolicyInvalid", message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_waits_for_its_policy_and_is_refused_for_good_only_for_what_it_asks_itself() {
        let full = |method: &str| -> FullBackup {
            serde_yaml::from_str(&format!(
                "{{apiVersion: tidemark.dev/v1alpha1, kind: FullBackup, metadata: {{name: f}}, spec: {{policyRef: {{name: orders}}{method}}}}}"
            ))
            .unwrap()
        };
        let policy = |rest: &str| -> BackupPolicy {
            serde_yaml::from_str(&format!(
                "{{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {{name: orders, namespace: shop}}, spec: {{source: \
                 {{host: db, credentialsSecretRef: {{name: l}}}}, storage: {{s3: {{bucket: abc}}}}{rest}}}}}"
            ))
            .unwrap()
        };
        let refused = |full: &FullBackup, policy: Option<&BackupPolicy>| {
            let Refusal { forever, reason, message: _ } = check(full, policy).unwrap_err();
            (forever, reason)
        };
        assert!(check(&full(""), Some(&policy(""))).is_ok());
        assert_eq!(refused(&full(""), None), (false, "PolicyMissing"));
        assert_eq!(refused(&full(""), Some(&policy(", method: clone"))), (false, "PolicyInvalid"));
        assert_eq!(refused(&full(", method: clone"), Some(&policy(""))), (true, "Unsupported"));
    }
}
