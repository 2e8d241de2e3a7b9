//! Where a session begins: from the source's state and what is archived.

use std::sync::Arc;

use snafu::ResultExt;

use super::Error;
use super::checkpoint::{self, Archived, Head};
use super::cutter::Cutter;
use super::error::ArchiveSnafu;
use super::files::{self, Survey};
use super::locate::{Refusal, Source, Start, fork, locate, settle};
use super::session::Stream;
use super::status::Gap;
use super::upload::Begin;
use crate::archive::catalog::check_kinship;
use crate::archive::identity::{self, News};
use crate::model::{BinlogPosition, GtidSet};
use crate::mysql::event::MAGIC;

/// A session's beginning.
pub(super) struct Place {
    pub cutter: Cutter,
    /// Where the dump starts.
    pub at: BinlogPosition,
    /// What the first object goes on behind.
    pub begin: Begin,
}

impl Stream {
    /// From the source's state and the store's, where to go on.
    pub(super) async fn prepare(&self) -> Result<Place, Error> {
        let Survey { source, findings, executed, lineage } =
            files::survey(&self.source, self.config.acknowledge, self.config.hold_purge).await?;
        for warning in &findings.warnings {
            if !self.status.read().warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        self.status.update(|s| {
            s.gtids_on = findings.gtids_on;
            s.warnings = findings.warnings;
        });
        let (start, before) = match self.asked(&source, &executed, &lineage).await {
            // Without the store nobody knows where to go on, unless the spool does.
            Err(error) if error.code() == "store" => self.alone(&source, error).await?,
            asked => asked?,
        };
        let stored_to = match &start {
            Start::Resume(head) => head.position(),
            Start::File { name, .. } => BinlogPosition { file: name.clone(), offset: 0 },
        };
        let segment_bytes = self.config.segment_bytes;
        let newest = source.files.last().map(|(name, _)| name.as_str()).unwrap_or_default();
        let (cutter, at, index) = match start {
            Start::Resume(head) => {
                let Head { file, .. } = &*head;
                let at = BinlogPosition { file: file.name.clone(), offset: Cutter::dump_start(&head) };
                (Cutter::resume(&head, newest, segment_bytes), at, head.index)
            }
            Start::File { name, .. } => {
                if let Some(before) = before {
                    tracing::warn!(
                        file = before,
                        "the rest of this file is gone from the source; it stays open in the archive"
                    );
                }
                let cutter = Cutter::new(&source.server, source.flavor, newest, segment_bytes);
                (cutter, BinlogPosition { file: name, offset: MAGIC.len() as u64 }, None)
            }
        };
        let spool = match &self.spool {
            Some(spool) => Some(spool.lock().await),
            None => None,
        };
        let first = spool.as_ref().and_then(|spool| spool.first());
        let begin = match first {
            None => Begin::With(index.map(Box::new)),
            Some((first, archive)) => {
                let (file, start, archive) = (first.file.clone(), first.range.0, Box::new(archive.clone()));
                let encrypted =
                    !self.config.recipients.is_empty() || spool.as_ref().is_some_and(|s| s.holds_encrypted());
                Begin::Find { file, start, archive, encrypted }
            }
        };
        let stored_to = match &begin {
            Begin::With(_) => stored_to,
            Begin::Find { file, start, .. } => BinlogPosition { file: file.name.clone(), offset: *start },
        };
        self.status.update(|s| s.archived_to = Some(stored_to));
        Ok(Place { cutter, at, begin })
    }

    /// Where to go on, by the store, and by what the spool holds behind it. Also the name of the file that the store has to its end, but not
    /// its index, and that the source no longer has.
    async fn asked(
        &self,
        source: &Source,
        executed: &GtidSet,
        lineage: &GtidSet,
    ) -> Result<(Start, Option<String>), Error> {
        let archiving = ArchiveSnafu { doing: "open the archive" };
        let mut info = identity::ensure(&self.store, source.flavor, &source.server).await.context(archiving)?;
        if !self.config.recipients.is_empty() {
            info = identity::announce(&self.store, News::Encryption).await.context(archiving)?;
        }
        if let Some(warning) = identity::in_clear_again(&info, !self.config.recipients.is_empty()) {
            tracing::warn!("{warning}");
            self.status.update(|s| s.warnings.push(warning));
        }
        check_kinship(&self.store, &source.server, lineage).await.context(archiving)?;
        let mut archived = checkpoint::load(&self.store).await?;
        settle(&mut archived, source, self).await?;
        self.check_kept(&archived, &source.server);
        self.status.update(|s| {
            s.server = Some(source.server.clone());
            if let Some(head) = archived.heads.iter().find(|head| head.file.server == source.server) {
                s.durable = Some(BinlogPosition { offset: head.summary.boundary, ..head.position() });
                s.durable_gtids = head.summary.previous_gtids.union(&head.summary.gtids).ok();
                s.last_durable_commit = head.summary.last_commit;
            }
        });
        if let Some(spool) = &self.spool {
            let mut spool = spool.lock().await;
            spool.bind(&info)?;
            spool.connect(&self.store, &mut archived).await?;
            spool.publish(&self.status, false);
        }
        let start = locate(&archived, source, self).await.map_err(refused)?;
        self.report(&archived, &source.server, executed, &start);
        // A file before it that the store has, but not its index, is over: it closes as the new one begins.
        let before = archived.heads.into_iter().find(|h| h.file.server == source.server && h.closed.is_none());
        Ok((start, before.and_then(|head| head.index).map(|index| index.file().name.clone())))
    }

    /// Where to go on by the spool alone, while the store does not answer (`error`): only where nothing else can be meant.
    async fn alone(&self, source: &Source, error: Error) -> Result<(Start, Option<String>), Error> {
        let Some(spool) = &self.spool else { return Err(error) };
        let Some(archived) = spool.lock().await.alone()? else { return Err(error) };
        if archived.heads.first().is_none_or(|head| head.file.server != source.server) {
            return Err(error);
        }
        match locate(&archived, source, self).await {
            Ok(start @ (Start::Resume(_) | Start::File { gap: None, again: None, .. })) => {
                tracing::warn!(%error, "the store does not answer; going on behind what is in the spool");
                self.status.count_error(error.code());
                self.status.update(|s| {
                    s.server = Some(source.server.clone());
                    s.store_failing = true;
                    s.last_error = Some(Arc::new(error));
                });
                Ok((start, None))
            }
            _ => Err(error),
        }
    }

    /// Says when the store no longer has what this stream stored: its bucket was emptied, or made anew.
    fn check_kept(&self, archived: &Archived, server: &str) {
        let reading = self.status.read();
        let Some(stored) = reading.durable.filter(|_| reading.server.as_deref() == Some(server)) else { return };
        let head = archived.heads.iter().find(|head| head.file.server == server);
        let kept = head.is_some_and(|head| head.file.name != stored.file || head.end >= stored.offset);
        if !kept {
            let lost = format!(
                "the store lost what was archived up to {stored}: it was emptied or made anew; take a full backup now, nothing before it can \
                 be restored from there"
            );
            tracing::error!("{lost}");
            self.status.update(|s| {
                s.losses.push(lost);
                (s.durable, s.durable_gtids, s.last_durable_commit) = (None, None, None);
            });
        }
    }

    /// Says what could not be had, and what only a former primary had.
    fn report(&self, archived: &Archived, server: &str, executed: &GtidSet, start: &Start) {
        if let Start::File { gap: Some(gap), .. } = start {
            let Gap { missing, after, resumed_at } = gap;
            let after = after.as_ref().map(BinlogPosition::to_string);
            tracing::error!(
                %missing,
                after,
                resumed_at,
                "GAP: the source no longer has binlog that was not archived; take a full backup now: nothing in the gap can be restored"
            );
            self.status.update(|s| {
                if !s.gaps.contains(gap) {
                    s.gaps.push(gap.clone());
                }
            });
        }
        if let Start::File { again: Some(again), .. } = start {
            tracing::error!(
                transactions = %again,
                "FORK: the source was put back to an earlier state and gives GTIDs that are archived to other transactions; take a full backup \
                 now: the archived ones of these GTIDs are kept, but no restore of the live history has them"
            );
            self.status.update(|s| {
                if !s.forks.contains(again) {
                    s.forks.push(again.clone());
                }
            });
        }
        if let Some(fork) = fork(archived, server, executed, start) {
            tracing::warn!(transactions = %fork, "the archive has transactions that this server lacks");
            self.status.update(|s| {
                if !s.forks.contains(&fork) {
                    s.forks.push(fork);
                }
            });
        }
    }
}

fn refused(refusal: Refusal<Error>) -> Error {
    match refusal {
        Refusal::Inspect(e) => e,
        Refusal::NoFiles => Error::Unfit { problems: vec!["it lists no binlog file".to_owned()] },
        Refusal::Diverged { head, size } => Error::Diverged {
            at: head.position(),
            detail: format!("the source's file has {size} bytes, {} of it are archived", head.end),
        },
    }
}
