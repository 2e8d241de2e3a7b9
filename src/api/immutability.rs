use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetentionSpec, Span, StorageSpec};

/// Object Lock: nothing that is archived can be deleted or changed before its time, whoever asks for it. The bucket must have Object Lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImmutabilitySpec {
    /// Who may undo a lock before its time.
    pub mode: ImmutabilityMode,
    /// How long each object is locked from when it is written, 1h to 3650d, for example `30d`. To withstand an attacker everything that a restore
    /// needs must be locked: longer than the retention's window and the time between two fulls together.
    pub lock_for: Span,
}

/// Who may undo a lock before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImmutabilityMode {
    /// Who has the permission `s3:BypassGovernanceRetention`: a login that is not in the cluster, one hopes.
    Governance,
    /// Nobody at all, not even the account's root: what is archived is paid for until its time has come.
    Compliance,
}

impl ImmutabilitySpec {
    const SHORTEST: Duration = Duration::from_secs(3600);
    /// A mistyped length cannot be taken back.
    const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

    /// What is wrong with it, beside a storage: a field below `immutability`, and the way out.
    pub fn problem(&self, storage: &StorageSpec) -> Option<(&'static str, String)> {
        let Self { mode: _, lock_for } = self;
        let StorageSpec { s3, gcs, azblob, fs } = storage;
        if s3.is_none() {
            let way_out = match (gcs, azblob, fs) {
                (Some(_), _, _) => {
                    "give the bucket a retention policy of its own (gcloud storage buckets update --retention-period)"
                }
                (_, Some(_), _) => {
                    "give the container an immutability policy of its own (az storage container immutability-policy create)"
                }
                _ => "name an S3 bucket with Object Lock, or add one in spec.copies",
            };
            let message =
                format!("only an S3 bucket's objects are locked by this version: {way_out}, and remove the field");
            return Some(("", message));
        }
        (lock_for.0 < Self::SHORTEST || lock_for.0 > Self::LONGEST)
            .then(|| (".lockFor", format!("{lock_for} is out of bounds: write 1h to 3650d")))
    }

    /// What it does not withstand, although somebody may think so.
    pub fn too_short(&self, retention: Option<&RetentionSpec>) -> Option<String> {
        let window = retention?.window?;
        (self.lock_for <= window).then(|| {
            format!(
                "immutability.lockFor ({}) is no longer than retention.window ({window}): fulls and logs that the window needs lose their lock while \
                 it needs them; write the window and the time between two fulls together, or more",
                self.lock_for
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::api::BackupPolicySpec;

    fn spec(storage: &str, lock_for: &str, window: &str) -> BackupPolicySpec {
        serde_yaml::from_str(&format!(
            "{{source: {{host: db, credentialsSecretRef: {{name: x}}}}, storage: {storage}, retention: {{window: {window}}}, \
             immutability: {{mode: Compliance, lockFor: {lock_for}}}}}"
        ))
        .unwrap()
    }

    #[test]
    fn only_a_bucket_that_locks_is_taken_and_a_lock_that_ends_too_soon_is_told() {
        let problem = |storage, lock_for| {
            let spec = spec(storage, lock_for, "14d");
            spec.immutability.unwrap().problem(&spec.storage)
        };
        let s3 = "{s3: {bucket: abc}}";
        assert_eq!(problem(s3, "30d"), None);
        assert!(problem(s3, "59m").unwrap().1.contains("1h to 3650d"));
        assert_eq!(problem(s3, "3651d").unwrap().0, ".lockFor");
        assert!(problem("{gcs: {bucket: abc}}", "30d").unwrap().1.contains("--retention-period"));
        assert!(problem("{azblob: {container: abc, account: a}}", "30d").unwrap().1.contains("immutability-policy"));
        assert!(problem("{fs: {path: /a}}", "30d").unwrap().1.contains("name an S3 bucket"));
        let short = |lock_for| {
            let spec = spec(s3, lock_for, "14d");
            spec.immutability.unwrap().too_short(spec.retention.as_ref())
        };
        assert!(short("14d").unwrap().contains("no longer than"));
        assert_eq!(short("15d"), None);
    }
}
