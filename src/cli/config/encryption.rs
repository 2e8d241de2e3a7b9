//! To whom objects are encrypted.

use crate::api::BackupPolicy;
use crate::archive::crypt::Recipients;
use crate::cli::manifests::{Document, Problem};

/// To whom a policy's objects are encrypted.
pub fn recipients_of(document: &Document<BackupPolicy>, problems: &mut Vec<Problem>) -> Recipients {
    let Some(encryption) = &document.object.spec.encryption else { return Recipients::default() };
    if let Some((field, message)) = encryption.problem() {
        problems.push(document.problem(field, message));
        return Recipients::default();
    }
    Recipients::parse(&encryption.recipients).unwrap_or_else(|error| {
        problems.push(document.problem("spec.encryption.recipients", error.to_string()));
        Recipients::default()
    })
}
