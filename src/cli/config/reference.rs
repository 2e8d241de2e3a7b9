use secrecy::{ExposeSecret, SecretString};

use crate::api::{SecretKeyRef, TlsMode as ApiTlsMode, TlsSpec};
use crate::archive::crypt::Identities;
use crate::cli::manifests::{Document, Documents, Problem, SecretData};
use crate::mysql::endpoint::{Tls, TlsMode};

/// Follows a document's references into the Secrets of the same files and notes what is missing.
#[derive(Debug)]
pub struct Resolver<'a, T> {
    document: &'a Document<T>,
    documents: &'a Documents,
    problems: &'a mut Vec<Problem>,
}

impl<'a, T> Resolver<'a, T> {
    /// A resolver for one document.
    pub fn new(document: &'a Document<T>, documents: &'a Documents, problems: &'a mut Vec<Problem>) -> Self {
        Self { document, documents, problems }
    }

    /// Notes a problem with a field.
    pub fn refuse(&mut self, field: &str, message: &str) {
        self.problems.push(self.document.problem(field, message));
    }

    /// The Secret that `field` names.
    pub fn secret(&mut self, field: &str, name: &str) -> Option<&'a SecretData> {
        let secret = self.documents.secrets.get(name);
        if secret.is_none() {
            let there: Vec<&str> = self.documents.secrets.keys().map(String::as_str).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let message = format!(
                "there is no Secret {name:?} in what was given (there: {there}): add it, give its file by another -f, or its folder by --secrets"
            );
            self.refuse(field, &message);
        }
        secret
    }

    /// One key of a Secret.
    pub fn key(&mut self, field: &str, name: &str, key: &str) -> Option<SecretString> {
        let secret = self.secret(field, name)?;
        let value = secret.get(key).cloned();
        if value.is_none() {
            let there: Vec<&str> = secret.keys().collect();
            self.refuse(
                field,
                &format!("the Secret {name:?} has no key {key:?} (it has: {}): add it", there.join(", ")),
            );
        }
        value
    }

    /// One key of a Secret that may lack it.
    pub fn optional_key(&mut self, field: &str, name: &str, key: &str) -> Option<SecretString> {
        self.secret(field, name)?.get(key).cloned()
    }

    /// What opens an encrypted archive: age identities, one a line.
    pub fn identities(&mut self, field: &str, name: &str, key: Option<&str>) -> Option<Identities> {
        let text = self.key(field, name, key.unwrap_or("identity"))?;
        match Identities::parse(&text) {
            Ok(identities) => Some(identities),
            Err(error) => {
                self.refuse(field, &format!("the Secret {name:?}: {error}"));
                None
            }
        }
    }

    /// The same, as `--identity-secret` names it: NAME or NAME/KEY; nothing where it is not given.
    pub fn identities_of_argument(&mut self, argument: Option<&str>) -> Identities {
        let Some(argument) = argument else { return Identities::default() };
        let (name, key) = argument.split_once('/').map_or((argument, None), |(name, key)| (name, Some(key)));
        self.identities("--identity-secret", name, key).unwrap_or_default()
    }

    /// Account and password.
    pub fn login(&mut self, field: &str, name: &str) -> Option<(String, SecretString)> {
        self.secret(field, name)?;
        let user = self.key(field, name, "username");
        let password = self.key(field, name, "password");
        Some((user?.expose_secret().to_owned(), password?))
    }

    /// A certificate authority in PEM form.
    pub fn authority(&mut self, field: &str, reference: &SecretKeyRef) -> Option<String> {
        let key = reference.key.as_deref().unwrap_or("ca.crt");
        Some(self.key(field, &reference.name, key)?.expose_secret().to_owned())
    }

    /// How a connection is encrypted.
    pub fn tls(&mut self, field: &str, spec: &TlsSpec) -> Option<Tls> {
        let ca_pem = match &spec.ca_secret_ref {
            Some(reference) => Some(self.authority(&format!("{field}.caSecretRef"), reference)?),
            None if spec.mode == ApiTlsMode::VerifyCA => {
                self.refuse(field, "VerifyCA needs caSecretRef: the certificate authority to trust");
                return None;
            }
            None => None,
        };
        Some(Tls { mode: tls_mode(spec.mode), ca_pem })
    }
}

/// The engine's word for a manifest's.
pub fn tls_mode(mode: ApiTlsMode) -> TlsMode {
    match mode {
        ApiTlsMode::Disabled => TlsMode::Disabled,
        ApiTlsMode::Required => TlsMode::Required,
        ApiTlsMode::VerifyCA => TlsMode::VerifyCa,
        ApiTlsMode::VerifyIdentity => TlsMode::VerifyIdentity,
    }
}
