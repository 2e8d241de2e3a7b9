//! Which files are served, and where a replica joins them.

use super::error::{self, ServeError};
use crate::archive::catalog::ArchivedFile;
use crate::model::gtid::MariadbGtidSet;
use crate::model::{BinlogPosition, GtidSet};

/// A file's served prefix: whole transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub file: ArchivedFile,
    /// One past the last byte served: the end of a transaction or of the file's head.
    pub end: u64,
}

impl Part {
    /// All of a file that is archived in whole transactions.
    pub fn whole(file: ArchivedFile) -> Self {
        let end = file.summary.boundary;
        Self { file, end }
    }

    pub(super) fn name(&self) -> String {
        format!("{} of {}", self.file.id.name, self.file.id.server)
    }
}

/// The index of the part that a replica with `have` begins at.
pub(super) fn join_by_gtid(parts: &[Part], have: &GtidSet) -> Result<usize, ServeError> {
    let joins = |p: &Part| lacking(&p.file.summary.previous_gtids, have).is_empty();
    if let Some(index) = parts.iter().rposition(joins) {
        return Ok(index);
    }
    match parts.first() {
        Some(first) => error::MissingSnafu { missing: lacking(&first.file.summary.previous_gtids, have) }.fail(),
        None => Ok(0),
    }
}

/// The index of the part that holds `position`, and the offset to begin at.
pub(super) fn join_by_position(parts: &[Part], position: &BinlogPosition) -> Result<(usize, u64), ServeError> {
    if position.file.is_empty() {
        return Ok((0, 4));
    }
    let holds = |p: &Part| p.file.id.name == position.file && position.offset <= p.file.size;
    match parts.iter().rposition(holds) {
        Some(index) => Ok((index, position.offset.max(4))),
        None => {
            let name = |p: Option<&Part>| p.map_or_else(|| "nothing".to_owned(), |p| p.file.id.name.clone());
            let (file, offset) = (position.file.clone(), position.offset);
            error::NoSuchPositionSnafu { file, offset, first: name(parts.first()), last: name(parts.last()) }.fail()
        }
    }
}

/// What of `needed` a replica with `have` lacks. On MariaDB a position stands for all before it, so that numbers no
/// transaction ever had do not count.
pub(super) fn lacking(needed: &GtidSet, have: &GtidSet) -> GtidSet {
    let (GtidSet::Mariadb(needed), GtidSet::Mariadb(have)) = (needed, have) else {
        return needed.difference(have);
    };
    let mut lacking = MariadbGtidSet::default();
    for last in needed.domains().filter_map(|(domain, ..)| needed.last(domain)) {
        if have.last(last.domain).is_none_or(|h| h.seq < last.seq) {
            lacking.insert(&last);
        }
    }
    GtidSet::Mariadb(lacking)
}
