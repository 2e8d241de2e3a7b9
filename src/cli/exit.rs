//! Errors → exit codes. `tidemark --help` documents them.

use std::process::ExitCode;

use super::reason;

/// What the shell is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Failed.
    Failed = 1,
    /// Usage, or an invalid manifest.
    Usage = 2,
    /// A restore, or the deletion of a full, was refused.
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

/// What an error means to the shell: its reason decides.
pub fn of(error: &anyhow::Error) -> Exit {
    reason::of(error).reason.exit()
}

/// An error and its causes on one line each, without repeating what a cause's own text already holds.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(words) {
        if !text.contains(&cause) {
            text.push_str("\n  because: ");
            text.push_str(&cause);
        }
    }
    text
}

/// A cause as people read it: a store's client prints whole HTTP responses, headers and all.
fn words(cause: &(dyn std::error::Error + 'static)) -> String {
    let boxed = || cause.downcast_ref::<Box<opendal::Error>>().map(AsRef::as_ref);
    match cause.downcast_ref::<opendal::Error>().or_else(boxed) {
        Some(answer) => format!("{}: {}", answer.kind(), answer.message()),
        None => cause.to_string(),
    }
}
