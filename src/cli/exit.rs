//! Errors → exit codes. `tidemark --help` documents them.

use std::error::Error;
use std::process::ExitCode;

use super::manifests::ManifestError;
use crate::archive::ArchiveError;
use crate::archive::store::StoreError;
use crate::mysql::wire;
use crate::restore::plan::PlanError;

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

fn of_cause(cause: &(dyn Error + 'static)) -> Option<Exit> {
    if cause.is::<ManifestError>() {
        return Some(Exit::Usage);
    }
    if cause.is::<PlanError>() {
        return Some(Exit::Refused);
    }
    if let Some(error) = cause.downcast_ref::<ArchiveError>()
        && (error.is_damage() || matches!(error, ArchiveError::Newer { .. }))
    {
        return Some(Exit::Damaged);
    }
    if let Some(error) = cause.downcast_ref::<StoreError>()
        && !error.is_not_found()
    {
        return Some(Exit::Unreachable);
    }
    match cause.downcast_ref::<wire::Error>() {
        Some(
            wire::Error::Unreachable { .. }
            | wire::Error::ConnectTimeout { .. }
            | wire::Error::AccessDenied { .. }
            | wire::Error::Refused { .. }
            | wire::Error::TlsNotOffered { .. }
            | wire::Error::CertificateNotTrusted { .. }
            | wire::Error::CertificateName { .. }
            | wire::Error::Tls { .. }
            | wire::Error::AuthPlugin { .. }
            | wire::Error::ConnectionLost { .. },
        ) => Some(Exit::Unreachable),
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
