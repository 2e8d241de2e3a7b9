//! Errors → exit codes. `tidemark --help` documents them.

use std::error::Error;
use std::process::ExitCode;

use super::manifests::ManifestError;
use crate::archive::ArchiveError;
use crate::archive::store::StoreError;
use crate::mysql::{sql, wire};
use crate::restore::RestoreError;
use crate::restore::base::BaseError;

/// What the shell is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Failed.
    Failed = 1,
    /// Usage, or an invalid manifest.
    Usage = 2,
    /// A restore was refused.
    Refused = 3,
    /// The archive is damaged or of a newer version.
    Damaged = 4,
    /// A server or a store cannot be reached or refuses the login.
    Unreachable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What an error means to the shell: the outermost cause that is known decides.
pub fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
}

/// Several errors show themselves as their cause (snafu's `transparent`), which then is no link of the chain: they are opened here.
fn of_cause(cause: &(dyn Error + 'static)) -> Option<Exit> {
    if cause.is::<ManifestError>() {
        return Some(Exit::Usage);
    }
    if let Some(error) = cause.downcast_ref::<RestoreError>() {
        return match error {
            RestoreError::Plan { .. } | RestoreError::Preflight { .. } | RestoreError::OtherRestore { .. } => {
                Some(Exit::Refused)
            }
            RestoreError::Unreadable { .. } => Some(Exit::Damaged),
            RestoreError::Archive { source } => of_archive(source),
            RestoreError::Sql { source } => of_sql(source),
            RestoreError::Base { source, .. } => match source {
                BaseError::NotEmpty { .. } | BaseError::WrongServer { .. } => Some(Exit::Refused),
                BaseError::Damaged { .. } => Some(Exit::Damaged),
                BaseError::Store { source } => of_store(source),
                _ => None,
            },
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<ArchiveError>() {
        return of_archive(error);
    }
    if let Some(error) = cause.downcast_ref::<sql::Error>() {
        return of_sql(error);
    }
    if let Some(error) = cause.downcast_ref::<StoreError>() {
        return of_store(error);
    }
    cause.downcast_ref::<wire::Error>().and_then(of_wire)
}

fn of_archive(error: &ArchiveError) -> Option<Exit> {
    match error {
        ArchiveError::Newer { .. } => Some(Exit::Damaged),
        ArchiveError::Store { source } => of_store(source),
        error => error.is_damage().then_some(Exit::Damaged),
    }
}

fn of_store(error: &StoreError) -> Option<Exit> {
    (!error.is_not_found()).then_some(Exit::Unreachable)
}

fn of_sql(error: &sql::Error) -> Option<Exit> {
    match error {
        sql::Error::Connect { source } => of_wire(source),
        _ => None,
    }
}

fn of_wire(error: &wire::Error) -> Option<Exit> {
    match error {
        wire::Error::Unreachable { .. }
        | wire::Error::ConnectTimeout { .. }
        | wire::Error::AccessDenied { .. }
        | wire::Error::Refused { .. }
        | wire::Error::TlsNotOffered { .. }
        | wire::Error::CertificateNotTrusted { .. }
        | wire::Error::CertificateName { .. }
        | wire::Error::Tls { .. }
        | wire::Error::AuthPlugin { .. }
        | wire::Error::ConnectionLost { .. } => Some(Exit::Unreachable),
        _ => None,
    }
}

/// An error and its causes on one line each, without repeating what a cause's own text already holds.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str("\n  because: ");
            text.push_str(&cause);
        }
    }
    text
}
