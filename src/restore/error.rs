use std::fmt;

use snafu::Snafu;

use super::base::BaseError;
use super::plan::PlanError;
use crate::archive::ArchiveError;
use crate::mysql::sql;
use crate::serve::ServeError;

/// Why a restore failed. Nothing is claimed of the target then: it stays read-only, and running the same restore again goes on
/// where it can.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum RestoreError {
    /// The target of the restore cannot be reached from what the archive holds.
    #[snafu(transparent)]
    Plan {
        /// Why.
        source: PlanError,
    },
    /// The archive cannot be read.
    #[snafu(transparent)]
    Archive {
        /// Cause.
        source: ArchiveError,
    },
    /// The archive cannot be served.
    #[snafu(transparent)]
    Serve {
        /// Cause.
        source: ServeError,
    },
    /// The target refused a statement, or went away.
    #[snafu(transparent)]
    Sql {
        /// Cause.
        source: sql::Error,
    },
    /// Archived bytes are not what a server writes.
    #[snafu(display("cannot read the archived file {file}: {message}"))]
    Unreadable {
        /// The file.
        file: String,
        /// Cause.
        message: String,
    },
    /// Damage of the archive is in the way.
    #[snafu(display("{message}"))]
    Damaged {
        /// What fails, and what is damaged.
        message: String,
    },
    /// A planned file is gone.
    #[snafu(display("the archive no longer holds {file} up to {end}, which the plan needs: plan the restore again"))]
    PlannedFileGone {
        /// The file.
        file: String,
        /// How far it is needed.
        end: u64,
    },
    /// The target cannot take this restore.
    #[snafu(display("the target {address} cannot take this restore:{}", list(problems)))]
    Preflight {
        /// The target.
        address: String,
        /// What stands in the way, with the way out.
        problems: Vec<String>,
        /// Whether one of them is that it holds schemas already.
        occupied: bool,
    },
    /// Another restore was begun on the target.
    #[snafu(display(
        "the target {address} holds an unfinished restore to {begun} (base {base}): run that restore again to finish it; to give it up, start \
         from an empty server"
    ))]
    OtherRestore {
        /// The target.
        address: String,
        /// What it was to restore.
        begun: String,
        /// Its base.
        base: String,
    },
    /// The state kept in the target cannot be read.
    #[snafu(display(
        "the target {address} holds an unfinished restore of another version of tidemark ({message}): finish it with that version, or \
         start from an empty server"
    ))]
    State {
        /// The target.
        address: String,
        /// Cause.
        message: String,
    },
    /// Loading the base failed.
    #[snafu(display("cannot load full {full}: {source}"))]
    Base {
        /// The full.
        full: String,
        /// Cause.
        source: BaseError,
    },
    /// The applier stopped.
    #[snafu(display(
        "replay failed on the target at {at}: error {code}: {message}; what was replayed before it is kept, and the target stays \
         read-only; {}", way_out(*code)
    ))]
    Applier {
        /// GTID or position.
        at: String,
        /// The server's error number.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The target stopped reading our stream.
    #[snafu(display("the target cannot read the log: {message}"))]
    Stream {
        /// The server's words or our own.
        message: String,
    },
    /// Nothing moved for long.
    #[snafu(display("replay has not moved for {after_s} s; last failure: {failure}"))]
    Stalled {
        /// How long, in seconds.
        after_s: u64,
        /// The last failure seen.
        failure: String,
    },
    /// The result is not what was planned.
    #[snafu(display("the restore is not proved: {difference}; the target stays read-only"))]
    Proof {
        /// What differs.
        difference: Difference,
    },
    /// The target was restarted, which its tables may not have survived as they were.
    #[snafu(display(
        "the target {address} was restarted after its base was loaded: {tables} know no transactions, so a restart may have emptied them, or          had changes made twice; restore into a fresh server"
    ))]
    Restarted {
        /// The target.
        address: String,
        /// The tables.
        tables: String,
    },
    /// What failed may have failed because the target was restarted.
    #[snafu(display(
        "{source}; the target was restarted during the replay, and a statement that it was at (DDL above all) may have been made halfway or          twice: restore into a fresh server, and leave nothing out"
    ))]
    AfterRestart {
        /// What failed.
        source: Box<RestoreError>,
    },
    /// Cancelled from outside.
    #[snafu(display("the restore was cancelled; running it again goes on where it was"))]
    Cancelled,
}

/// How the target differs from the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Planned but not there.
    pub missing: String,
    /// There but not planned.
    pub foreign: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.missing.is_empty(), self.foreign.is_empty()) {
            (false, true) => write!(f, "the target lacks {}", self.missing),
            (true, false) => {
                write!(f, "the target has {}, which is not in the plan (somebody wrote to it)", self.foreign)
            }
            _ => write!(f, "the target lacks {} and has {}, which is not in the plan", self.missing, self.foreign),
        }
    }
}

impl RestoreError {
    /// Whether running the same restore again may succeed with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Archive { source } => source.is_transient(),
            Self::Serve { source } => source.is_transient(),
            Self::Sql { source } => source.is_transient(),
            Self::Base { source, .. } => source.is_transient(),
            Self::Stalled { .. } | Self::Cancelled => true,
            _ => false,
        }
    }

    /// Whether something is encrypted that nothing at hand opens.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self, Self::Archive { source } if source.is_locked())
    }
}

fn way_out(code: u32) -> &'static str {
    const XA_UNKNOWN: u32 = 1397;
    match code {
        XA_UNKNOWN => {
            "it ends an XA transaction that was prepared before the full and so is in neither the full nor the log after it: restore from \
             another full, or restore anew with it in skipGTIDs and make its changes again by hand"
        }
        _ => "to leave the transaction out, restore anew with it in skipGTIDs",
    }
}

/// An error of archived bytes.
pub(super) fn unreadable(file: String, cause: impl fmt::Display) -> RestoreError {
    RestoreError::Unreadable { file, message: cause.to_string() }
}

fn list(problems: &[String]) -> String {
    problems.iter().map(|p| format!("\n  - {p}")).collect()
}
