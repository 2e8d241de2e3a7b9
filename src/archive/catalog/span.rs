//! Closed files that follow one another, told as one [`ArchivedFile`]: what years of log take to read and to hold follows fulls, not files.

use serde::{Deserialize, Serialize};

use super::files::ArchivedFile;
use crate::archive::binlog_index::FileId;
use crate::model::GtidSet;

/// The files behind the first one of those that are told as one. Their numbers follow its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Further {
    /// [`FileId::created_unix`] of each, in order; never empty.
    created: Vec<u32>,
    /// The last one's own.
    previous_gtids: GtidSet,
    /// The last one's own.
    gtids: GtidSet,
    /// The last one's own.
    transactions: u64,
}

/// Files whose numbers follow one another, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileIds {
    first: FileId,
    /// Of those behind it.
    created: Vec<u32>,
}

/// What whoever comes next has to go on from: a file, or the last of those that are told as one.
#[derive(Clone, Copy, Debug)]
pub struct FileEnd<'a> {
    /// Everything executed before it.
    pub previous_gtids: &'a GtidSet,
    /// Its own transactions.
    pub gtids: &'a GtidSet,
    /// How many there are, with or without a GTID.
    pub transactions: u64,
    /// Its number.
    pub number: u64,
}

impl FileIds {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.created.len() as u64 + 1
    }

    /// The `n`-th, from 0.
    pub fn get(&self, n: usize) -> Option<FileId> {
        let Some(behind) = n.checked_sub(1) else { return Some(self.first.clone()) };
        let created_unix = *self.created.get(behind)?;
        Some(FileId { server: self.first.server.clone(), name: nth_name(&self.first.name, n as u64), created_unix })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = FileId> {
        (0..=self.created.len()).filter_map(|n| self.get(n))
    }

    /// The last one.
    pub fn last(&self) -> FileId {
        self.get(self.created.len()).unwrap_or_else(|| self.first.clone())
    }
}

impl ArchivedFile {
    /// Whether it is several files.
    pub fn is_span(&self) -> bool {
        self.further.is_some()
    }

    /// The file, or all that are told as one.
    pub fn ids(&self) -> FileIds {
        let created = self.further.as_ref().map(|further| further.created.clone()).unwrap_or_default();
        FileIds { first: self.id.clone(), created }
    }

    /// How many files it is.
    pub fn count(&self) -> u64 {
        1 + self.further.as_ref().map_or(0, |further| further.created.len() as u64)
    }

    /// What whoever comes next goes on from.
    pub fn end(&self) -> FileEnd<'_> {
        let number = self.id.number().saturating_add(self.count() - 1);
        match self.further.as_deref() {
            Some(Further { created: _, previous_gtids, gtids, transactions }) => {
                FileEnd { previous_gtids, gtids, transactions: *transactions, number }
            }
            None => {
                let summary = &self.summary;
                let transactions = summary.transactions;
                FileEnd { previous_gtids: &summary.previous_gtids, gtids: &summary.gtids, transactions, number }
            }
        }
    }

    /// Whether `next` has the name that follows.
    pub(in crate::archive) fn is_named_before(&self, next: &FileId) -> bool {
        nth_name(&self.id.name, self.count()) == next.name
    }

    /// Tells `next`, which goes right on from it, as one with it.
    pub(in crate::archive) fn append(&mut self, next: Self) {
        let Self { id, size, summary, objects, object_bytes, closed, encryption, further, .. } = next;
        let mine = &mut self.summary;
        // Sets of one flavor.
        let _ = mine.gtids.extend(&summary.gtids);
        mine.boundary = mine.boundary.saturating_add(summary.boundary);
        mine.transactions = mine.transactions.saturating_add(summary.transactions);
        mine.statements = mine.statements.saturating_add(summary.statements);
        mine.first_commit =
            [mine.first_commit, summary.first_commit.or(summary.last_commit)].into_iter().flatten().min();
        mine.last_commit = mine.last_commit.max(summary.last_commit);
        mine.last_gtid = summary.last_gtid.or(mine.last_gtid.take());
        self.size = self.size.saturating_add(size);
        self.objects = self.objects.saturating_add(objects);
        self.object_bytes = self.object_bytes.saturating_add(object_bytes);
        self.closed = closed;
        self.encryption.edition = None;
        self.encryption.objects = self.encryption.objects.saturating_add(encryption.objects);
        for set in encryption.recipients {
            if !self.encryption.recipients.contains(&set) {
                self.encryption.recipients.push(set);
            }
        }
        let mut created = self.further.take().map(|further| further.created).unwrap_or_default();
        created.push(id.created_unix);
        let (previous_gtids, gtids, transactions) = (summary.previous_gtids, summary.gtids, summary.transactions);
        let own = Further { created: Vec::new(), previous_gtids, gtids, transactions };
        let last = further.map_or(own, |further| *further);
        created.extend(&last.created);
        self.further = Some(Box::new(Further { created, ..last }));
    }
}

/// `binlog.000009` and 2: `binlog.000011`.
fn nth_name(first: &str, n: u64) -> String {
    let Some((base, digits)) = first.rsplit_once('.') else { return first.to_owned() };
    let Ok(number) = digits.parse::<u64>() else { return first.to_owned() };
    format!("{base}.{:0width$}", number.saturating_add(n), width = digits.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_as_servers_count() {
        for (first, n, expected) in [
            ("binlog.000009", 2, "binlog.000011"),
            ("a.b.999999", 1, "a.b.1000000"),
            ("binlog.000001", 0, "binlog.000001"),
            ("odd", 3, "odd"),
        ] {
            assert_eq!(nth_name(first, n), expected);
        }
    }
}
