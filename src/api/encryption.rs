use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encryption of rows, definitions and binary log before they leave the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionSpec {
    /// age public keys (X25519: `age1` and 58 characters, as `age-keygen` prints them); the identity of any one of them reads the archive.
    /// Writers need no other key. What is changed here holds for new objects; old ones stay readable by whom they were made for.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(inner(regex(pattern = "^age1[02-9ac-hj-np-z]{58}$")))]
    pub recipients: Vec<String>,
}

impl EncryptionSpec {
    /// What is wrong with it: the field, and the way out.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        const FIELD: &str = "spec.encryption.recipients";
        if self.recipients.is_empty() {
            return Some((FIELD, "name at least one age public key, or remove spec.encryption".to_owned()));
        }
        if self.recipients.len() > 16 {
            return Some((FIELD, "name at most 16 age public keys".to_owned()));
        }
        let wrong = self.recipients.iter().find(|text| text.parse::<age::x25519::Recipient>().is_err())?;
        let shown: String = wrong.chars().take(80).collect();
        let way_out = if wrong.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            // A secret key must not get into a condition or a log, and a policy is no place for it.
            "one of them is a secret key: write the public key of that identity (age-keygen -y), and make a new identity, for this one has been \
             shown to everybody who can read the policy"
                .to_owned()
        } else {
            format!(
                "{shown:?} is not an age public key of the kind X25519: write what age-keygen prints as the public key, age1 and 58 characters"
            )
        };
        Some((FIELD, way_out))
    }
}
