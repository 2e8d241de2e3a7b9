use jiff::Timestamp;
use snafu::Snafu;

use super::Window;
use crate::model::{Flavor, GtidSet};

/// Why a target cannot be reached; every text says what can.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum PlanError {
    /// The archive has no full at all.
    #[snafu(display(
        "the archive holds no complete full backup, so there is nothing to start a restore from: take one with `tidemark backup`"
    ))]
    NoFull,

    /// The target is older than the oldest full.
    #[snafu(display("{target} is before anything the archive can restore; {}", reachable(windows)))]
    TooEarly {
        /// The target in words.
        target: String,
        /// What can be reached.
        windows: Vec<Window>,
    },

    /// The target is newer than the archived log.
    #[snafu(display(
        "{target} is after the end of the archived log, so nothing proves that no transaction is missing; {}; `--latest` restores everything the archive holds, `--allow-nearest` accepts its end instead of the target",
        reachable(windows)
    ))]
    TooLate {
        /// The target in words.
        target: String,
        /// What can be reached.
        windows: Vec<Window>,
    },

    /// Transactions of the target are in no archived log.
    #[snafu(display("{target} needs transactions the archive does not hold: {missing}; {}", reachable(windows)))]
    MissingGtids {
        /// The target in words.
        target: String,
        /// GTIDs (or a file, where GTIDs are off) that are missing.
        missing: String,
        /// What can be reached.
        windows: Vec<Window>,
    },

    /// A position that is not the end of a transaction.
    #[snafu(display(
        "{file}:{offset} is inside a transaction that begins at {before}; restore to {file}:{before}, or to the transaction's end, or pass `--allow-nearest`"
    ))]
    InsideTransaction {
        /// File of the target.
        file: String,
        /// Offset asked for.
        offset: u64,
        /// End of the transaction before it.
        before: u64,
    },

    /// A file name the archive does not hold.
    #[snafu(display("the archive's live log has no file {file}; it holds {first} to {last}"))]
    NoSuchFile {
        /// The name asked for.
        file: String,
        /// First archived file.
        first: String,
        /// Last archived file.
        last: String,
    },

    /// Several archived files have this name (after a reset or a restore).
    #[snafu(display("the archive holds several files called {name}; say which: {candidates}"))]
    AmbiguousFile {
        /// The name asked for.
        name: String,
        /// `name@created` of each.
        candidates: String,
    },

    /// A GTID of the other flavor, or a GTID target where there are none.
    #[snafu(display("the archive is of {flavor}, whose log {detail}"))]
    WrongCoordinates {
        /// The archive's flavor.
        flavor: Flavor,
        /// What does not fit.
        detail: String,
    },

    /// `skipGTIDs` names transactions the replay does not contain.
    #[snafu(display(
        "cannot skip {gtids}: not among the transactions to be replayed after full {base} (a transaction that the full already contains cannot be taken out of it)"
    ))]
    SkipNotReplayed {
        /// The offending GTIDs.
        gtids: GtidSet,
        /// The chosen base.
        base: String,
    },

    /// The log changes between GTIDs on and off in the range to be replayed.
    #[snafu(display(
        "{file} holds transactions without a GTID among those to be replayed after full {base}: GTIDs were switched on or off there; restore to a point on one side of it from a full on the same side"
    ))]
    MixedGtids {
        /// The file.
        file: String,
        /// The chosen base.
        base: String,
    },
}

fn reachable(windows: &[Window]) -> String {
    if windows.is_empty() {
        return "nothing is reachable: the archive holds no full whose log is complete".to_owned();
    }
    let list: Vec<String> = windows.iter().map(ToString::to_string).collect();
    format!("reachable: {}", list.join("; "))
}

/// A time as error texts and explanations spell it.
pub(super) fn at(time: Timestamp) -> String {
    time.to_string()
}
