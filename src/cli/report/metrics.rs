//! Figures for Prometheus. Names, units and meanings are in `docs/metrics.md` and do not change.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Snapshot;
use crate::api::ProgressStatus;
use crate::api::report::{ArchiveReport, CopyReport, PodReport, PurgeReport, SpoolReport, StreamReport};
use crate::binlog::RpoHistogram;

/// Of what [`text`] makes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the RPO histogram, in milliseconds.
const RPO_BOUNDS_MS: [u64; 16] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 900_000];

/// A stream's figures that are no part of its report.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Bytes stored since the start.
    pub archived_bytes: u64,
    /// Objects stored since the start.
    pub uploads: u64,
    /// Errors since the start, by code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Time from commit to durable.
    pub rpo: RpoHistogram,
}

/// All figures in OpenMetrics text.
pub(super) fn text(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Snapshot { policy, ready, report, figures } = &self.0;
        let PodReport { verb: _, stream, archive, progress, plan: _ } = report;
        let mut out = Page { encoder, policy };
        out.gauge("tidemark_ready", "Whether the process does what it is for", flag(*ready))?;
        if let Some(stream) = stream {
            out.stream(stream)?;
        }
        if let Some(archive) = archive {
            out.archive(archive)?;
        }
        if let Some(figures) = figures {
            out.figures(figures)?;
        }
        progress.as_ref().map_or(Ok(()), |progress| out.progress(progress))
    }
}

struct Page<'e, 'p> {
    encoder: DescriptorEncoder<'e>,
    policy: &'p str,
}

impl Page<'_, '_> {
    fn stream(&mut self, stream: &StreamReport) -> fmt::Result {
        let StreamReport {
            connected,
            caught_up,
            source: _,
            gtids_on: _,
            lag_seconds,
            durable: _,
            last_durable_commit,
            store_failing,
            spool,
            purge,
            gaps,
            forks,
            losses,
            warnings,
            error,
            copies,
        } = stream;
        self.gauge("tidemark_stream_connected", "Whether the stream reads from the source", flag(*connected))?;
        self.gauge("tidemark_stream_caught_up", "Whether everything the source sent is durable", flag(*caught_up))?;
        self.gauge("tidemark_store_failing", "Whether the store turns writes away", flag(*store_failing))?;
        self.gauge(
            "tidemark_stream_lag_seconds",
            "Time between the oldest commit that is not durable and now",
            *lag_seconds,
        )?;
        self.moment(
            "tidemark_last_durable_commit_timestamp_seconds",
            "Commit time of the newest durable transaction",
            last_durable_commit.as_deref(),
        )?;
        for (name, help, count) in [
            ("tidemark_stream_gaps", "Gaps that the stream has met", gaps.len()),
            ("tidemark_stream_forks", "Forks that the stream has met", forks.len()),
            ("tidemark_stream_losses", "Losses of the store that the stream has met", losses.len()),
        ] {
            self.counter(name, help, count as u64)?;
        }
        self.gauge(
            "tidemark_source_warnings",
            "Settings of the source that somebody should mend",
            warnings.len() as f64,
        )?;
        self.copies(copies)?;
        if let Some(SpoolReport { bytes, max_bytes, full }) = spool {
            self.gauge("tidemark_spool_bytes", "Bytes that wait in the spool for the store", *bytes as f64)?;
            self.gauge("tidemark_spool_max_bytes", "The most the spool may hold", *max_bytes as f64)?;
            self.gauge("tidemark_spool_full", "Whether reading stands still for want of room", flag(*full))?;
        }
        self.purge(purge)?;
        let Some(error) = error else { return Ok(()) };
        let labels = [("policy", self.policy), ("reason", error.reason.as_str())];
        let (name, help) = ("tidemark_stream_error", "Why the stream does not work at the moment");
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_family(&labels)?.encode_gauge(&1u32)
    }

    fn copies(&mut self, copies: &[CopyReport]) -> fmt::Result {
        let as_of = |copy: &CopyReport| copy.as_of.as_ref()?.parse::<Timestamp>().ok().map(|at| at.as_second() as f64);
        let help = "Everything that the first store held at this moment is in the copy";
        self.each_copy("tidemark_copy_as_of_timestamp_seconds", help, copies, as_of)?;
        let failing = |copy: &CopyReport| Some(flag(copy.error.is_some()));
        self.each_copy("tidemark_copy_failing", "Whether the copy is not filled at the moment", copies, failing)
    }

    fn each_copy(
        &mut self,
        name: &str,
        help: &str,
        copies: &[CopyReport],
        figure: impl Fn(&CopyReport) -> Option<f64>,
    ) -> fmt::Result {
        let known: Vec<_> = copies.iter().filter_map(|copy| Some((copy, figure(copy)?))).collect();
        if known.is_empty() {
            return Ok(());
        }
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (copy, value) in known {
            let labels = [("policy", self.policy), ("copy", copy.name.as_str())];
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn purge(&mut self, purge: &PurgeReport) -> fmt::Result {
        let PurgeReport { risk, reason: _, message: _, seconds_left, bytes_left } = purge;
        for (name, help, value) in [
            ("tidemark_purge_risk", "Whether the source may soon purge what is not archived", risk.map(flag)),
            (
                "tidemark_purge_seconds_left",
                "Time until the source may purge what is not archived",
                seconds_left.map(|seconds| seconds as f64),
            ),
            (
                "tidemark_purge_bytes_left",
                "What the source may write until it purges what is not archived",
                bytes_left.map(|bytes| bytes as f64),
            ),
        ] {
            value.map_or(Ok(()), |value| self.gauge(name, help, value))?;
        }
        Ok(())
    }

    fn archive(&mut self, archive: &ArchiveReport) -> fmt::Result {
        let ArchiveReport {
            read_at,
            flavor: _,
            windows,
            fulls,
            full_ids: _,
            last_full_time,
            stored_bytes,
            warnings: _,
            problems,
        } = archive;
        self.moment("tidemark_archive_read_timestamp_seconds", "When the archive was last read", Some(read_at))?;
        // The one that grows; where none does, the newest.
        let growing = windows.iter().rev().find(|window| window.gap.is_none());
        let newest = growing.or_else(|| windows.iter().max_by_key(|window| window.to.parse::<Timestamp>().ok()));
        self.moment(
            "tidemark_window_start_timestamp_seconds",
            "First moment of the newest recoverable window",
            newest.map(|window| window.from.as_str()),
        )?;
        self.moment(
            "tidemark_window_end_timestamp_seconds",
            "Last moment of the newest recoverable window",
            newest.map(|window| window.to.as_str()),
        )?;
        let broken = windows.iter().filter(|window| window.gap.is_some()).count();
        self.gauge("tidemark_window_growing", "Whether a recoverable window grows", flag(growing.is_some()))?;
        self.gauge("tidemark_gaps", "Recoverable windows that a gap ends", broken as f64)?;
        self.gauge("tidemark_fulls", "Full backups in the archive", *fulls as f64)?;
        self.moment(
            "tidemark_last_full_timestamp_seconds",
            "The moment that the newest full backup shows",
            last_full_time.as_deref(),
        )?;
        self.gauge("tidemark_archive_stored_bytes", "Size of all objects of the archive", *stored_bytes as f64)?;
        self.gauge("tidemark_archive_problems", "Damage found in the archive", problems.len() as f64)
    }

    fn figures(&mut self, figures: &Figures) -> fmt::Result {
        let Figures { archived_bytes, uploads, errors, rpo } = figures;
        self.counter("tidemark_archived_bytes", "Bytes of binary log stored, compressed", *archived_bytes)?;
        self.counter("tidemark_uploads", "Objects of binary log stored", *uploads)?;
        let (name, help) = ("tidemark_stream_errors", "Errors that the stream met, most of them survived");
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (code, count) in errors {
            let labels = [("policy", self.policy), ("code", *code)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        let mut before = 0;
        let mut buckets = Vec::new();
        for bound in RPO_BOUNDS_MS {
            let within = rpo.within_us(bound * 1000);
            buckets.push((bound as f64 / 1e3, within - before));
            before = within;
        }
        buckets.push((f64::INFINITY, rpo.count().saturating_sub(before)));
        let (name, help) = ("tidemark_rpo_seconds", "Time from a transaction's commit until it was durable");
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_family(&[("policy", self.policy)])?
            .encode_histogram::<NoLabelSet>(rpo.sum_us() as f64 / 1e6, rpo.count(), &buckets, None)
    }

    fn progress(&mut self, progress: &ProgressStatus) -> fmt::Result {
        let ProgressStatus { step, done_bytes, total_bytes } = progress;
        self.gauge("tidemark_progress_done_bytes", "Bytes of the current phase that are done", *done_bytes as f64)?;
        let help = "Bytes of the current phase in all, estimated; 0 when unknown";
        self.gauge("tidemark_progress_total_bytes", help, *total_bytes as f64)?;
        let labels = [("policy", self.policy), ("phase", step.as_str())];
        self.encoder
            .encode_descriptor("tidemark_phase", "1 for what is being done", None, MetricType::Gauge)?
            .encode_family(&labels)?
            .encode_gauge(&1u32)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let labels = [("policy", self.policy)];
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_family(&labels)?.encode_gauge(&value)
    }

    fn moment(&mut self, name: &str, help: &str, time: Option<&str>) -> fmt::Result {
        time.and_then(seconds_of).map_or(Ok(()), |seconds| self.gauge(name, help, seconds))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let labels = [("policy", self.policy)];
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// Seconds since 1970 of an RFC 3339 time.
fn seconds_of(time: &str) -> Option<f64> {
    let time: Timestamp = time.parse().ok()?;
    Some(time.as_microsecond() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::WindowStatus;
    use crate::api::report::PodError;

    /// Everything that can be told, at once.
    fn snapshot() -> Snapshot {
        let mut rpo = RpoHistogram::default();
        for (millis, count) in [(3, 5), (800, 3), (40_000, 1), (5_000_000, 1)] {
            rpo.record(millis * 1000, count);
        }
        let window = |to: &str| WindowStatus {
            from: "2026-11-20T00:00:00Z".to_owned(),
            to: to.to_owned(),
            base: "f".to_owned(),
            gap: None,
        };
        let stream = StreamReport {
            connected: true,
            lag_seconds: 0.5,
            last_durable_commit: Some("2026-11-21T03:04:05.5Z".to_owned()),
            error: Some(PodError { reason: "StoreFull".to_owned(), ..PodError::default() }),
            copies: vec![CopyReport {
                name: "offsite".to_owned(),
                as_of: Some("2026-11-21T03:04:00Z".to_owned()),
                ..CopyReport::default()
            }],
            spool: Some(SpoolReport { bytes: 1024, max_bytes: 4096, full: true }),
            purge: PurgeReport {
                risk: Some(true),
                seconds_left: Some(3600),
                bytes_left: Some(4096),
                ..PurgeReport::default()
            },
            ..StreamReport::default()
        };
        let archive = ArchiveReport {
            read_at: "2026-11-21T03:04:05Z".to_owned(),
            windows: vec![window("2026-11-21T03:04:05.5Z")],
            last_full_time: Some("2026-11-20T00:00:00Z".to_owned()),
            ..ArchiveReport::default()
        };
        let progress = ProgressStatus { step: "tables".to_owned(), done_bytes: 7, total_bytes: 9 };
        Snapshot {
            policy: "or\"ders".to_owned(),
            ready: true,
            report: PodReport {
                verb: "stream".to_owned(),
                stream: Some(stream),
                archive: Some(archive),
                progress: Some(progress),
                plan: None,
            },
            figures: Some(Figures {
                archived_bytes: 1 << 40,
                uploads: 12,
                errors: BTreeMap::from([("source", 3), ("store", 1)]),
                rpo,
            }),
        }
    }

    #[test]
    fn figures_are_openmetrics_text_with_every_value_in_its_unit() {
        let text = text(snapshot()).unwrap();
        for line in [
            "tidemark_ready{policy=\"or\\\"ders\"} 1.0",
            "tidemark_stream_lag_seconds{policy=\"or\\\"ders\"} 0.5",
            "tidemark_last_durable_commit_timestamp_seconds{policy=\"or\\\"ders\"} 1795230245.5",
            "tidemark_archived_bytes_total{policy=\"or\\\"ders\"} 1099511627776",
            "tidemark_stream_errors_total{policy=\"or\\\"ders\",code=\"source\"} 3",
            "tidemark_stream_error{policy=\"or\\\"ders\",reason=\"StoreFull\"} 1",
            "tidemark_spool_bytes{policy=\"or\\\"ders\"} 1024.0",
            "tidemark_spool_full{policy=\"or\\\"ders\"} 1.0",
            "tidemark_purge_risk{policy=\"or\\\"ders\"} 1.0",
            "tidemark_purge_seconds_left{policy=\"or\\\"ders\"} 3600.0",
            "tidemark_window_growing{policy=\"or\\\"ders\"} 1.0",
            "tidemark_rpo_seconds_count{policy=\"or\\\"ders\"} 10",
            "tidemark_rpo_seconds_bucket{le=\"0.005\",policy=\"or\\\"ders\"} 5",
            "tidemark_rpo_seconds_bucket{le=\"1.0\",policy=\"or\\\"ders\"} 8",
            "tidemark_rpo_seconds_bucket{le=\"60.0\",policy=\"or\\\"ders\"} 9",
            "tidemark_rpo_seconds_bucket{le=\"900.0\",policy=\"or\\\"ders\"} 9",
            "tidemark_rpo_seconds_bucket{le=\"+Inf\",policy=\"or\\\"ders\"} 10",
            "tidemark_phase{policy=\"or\\\"ders\",phase=\"tables\"} 1",
            "tidemark_progress_done_bytes{policy=\"or\\\"ders\"} 7.0",
        ] {
            assert!(text.lines().any(|found| found == line), "there is no line {line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn every_metric_is_documented_and_nothing_else_is() {
        let text = text(snapshot()).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let told: BTreeSet<String> = types
            .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
            .collect();
        let (page, _) = include_str!("../../../docs/metrics.md").split_once("### The operator\n").unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `tidemark_"));
        let documented: BTreeSet<String> =
            rows.filter_map(|row| row.split(['`', '{']).next()).map(|name| format!("tidemark_{name}")).collect();
        assert_eq!(told, documented);
    }
}
