//! Sessions: connect, find the place, read until the connection or the store gives out, begin again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use snafu::ResultExt;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::begin::Place;
use super::encode::Hurry;
use super::error::{ArchiveSnafu, SourceSnafu};
use super::files;
use super::locate::{FileHead, Inspect};
use super::pump::{Downstream, Ended, Pump};
use super::purge::Watch;
use super::spool::Spool;
use super::spool::stage::Stage;
use super::status::StreamStatus;
use super::upload::{self, Durable};
use super::{Acknowledge, Error, StreamConfig, encode};
use crate::archive::segment::SegmentError;
use crate::archive::store::Store;
use crate::model::{BinlogPosition, CommitTime};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::event::MAGIC;
use crate::mysql::wire::{Connection, DumpRequest};

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
    let spool = match config.spool.clone() {
        Some(spool) => {
            let opened = tokio::task::spawn_blocking(move || Spool::open(spool)).await;
            let opened = opened.unwrap_or(Err(Error::Stage { stage: "spool" }))?;
            opened.publish(&status, false);
            Some(Arc::new(Mutex::new(opened)))
        }
        None => None,
    };
    let stream = Stream {
        reset: Notify::new(),
        spool,
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
    let over = CancellationToken::new();
    let (watcher, hold) = (watcher_of(stream.server_id), stream.config.hold_purge);
    let watch = Watch::new(&stream.source, watcher, &stream.status, hold, &stream.reset);
    let streaming = async {
        let done = sessions(&stream).await;
        over.cancel();
        done
    };
    let (done, ()) = tokio::join!(streaming, watch.run(&over));
    // What ended it is returned; what was survived has passed.
    stream.status.update(|s| s.last_error = None);
    done
}

/// The replica id of whoever reads besides the stream.
fn watcher_of(server_id: u32) -> u32 {
    server_id.checked_sub(1).filter(|id| *id > 0).unwrap_or(u32::MAX)
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
            Ok(Ended::Cancelled) if stream.cancel.is_cancelled() => return Ok(()),
            Ok(Ended::Cancelled) => tracing::info!("beginning with the source's new logs"),
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

pub(super) struct Stream {
    pub config: StreamConfig,
    server_id: u32,
    replica_uuid: String,
    started: CommitTime,
    pub source: Endpoint,
    pub store: Store,
    cancel: CancellationToken,
    pub status: StreamStatus,
    /// Told when the source's logs were begun anew under a session.
    reset: Notify,
    /// Of one session at a time.
    pub spool: Option<Arc<Mutex<Spool>>>,
}

impl Stream {
    async fn session(&self) -> Result<Ended, Error> {
        let prepared = self.cancel.run_until_cancelled(self.prepare()).await;
        let Some(Place { cutter, at: start, begin }) = prepared.transpose()? else { return Ok(Ended::Cancelled) };
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
            s.caught_up = false;
            s.read = Some(start.clone());
            // A store's error stays until the store takes something.
            s.last_error = s.last_error.take().filter(|_| s.store_failing);
        });

        let (cuts, raw) = mpsc::channel(RAW_QUEUE);
        let (objects, encoded) = mpsc::channel(1);
        let (durable, progress) = watch::channel(Durable::default());
        let (compression, recipients) = (self.config.compression, self.config.recipients.clone());
        let coding = (compression, recipients.clone());
        let spooling = coding.clone();
        let segment_bytes = self.config.segment_bytes;
        let hurry = Hurry::default();
        let hurried = hurry.clone();
        let encoder = tokio::task::spawn_blocking(move || encode::run(raw, &objects, coding, segment_bytes, &hurried));
        let uploading = self.cancel.child_token();
        let context = upload::Context {
            store: self.store.clone(),
            compression,
            recipients,
            trace_id: self.config.trace_id.clone(),
            started: self.started,
            status: self.status.clone(),
            cancel: uploading.clone(),
            patient: self.spool.is_some(),
        };
        let (stage, encoded) = match &self.spool {
            None => (None, encoded),
            Some(spool) => {
                let (sender, passed) = mpsc::channel(1);
                let stage = Stage::new(Arc::clone(spool).lock_owned().await, self.status.clone(), spooling);
                let running = stage.run(encoded, sender, progress.clone(), self.cancel.clone(), uploading);
                (Some(tokio::spawn(running)), passed)
            }
        };
        let uploader = tokio::spawn(upload::run(context, encoded, begin, durable));
        let pump = Pump::new(
            dump,
            (self.config.acknowledge == Acknowledge::ObjectStore).then_some(acks),
            cutter,
            Downstream { cuts, durable: progress, hurry },
            self.config.flush_interval,
            self.status.clone(),
        );
        // The pump ends first and gives up its sender: the stages behind it then finish what they have, and end too.
        let reading = self.cancel.child_token();
        let stop_at_reset = async {
            self.reset.notified().await;
            reading.cancel();
            std::future::pending::<Infallible>().await
        };
        let read = tokio::select! {
            read = pump.run(&reading) => read,
            never = stop_at_reset => match never {},
        };
        let stored = finish(encoder, stage, uploader).await;
        // A stage that failed is why the pump stopped, unless the pump says worse.
        match (read, stored) {
            (Err(e), _) if !matches!(e, Error::Stage { .. }) => Err(e),
            (read, stored) => stored.and(read),
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

    async fn inspect(&self, file: &str) -> Result<FileHead, Error> {
        let start = BinlogPosition { file: file.to_owned(), offset: MAGIC.len() as u64 };
        files::head(&self.source, &self.request(start, false), &self.grant()).await
    }
}

/// Waits until everything that was read is stored.
async fn finish(
    encoder: JoinHandle<Result<(), SegmentError>>,
    stage: Option<JoinHandle<Result<(), Error>>>,
    uploader: JoinHandle<Result<(), Error>>,
) -> Result<(), Error> {
    let stored = uploader.await.unwrap_or(Err(Error::Stage { stage: "upload" }));
    let spooled = match stage {
        Some(stage) => stage.await.unwrap_or(Err(Error::Stage { stage: "spool" })),
        None => Ok(()),
    };
    let encoded = encoder.await.unwrap_or(Ok(()));
    spooled.and(stored)?;
    encoded.map_err(crate::archive::ArchiveError::from).context(ArchiveSnafu { doing: "compress a segment" })
}
