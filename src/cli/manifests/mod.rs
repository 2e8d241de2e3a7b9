//! Manifest files → typed documents. Everything that is wrong is reported at once, each with document, line and field.

mod secrets;
mod strict;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Secret;
use kube::{CustomResourceExt, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;
use snafu::{ResultExt, Snafu};

use crate::api::{self, BackupPolicy, FullBackup, RestoreRequest};
use crate::cli::args::ManifestArgs;
use secrets::Mounted;

/// All documents of the files given.
#[derive(Debug, Default)]
pub struct Documents {
    /// Policies by name.
    pub policies: BTreeMap<String, Document<BackupPolicy>>,
    /// Restore requests by name.
    pub restores: BTreeMap<String, Document<RestoreRequest>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, SecretData>,
}

/// One document and where it was read.
#[derive(Clone, Debug)]
pub struct Document<T> {
    /// The object.
    pub object: T,
    /// File and document, for messages.
    pub origin: Origin,
}

/// Where a document was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Path as it was given; `-` is standard input.
    pub file: PathBuf,
    /// The document's number in the file, from 1.
    pub number: usize,
    /// `Kind/name` as far as they are known.
    pub object: String,
}

/// The keys and values of a Secret.
#[derive(Debug, Default)]
pub struct SecretData(BTreeMap<String, SecretString>);

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// Line in the file, from 1, when known.
    pub line: Option<usize>,
    /// Path of the field, for example `spec.source.host`; empty for the document itself.
    pub field: String,
    /// What is wrong and the way out.
    pub message: String,
}

/// Why manifests could not be used.
#[derive(Debug, Snafu)]
pub enum ManifestError {
    /// A file cannot be read.
    #[snafu(display("cannot read {}", path.display()))]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The documents do not hold what was asked for.
    #[snafu(display("{message}"))]
    Choice {
        /// What is missing and the way out.
        message: String,
    },
    /// Documents are wrong.
    #[snafu(display("the manifests are not valid:{}", list(problems)))]
    Invalid {
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.object.is_empty() { write!(f, " document {}", self.number) } else { write!(f, " {}", self.object) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl SecretData {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&SecretString> {
        self.0.get(key)
    }

    /// All keys, for messages.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<T> Document<T> {
    /// A problem with a field of this document.
    pub fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        Problem { origin: self.origin.clone(), line: None, field: field.to_owned(), message: message.into() }
    }
}

/// Reads and parses files and the folder of Secrets; `-` is standard input.
pub fn load(args: &ManifestArgs) -> Result<Documents, ManifestError> {
    let Sources { texts, secrets } = gather(args)?;
    let mut reader = Reader::default();
    for (path, text) in texts {
        reader.read(path, &text);
    }
    for Mounted { origin, name, data } in secrets {
        reader.insert(origin, name, data);
    }
    reader.finish()
}

/// A number that changes with anything [`load`] would read; none where it cannot be read.
pub fn fingerprint(args: &ManifestArgs) -> Option<u64> {
    let Sources { texts, secrets } = gather(args).ok()?;
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    for Mounted { name, data, .. } in &secrets {
        name.hash(&mut hasher);
        data.iter().for_each(|(key, value)| (key, value.expose_secret()).hash(&mut hasher));
    }
    Some(hasher.finish())
}

/// What was given, before it is parsed.
struct Sources<'a> {
    texts: Vec<(&'a Path, String)>,
    secrets: Vec<Mounted>,
}

fn gather(args: &ManifestArgs) -> Result<Sources<'_>, ManifestError> {
    let mut texts = Vec::new();
    for path in &args.files {
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin().read_to_string(&mut text).context(ReadFileSnafu { path })?;
        } else {
            text = std::fs::read_to_string(path).context(ReadFileSnafu { path })?;
        }
        // MySQL ends the certificates that it makes with a NUL, which a script that pastes one brings along.
        text.retain(|c| c != '\0');
        texts.push((path.as_path(), text));
    }
    let secrets = args.secrets.as_deref().map_or(Ok(Vec::new()), secrets::read)?;
    Ok(Sources { texts, secrets })
}

/// Parses the text of one file.
pub fn parse(path: &Path, text: &str) -> Result<Documents, ManifestError> {
    let mut reader = Reader::default();
    reader.read(path, text);
    reader.finish()
}

#[derive(Default)]
struct Reader {
    documents: Documents,
    problems: Vec<Problem>,
}

impl Reader {
    fn finish(self) -> Result<Documents, ManifestError> {
        if self.problems.is_empty() { Ok(self.documents) } else { InvalidSnafu { problems: self.problems }.fail() }
    }

    fn read(&mut self, path: &Path, text: &str) {
        // Some editors begin a file with a byte order mark, which the parser would take for part of a name.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let untyped = serde_yaml::Deserializer::from_str(text);
        let typed = serde_yaml::Deserializer::from_str(text);
        for (index, (untyped, typed)) in untyped.zip(typed).enumerate() {
            let origin = Origin { file: path.to_owned(), number: index + 1, object: String::new() };
            match Value::deserialize(untyped) {
                Ok(Value::Null) => {}
                Ok(value) => self.document(origin, text, &value, typed),
                Err(error) => {
                    // The parser cannot find the next document behind a syntax error.
                    self.problems.push(problem_of(origin, &error));
                    return;
                }
            }
        }
    }

    fn document(&mut self, mut origin: Origin, text: &str, value: &Value, typed: serde_yaml::Deserializer<'_>) {
        let text_of = |path: &[&str]| path.iter().try_fold(value, |at, key| at.get(key)).and_then(Value::as_str);
        let (api_version, kind) = (text_of(&["apiVersion"]), text_of(&["kind"]));
        let name = text_of(&["metadata", "name"]);
        origin.object = match (kind, name) {
            (Some(kind), Some(name)) => format!("{kind}/{name}"),
            (Some(kind), None) => kind.to_owned(),
            _ => String::new(),
        };
        let ours = format!("{}/{}", api::GROUP, api::VERSION);
        let problem = |field: &str, message: String| Problem {
            origin: origin.clone(),
            line: strict::line_of(text, origin.number, field),
            field: field.to_owned(),
            message,
        };
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            let message = format!("not a manifest: it has no apiVersion and kind; begin with `apiVersion: {ours}`");
            return self.problems.push(problem("", message));
        };
        match (api_version, kind) {
            ("v1", "Secret") => self.secret(origin, text, value, typed),
            (version, "BackupPolicy" | "RestoreRequest" | "FullBackup") if version != ours => {
                let message =
                    format!("{version:?} is not an API version of {kind} that this tidemark knows: write {ours}");
                self.problems.push(problem("apiVersion", message));
            }
            (_, "BackupPolicy") => {
                if let Some(document) = self.typed::<BackupPolicy>(origin, text, value, typed) {
                    let name = document.object.name_any();
                    if let Some(earlier) = self.documents.policies.insert(name, document) {
                        self.twice(earlier.origin);
                    }
                }
            }
            (_, "RestoreRequest") => {
                if let Some(document) = self.typed::<RestoreRequest>(origin, text, value, typed) {
                    let name = document.object.name_any();
                    if let Some(earlier) = self.documents.restores.insert(name, document) {
                        self.twice(earlier.origin);
                    }
                }
            }
            (_, "FullBackup") => {
                let _ = self.typed::<FullBackup>(origin, text, value, typed);
            }
            (version, kind) if version.starts_with(api::GROUP) => {
                let message = format!(
                    "{kind:?} is not a kind of {}: write BackupPolicy, RestoreRequest or FullBackup",
                    api::GROUP
                );
                self.problems.push(problem("kind", message));
            }
            // Manifests of other programs may share a file with ours, as they may for `kubectl apply`.
            _ => tracing::debug!(document = %origin, "not for tidemark: ignored"),
        }
    }

    fn twice(&mut self, origin: Origin) {
        let message = "there are two documents of this kind and name: rename or remove one".to_owned();
        self.problems.push(Problem { origin, line: None, field: "metadata.name".to_owned(), message });
    }

    fn typed<T: DeserializeOwned + CustomResourceExt + ResourceExt>(
        &mut self,
        origin: Origin,
        text: &str,
        value: &Value,
        typed: serde_yaml::Deserializer<'_>,
    ) -> Option<Document<T>> {
        let unknown = strict::unknown_fields(value, &T::crd());
        let known = unknown.is_empty();
        for field in unknown {
            let line = strict::line_of(text, origin.number, &field.path);
            let message = field.message();
            self.problems.push(Problem { origin: origin.clone(), line, field: field.path, message });
        }
        match T::deserialize(typed) {
            Ok(object) if object.meta().name.as_deref().unwrap_or_default().is_empty() => {
                let message = "the document has no name: add one".to_owned();
                self.problems.push(Problem { origin, line: None, field: "metadata.name".to_owned(), message });
                None
            }
            Ok(object) => known.then_some(Document { object, origin }),
            Err(error) => {
                self.problems.push(problem_of(origin, &error));
                None
            }
        }
    }

    fn secret(&mut self, origin: Origin, text: &str, value: &Value, typed: serde_yaml::Deserializer<'_>) {
        const FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"];
        for key in value.as_mapping().into_iter().flat_map(|map| map.keys()).filter_map(Value::as_str) {
            if !FIELDS.contains(&key) {
                let message = format!("unknown field; a Secret has {}", FIELDS.join(", "));
                let line = strict::line_of(text, origin.number, key);
                self.problems.push(Problem { origin: origin.clone(), line, field: key.to_owned(), message });
            }
        }
        let secret = match Secret::deserialize(typed) {
            Ok(secret) => secret,
            // The parser's own words may quote the value it stumbled over.
            Err(error) => {
                let line = error.location().map(|location| location.line());
                let message = "not a Secret: stringData holds plain text, data holds base64".to_owned();
                return self.problems.push(Problem { origin, line, field: String::new(), message });
            }
        };
        let mut data = BTreeMap::new();
        for (key, bytes) in secret.data.into_iter().flatten() {
            match String::from_utf8(bytes.0) {
                Ok(value) => drop(data.insert(key, SecretString::from(value))),
                Err(_) => self.problems.push(Problem {
                    origin: origin.clone(),
                    line: None,
                    field: format!("data.{key}"),
                    message: "not text in UTF-8 behind the base64".to_owned(),
                }),
            }
        }
        // As in Kubernetes, stringData wins over data.
        data.extend(secret.string_data.into_iter().flatten().map(|(key, value)| (key, SecretString::from(value))));
        self.insert(origin, secret.metadata.name.unwrap_or_default(), data);
    }

    fn insert(&mut self, origin: Origin, name: String, data: BTreeMap<String, SecretString>) {
        for (key, value) in &data {
            if matches!(key.as_str(), "username" | "password") && value.expose_secret().ends_with('\n') {
                tracing::warn!(document = %origin, key, "the value ends with a line break; it is taken as part of it");
            }
        }
        if self.documents.secrets.insert(name, SecretData(data)).is_some() {
            self.twice(origin);
        }
    }
}

/// The parser's message without the position it ends with, which is reported on its own.
fn problem_of(origin: Origin, error: &serde_yaml::Error) -> Problem {
    let text = error.to_string();
    let message = text.split_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let (field, message) = match message.split_once(": ") {
        Some((field, rest)) if !field.contains(' ') => (field.to_owned(), rest.to_owned()),
        _ => (String::new(), message.to_owned()),
    };
    Problem { origin, line: error.location().map(|location| location.line()), field, message }
}

#[cfg(test)]
mod tests;
