use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::archive::{ArchiveWatch, Reading};
use super::metrics::Figures;
use super::{Snapshot, Subject};
use crate::api::GapStatus;
use crate::api::report::{CopyReport, PodReport, PurgeReport, SpoolReport, StreamReport};
use crate::binlog::{Hold, PurgeLook, Risk, StreamReading};
use crate::cli::supervise::{CopyReading, StreamWatch};
use crate::model::CommitTime;

/// A `stream`; clones share what is known.
#[derive(Clone, Debug)]
pub struct StreamSubject {
    watch: StreamWatch,
    archive: ArchiveWatch,
    /// The policy that was asked for, if it was by name.
    asked: Option<String>,
}

impl StreamSubject {
    /// A stream that begins.
    pub fn new(watch: StreamWatch, asked: Option<String>) -> Self {
        Self { watch, archive: ArchiveWatch::default(), asked }
    }

    /// Reads what can be restored now and then, until `shutdown` or until what this returns is dropped.
    #[must_use]
    pub fn read_archive(&self, shutdown: CancellationToken) -> Reading {
        self.archive.start(self.watch.clone(), shutdown)
    }
}

impl Subject for StreamSubject {
    fn snapshot(&self) -> Snapshot {
        let reading = self.watch.status.read();
        let mut stream = stream_report(&reading, Timestamp::now().into());
        stream.source = self.watch.source();
        stream.copies = self.watch.copies().into_iter().map(copy_report).collect();
        let (archive, unread) = self.archive.report(&reading);
        stream.error = self.watch.error(&reading).or(unread);
        let figures = Figures {
            archived_bytes: reading.bytes_stored,
            uploads: reading.uploads,
            errors: self.watch.errors(&reading),
            rpo: reading.rpo.clone(),
        };
        let policy = self.watch.policy().map(|policy| policy.name.clone());
        Snapshot {
            policy: policy.or_else(|| self.asked.clone()).unwrap_or_default(),
            ready: stream.connected && !stream.store_failing,
            report: PodReport { verb: "stream".to_owned(), stream: Some(stream), archive, ..PodReport::default() },
            figures: Some(figures),
        }
    }
}

/// What the engine says, in the operator's words.
fn stream_report(reading: &StreamReading, now: CommitTime) -> StreamReport {
    let gaps = reading.gaps.iter().map(|gap| GapStatus {
        gtids: gap.missing.to_string(),
        reason: Some(format!(
            "the source no longer had this binary log when it was to be archived; the archive goes on with {}",
            gap.resumed_at
        )),
    });
    let incidents = reading.incidents.iter().map(|incident| GapStatus {
        gtids: String::new(),
        reason: Some(format!(
            "the source says that its binary log lacks events at {}: {}",
            incident.at, incident.message
        )),
    });
    StreamReport {
        connected: reading.connected,
        caught_up: reading.connected && reading.caught_up && reading.oldest_not_durable().is_none(),
        source: None,
        gtids_on: reading.gtids_on,
        lag_seconds: reading.lag_seconds(now),
        durable: reading.durable.as_ref().map(ToString::to_string),
        last_durable_commit: reading.last_durable_commit.map(|time| time.timestamp().to_string()),
        store_failing: reading.store_failing,
        spool: reading.spool.as_ref().map(|spool| SpoolReport {
            bytes: spool.bytes,
            max_bytes: spool.max_bytes,
            full: spool.full,
        }),
        purge: purge_report(reading),
        gaps: gaps.chain(incidents).collect(),
        forks: reading.forks.iter().map(ToString::to_string).collect(),
        losses: reading.losses.clone(),
        warnings: reading.warnings.clone(),
        error: None,
        copies: Vec::new(),
    }
}

fn copy_report((name, CopyReading { as_of, bytes, error }): (String, CopyReading)) -> CopyReport {
    CopyReport { name, as_of: as_of.map(|moment| moment.to_string()), bytes, error }
}

fn purge_report(reading: &StreamReading) -> PurgeReport {
    let mut report = match &reading.purge {
        PurgeLook::NotYet => PurgeReport {
            reason: "NotLooked".to_owned(),
            message: "what the source would purge is looked at once it is known what is archived".to_owned(),
            ..PurgeReport::default()
        },
        PurgeLook::Failed(why) => PurgeReport {
            reason: "CannotLook".to_owned(),
            message: format!("what the source would purge cannot be seen: {why}"),
            ..PurgeReport::default()
        },
        PurgeLook::Seen(outlook) => PurgeReport {
            risk: Some(outlook.is_risk()),
            reason: match outlook.risk {
                Risk::Never => "NothingPurged",
                Risk::Held => "Held",
                Risk::Far => "TimeEnough",
                Risk::Near => "PurgeNear",
                Risk::Gone => "Purged",
            }
            .to_owned(),
            message: outlook.to_string(),
            seconds_left: outlook.seconds_left,
            bytes_left: outlook.bytes_left,
        },
    };
    let note = match &reading.hold {
        Hold::Off => return report,
        Hold::Held => "it is given back what it had once all is archived, or the stream is stopped".to_owned(),
        Hold::Left(give_back) => {
            format!(
                "not by this stream (another one was killed, or runs): what was there before is given back by {give_back}"
            )
        }
        Hold::Failed(why) => why.clone(),
    };
    report.message = format!("{}; {note}", report.message);
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::{Gap, Incident};
    use crate::model::{Flavor, GtidSet};

    #[test]
    fn a_stream_is_caught_up_only_while_it_is_connected_and_nothing_waits_and_every_gap_is_told() {
        let at = "binlog.000007:4".parse().unwrap();
        let mut reading = StreamReading {
            connected: true,
            caught_up: true,
            last_durable_commit: Some(CommitTime(1_763_694_245_678_901)),
            gaps: vec![Gap {
                missing: GtidSet::parse(Flavor::Mariadb, "0-1-4..5").unwrap(),
                after: None,
                resumed_at: "binlog.000009".to_owned(),
            }],
            incidents: vec![Incident { at, message: "LOST_EVENTS".to_owned() }],
            ..StreamReading::default()
        };
        let report = |reading: &StreamReading| stream_report(reading, CommitTime(1_763_694_246_678_901));
        let told = report(&reading);
        assert!(told.caught_up && told.lag_seconds == 0.0, "{told:?}");
        assert_eq!(told.last_durable_commit.as_deref(), Some("2025-11-21T03:04:05.678901Z"));
        let gaps: Vec<String> = told.gaps.iter().map(|gap| format!("{}|{:?}", gap.gtids, gap.reason)).collect();
        assert!(gaps[0].contains("0-1-4..5|") && gaps[0].contains("binlog.000009"), "{gaps:?}");
        assert!(gaps[1].contains("binlog.000007:4: LOST_EVENTS"), "{gaps:?}");
        reading.oldest_pending_commit = Some(CommitTime(1_763_694_246_178_901));
        assert!(!report(&reading).caught_up);
        assert_eq!(report(&reading).lag_seconds, 0.5);
        reading.oldest_pending_commit = None;
        reading.connected = false;
        assert!(!report(&reading).caught_up, "nobody knows what a source has that cannot be asked");
    }
}
