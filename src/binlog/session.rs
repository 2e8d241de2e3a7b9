//! Sessions: connect, find the place, read until the connection or the store gives out, begin again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use snafu::ResultExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::checkpoint::{self, Archived, Head};
use super::cutter::Cutter;
use super::encode::Hurry;
use super::error::{ArchiveSnafu, SourceSnafu};
use super::files::{self, Survey};
use super::locate::{FileHead, Inspect, Refusal, Start, fork, locate, settle};
use super::pump::{Downstream, Ended, Pump};
use super::status::{Gap, StreamStatus};
use super::upload::{self, Durable};
use super::{Acknowledge, Error, StreamConfig, encode};
use crate::archive::catalog::check_kinship;
use crate::archive::identity;
use crate::archive::index_writer::IndexWriter;
use crate::archive::segment::SegmentError;
use crate::archive::store::Store;
use crate::model::{BinlogPosition, CommitTime, GtidSet};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::event::{EventType, FileScanner, FormatDescription, GtidList, MAGIC, parse_previous_gtids};
use crate::mysql::wire::{self, Connection, DumpItem, DumpRequest};

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// A session that lived this long was a success: the next failure is a new one.
const STABLE: Duration = Duration::from_secs(60);
/// How often damaged data is read again on a new connection before it counts as the source's own.
const REREADS: u32 = 3;
/// Raw pieces of up to 256 KiB (or 1 MiB of a long event) that wait for the encoder.
const RAW_QUEUE: usize = 4;

pub(super) async fn run(
    config: StreamConfig,
    source: Endpoint,
    store: Store,
    cancel: CancellationToken,
    status: StreamStatus,
) -> Result<(), Error> {
    // High, so that it meets none of those people give; stable over sessions, so that the source ends our own stale ones.
    let server_id = config.server_id.unwrap_or_else(|| rand::random_range(0x8000_0000..0xffff_fff0));
    let stream = Stream {
        server_id,
        replica_uuid: Uuid::new_v4().to_string(),
        started: CommitTime::from(Timestamp::now()),
        config,
        source,
        store,
        cancel,
        status,
    };
    stream.status.update(|s| s.stopped = None);
    let done = sessions(&stream).await;
    // What ended it is returned; what was survived has passed.
    stream.status.update(|s| s.last_error = None);
    done
}

async fn sessions(stream: &Stream) -> Result<(), Error> {
    let mut wait = RETRY_FIRST;
    let mut damage = Damage::default();
    let mut worked = false;
    loop {
        let began = Instant::now();
        let outcome = stream.session().await;
        stream.status.update(|s| worked |= std::mem::take(&mut s.connected));
        match outcome {
            Ok(Ended::Cancelled) => return Ok(()),
            Ok(Ended::BySource) => tracing::info!("the source ended the stream; connecting again"),
            Err(_) if stream.cancel.is_cancelled() => return Ok(()),
            Err(error) => {
                stream.status.count_error(error.code());
                let read_again = error.is_damage() && damage.may_pass(stream.status.read().uploads);
                // What the store refuses from the start is a mistake to be told at once; later the source's changes wait for its mending.
                let refused = worked && error.is_store_refusal();
                let goes_on = error.is_transient() || read_again || refused;
                stream.status.update(|s| {
                    s.store_failing |= error.code() == "store";
                    s.stopped = (!goes_on).then(|| error.code());
                });
                if !goes_on {
                    return Err(error);
                }
                let error = Arc::new(error);
                stream.status.update(|s| s.last_error = Some(Arc::clone(&error)));
                match (read_again, refused) {
                    (true, _) => tracing::error!(%error, "damaged data came from the source; reading it again"),
                    (_, true) => {
                        tracing::error!(%error, "the store refuses us: nothing new is protected; trying again")
                    }
                    _ => tracing::warn!(%error, "the stream was interrupted"),
                }
            }
        }
        if began.elapsed() > STABLE {
            wait = RETRY_FIRST;
        }
        let jittered = wait.mul_f64(rand::random_range(0.75..1.25));
        if stream.cancel.run_until_cancelled(tokio::time::sleep(jittered)).await.is_none() {
            return Ok(());
        }
        wait = (wait * 2).min(RETRY_MOST);
        fail::fail_point!("binlog::session::reconnect");
    }
}

/// Tells damage on the way, which passes, from damage at the source, which does not.
#[derive(Default)]
struct Damage {
    seen: u32,
    uploads: u64,
}

impl Damage {
    /// Counts a session that ended by damage; `uploads` tells whether it got any further than the one before.
    fn may_pass(&mut self, uploads: u64) -> bool {
        self.seen = if uploads > self.uploads { 1 } else { self.seen + 1 };
        self.uploads = uploads;
        self.seen <= REREADS
    }
}

struct Stream {
    config: StreamConfig,
    server_id: u32,
    replica_uuid: String,
    started: CommitTime,
    source: Endpoint,
    store: Store,
    cancel: CancellationToken,
    status: StreamStatus,
}

impl Stream {
    async fn session(&self) -> Result<Ended, Error> {
        let prepared = self.cancel.run_until_cancelled(self.prepare()).await;
        let Some((cutter, start, index)) = prepared.transpose()? else { return Ok(Ended::Cancelled) };
        let dumping = async {
            let connection = self.connect().await?;
            let denied = |e| files::denied(e, "read the source's binlog", &self.grant());
            connection.dump(&self.request(start.clone(), true)).await.map_err(denied)
        };
        let Some((dump, acks)) = self.cancel.run_until_cancelled(dumping).await.transpose()? else {
            return Ok(Ended::Cancelled);
        };
        tracing::info!(position = %start, "streaming");
        self.status.update(|s| {
            s.connected = true;
            // A store's error stays until the store takes something.
            s.last_error = s.last_error.take().filter(|_| s.store_failing);
        });

        let (cuts, raw) = mpsc::channel(RAW_QUEUE);
        let (objects, encoded) = mpsc::channel(1);
        let (durable, progress) = watch::channel(Durable::default());
        let (compression, recipients) = (self.config.compression, self.config.recipients.clone());
        let coding = (compression, recipients.clone());
        let segment_bytes = self.config.segment_bytes;
        let hurry = Hurry::default();
        let hurried = hurry.clone();
        let encoder = tokio::task::spawn_blocking(move || encode::run(raw, &objects, coding, segment_bytes, &hurried));
        let context = upload::Context {
            store: self.store.clone(),
            compression,
            recipients,
            trace_id: self.config.trace_id.clone(),
            started: self.started,
            status: self.status.clone(),
            cancel: self.cancel.clone(),
        };
        let uploader = tokio::spawn(upload::run(context, encoded, index, durable));
        let pump = Pump::new(
            dump,
            (self.config.acknowledge == Acknowledge::ObjectStore).then_some(acks),
            cutter,
            Downstream { cuts, durable: progress, hurry },
            self.config.flush_interval,
            self.status.clone(),
        );
        // The pump ends first and gives up its sender: the stages behind it then finish what they have, and end too.
        let read = pump.run(&self.cancel).await;
        let stored = finish(encoder, uploader).await;
        // A stage that failed is why the pump stopped, unless the pump says worse.
        match (read, stored) {
            (Err(e), _) if !matches!(e, Error::Stage { .. }) => Err(e),
            (read, stored) => stored.and(read),
        }
    }

    /// From the source's state and the store's, where to go on.
    async fn prepare(&self) -> Result<(Cutter, BinlogPosition, Option<IndexWriter>), Error> {
        let Survey { source, findings, executed, lineage } =
            files::survey(&self.source, self.config.acknowledge).await?;
        for warning in &findings.warnings {
            if !self.status.read().warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        let archiving = ArchiveSnafu { doing: "open the archive" };
        let archive = identity::ensure(&self.store, source.flavor, &source.server).await.context(archiving)?;
        if !self.config.recipients.is_empty() {
            identity::announce_encryption(&self.store, archive).await.context(archiving)?;
        }
        check_kinship(&self.store, &source.server, &lineage).await.context(archiving)?;
        let mut archived = checkpoint::load(&self.store).await?;
        settle(&mut archived, &source, self).await?;
        self.check_kept(&archived, &source.server);
        self.status.update(|s| {
            s.server = Some(source.server.clone());
            s.gtids_on = findings.gtids_on;
            s.warnings = findings.warnings;
            if let Some(head) = archived.heads.iter().find(|head| head.file.server == source.server) {
                s.durable = Some(BinlogPosition { offset: head.summary.boundary, ..head.position() });
                s.durable_gtids = head.summary.previous_gtids.union(&head.summary.gtids).ok();
                s.last_durable_commit = head.summary.last_commit;
            }
        });
        let start = locate(&archived, &source, self).await;
        let start = start.map_err(refused)?;
        self.report(&archived, &source.server, &executed, &start);
        let segment_bytes = self.config.segment_bytes;
        let newest = source.files.last().map(|(name, _)| name.as_str()).unwrap_or_default();
        Ok(match start {
            Start::Resume(head) => {
                let Head { file, .. } = &*head;
                let at = BinlogPosition { file: file.name.clone(), offset: Cutter::dump_start(&head) };
                (Cutter::resume(&head, newest, segment_bytes), at, head.index)
            }
            Start::File { name, .. } => {
                let cutter = Cutter::new(&source.server, source.flavor, newest, segment_bytes);
                // A file before it that the store has, but not its index, is over: it closes as the new one begins.
                let before = archived.heads.into_iter().find(|h| h.file.server == source.server && h.closed.is_none());
                if let Some(index) = before.and_then(|head| head.index) {
                    tracing::warn!(file = %index.file().name, "the rest of this file is gone from the source; it stays open in the archive");
                }
                (cutter, BinlogPosition { file: name, offset: MAGIC.len() as u64 }, None)
            }
        })
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

    async fn connect(&self) -> Result<Connection, Error> {
        Connection::connect(&self.source).await.context(SourceSnafu { doing: "connect to the source" })
    }

    fn request(&self, start: BinlogPosition, follow: bool) -> DumpRequest {
        DumpRequest {
            start,
            server_id: self.server_id,
            replica_uuid: self.replica_uuid.clone(),
            heartbeat: self.config.dead_after / 4,
            semi_sync: follow && self.config.acknowledge == Acknowledge::ObjectStore,
            follow,
        }
    }

    fn grant(&self) -> String {
        format!("GRANT REPLICATION SLAVE ON *.* TO '{}'@'…'", self.source.user)
    }
}

impl Inspect for Stream {
    type Error = Error;

    /// Reads the head of one of the source's files: a short dump, ended as soon as PREVIOUS_GTIDS or GTID_LIST came.
    async fn inspect(&self, file: &str) -> Result<FileHead, Error> {
        let doing = "read the head of a binlog file";
        let connection = self.connect().await?;
        let start = BinlogPosition { file: file.to_owned(), offset: MAGIC.len() as u64 };
        let denied = |e| files::denied(e, doing, &self.grant());
        let (mut dump, _acks) = connection.dump(&self.request(start.clone(), false)).await.map_err(denied)?;
        let mut scanner = FileScanner::new();
        let _ = scanner.scan(&mut MAGIC.as_slice());
        let mut created_unix = None;
        while let Some(item) = dump.next().await.map_err(denied)? {
            let DumpItem::Piece(piece) = item else { continue };
            let mut data = &piece.data[..];
            while let Some(event) = scanner
                .next_event(&mut data)
                .map_err(|e| Error::OutOfOrder { at: start.clone(), detail: e.to_string() })?
            {
                let malformed = |source| Error::Event { at: start.clone(), source };
                let previous_gtids = match event.header.event_type {
                    EventType::FORMAT_DESCRIPTION => {
                        let format = FormatDescription::parse(&event.header, event.body).map_err(malformed)?;
                        created_unix = Some(format.created_unix);
                        continue;
                    }
                    EventType::PREVIOUS_GTIDS => GtidSet::Mysql(parse_previous_gtids(event.body).map_err(malformed)?),
                    EventType::GTID_LIST => {
                        GtidSet::Mariadb(GtidList::parse(event.body).map_err(malformed)?.executed())
                    }
                    _ => {
                        let detail = "the file does not begin with what was executed before it".to_owned();
                        return Err(Error::OutOfOrder { at: start, detail });
                    }
                };
                if let Some(created_unix) = created_unix {
                    return Ok(FileHead { created_unix, previous_gtids });
                }
            }
        }
        let ended = wire::Error::ConnectionLost {
            doing: format!("reading the head of {file}"),
            source: std::io::ErrorKind::UnexpectedEof.into(),
        };
        Err(ended).context(SourceSnafu { doing })
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

/// Waits until everything that was read is stored.
async fn finish(
    encoder: JoinHandle<Result<(), SegmentError>>,
    uploader: JoinHandle<Result<(), Error>>,
) -> Result<(), Error> {
    let stored = uploader.await.unwrap_or(Err(Error::Stage { stage: "upload" }));
    let encoded = encoder.await.unwrap_or(Ok(()));
    stored?;
    encoded.map_err(crate::archive::ArchiveError::from).context(ArchiveSnafu { doing: "compress a segment" })
}
