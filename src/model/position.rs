use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use snafu::Snafu;

/// A place in a server's binary log: file name and byte offset (past 4 GiB is fine).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BinlogPosition {
    /// File name as the server spells it, for example `binlog.000042`.
    pub file: String,
    /// Bytes from the file's start; 4 is the first event.
    pub offset: u64,
}

/// Text that is not `FILE:OFFSET`.
#[derive(Debug, Snafu)]
#[snafu(display("{text:?} is not a binlog position: write FILE:OFFSET, for example binlog.000042:1337"))]
pub struct ParsePositionError {
    text: String,
}

impl fmt::Display for BinlogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

impl FromStr for BinlogPosition {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParsePositionError { text: text.to_owned() };
        let (file, offset) = text.trim().rsplit_once(':').ok_or_else(refused)?;
        if file.is_empty() || file.contains(['/', '\0']) {
            return Err(refused());
        }
        Ok(Self { file: file.to_owned(), offset: offset.parse().map_err(|_| refused())? })
    }
}
