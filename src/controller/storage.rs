//! Whether a pod can reach an archive's store as a manifest names it. Pure.

use crate::api::StorageSpec;

/// The pods need these folders themselves; what is mounted over one hides it.
const OURS: [&str; 8] = ["/tmp", "/etc", "/dev", "/proc", "/sys", "/usr", "/var/lib/mysql", "/var/run"];

/// Where an archive is, as one text: two that name the same place by other words (a region, a mount's path, slashes) have the same.
pub fn location(namespace: &str, storage: &StorageSpec) -> String {
    let StorageSpec { s3, gcs, azblob, fs } = storage;
    let text = |parts: &[&str]| parts.iter().map(|part| part.trim_matches('/')).collect::<Vec<_>>().join("|");
    let endpoint = |endpoint: &Option<String>| {
        let endpoint = endpoint.clone().unwrap_or_default();
        // A Service's short name is another server in each namespace.
        let short = !endpoint.is_empty() && !endpoint.contains('.');
        if short { format!("{namespace}|{}", endpoint.trim_end_matches('/')) } else { endpoint }
    };
    let s3 = s3.as_ref().map(|s3| text(&["s3", &endpoint(&s3.endpoint), &s3.bucket, &s3.prefix]));
    let gcs = gcs.as_ref().map(|gcs| text(&["gcs", &endpoint(&gcs.endpoint), &gcs.bucket, &gcs.prefix]));
    let azblob = azblob
        .as_ref()
        .map(|blob| text(&["azblob", &blob.account, &endpoint(&blob.endpoint), &blob.container, &blob.prefix]));
    let fs = fs.as_ref().map(|fs| text(&["fs", namespace, fs.claim_name.as_deref().unwrap_or(&fs.path)]));
    s3.or(gcs).or(azblob).or(fs).unwrap_or_default()
}

/// Tells `refuse` of every field that is wrong, and the way out.
pub fn check(field: &str, storage: &StorageSpec, mut refuse: impl FnMut(&str, &str)) {
    let StorageSpec { s3, gcs, azblob, fs } = storage;
    let stores = [s3.is_some(), gcs.is_some(), azblob.is_some(), fs.is_some()];
    if stores.iter().filter(|named| **named).count() != 1 {
        refuse(field, "name exactly one store: s3, gcs, azblob or fs");
    }
    let endpoints = [
        ("s3", s3.as_ref().and_then(|s3| s3.endpoint.as_deref())),
        ("gcs", gcs.as_ref().and_then(|gcs| gcs.endpoint.as_deref())),
        ("azblob", azblob.as_ref().and_then(|azblob| azblob.endpoint.as_deref())),
    ];
    for (store, endpoint) in endpoints.into_iter().filter_map(|(store, endpoint)| Some((store, endpoint?))) {
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            let message = format!("{endpoint:?} is not an address: write https://HOST[:PORT]");
            refuse(&format!("{field}.{store}.endpoint"), &message);
        }
    }
    let Some(fs) = fs else { return };
    if fs.claim_name.is_none() {
        let message = "in a cluster a folder is on a volume: name the PersistentVolumeClaim to mount there";
        refuse(&format!("{field}.fs.claimName"), message);
    }
    let path = fs.path.trim_end_matches('/');
    let inside = |outer: &str, inner: &str| inner == outer || inner.starts_with(&format!("{outer}/"));
    if !fs.path.starts_with('/') || fs.path.contains(':') || path.is_empty() {
        let message = format!("{:?} cannot be mounted: write an absolute folder such as /archive", fs.path);
        refuse(&format!("{field}.fs.path"), &message);
    } else if let Some(folder) = OURS.into_iter().find(|folder| inside(folder, path) || inside(path, folder)) {
        let message = format!("the pods need {folder} themselves: write another folder, such as /archive");
        refuse(&format!("{field}.fs.path"), &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_whatever_it_is_called_and_by_whom() {
        let of = |namespace: &str, text: &str| location(namespace, &serde_yaml::from_str(text).unwrap());
        let here = of("shop", "{s3: {bucket: backups, prefix: orders, endpoint: 'https://s3.example'}}");
        assert_eq!(
            here,
            of("rescue", "{s3: {bucket: backups, prefix: /orders/, region: eu, endpoint: 'https://s3.example/'}}")
        );
        for other in [
            "{s3: {bucket: backups, prefix: orders}}",
            "{s3: {bucket: backups, prefix: other, endpoint: 'https://s3.example'}}",
            "{gcs: {bucket: backups, prefix: orders, endpoint: 'https://s3.example'}}",
        ] {
            assert_ne!(here, of("shop", other), "{other}");
        }
        let near = "{s3: {bucket: backups, endpoint: 'http://s3:7070'}}";
        assert_ne!(of("shop", near), of("rescue", near), "a Service's short name is another server there");
        let claim = of("shop", "{fs: {path: /archive, claimName: c}}");
        assert_eq!(claim, of("shop", "{fs: {path: /elsewhere, claimName: c}}"), "a claim is mounted anywhere");
        assert_ne!(claim, of("rescue", "{fs: {path: /archive, claimName: c}}"));
    }
}
