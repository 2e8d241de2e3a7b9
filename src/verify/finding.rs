//! What a verify finds, in words and as data.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::binlog_index::FileId;
use crate::model::CommitTime;

/// What is wrong with one object, or with what the archive holds as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub enum Damage {
    /// It is not there.
    Lost,
    /// It is smaller than it was stored.
    Truncated {
        /// Size as stored, in bytes.
        stored_bytes: u64,
        /// Size now, in bytes.
        found_bytes: u64,
    },
    /// Its bytes are others than were stored.
    Changed {
        /// How that shows.
        problem: String,
    },
    /// It holds the bytes of another object, which does not hold them itself.
    Swapped {
        /// Key of that other object.
        holds: String,
    },
    /// It is a copy of another object, which is where it belongs, too.
    Duplicated {
        /// Key of that other object.
        of: String,
    },
    /// It does not belong into this archive.
    Foreign {
        /// Why.
        problem: String,
    },
    /// Transactions that no object holds.
    MissingGtids {
        /// Them; empty where GTIDs are off.
        gtids: String,
        /// Where they are missing.
        problem: String,
    },
    /// It is there, and cannot be read at all.
    Unreadable {
        /// Why.
        problem: String,
    },
}

impl Damage {
    /// Its name.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Lost => "Lost",
            Self::Truncated { .. } => "Truncated",
            Self::Changed { .. } => "Changed",
            Self::Swapped { .. } => "Swapped",
            Self::Duplicated { .. } => "Duplicated",
            Self::Foreign { .. } => "Foreign",
            Self::MissingGtids { .. } => "MissingGtids",
            Self::Unreadable { .. } => "Unreadable",
        }
    }

    /// The size of an object is not what it was.
    pub(super) fn of_size(stored_bytes: u64, found_bytes: u64) -> Self {
        match found_bytes < stored_bytes {
            true => Self::Truncated { stored_bytes, found_bytes },
            false => {
                Self::Changed { problem: format!("it has {found_bytes} bytes, it was stored with {stored_bytes}") }
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => write!(f, "it is not there"),
            Self::Truncated { stored_bytes, found_bytes } => {
                write!(f, "it has {found_bytes} bytes, it was stored with {stored_bytes}")
            }
            Self::Changed { problem } | Self::Foreign { problem } | Self::Unreadable { problem } => {
                f.write_str(problem)
            }
            Self::Swapped { holds } => write!(f, "it holds the bytes of {holds}, which does not hold them"),
            Self::Duplicated { of } => write!(f, "it is a copy of {of}"),
            Self::MissingGtids { gtids, problem } if gtids.is_empty() => f.write_str(problem),
            Self::MissingGtids { gtids, problem } => write!(f, "{gtids}: {problem}"),
        }
    }
}

/// What a damaged object is needed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Place {
    /// Everything.
    Archive,
    /// One full.
    Full {
        /// Its id.
        id: String,
    },
    /// Bytes of a binlog file.
    Log {
        /// The file.
        file: FileId,
        /// First byte that is missing.
        from: u64,
        /// One past the last one.
        to: u64,
        /// The newest commit before them in the file, where one is known.
        after: Option<CommitTime>,
    },
    /// Bytes of an open binlog file, without which those behind them do not count.
    Hole {
        /// The file.
        file: FileId,
        /// Where the whole part ends, in bytes.
        from: u64,
        /// The newest commit before them, where one is known.
        after: Option<CommitTime>,
        /// The newest commit that is known to have been archived behind them.
        until: Option<CommitTime>,
    },
    /// Some fulls lead no further than to a moment, and others begin at another.
    Gap {
        /// The fulls.
        fulls: Vec<String>,
        /// Where the newest of them ends.
        from: CommitTime,
        /// Where the next full begins; none where there is none.
        to: Option<CommitTime>,
    },
    /// No restore.
    Nothing,
}

/// Moments that cannot be restored to any more, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The first.
    pub from: Timestamp,
    /// The last.
    pub to: Timestamp,
}

/// What cannot be restored because of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// Fulls that cannot be restored, or no further than to the damage.
    pub fulls: Vec<String>,
    /// Moments that no full leads to any more.
    pub moments: Vec<Stretch>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The object, or the folder, by its name in the archive.
    pub key: String,
    /// What is wrong.
    #[serde(flatten)]
    pub damage: Damage,
    /// What it is needed for.
    pub place: Place,
    /// What that means for restores.
    pub affected: Affected,
}

impl Finding {
    pub(super) fn new(key: impl Into<String>, damage: Damage, place: Place) -> Self {
        Self { key: key.into(), damage, place, affected: Affected::default() }
    }

    /// Whether another look found the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        // The end of a hole may have moved.
        let same_hole = match (&self.place, &other.place) {
            (Place::Hole { file, from, .. }, Place::Hole { file: of, from: at, .. }) => file == of && from == at,
            _ => false,
        };
        (self.key == other.key || same_hole) && self.damage.word() == other.damage.word()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.damage.word(), self.key, self.damage)
    }
}

impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moments: Vec<String> = self.moments.iter().map(|s| format!("{} to {}", s.from, s.to)).collect();
        match (self.fulls.is_empty(), moments.is_empty()) {
            (true, true) => write!(f, "no restore is affected"),
            (false, true) => {
                write!(f, "full {}; every moment can still be restored from others", self.fulls.join(", "))
            }
            (true, false) => write!(f, "no restore to {}", moments.join(", ")),
            (false, false) => write!(f, "full {}; no restore to {}", self.fulls.join(", "), moments.join(", ")),
        }
    }
}
