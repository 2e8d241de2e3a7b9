use snafu::Snafu;

use crate::archive::ArchiveError;
use crate::archive::segment::SegmentError;
use crate::model::BinlogPosition;
use crate::mysql::event::ParseEventError;
use crate::mysql::wire;

/// What can stop or disturb a stream.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum Error {
    /// The source cannot be archived as it is set up.
    #[snafu(display("the source cannot be streamed: {}", problems.join("; ")))]
    Unfit {
        /// What is wrong, each with the way out.
        problems: Vec<String>,
    },
    /// The account lacks a privilege.
    #[snafu(display("cannot {doing}: {source}; run: {grant}"))]
    Privilege {
        /// What was tried.
        doing: &'static str,
        /// The statement that helps.
        grant: String,
        /// The server's answer.
        source: Box<wire::Error>,
    },
    /// Talking to the source failed.
    #[snafu(display("cannot {doing}: {source}"))]
    Source {
        /// What was tried.
        doing: &'static str,
        /// Cause.
        source: wire::Error,
    },
    /// The server answered a question with something else.
    #[snafu(display("the source answered {question} in a way this program does not understand: {answer}"))]
    Answer {
        /// The question.
        question: &'static str,
        /// What came.
        answer: String,
    },
    /// Reading or writing the archive failed.
    #[snafu(display("cannot {doing}: {source}"))]
    Archive {
        /// What was tried.
        doing: &'static str,
        /// Cause.
        #[snafu(source(from(ArchiveError, Box::new)))]
        source: Box<ArchiveError>,
    },
    /// Server and archive disagree about bytes that both have.
    #[snafu(display(
        "the source's {at} differs from what is archived of the same file: {detail}. Nothing was overwritten. A server restored from \
         an older copy does this: archive it under a prefix of its own, or give it a new server_uuid (server_id on MariaDB) and take a full"
    ))]
    Diverged {
        /// Where.
        at: BinlogPosition,
        /// How.
        detail: String,
    },
    /// An event's checksum is wrong.
    #[snafu(display(
        "the {kind} event at {at} arrived with a wrong CRC32; neither it nor what follows is archived. The source's disk or the network \
         damages data: check the source by mysqlbinlog --verify-binlog-checksum; if its file is damaged, FLUSH BINARY LOGS, \
         PURGE BINARY LOGS up to the file after the damaged one, and take a full"
    ))]
    Corrupt {
        /// Where.
        at: BinlogPosition,
        /// The event's type.
        kind: String,
    },
    /// An event that cannot be understood.
    #[snafu(display("cannot read the event at {at}: {source}"))]
    Event {
        /// Where.
        at: BinlogPosition,
        /// Cause.
        source: ParseEventError,
    },
    /// The source sent events in an impossible order.
    #[snafu(display("the source's stream is out of order at {at}: {detail}"))]
    OutOfOrder {
        /// Where.
        at: BinlogPosition,
        /// What.
        detail: String,
    },
    /// The source replaced its files while they were being read.
    #[snafu(display(
        "the source replaced {at} by another file of the same name (RESET BINARY LOGS?); looking again where to go on"
    ))]
    Replaced {
        /// Where.
        at: BinlogPosition,
    },
    /// The spool's folder cannot be used.
    #[snafu(display(
        "cannot {doing} in {folder}: {source}; the folder must be this stream's alone, and be writable (without spec.binlog.spool the source \
         keeps its files while the store is down)"
    ))]
    Spool {
        /// What was tried.
        doing: &'static str,
        /// The folder.
        folder: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The spool is not of this archive.
    #[snafu(display(
        "the spool in {folder} holds {objects} object(s) of another archive, which must not be mixed up with this one: let the stream go on with \
         the storage that the policy had before until the spool is empty, or empty the folder (what is in it may be nowhere else)"
    ))]
    OtherSpool {
        /// The folder.
        folder: String,
        /// What it holds.
        objects: usize,
    },
    /// A stage of the pipeline is gone.
    #[snafu(display("the stream's {stage} stage stopped unexpectedly; the stream begins again from what is stored"))]
    Stage {
        /// Which.
        stage: &'static str,
    },
}

impl Error {
    /// A short, stable name for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unfit { .. } => "source_unfit",
            Self::Privilege { .. } => "privilege",
            Self::Source { .. } => "source",
            Self::Answer { .. } => "answer",
            Self::Archive { source, .. } if is_divergence(source) => "diverged",
            Self::Archive { source, .. } if source.is_transient() || source.is_refused() => "store",
            Self::Archive { .. } => "archive",
            Self::Diverged { .. } => "diverged",
            Self::Corrupt { .. } => "corrupt",
            Self::Event { .. } => "event",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Replaced { .. } => "replaced",
            Self::Spool { .. } | Self::OtherSpool { .. } => "spool",
            Self::Stage { .. } => "stage",
        }
    }

    /// Whether a new session may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            // A purge or a reset while connected is handled by looking again: the next session finds the gap.
            Self::Source { source, .. } => {
                source.is_transient()
                    || matches!(
                        source,
                        wire::Error::Purged { .. } | wire::Error::BeyondEnd { .. } | wire::Error::DumpRefused { .. }
                    )
            }
            Self::Archive { source, .. } => source.is_transient(),
            Self::Stage { .. } | Self::Replaced { .. } => true,
            // A file of it is damaged: they are all checked again, and what is torn is read from the source.
            Self::Spool { source, .. } => source.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        }
    }

    /// Whether the store turned us away. A stream that worked before waits for whoever mends that.
    pub fn is_store_refusal(&self) -> bool {
        matches!(self, Self::Archive { source, .. } if source.is_refused())
    }

    /// Whether bytes came that no sound server sends: reading them again on another connection tells the network from the source.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::OutOfOrder { .. } => true,
            Self::Event { source, .. } => !matches!(source, ParseEventError::Encrypted),
            Self::Source { source, .. } => {
                matches!(source, wire::Error::OutOfStep { .. } | wire::Error::Malformed { .. })
            }
            _ => false,
        }
    }
}

fn is_divergence(error: &ArchiveError) -> bool {
    matches!(
        error,
        ArchiveError::IndexDiverged { .. } | ArchiveError::Segment { source: SegmentError::Diverged { .. } }
    )
}
