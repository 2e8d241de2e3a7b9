use snafu::Snafu;

use crate::model::{Flavor, GtidSet};

/// Why a target cannot be reached; every text says what can.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum PlanError {
    /// The archive has no full at all.
    #[snafu(display(
        "the archive holds no complete full backup, so there is nothing to start a restore from: take one with `tidemark backup`"
    ))]
    NoFull,

    /// The target is older than the oldest full.
    #[snafu(display("cannot restore to {target}: it is before the oldest full backup; {reachable}"))]
    TooEarly {
        /// The target in words.
        target: String,
        /// What can be reached.
        reachable: String,
    },

    /// A GTID of the target is in every full that could be used, among others.
    #[snafu(display(
        "cannot restore to {target}: full {full} holds it already, with all of {holds:?}, and no older full's log reaches it; to restore exactly \
         what that full holds, name this whole set as the target; {reachable}"
    ))]
    InsideFull {
        /// The target in words.
        target: String,
        /// The full.
        full: String,
        /// Its GTIDs.
        holds: String,
        /// What can be reached.
        reachable: String,
    },

    /// The target is newer than the archived log.
    #[snafu(display(
        "cannot restore to {target}: the archived log ends before it, so nothing proves that no transaction is missing; {reachable}; \
         --latest restores everything the archive holds, --allow-nearest accepts its end instead of the target"
    ))]
    TooLate {
        /// The target in words.
        target: String,
        /// What can be reached.
        reachable: String,
    },

    /// Transactions of the target are in no archived log.
    #[snafu(display("cannot restore to {target}: the archive lacks {missing}; {reachable}"))]
    MissingGtids {
        /// The target in words.
        target: String,
        /// GTIDs that are missing, or words where GTIDs are off.
        missing: String,
        /// What can be reached.
        reachable: String,
    },

    /// The full is of a history that the live lineage left, or of one before a reset.
    #[snafu(display(
        "cannot restore to {target}: full {full} is not of the live lineage ({why}) and no other full will do; take \
         a new full of the live server, or name a GTID or position of that full's own log as the target; {reachable}"
    ))]
    OffLineage {
        /// The target in words.
        target: String,
        /// The full.
        full: String,
        /// Why it is not.
        why: String,
        /// What can be reached.
        reachable: String,
    },

    /// The archive holds two lineages, and the one that does not count as live committed last.
    #[snafu(display(
        "cannot restore to {target}: the archive holds two lineages and cannot tell which one is wanted. Server {live} counts as live: it went on \
         from the other one and alone has {lacks}, committed last {live_commit}. But server {server} alone has {gtids}, and committed no earlier, \
         last {last_commit}, as after a failover that was taken back. Say which: for the live lineage {to_live}; for the other one {to_fork}"
    ))]
    Contested {
        /// The target in words.
        target: String,
        /// The server that counts as live.
        live: String,
        /// What only its lineage has.
        lacks: String,
        /// When that committed last.
        live_commit: String,
        /// How to restore it.
        to_live: String,
        /// The other server.
        server: String,
        /// What only that one has.
        gtids: String,
        /// When it committed last.
        last_commit: String,
        /// How to restore that.
        to_fork: String,
    },

    /// A position that is not the end of a transaction.
    #[snafu(display(
        "{file}:{offset} is inside the transaction that begins at {before}: restore to {file}:{before} or to its end, or pass --allow-nearest"
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
    #[snafu(display("no log to replay in the archive is called {file}; {reachable}"))]
    NoSuchFile {
        /// The name asked for.
        file: String,
        /// What can be reached.
        reachable: String,
    },

    /// Several archived files have this name (after a reset or a restore).
    #[snafu(display("the archive holds several files called {name}: say which, one of {candidates}"))]
    AmbiguousFile {
        /// The name asked for.
        name: String,
        /// `name@created` of each.
        candidates: String,
    },

    /// A GTID of the other flavor.
    #[snafu(display("the archive is of {flavor}, whose log {detail}"))]
    WrongCoordinates {
        /// The archive's flavor.
        flavor: Flavor,
        /// What does not fit.
        detail: String,
    },

    /// `skipGTIDs` names transactions the replay does not contain.
    #[snafu(display(
        "cannot skip {gtids}: not among the transactions that are replayed after full {base} (one that the full already \
         contains cannot be taken out of it; a restore from an older full could skip it)"
    ))]
    SkipNotReplayed {
        /// The offending GTIDs.
        gtids: GtidSet,
        /// The chosen base.
        base: String,
    },

    /// `skipGTIDs` names one half of an XA transaction.
    #[snafu(display("cannot skip {gtid} alone: it is one half of the XA transaction {id}: {way_out}"))]
    SplitXa {
        /// The half that was named.
        gtid: String,
        /// The XA id.
        id: String,
        /// What can be done.
        way_out: String,
    },

    /// What was prepared when the full was taken cannot be prepared again.
    #[snafu(display(
        "cannot restore to {target}: when full {full} was taken, XA transactions were prepared and not ended ({ids}), and the log that says what \
         they did is not archived, or has no GTIDs; --allow-nearest restores without them (and fails where the log ends one); {reachable}"
    ))]
    PreparedXa {
        /// The target in words.
        target: String,
        /// The full.
        full: String,
        /// The XA ids.
        ids: String,
        /// What can be reached.
        reachable: String,
    },

    /// The log changes between GTIDs on and off in the range to be replayed.
    #[snafu(display(
        "{file} holds transactions without a GTID among those to be replayed after full {base}: GTIDs were switched on or off there; \
         restore to a point on one side of it, from a full on the same side"
    ))]
    MixedGtids {
        /// The file.
        file: String,
        /// The chosen base.
        base: String,
    },
}
