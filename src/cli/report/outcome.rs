//! How a verb ended, in a file: for the termination message of a pod, of which Kubernetes keeps 4096 bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::api::RestorePlanStatus;
use crate::api::report::{
    FullOutcome, OUTCOME_BYTES_MAX, Outcome, PodError, PruneOutcome, RestoreOutcome, VerifyOutcome,
};
use crate::cli::reason;

/// Longest text and list tried, from what hurts nobody to what always fits.
const LIMITS: [(usize, usize); 7] = [(1024, 8), (512, 6), (256, 4), (128, 3), (96, 2), (64, 1), (32, 0)];

/// Writes how a verb ended: what it did, and the error where it failed. A file that cannot be written is only warned of.
pub fn write(file: &Path, mut outcome: Outcome, error: Option<&anyhow::Error>) {
    outcome.error = error.map(reason::pod_error);
    // The file may be a mount, which cannot be replaced by another one: it is written at once, in one piece.
    let opened = OpenOptions::new().write(true).create(true).truncate(true).open(file);
    if let Err(error) = opened.and_then(|mut opened| opened.write_all(json(outcome).as_bytes())) {
        tracing::warn!(%error, file = %file.display(), "--outcome: cannot write how this ended");
    }
}

/// Keeps how something ended well, for [`kept`]: the file is there whole or not at all, whatever happens.
pub fn keep(file: &Path, outcome: &Outcome) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    let mut written = File::create(&unfinished)?;
    written.write_all(json(outcome.clone()).as_bytes())?;
    written.sync_all()?;
    std::fs::rename(&unfinished, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// What [`keep`] kept, if it did.
pub fn kept(file: &Path) -> io::Result<Option<Outcome>> {
    match std::fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An outcome in at most [`OUTCOME_BYTES_MAX`] bytes: long texts lose their middle, lists their tail.
fn json(outcome: Outcome) -> String {
    let text = |outcome: &Outcome| serde_json::to_string(outcome).unwrap_or_else(|_| "{}".to_owned());
    let whole = text(&outcome);
    if whole.len() <= OUTCOME_BYTES_MAX {
        return whole;
    }
    let cut = LIMITS.iter().map(|(bytes, items)| text(&shortened(outcome.clone(), *bytes, *items)));
    cut.into_iter().find(|text| text.len() <= OUTCOME_BYTES_MAX).unwrap_or_else(|| "{}".to_owned())
}

fn shortened(outcome: Outcome, bytes: usize, items: usize) -> Outcome {
    let text = |text: String| middle_out(text, bytes);
    let list = |mut list: Vec<String>| {
        let more = list.len().saturating_sub(items);
        list.truncate(items);
        let mut list: Vec<String> = list.into_iter().map(text).collect();
        if more > 0 {
            list.push(format!("… and {more} more"));
        }
        list
    };
    let Outcome { error, full, plan, restore, prune, verify } = outcome;
    let error =
        error.map(|PodError { reason, message, transient }| PodError { reason, message: text(message), transient });
    let full = full.map(|full| {
        let FullOutcome { id, consistent_at, bytes, raw_bytes, seconds, gtid_set, binlog_position, warnings } = full;
        let (id, gtid_set, binlog_position) = (text(id), text(gtid_set), binlog_position.map(text));
        let consistent_at = text(consistent_at);
        FullOutcome {
            id,
            consistent_at,
            bytes,
            raw_bytes,
            seconds,
            gtid_set,
            binlog_position,
            warnings: list(warnings),
        }
    });
    let plan = plan.map(|plan| {
        let RestorePlanStatus { base, flavor, server_version, binlogs, first_binlog, last_binlog, bytes, eta, notes } =
            plan;
        let (base, flavor, server_version) = (text(base), flavor.map(text), server_version.map(text));
        let (first_binlog, last_binlog) = (first_binlog.map(text), last_binlog.map(text));
        let (eta, notes) = (eta.map(text), list(notes));
        RestorePlanStatus { base, flavor, server_version, binlogs, first_binlog, last_binlog, bytes, eta, notes }
    });
    let restore = restore.map(|restore| {
        let RestoreOutcome { restored_to, executed, rto_seconds, warnings } = restore;
        let (restored_to, executed) = (restored_to.map(text), text(executed));
        RestoreOutcome { restored_to, executed, rto_seconds, warnings: list(warnings) }
    });
    let prune = prune.map(|prune| {
        let PruneOutcome { at, fulls, files, bytes, hidden, kept_fulls, kept: _, notes } = prune;
        // A part of the list would be a lie.
        PruneOutcome { at: text(at), fulls, files, bytes, hidden, kept_fulls, kept: Vec::new(), notes: list(notes) }
    });
    let verify = verify.map(|verify| {
        let VerifyOutcome { at, depth, objects, bytes, undecoded, findings, shown, affected } = verify;
        let (at, depth, affected) = (text(at), text(depth), text(affected));
        VerifyOutcome { at, depth, objects, bytes, undecoded, findings, shown: list(shown), affected }
    });
    Outcome { error, full, plan, restore, prune, verify }
}

/// A text of at most about `bytes` bytes: what is wrong stands at its beginning, the way out (or the newest GTID) at its end.
fn middle_out(text: String, bytes: usize) -> String {
    if text.len() <= bytes {
        return text;
    }
    let head = text.floor_char_boundary(bytes * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - bytes / 3);
    format!("{}…{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![".{0,40}", "[a-f0-9:,-]{0,6000}", "(\\PC|\u{0}|\u{1f}|\"|\\\\|€){0,3000}"]
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let error = (texts(), any::<bool>()).prop_map(|(message, transient)| PodError {
            reason: "SourceUnreachable".to_owned(),
            message,
            transient,
        });
        let full = (texts(), texts(), any::<u64>(), any::<f32>(), texts(), option::of(texts()), vec(texts(), 0..12))
            .prop_map(|(id, consistent_at, bytes, seconds, gtid_set, binlog_position, warnings)| FullOutcome {
                id,
                consistent_at,
                bytes,
                raw_bytes: bytes,
                seconds: seconds.into(),
                gtid_set,
                binlog_position,
                warnings,
            });
        let plan = (texts(), option::of(texts()), any::<u64>(), option::of(texts()), vec(texts(), 0..12)).prop_map(
            |(base, word, bytes, name, notes)| RestorePlanStatus {
                base,
                flavor: word.clone(),
                server_version: word,
                binlogs: bytes,
                first_binlog: name.clone(),
                last_binlog: name.clone(),
                bytes,
                eta: name,
                notes,
            },
        );
        let restore = (option::of(texts()), texts(), any::<f32>(), vec(texts(), 0..12)).prop_map(
            |(restored_to, executed, seconds, warnings)| RestoreOutcome {
                restored_to,
                executed,
                rto_seconds: seconds.into(),
                warnings,
            },
        );
        let prune =
            (texts(), any::<u64>(), vec(texts(), 0..300), vec(texts(), 0..12)).prop_map(|(at, bytes, kept, notes)| {
                PruneOutcome { at, bytes, kept_fulls: kept.len() as u64, kept, notes, ..PruneOutcome::default() }
            });
        let verify =
            (texts(), any::<u64>(), vec(texts(), 0..60), texts()).prop_map(|(at, findings, shown, affected)| {
                VerifyOutcome { at, findings, shown, affected, ..VerifyOutcome::default() }
            });
        let works = (option::of(full), option::of(plan), option::of(restore), option::of(prune), option::of(verify));
        (option::of(error), works).prop_map(|(error, (full, plan, restore, prune, verify))| Outcome {
            error,
            full,
            plan,
            restore,
            prune,
            verify,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_happened_fits_and_can_be_read_and_keeps_its_reason_and_its_figures(outcome in outcomes()) {
            let text = json(outcome.clone());
            prop_assert!(text.len() <= OUTCOME_BYTES_MAX, "{} bytes", text.len());
            let read: Outcome = serde_json::from_str(&text).unwrap();
            let reason = |outcome: &Outcome| outcome.error.as_ref().map(|error| error.reason.clone());
            prop_assert_eq!(reason(&read), reason(&outcome));
            prop_assert_eq!(read.full.as_ref().map(|full| full.bytes), outcome.full.as_ref().map(|full| full.bytes));
            prop_assert_eq!(read.plan.as_ref().map(|plan| plan.bytes), outcome.plan.as_ref().map(|plan| plan.bytes));
            prop_assert_eq!(read.restore.is_some(), outcome.restore.is_some());
            prop_assert_eq!(read.prune.as_ref().map(|prune| prune.bytes), outcome.prune.as_ref().map(|prune| prune.bytes));
            let found = |outcome: &Outcome| outcome.verify.as_ref().map(|verify| verify.findings);
            prop_assert_eq!(found(&read), found(&outcome));
            let (read, kept) = (read.prune.unwrap_or_default().kept, outcome.prune.unwrap_or_default().kept);
            prop_assert!(read.is_empty() || read == kept, "all of them or none");
        }
    }

    #[test]
    fn what_fits_is_left_alone_and_what_does_not_keeps_its_beginning_its_end_and_a_count() {
        let full = FullOutcome { id: "f".to_owned(), warnings: vec!["w".repeat(300); 4], ..FullOutcome::default() };
        let short = Outcome { full: Some(full), ..Outcome::default() };
        assert_eq!(serde_json::from_str::<Outcome>(&json(short.clone())).unwrap(), short);
        let message = format!("cannot restore: {}; take a full", "0123456789".repeat(1000));
        let error = PodError { reason: "OutsideWindow".to_owned(), message, transient: false };
        let plan = RestorePlanStatus { notes: vec!["note".to_owned(); 2000], ..RestorePlanStatus::default() };
        let long = Outcome { error: Some(error), plan: Some(plan), ..Outcome::default() };
        let read: Outcome = serde_json::from_str(&json(long)).unwrap();
        let message = read.error.unwrap().message;
        assert!(message.starts_with("cannot restore: 0") && message.ends_with("9; take a full"), "{message}");
        assert_eq!(read.plan.unwrap().notes.last().unwrap(), "… and 1992 more");
    }

    #[test]
    fn what_was_kept_is_read_again_and_what_was_not_kept_by_us_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("done.json");
        assert_eq!(kept(&file).unwrap(), None);
        let restore = RestoreOutcome { executed: "u:1-9".to_owned(), ..RestoreOutcome::default() };
        let outcome = Outcome { restore: Some(restore), ..Outcome::default() };
        keep(&file, &outcome).unwrap();
        assert_eq!(kept(&file).unwrap(), Some(outcome));
        std::fs::write(&file, "").unwrap();
        assert!(kept(&file).is_err());
    }

    #[test]
    fn a_file_that_is_there_is_written_over_and_one_that_cannot_be_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("termination-log");
        std::fs::write(&file, "x".repeat(9000)).unwrap();
        write(&file, Outcome::default(), Some(&anyhow::anyhow!("no")));
        let read: Outcome = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(read.error.unwrap().reason, "Failed");
        write(&dir.path().join("nowhere/file"), Outcome::default(), None);
    }
}
