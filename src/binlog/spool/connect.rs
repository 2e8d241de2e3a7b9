//! Where the content of a spool goes on.

use std::collections::BTreeMap;
use std::io;

use snafu::ResultExt;

use super::file::{self, Content, Segment};
use super::{Entry, Spool};
use crate::archive::catalog::{self, Closed};
use crate::archive::store::Store;
use crate::binlog::Error;
use crate::binlog::checkpoint::{Archived, Head, LastRange};
use crate::binlog::error::ArchiveSnafu;

impl Spool {
    /// Drops what the store has. If the rest goes on where the store ends, `archived` ends where the rest does from now on; if not, it is of
    /// no use, and dropped, too: the source is asked for it again.
    pub async fn connect(&mut self, store: &Store, archived: &mut Archived) -> Result<(), Error> {
        self.check_again()?;
        let first = self.entries.front().cloned();
        let mut known = None;
        while let Some(entry) = self.entries.front().cloned() {
            let (end, closed) = match &known {
                Some((file, end, closed)) if *file == entry.file => (*end, *closed),
                _ => {
                    let found = catalog::load_file(store, &entry.file).await;
                    let found = found.context(ArchiveSnafu { doing: "read what is archived" })?;
                    let found = found.map_or((0, false), |file| (file.size, file.closed.is_some()));
                    known = Some((entry.file.clone(), found.0, found.1));
                    found
                }
            };
            if closed || (entry.range.1 <= end && !entry.closes) {
                self.forget_first()?;
            } else if entry.range.0 == end {
                break;
            } else {
                let (objects, file, from) = (self.entries.len(), &entry.file.name, entry.range.0);
                tracing::error!(
                    objects,
                    file,
                    from,
                    archived = end,
                    "the spool does not go on where the store ends (was something deleted from it, or does another stream write to it?): its \
                     content is dropped, and read from the source again"
                );
                while !self.entries.is_empty() {
                    self.forget_first()?;
                }
            }
        }
        let Some(first) = first.filter(|_| !self.entries.is_empty()) else { return Ok(()) };
        for mut head in self.heads(archived)? {
            let is_before = |old: &Head| {
                let next = old.closed.as_ref().and_then(|closed| closed.next_file.as_deref());
                old.file == first.file
                    || next == Some(&first.file.name)
                    || self.entries.iter().any(|entry| entry.file == old.file)
            };
            match archived.heads.iter_mut().find(|old| old.file.server == head.file.server) {
                Some(old) if is_before(old) => std::mem::swap(old, &mut head),
                // Somebody else has gone on from there.
                Some(_) => {}
                None => archived.heads.push(head),
            }
        }
        archived.sort();
        Ok(())
    }

    /// What is archived as far as the spool alone tells, while the store cannot be asked.
    pub fn alone(&mut self) -> Result<Option<Archived>, Error> {
        self.check_again()?;
        let mut archived = Archived { heads: self.heads(&Archived::default())?, ..Archived::default() };
        archived.sort();
        Ok(Some(archived).filter(|archived| !archived.heads.is_empty()))
    }

    /// Where the log of each server ends that the spool has something of.
    fn heads(&self, archived: &Archived) -> Result<Vec<Head>, Error> {
        let mut last: BTreeMap<&str, (Option<&Entry>, Option<&Entry>)> = BTreeMap::new();
        for entry in &self.entries {
            let (segment, close) = last.entry(entry.file.server.as_str()).or_default();
            match entry.closes {
                true if segment.is_some_and(|segment| segment.file != entry.file) => {
                    (*segment, *close) = (None, Some(entry))
                }
                true => *close = Some(entry),
                false => (*segment, *close) = (Some(entry), None),
            }
        }
        let mut heads = Vec::new();
        for (segment, close) in last.into_values() {
            let Some(entry) = segment.or(close) else { continue };
            let mut head = match self.content(entry)? {
                Content::Segment(segment) => head(*segment),
                // Its last bytes are stored already.
                Content::Close { file, .. } => match archived.heads.iter().find(|head| head.file == file) {
                    Some(head) => head.clone(),
                    None => continue,
                },
            };
            if let Some(close) = close
                && let Content::Close { file: _, size: _, ending, next_file } = self.content(close)?
            {
                (head.closed, head.last_range) = (Some(Closed { ending, next_file }), None);
            }
            head.index = None;
            heads.push(head);
        }
        Ok(heads)
    }

    fn content(&self, entry: &Entry) -> Result<Content, Error> {
        file::read(&self.config.folder, entry.number).map(|(content, _)| content).map_err(|e| self.unreadable(e))
    }

    fn forget_first(&mut self) -> Result<(), Error> {
        self.drop_first().map_err(|e| self.unreadable(e))
    }

    fn unreadable(&self, source: io::Error) -> Error {
        let folder = self.config.folder.display().to_string();
        Error::Spool { doing: "read the spool", folder, source }
    }
}

fn head(segment: Segment) -> Head {
    let meta = segment.meta;
    let key = meta.key();
    Head {
        file: meta.file,
        flavor: meta.flavor,
        server_version: meta.server_version,
        end: meta.end,
        summary: meta.summary,
        open_transaction: meta.open_transaction,
        last_range: Some(LastRange { start: meta.start, key, sum: meta.raw }),
        closed: None,
        index: None,
    }
}
