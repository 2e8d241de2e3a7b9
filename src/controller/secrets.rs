//! Names of the Secrets that a pod needs. Pure; a reference that is added to a spec and forgotten here does not compile.

use crate::api::{AzblobSpec, DecryptionSpec, GcsSpec, S3Spec, SourceSpec, StorageSpec, TlsSpec};

/// Those that a connection to the source needs.
pub fn of_source(source: &SourceSpec) -> Vec<String> {
    let SourceSpec {
        flavor: _,
        host: _,
        hosts: _,
        service_ref: _,
        selector: _,
        port: _,
        credentials_secret_ref,
        tls,
        prefer_replica: _,
    } = source;
    let TlsSpec { mode: _, ca_secret_ref } = tls;
    let ca = ca_secret_ref.iter().map(|reference| reference.name.clone());
    std::iter::once(credentials_secret_ref.name.clone()).chain(ca).collect()
}

/// Those that reading and writing an archive needs.
pub fn of_storage(storage: &StorageSpec) -> Vec<String> {
    let StorageSpec { s3, gcs, azblob, fs: _ } = storage;
    let s3 = s3.iter().flat_map(|s3| {
        let S3Spec {
            bucket: _,
            prefix: _,
            region: _,
            endpoint: _,
            credentials_secret_ref,
            ca_secret_ref,
            virtual_host_style: _,
        } = s3;
        let ca = ca_secret_ref.iter().map(|reference| &reference.name);
        credentials_secret_ref.iter().map(|reference| &reference.name).chain(ca)
    });
    let gcs = gcs.iter().filter_map(|gcs| {
        let GcsSpec { bucket: _, prefix: _, endpoint: _, credentials_secret_ref } = gcs;
        Some(&credentials_secret_ref.as_ref()?.name)
    });
    let azblob = azblob.iter().filter_map(|azblob| {
        let AzblobSpec { container: _, prefix: _, account: _, endpoint: _, credentials_secret_ref } = azblob;
        Some(&credentials_secret_ref.as_ref()?.name)
    });
    s3.chain(gcs).chain(azblob).cloned().collect()
}

/// The one that reading an encrypted archive needs: the pods of a restore mount it, and that of a deep verify which names one.
pub fn of_decryption(decryption: Option<&DecryptionSpec>) -> Option<String> {
    let DecryptionSpec { identity_secret_ref } = decryption?;
    Some(identity_secret_ref.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_is_named() {
        let source: SourceSpec = serde_yaml::from_str(
            "{host: db, credentialsSecretRef: {name: login}, tls: {mode: VerifyCA, caSecretRef: {name: ca}}}",
        )
        .unwrap();
        assert_eq!(of_source(&source), ["login", "ca"]);
        for (store, names) in [
            ("{s3: {bucket: abc, credentialsSecretRef: {name: keys}}}", vec!["keys"]),
            ("{s3: {bucket: abc, credentialsSecretRef: {name: keys}, caSecretRef: {name: ca}}}", vec!["keys", "ca"]),
            ("{gcs: {bucket: abc, credentialsSecretRef: {name: keys}}}", vec!["keys"]),
            ("{azblob: {container: abc, account: a, credentialsSecretRef: {name: keys}}}", vec!["keys"]),
            ("{s3: {bucket: abc}}", vec![]),
            ("{fs: {path: /a, claimName: c}}", vec![]),
        ] {
            assert_eq!(of_storage(&serde_yaml::from_str(store).unwrap()), names, "{store}");
        }
    }
}
