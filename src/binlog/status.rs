use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use tokio::sync::watch;

use super::Error;
use super::purge::{Hold, PurgeLook};
use super::spool::SpoolReading;
use crate::model::{BinlogPosition, CommitTime, GtidSet};

/// What a running stream says of itself. The engine writes it, `status` and the pod's HTTP endpoint read it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamReading {
    /// Whether a dump connection to the source is open.
    pub connected: bool,
    /// The server the stream reads, as [`crate::archive::binlog_index::FileId::server`] spells it.
    pub server: Option<String>,
    /// False where the source runs without GTIDs: the stream then follows file and position and cannot follow a failover.
    pub gtids_on: bool,
    /// Up to where bytes have been read.
    pub read: Option<BinlogPosition>,
    /// End of the last whole transaction that is in the store, with everything before it.
    pub durable: Option<BinlogPosition>,
    /// Everything the source had executed at [`Self::durable`].
    pub durable_gtids: Option<GtidSet>,
    /// Where the source's bytes end that are in the store without a hole: what comes next is the source's alone.
    pub archived_to: Option<BinlogPosition>,
    /// What waits for the store on disk; none without a spool.
    pub spool: Option<SpoolReading>,
    /// What the source would purge of what only it has.
    pub purge: PurgeLook,
    /// Whether that is held back.
    pub hold: Hold,
    /// Highest commit time up to [`Self::durable`].
    pub last_durable_commit: Option<CommitTime>,
    /// Commit time of the oldest transaction that was read but is not durable yet; none when all that was read is durable.
    pub oldest_pending_commit: Option<CommitTime>,
    /// Whether the source had nothing more to send when it was last heard.
    pub caught_up: bool,
    /// What the stream could not get, newest last.
    pub gaps: Vec<Gap>,
    /// Where the source itself says that its binlog lacks events.
    pub incidents: Vec<Incident>,
    /// Transactions that only a former primary had (the archive keeps them, the live lineage lacks them).
    pub forks: Vec<GtidSet>,
    /// What the store no longer had when the stream connected again, newest last.
    pub losses: Vec<String>,
    /// What preflight found that does not stop the stream, each with the statement that mends it.
    pub warnings: Vec<String>,
    /// Raw binlog bytes read since the start.
    pub bytes_read: u64,
    /// Bytes stored since the start, compressed.
    pub bytes_stored: u64,
    /// Objects stored since the start.
    pub uploads: u64,
    /// Whether the store refuses writes at the moment; they are being retried.
    pub store_failing: bool,
    /// Why the stream ended, by [`super::Error::code`], where waiting does not mend it.
    pub stopped: Option<&'static str>,
    /// The last error; none once the stream works again.
    #[serde(serialize_with = "in_words")]
    pub last_error: Option<Arc<Error>>,
    /// Errors met and survived since the start, by [`super::Error::code`].
    pub errors: BTreeMap<&'static str, u64>,
    /// Time from commit to durable, of the transactions committed since the stream started.
    pub rpo: RpoHistogram,
}

fn in_words<S: Serializer>(error: &Option<Arc<Error>>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(ToString::to_string).serialize(serializer)
}

impl StreamReading {
    /// The first byte that only the source has: it is neither in the store nor in the spool.
    pub fn kept_to(&self) -> Option<&BinlogPosition> {
        self.spool.as_ref().and_then(|spool| spool.end.as_ref()).or(self.archived_to.as_ref())
    }

    /// Commit time of the oldest transaction that was read, or is in the spool, and is not durable; none when all is.
    pub fn oldest_not_durable(&self) -> Option<CommitTime> {
        let spooled = self.spool.as_ref().and_then(|spool| spool.oldest_commit);
        self.oldest_pending_commit.into_iter().chain(spooled).min()
    }

    /// Seconds by which the store trails the source: 0 when everything the source has sent is durable.
    pub fn lag_seconds(&self, now: CommitTime) -> f64 {
        let behind = match (self.oldest_not_durable(), self.caught_up && self.connected) {
            (None, true) => return 0.0,
            (Some(pending), _) => Some(pending),
            (None, false) => self.last_durable_commit,
        };
        behind.map_or(0.0, |commit| (now.0.saturating_sub(commit.0)).max(0) as f64 / 1e6)
    }
}

/// Binlog that was gone from the source before it was archived. Restores into it fail closed; new windows begin after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The transactions that are missing; empty where GTIDs are off.
    pub missing: GtidSet,
    /// The last place archived before the gap.
    pub after: Option<BinlogPosition>,
    /// The file the stream continues with.
    pub resumed_at: String,
}

/// An INCIDENT event: the source could not write events to its binlog. The server's applier stops at it, so restores past it fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// The event's place.
    pub at: BinlogPosition,
    /// The server's words.
    pub message: String,
}

/// A handle to one stream's [`StreamReading`]; clones share it.
#[derive(Clone, Debug)]
pub struct StreamStatus(Arc<watch::Sender<StreamReading>>);

impl Default for StreamStatus {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(StreamReading::default())))
    }
}

impl StreamStatus {
    /// A copy of the present state.
    pub fn read(&self) -> StreamReading {
        self.0.borrow().clone()
    }

    /// To await a state: `status.subscribe().wait_for(|s| s.connected)`.
    pub fn subscribe(&self) -> watch::Receiver<StreamReading> {
        self.0.subscribe()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut StreamReading)) {
        self.0.send_modify(change);
    }

    /// Notes that the store takes writes (again), or that nothing waits for it.
    pub(super) fn store_works(&self) {
        self.update(|s| {
            s.store_failing = false;
            s.last_error = None;
        });
    }

    pub(super) fn count_error(&self, code: &'static str) {
        self.update(|s| *s.errors.entry(code).or_default() += 1);
    }
}

const BUCKETS: usize = 120;

/// Counts of durations in buckets that grow by an eighth each, from 1 ms to about 20 minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpoHistogram {
    counts: Box<[u64; BUCKETS]>,
    max_us: u64,
    sum_us: u64,
}

impl Default for RpoHistogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), max_us: 0, sum_us: 0 }
    }
}

impl RpoHistogram {
    /// Adds `count` transactions that became durable `micros` after their commit.
    pub fn record(&mut self, micros: u64, count: u64) {
        self.max_us = self.max_us.max(micros);
        self.sum_us = self.sum_us.saturating_add(micros.saturating_mul(count));
        let index = (0..BUCKETS).find(|&i| Self::upper_us(i) >= micros).unwrap_or(BUCKETS - 1);
        if let Some(bucket) = self.counts.get_mut(index) {
            *bucket = bucket.saturating_add(count);
        }
    }

    /// Transactions counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Microseconds that the fraction `q` (0–1) of transactions did not exceed, within an eighth; none when empty.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Self::upper_us(index).min(self.max_us))
    }

    /// The longest time seen, in microseconds.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// All times together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Transactions that surely took no longer than this; such as took up to an eighth less may be left out. What took 20 minutes or more
    /// is never in it.
    pub fn within_us(&self, micros: u64) -> u64 {
        let longest = BUCKETS - 1;
        (0..longest).zip(self.counts.iter()).filter(|(i, _)| Self::upper_us(*i) <= micros).map(|(_, count)| count).sum()
    }

    fn upper_us(index: usize) -> u64 {
        (1000.0 * 1.125_f64.powi(i32::try_from(index).unwrap_or(i32::MAX))) as u64
    }
}

impl Serialize for RpoHistogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("RpoHistogram", 4)?;
        out.serialize_field("transactions", &self.count())?;
        out.serialize_field("p50Us", &self.quantile_us(0.5))?;
        out.serialize_field("p99Us", &self.quantile_us(0.99))?;
        out.serialize_field("maxUs", &self.max_us)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_stay_within_an_eighth_of_the_truth() {
        let mut histogram = RpoHistogram::default();
        assert_eq!(histogram.quantile_us(0.5), None);
        for millis in 1..=1000 {
            histogram.record(millis * 1000, 1);
        }
        for (q, truth) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let got = histogram.quantile_us(q).unwrap() as f64;
            assert!((truth..=truth * 1.13).contains(&got), "{q}: {got} is not {truth}");
        }
        assert_eq!((histogram.max_us(), histogram.sum_us()), (1_000_000, 500_500_000));
        for limit in [10_000, 100_000, 500_000, 2_000_000] {
            let (within, truth) = (histogram.within_us(limit) as f64, (limit / 1000).min(1000) as f64);
            assert!((truth * 0.87..=truth).contains(&within), "{limit}: {within} is not {truth}");
        }
        histogram.record(u64::MAX, 1);
        assert_eq!(histogram.within_us(u64::MAX), 1000);
    }

    #[test]
    fn lag_is_zero_only_when_all_is_durable_and_the_source_is_idle() {
        let mut reading = StreamReading {
            connected: true,
            caught_up: true,
            last_durable_commit: Some(CommitTime(1_000_000)),
            ..StreamReading::default()
        };
        let now = CommitTime(5_000_000);
        assert_eq!(reading.lag_seconds(now), 0.0);
        reading.oldest_pending_commit = Some(CommitTime(3_000_000));
        assert_eq!(reading.lag_seconds(now), 2.0);
        reading.oldest_pending_commit = None;
        reading.connected = false;
        assert_eq!(reading.lag_seconds(now), 4.0);
    }
}
