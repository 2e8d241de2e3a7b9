//! `--secrets DIR`: Secrets as Kubernetes mounts them, a folder each, a file a key.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use snafu::ResultExt;

use super::{ManifestError, Origin, ReadFileSnafu};

/// A folder that the kubelet replaces while it is read is read again this often.
const ATTEMPTS: u32 = 3;

/// One Secret of the folder.
pub(super) struct Mounted {
    pub(super) origin: Origin,
    pub(super) name: String,
    pub(super) data: BTreeMap<String, SecretString>,
}

/// Every Secret below `dir`.
pub(super) fn read(dir: &Path) -> Result<Vec<Mounted>, ManifestError> {
    let folders = entries(dir).context(ReadFileSnafu { path: dir })?;
    folders.into_iter().map(|(name, path)| mounted(dir, name, &path)).collect()
}

fn mounted(dir: &Path, name: String, path: &Path) -> Result<Mounted, ManifestError> {
    if !path.is_dir() {
        let message = format!(
            "--secrets {}: {name:?} is no folder: mount each Secret as a folder of its own in there, so that its keys are \
             {}/<name of the Secret>/<key>",
            dir.display(),
            dir.display()
        );
        return Err(ManifestError::Choice { message });
    }
    let mut failed = 0;
    let data = loop {
        match keys(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && failed < ATTEMPTS => failed += 1,
            read => break read.context(ReadFileSnafu { path })?,
        }
    };
    let origin = Origin { file: dir.to_owned(), number: 1, object: format!("Secret/{name}") };
    Ok(Mounted { origin, name, data })
}

fn keys(folder: &Path) -> io::Result<BTreeMap<String, SecretString>> {
    let mut data = BTreeMap::new();
    for (key, path) in entries(folder)? {
        if !path.is_file() {
            continue;
        }
        match String::from_utf8(std::fs::read(&path)?) {
            Ok(value) => drop(data.insert(key, SecretString::from(value))),
            Err(_) => tracing::warn!(folder = %folder.display(), key, "not text in UTF-8: this key is left out"),
        }
    }
    Ok(data)
}

/// What is in a folder, by name. Kubernetes keeps its own links there under names that begin with two dots: the visible names lead
/// through `..data`, which is swapped when something changes. It is followed once, so that all is of one version.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let version = folder.join("..data").canonicalize();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(version.as_deref().unwrap_or(folder))? {
        let entry = entry?;
        match entry.file_name().into_string() {
            Ok(name) if !name.starts_with("..") => found.push((name, entry.path())),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::*;

    fn write(path: PathBuf, text: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// As the kubelet lays a version of a Secret out.
    fn mount(folder: &Path, version: &str, keys: &[(&str, &str)]) {
        for (key, value) in keys {
            write(folder.join(version).join(key), value.as_bytes());
            let _ = symlink(format!("..data/{key}"), folder.join(key));
        }
        let _ = std::fs::remove_file(folder.join("..data"));
        symlink(version, folder.join("..data")).unwrap();
    }

    fn shown(dir: &Path) -> Vec<(String, Vec<(String, String)>)> {
        let keys = |data: BTreeMap<String, SecretString>| {
            data.into_iter().map(|(key, value)| (key, value.expose_secret().to_owned())).collect()
        };
        read(dir).unwrap().into_iter().map(|secret| (secret.name, keys(secret.data))).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secrets_are_read_through_the_links_of_a_mount_and_follow_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let login = dir.path().join("login");
        mount(&login, "..2026_11_21", &[("username", "u"), ("password", "old"), (".dot", "kept")]);
        write(dir.path().join("plain/ca.crt"), b"pem");
        write(dir.path().join("plain/keystore"), &[0xff, 0xfe]);
        let plain = ("plain".to_owned(), owned(&[("ca.crt", "pem")]));
        let keys = [(".dot", "kept"), ("password", "old"), ("username", "u")];
        assert_eq!(shown(dir.path()), [("login".to_owned(), owned(&keys)), plain.clone()]);
        mount(&login, "..2026_11_22", &[("username", "u"), ("password", "new")]);
        let keys = owned(&[("password", "new"), ("username", "u")]);
        assert_eq!(shown(dir.path()), [("login".to_owned(), keys), plain]);
    }

    #[test]
    fn a_folder_of_keys_instead_of_secrets_and_a_missing_one_are_told() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("password"), b"hunter2");
        let error = read(dir.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains("\"password\" is no folder") && error.contains("<name of the Secret>/<key>"), "{error}");
        assert!(!error.contains("hunter2"));
        let error = read(&dir.path().join("nowhere")).map(drop).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}
