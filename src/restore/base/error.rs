use std::io;

use snafu::Snafu;

use crate::archive::crypt::LockedError;
use crate::archive::store::StoreError;
use crate::mysql::wire;

/// What can keep a base from being loaded or proved.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum BaseError {
    #[snafu(display("cannot connect to the target: {source}"))]
    Connect {
        #[snafu(source(from(wire::Error, Box::new)))]
        source: Box<wire::Error>,
    },

    #[snafu(display("{doing} failed on the target: {source}"))]
    Sql {
        doing: String,
        #[snafu(source(from(wire::Error, Box::new)))]
        source: Box<wire::Error>,
    },

    #[snafu(display("{source}"), context(false))]
    Store { source: StoreError },

    #[snafu(transparent)]
    Locked { source: LockedError },

    #[snafu(display("object {key} of the full is damaged: {reason}; restore from another full"))]
    Damaged { key: String, reason: String },

    #[snafu(display("cannot decompress: {source}"))]
    Decompress { source: io::Error },

    #[snafu(display("the target is not empty ({what}): restore into a fresh server, or drop what it holds"))]
    NotEmpty { what: String },

    #[snafu(display(
        "another load is still at work on the target ({connection}); end it there, and run the restore again"
    ))]
    Busy { connection: String },

    #[snafu(display("the target runs {target}, the full is from {source_server}: {reason}"))]
    WrongServer { target: String, source_server: String, reason: String },

    #[snafu(display(
        "the target's lower_case_table_names is {own}, the source's {wanted}: names would come back as other ones; make a fresh server with \
         --lower-case-table-names={wanted} (it cannot be changed later)"
    ))]
    Names { own: String, wanted: String },

    #[snafu(display("the target would make tables of other engines than the source's: {reason}"))]
    Engines { reason: String },

    #[snafu(display("the server did not take the rows of {table} from object {key} as they are: {reason}"))]
    Rows { table: String, key: String, reason: String },

    #[snafu(display(
        "{table} on the target differs from the full{}: {expected_rows} rows with checksum {expected} were saved, {found_rows} rows with \
         checksum {found} are there",
        condition.as_ref().map(|c| format!(" where {c}")).unwrap_or_default()
    ))]
    Differs {
        table: String,
        condition: Option<String>,
        expected_rows: u64,
        expected: String,
        found_rows: u64,
        found: String,
    },

    #[snafu(display("cannot restore {what}: {reason}"))]
    Refused { what: String, reason: String },

    #[snafu(display("the restore was stopped"))]
    Cancelled,

    #[snafu(display("a worker ended abnormally: {source}"))]
    Worker { source: tokio::task::JoinError },
}

impl From<std::convert::Infallible> for BaseError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl BaseError {
    /// Whether the same call may succeed later without anybody changing anything; a load goes on where it was.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source } | Self::Sql { source, .. } => source.is_transient(),
            Self::Store { source } => source.is_transient(),
            Self::Busy { .. } => true,
            _ => false,
        }
    }

    /// The server's error number, where one is behind this.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Sql { source, .. } => source.server_error().map(|e| e.code),
            _ => None,
        }
    }
    /// The server's words, where it is one that refused; else nothing.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Sql { source, .. } => source.server_error().map_or("", |e| e.message.as_str()),
            _ => "",
        }
    }
}
