//! Third stage: objects go to the store, a few at a time. What is durable only ever grows over a contiguous prefix.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use jiff::Timestamp;
use snafu::ResultExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::cutter::{Closing, CommitCounts, Seal};
use super::encode::{Long, Object};
use super::error::ArchiveSnafu;
use super::status::StreamStatus;
use crate::archive::ArchiveError;
use crate::archive::binlog_index::FileId;
use crate::archive::codec::Compression;
use crate::archive::crypt::Recipients;
use crate::archive::identity::{self, ArchiveInfo, News};
use crate::archive::index_writer::{IN_FLIGHT, IndexWriter};
use crate::archive::segment::{self, EncodedSegment, SegmentUpload, StoredSegment};
use crate::archive::store::Store;
use crate::model::{BinlogPosition, CommitTime};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(20);

/// What is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Durable {
    /// Bytes of this session, as [`Seal::upto`] counts them.
    pub upto: u64,
    /// Segments of this session.
    pub segments: u64,
    /// Objects that were dealt with, those of a spool included.
    pub landed: u64,
}

/// What the first object goes on behind.
pub(super) enum Begin {
    /// What is stored of its file is known; none: nothing.
    With(Option<Box<IndexWriter>>),
    /// The store was not asked, or the spool's content comes first: byte `start` of `file` is due, in that archive. Whether anything that comes
    /// is encrypted.
    Find { file: FileId, start: u64, archive: Box<ArchiveInfo>, encrypted: bool },
}

/// What every upload needs.
#[derive(Clone)]
pub(super) struct Context {
    pub store: Store,
    pub compression: Compression,
    pub recipients: Recipients,
    pub trace_id: String,
    /// When the stream (not this session) started: only later commits tell its RPO.
    pub started: CommitTime,
    pub status: StreamStatus,
    /// Once cancelled, a store that fails is not waited for any longer.
    pub cancel: CancellationToken,
    /// Whether a store that turns us away is waited for, too: a spool keeps what comes meanwhile.
    pub patient: bool,
}

/// How an upload ended.
enum Landed {
    Stored(Box<StoredSegment>, Box<Seal>),
    /// A long segment that was cut off: nothing of it is stored.
    CutOff,
    Close(Box<Closing>),
}

/// Stores objects until there are no more.
pub(super) async fn run(
    context: Context,
    mut objects: mpsc::Receiver<Object>,
    begin: Begin,
    durable: watch::Sender<Durable>,
) -> Result<(), Error> {
    let context = Arc::new(context);
    let mut index = match begin {
        Begin::With(index) => index.map(|index| *index),
        Begin::Find { file, start, archive, encrypted } => {
            Some(find(&context, file, start, &archive, encrypted).await?)
        }
    };
    if let Some(writer) = &mut index {
        // What its bytes were stored beside by an earlier session.
        writer.clear_torn(&context.store).await;
    }
    let mut flying: FuturesOrdered<BoxFuture<'static, Result<Landed, Error>>> = FuturesOrdered::new();
    let mut more = true;
    // Nothing of the next file is stored before this one is whole and indexed: after a crash only the newest file is open.
    let mut closing = false;
    while more || !flying.is_empty() {
        tokio::select! {
            object = objects.recv(), if more && !closing && flying.len() < IN_FLIGHT => match object {
                Some(object) => {
                    closing = matches!(object, Object::Close(_));
                    flying.push_back(start(&context, object));
                }
                None => more = false,
            },
            Some(landed) = flying.next() => { match landed? {
                Landed::Stored(stored, seal) => {
                    fail::fail_point!("binlog::upload::before_checkpoint");
                    let writer = match index.take().filter(|index| *index.file() == seal.meta.file) {
                        Some(writer) => index.insert(writer),
                        None => index.insert(IndexWriter::new(seal.meta.file.clone())),
                    };
                    let bytes = stored.object_bytes;
                    writer.push(*stored).context(ArchiveSnafu { doing: "advance the checkpoint" })?;
                    // What an earlier session spooled counts for nothing in this one.
                    let of_this_session = u64::from(seal.upto > 0);
                    // Before nothing waits any more, so that who sees that sees this.
                    publish(&context, &seal, bytes);
                    durable.send_modify(|d| (d.upto, d.segments) = (d.upto.max(seal.upto), d.segments + of_this_session));
                    writer.clear_torn(&context.store).await;
                }
                Landed::CutOff => {}
                Landed::Close(over) => {
                    if let Some(writer) = index.take().filter(|index| *index.file() == over.file) {
                        close(&context, writer, &over).await?;
                    }
                    if let Some(file) = over.next_file {
                        context.status.update(|s| s.archived_to = Some(BinlogPosition { file, offset: 0 }));
                    }
                    closing = false;
                }
            }
            durable.send_modify(|d| d.landed += 1); },
        }
    }
    Ok(())
}

/// Asks the store what it has of a file, as soon as it can be asked.
async fn find(
    context: &Context,
    file: FileId,
    start: u64,
    archive: &ArchiveInfo,
    encrypted: bool,
) -> Result<IndexWriter, Error> {
    let doing = "read what is archived";
    let (info, index) = retry(context, || async {
        let found = async {
            let info = identity::read(&context.store).await?.filter(|info| info.is_of_same(archive));
            if encrypted && info.is_some() {
                identity::announce(&context.store, News::Encryption).await?;
            }
            Ok::<_, ArchiveError>((info, IndexWriter::resume(&context.store, file.clone()).await?))
        };
        found.await.context(ArchiveSnafu { doing })
    })
    .await?;
    // Then the next session finds its place by what the store says.
    if info.is_none() || index.end() != start {
        return Err(Error::Stage { stage: "spool" });
    }
    Ok(index)
}

fn start(context: &Arc<Context>, object: Object) -> BoxFuture<'static, Result<Landed, Error>> {
    let context = context.clone();
    match object {
        Object::Whole { segment, seal } => Box::pin(async move {
            let stored = put(&context, *segment).await?;
            Ok(Landed::Stored(Box::new(stored), seal))
        }),
        Object::Long { file, start, end, raw } => Box::pin(async move { long(&context, file, start, end, raw).await }),
        Object::Spooled(loader) => Box::pin(async move {
            let (stored, seal) = retry(&context, || async {
                fail::fail_point!("binlog::upload::before_put");
                let stored = loader.store(&context.store, "store a segment from the spool").await?;
                fail::fail_point!("binlog::upload::after_put");
                Ok(stored)
            })
            .await?;
            Ok(Landed::Stored(Box::new(stored), seal))
        }),
        Object::Close(closing) => Box::pin(async move { Ok(Landed::Close(closing)) }),
    }
}

async fn put(context: &Context, segment: EncodedSegment) -> Result<StoredSegment, Error> {
    retry(context, || async {
        fail::fail_point!("binlog::upload::before_put");
        let stored = segment::put(&context.store, segment.clone()).await;
        let stored = stored.map_err(ArchiveError::from).context(ArchiveSnafu { doing: "store a segment" })?;
        fail::fail_point!("binlog::upload::after_put");
        Ok(stored)
    })
    .await
}

/// Its bytes cannot be sent twice: when the store fails, the session ends and a new one reads them again.
async fn long(
    context: &Context,
    file: FileId,
    start: u64,
    end: u64,
    mut raw: mpsc::Receiver<Long>,
) -> Result<Landed, Error> {
    let doing = "store a segment of one large event";
    let Context { store, compression, recipients, .. } = context;
    let upload = SegmentUpload::begin(store, &file, None, start, end, *compression, recipients).await;
    let mut upload = upload.map_err(ArchiveError::from).context(ArchiveSnafu { doing })?;
    while let Some(part) = raw.recv().await {
        match part {
            Long::Raw(bytes) => {
                fail::fail_point!("binlog::upload::long");
                write(&mut upload, &bytes).await.context(ArchiveSnafu { doing })?;
            }
            Long::Seal(seal) => {
                fail::fail_point!("binlog::upload::before_put");
                let stored = upload.finish(seal.meta.clone()).await;
                let stored = stored.map_err(ArchiveError::from).context(ArchiveSnafu { doing })?;
                fail::fail_point!("binlog::upload::after_put");
                return Ok(Landed::Stored(Box::new(stored), seal));
            }
        }
    }
    Ok(Landed::CutOff)
}

async fn write(upload: &mut SegmentUpload, bytes: &Bytes) -> Result<(), ArchiveError> {
    Ok(upload.write(bytes).await?)
}

async fn close(context: &Context, index: IndexWriter, closing: &Closing) -> Result<(), Error> {
    let written = retry(context, || async {
        fail::fail_point!("binlog::upload::before_index");
        let next_file = closing.next_file.clone();
        let index = index.clone().finish(&context.store, closing.ending.clone(), next_file, &context.trace_id).await;
        index.context(ArchiveSnafu { doing: "store the index of a closed file" })
    })
    .await?;
    fail::fail_point!("binlog::upload::after_index");
    tracing::info!(
        file = %closing.file.name,
        bytes = written.size,
        segments = written.ranges.len(),
        ending = ?written.ending,
        "binlog file archived whole"
    );
    Ok(())
}

/// Tries until it works, something is wrong that waiting does not mend, or the stream is being stopped.
async fn retry<T, F>(context: &Context, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut wait = RETRY_FIRST;
    loop {
        let error = match attempt().await {
            Ok(value) => {
                if wait > RETRY_FIRST {
                    tracing::info!("the store takes writes again");
                }
                context.status.store_works();
                return Ok(value);
            }
            Err(error) => error,
        };
        context.status.count_error(error.code());
        let passes = error.code() == "store" && (error.is_transient() || context.patient);
        if !passes || context.cancel.is_cancelled() {
            return Err(error);
        }
        let error = Arc::new(error);
        context.status.update(|s| {
            s.store_failing = true;
            s.last_error = Some(Arc::clone(&error));
        });
        tracing::warn!(%error, retry_in_ms = wait.as_millis() as u64, "the store failed; the source keeps its files meanwhile");
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(rand::random_range(0.75..1.25))) => {}
            () = context.cancel.cancelled() => {}
        }
        wait = (wait * 2).min(RETRY_MOST);
    }
}

fn publish(context: &Context, seal: &Seal, object_bytes: u64) {
    let summary = &seal.meta.summary;
    // Of one flavor by construction.
    let gtids = summary.previous_gtids.union(&summary.gtids).ok();
    let now = CommitTime::from(Timestamp::now());
    context.status.update(|s| {
        s.durable = Some(BinlogPosition { file: seal.meta.file.name.clone(), offset: summary.boundary });
        s.durable_gtids = gtids;
        s.archived_to = Some(BinlogPosition { file: seal.meta.file.name.clone(), offset: seal.meta.end });
        s.last_durable_commit = s.last_durable_commit.max(summary.last_commit);
        s.bytes_stored += object_bytes;
        s.uploads += 1;
        let CommitCounts(commits) = &seal.commits;
        for (commit, count) in commits.iter().filter(|(commit, _)| *commit >= context.started) {
            s.rpo.record(u64::try_from(now.0 - commit.0).unwrap_or(0), *count);
        }
    });
}
