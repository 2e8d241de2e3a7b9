//! What can be restored, read from the store now and then and kept as fresh as the stream in between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::work::flavor_word;
use crate::api::report::{ArchiveReport, PodError};
use crate::api::{GapStatus, WindowStatus};
use crate::archive::ArchiveError;
use crate::archive::catalog::Catalog;
use crate::archive::timeline::{ChainEnd, Timeline, Window};
use crate::binlog::StreamReading;
use crate::cli::config::Policy;
use crate::cli::inspect::{self, End};
use crate::cli::supervise::StreamWatch;
use crate::cli::{engine, protection, reason};
use crate::model::CommitTime;

const TICK: Duration = Duration::from_secs(1);
/// The store is read this often.
const INTERVAL: Duration = Duration::from_secs(30);
/// And this soon after a failure, or while there is nothing to restore: the first full is waited for.
const AGAIN: Duration = Duration::from_secs(5);
/// And this soon after something happened that only the store tells the whole of.
const SOON: Duration = Duration::from_secs(2);
/// Reading takes at most one part in so many of the time: an archive of many files is read less often, but once in a while.
const SHARE: u32 = 50;
const SELDOM: Duration = Duration::from_secs(600);

/// What was last read; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct ArchiveWatch(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    archive: Option<Archive>,
    /// Why the last reading failed.
    failure: Option<PodError>,
}

/// An archive as it was read.
#[derive(Clone, Debug, Default)]
struct Archive {
    report: ArchiveReport,
    /// The window that grows with the stream, and its end.
    growing: Option<(usize, CommitTime)>,
    /// The server whose stream makes it grow.
    live_server: Option<String>,
    /// What the stream had met by then.
    met: Met,
}

/// What a stream meets that changes what can be restored in ways only the archive tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Met {
    server: Option<String>,
    gaps: usize,
    incidents: usize,
    losses: usize,
    forks: usize,
}

/// Ends the reading when it is dropped.
#[derive(Debug)]
pub struct Reading(AbortHandle);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ArchiveWatch {
    /// Begins to read the archive that `stream` writes.
    pub(super) fn start(&self, stream: StreamWatch, shutdown: CancellationToken) -> Reading {
        let watch = self.clone();
        let reading = async move { shutdown.run_until_cancelled(watch.keep_reading(stream)).await };
        Reading(tokio::spawn(reading).abort_handle())
    }

    /// What can be restored now, and why that cannot be said.
    pub(super) fn report(&self, stream: &StreamReading) -> (Option<ArchiveReport>, Option<PodError>) {
        let known = self.known();
        let Some(archive) = &known.archive else { return (None, known.failure.clone()) };
        let mut report = archive.at(stream);
        if let Some(failure) = &known.failure {
            report.problems.push(failure.message.clone());
        }
        (Some(report), None)
    }

    async fn keep_reading(self, stream: StreamWatch) {
        let mut last: Option<Last> = None;
        loop {
            tokio::time::sleep(TICK).await;
            let Some(policy) = stream.policy() else { continue };
            let seen = Seen::of(&stream.status.subscribe().borrow());
            if let Some(last) = &last
                && last.ended.elapsed() < last.pause(&policy, &seen)
            {
                continue;
            }
            let began = Instant::now();
            let read = read(&policy, seen.met.clone()).await;
            last = Some(Last::new(Arc::clone(&policy), seen, &read, began));
            let mut known = self.known();
            match read {
                Ok(archive) => *known = Known { archive: Some(archive), failure: None },
                Err(error) => {
                    let error = error.context("cannot read what is archived");
                    let failure = reason::pod_error(&error);
                    tracing::warn!(policy = policy.name, "{}", failure.message);
                    known.failure = Some(failure);
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last reading.
struct Last {
    policy: Arc<Policy>,
    seen: Seen,
    /// Whether it failed, or found nothing to restore.
    impatient: bool,
    /// How long a reading of this archive takes; nothing after a failure.
    took: Duration,
    ended: Instant,
}

impl Last {
    /// One that has ended just now.
    fn new(policy: Arc<Policy>, seen: Seen, read: &anyhow::Result<Archive>, began: Instant) -> Self {
        let ended = Instant::now();
        let impatient = read.as_ref().map_or(true, |archive| archive.report.windows.is_empty());
        // How long a store that is gone kept us waiting says nothing of the archive's size.
        let took = if read.is_ok() { ended.duration_since(began) } else { Duration::ZERO };
        Self { policy, seen, impatient, took, ended }
    }

    /// How long after it the next one is due.
    fn pause(&self, policy: &Arc<Policy>, seen: &Seen) -> Duration {
        let happened = *seen != self.seen || !Arc::ptr_eq(policy, &self.policy);
        let pause = match (happened, self.impatient) {
            (true, _) => (self.took * SHARE / 5).max(SOON),
            (false, true) => (self.took * SHARE / 5).max(AGAIN),
            (false, false) => (self.took * SHARE).max(INTERVAL),
        };
        pause.min(SELDOM)
    }
}

/// What is worth another reading soon.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    met: Met,
    connected: bool,
    /// A new one: the one before is closed.
    file: Option<String>,
}

impl Seen {
    fn of(stream: &StreamReading) -> Self {
        let file = stream.durable.as_ref().map(|position| position.file.clone());
        Self { met: Met::of(stream), connected: stream.connected, file }
    }
}

impl Met {
    fn of(stream: &StreamReading) -> Self {
        Self {
            server: stream.server.clone(),
            gaps: stream.gaps.len(),
            incidents: stream.incidents.len(),
            losses: stream.losses.len(),
            forks: stream.forks.len(),
        }
    }
}

impl Archive {
    /// What a catalog shows. Pure.
    fn new(catalog: Catalog, met: Met) -> Self {
        let timeline = Timeline::new(catalog.info.flavor, &catalog.fulls, &catalog.files);
        let grows = |(_, window): &(usize, &Window)| window.end == ChainEnd::Newest;
        let growing = timeline.windows.iter().enumerate().filter(grows).max_by_key(|(_, window)| window.latest);
        let report = ArchiveReport {
            read_at: Timestamp::now().to_string(),
            flavor: Some(flavor_word(catalog.info.flavor).to_owned()),
            windows: timeline.windows.iter().map(window).collect(),
            fulls: catalog.fulls.len(),
            full_ids: catalog.fulls.iter().map(|full| full.id.clone()).collect(),
            last_full_time: catalog.fulls.iter().map(|full| full.consistent_at).max().map(|time| time.to_string()),
            stored_bytes: inspect::stored_bytes(&catalog),
            warnings: inspect::warnings(&catalog, &timeline),
            problems: catalog.problems.into_iter().chain(inspect::contested(&timeline)).collect(),
        };
        let growing = growing.map(|(index, window)| (index, window.latest));
        Self { report, growing, live_server: timeline.live_server, met }
    }

    /// The archive now: what the stream of the live server has made durable since is at the end of the window that grows, as long as
    /// it met nothing that may have ended that.
    fn at(&self, stream: &StreamReading) -> ArchiveReport {
        let mut report = self.report.clone();
        let same = stream.server.is_some() && stream.server == self.live_server && Met::of(stream) == self.met;
        if let (Some((index, latest)), Some(durable), true) = (self.growing, stream.last_durable_commit, same)
            && durable > latest
            && let Some(window) = report.windows.get_mut(index)
        {
            window.to = durable.timestamp().to_string();
        }
        report
    }
}

async fn read(policy: &Policy, met: Met) -> anyhow::Result<Archive> {
    let store = engine::store(&policy.store)?;
    match Catalog::load_folded(&store).await {
        Ok(catalog) => {
            let mut archive = Archive::new(catalog, met);
            let protection = protection::of(&store).await?;
            archive.report.warnings.extend(policy.warnings.iter().cloned());
            archive.report.warnings.extend(protection.into_iter().flat_map(|protection| protection.warnings));
            Ok(archive)
        }
        Err(ArchiveError::Missing { .. }) => {
            let report = ArchiveReport { read_at: Timestamp::now().to_string(), ..ArchiveReport::default() };
            Ok(Archive { report, met, ..Archive::default() })
        }
        Err(error) => Err(error.into()),
    }
}

fn window(window: &Window) -> WindowStatus {
    let gap = inspect::end_of(&window.end);
    WindowStatus {
        from: window.first.timestamp().to_string(),
        to: window.latest.timestamp().to_string(),
        base: window.fulls.first().cloned().unwrap_or_default(),
        gap: gap.map(|End { reason, missing }| GapStatus { gtids: missing.unwrap_or_default(), reason: Some(reason) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Archive {
        let window = |from: &str, to: &str| WindowStatus {
            from: from.to_owned(),
            to: to.to_owned(),
            base: "f".to_owned(),
            gap: None,
        };
        let windows =
            vec![window("2026-11-20T00:00:00Z", "2026-11-20T01:00:00Z"), window("2026-11-21T00:00:00Z", "old")];
        Archive {
            report: ArchiveReport { windows, ..ArchiveReport::default() },
            growing: Some((1, CommitTime(1_000_000))),
            live_server: Some("a".to_owned()),
            met: Met { server: Some("a".to_owned()), gaps: 1, ..Met::default() },
        }
    }

    fn stream() -> StreamReading {
        let gap = crate::binlog::Gap {
            missing: crate::model::GtidSet::empty(crate::model::Flavor::Mysql),
            after: None,
            resumed_at: "binlog.000002".to_owned(),
        };
        StreamReading {
            server: Some("a".to_owned()),
            gaps: vec![gap],
            last_durable_commit: Some(CommitTime(2_000_000)),
            ..StreamReading::default()
        }
    }

    #[test]
    fn a_store_that_could_not_be_read_is_tried_again_soon_however_long_it_kept_us_waiting() {
        let text = "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: orders}\nspec:\n  source: {host: db, \
                    credentialsSecretRef: {name: login}}\n  storage: {fs: {path: /archive}}\n---\napiVersion: v1\nkind: Secret\n\
                    metadata: {name: login}\nstringData: {username: u, password: p}\n";
        let documents = crate::cli::manifests::parse(std::path::Path::new("p"), text).unwrap();
        let policy = Arc::new(crate::cli::config::policies(&documents).unwrap().remove(0));
        let began = Instant::now().checked_sub(Duration::from_secs(120)).unwrap();
        let pause = |read: anyhow::Result<Archive>, stream: &StreamReading| {
            let last = Last::new(Arc::clone(&policy), Seen::of(&self::stream()), &read, began);
            last.pause(&policy, &Seen::of(stream))
        };
        let happened = StreamReading { connected: true, ..stream() };
        assert_eq!(pause(Err(anyhow::anyhow!("the store is gone")), &stream()), AGAIN);
        assert_eq!(pause(Err(anyhow::anyhow!("the store is gone")), &happened), SOON);
        // An archive that takes two minutes to read is read seldom, whatever happens.
        assert_eq!(pause(Ok(archive()), &stream()), SELDOM);
        assert_eq!(pause(Ok(archive()), &happened), SELDOM);
    }

    fn ends(stream: &StreamReading) -> Vec<String> {
        archive().at(stream).windows.into_iter().map(|window| window.to).collect()
    }

    #[test]
    fn the_window_that_grows_ends_where_the_stream_of_the_live_server_is() {
        assert_eq!(ends(&stream()), ["2026-11-20T01:00:00Z", "1970-01-01T00:00:02Z"]);
        let behind = StreamReading { last_durable_commit: Some(CommitTime(500_000)), ..stream() };
        assert_eq!(ends(&behind)[1], "old");
    }

    #[test]
    fn after_a_failover_a_new_gap_or_a_loss_only_the_archive_tells() {
        for stream in [
            StreamReading { server: Some("b".to_owned()), ..stream() },
            StreamReading { server: None, ..stream() },
            StreamReading { gaps: Vec::new(), ..stream() },
            StreamReading { losses: vec!["lost".to_owned()], ..stream() },
            StreamReading { forks: vec![crate::model::GtidSet::empty(crate::model::Flavor::Mysql)], ..stream() },
        ] {
            assert_eq!(ends(&stream)[1], "old", "{stream:?}");
        }
    }
}
