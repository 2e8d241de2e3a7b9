use super::reference::Resolver;
use super::refuse;
use super::retention::zone_of;
use crate::api::{BackupPolicy, DecryptionSpec, SecretKeyRef, VerifyDepth, VerifySpec};
use crate::archive::crypt::Identities;
use crate::cli::manifests::{Document, Documents, ManifestError, Problem};
use crate::schedule::Times;

/// When and how an archive is verified.
#[derive(Clone, Debug)]
pub struct Verify {
    /// When.
    pub times: Times,
    /// How much is looked at.
    pub depth: VerifyDepth,
    /// Most bytes that are read in a second.
    pub bytes_per_second: Option<u64>,
    /// What a deep one opens encrypted objects with, or what is wrong with where that should be: only who verifies needs it.
    pub identities: Result<Identities, Vec<Problem>>,
}

impl Verify {
    /// What opens encrypted objects.
    pub fn identities(&self) -> Result<Identities, ManifestError> {
        self.identities.clone().map_err(|problems| ManifestError::Invalid { problems })
    }
}

/// When and how a policy's archive is verified.
pub(super) fn verify_of(
    document: &Document<BackupPolicy>,
    documents: &Documents,
    problems: &mut Vec<Problem>,
) -> Option<Verify> {
    let spec = document.object.spec.verify.as_ref()?;
    refuse(document, spec.problems(), problems);
    let VerifySpec { cron, depth, bytes_per_second, decryption } = spec;
    let mut missing = Vec::new();
    let identities =
        decryption.as_ref().and_then(|DecryptionSpec { identity_secret_ref: SecretKeyRef { name, key } }| {
            let mut resolver = Resolver::new(document, documents, &mut missing);
            resolver.identities("spec.verify.decryption.identitySecretRef", name, key.as_deref())
        });
    let identities = if missing.is_empty() { Ok(identities.unwrap_or_default()) } else { Err(missing) };
    let bytes_per_second = bytes_per_second.map(|size| size.0);
    match Times::new(cron, zone_of(document)) {
        Ok(times) => Some(Verify { times, depth: *depth, bytes_per_second, identities }),
        Err(message) => {
            problems.push(document.problem("spec.verify.cron", message));
            None
        }
    }
}
