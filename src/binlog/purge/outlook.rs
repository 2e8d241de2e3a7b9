//! How long the source keeps what nobody else has. Pure.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;

use crate::model::{BinlogPosition, CommitTime};
use crate::mysql::flavor::purge::PurgeRules;

/// A risk is told when less than half of the source's expiry is left, and always when less than this is.
const ALWAYS: Duration = Duration::from_secs(6 * 3600);
/// A file that ended less than this long ago is on its way, as ever.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// What the source would purge by itself, seen from the first byte that only it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PurgeOutlook {
    /// The file that byte is in.
    pub file: String,
    /// Seconds until the source may purge that file; none where it purges nothing by age. While it writes the file: as many as it would
    /// keep it from now on.
    pub seconds_left: Option<u64>,
    /// Bytes that the source may write until it purges that file; none where it purges nothing by size.
    pub bytes_left: Option<u64>,
    /// What that means.
    pub risk: Risk,
}

/// Whether what only the source has is about to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Risk {
    /// It purges nothing by itself.
    Never,
    /// Its purging is held back.
    Held,
    /// It keeps it for long enough.
    Far,
    /// It may purge it soon.
    Near,
    /// It has purged it already.
    Gone,
}

impl PurgeOutlook {
    /// Whether somebody should act.
    pub fn is_risk(&self) -> bool {
        matches!(self.risk, Risk::Near | Risk::Gone)
    }
}

impl fmt::Display for PurgeOutlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        let time =
            self.seconds_left.map(|left| format!("in {:#}", SignedDuration::from_secs(left.min(1 << 40) as i64)));
        let room = self.bytes_left.map(|left| format!("once it has written {left} bytes more"));
        let when: Vec<String> = time.into_iter().chain(room).collect();
        let when = when.join(", or ");
        match self.risk {
            Risk::Never => write!(f, "the source purges no binary log by itself"),
            Risk::Held => {
                write!(f, "the source's purging is held back; the first file that is not archived whole is {file}")
            }
            Risk::Far => write!(
                f,
                "the first file that is not archived whole is {file}; the source may purge it {when}, no earlier"
            ),
            Risk::Near => write!(
                f,
                "{file} is not archived whole, and the source may purge it {when}: mend what keeps the stream from archiving it, or raise \
                 binlog_expire_logs_seconds (and what limits the size of its logs) on the source"
            ),
            Risk::Gone => write!(
                f,
                "the source has purged {file} before it was archived: what was lost is told as a gap once the stream goes on, and a full is \
                 taken then"
            ),
        }
    }
}

/// What a look at the source found.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub rules: PurgeRules,
    /// Whether they are held back.
    pub held: bool,
    /// Its files and their sizes, oldest first.
    pub files: Vec<(String, u64)>,
    /// The first byte that only the source has.
    pub at: BinlogPosition,
    /// When the file of that byte ended; none while it is written.
    pub ended: Option<CommitTime>,
    pub looked_at: CommitTime,
}

/// The file that holds the byte `at`: its place in the list, none where it is gone. What is archived to its end is not needed any more.
pub(super) fn needed(files: &[(String, u64)], at: &BinlogPosition) -> Option<usize> {
    let place = files.iter().position(|(name, _)| *name == at.file)?;
    let whole = files.get(place).is_some_and(|(_, size)| at.offset >= *size);
    Some(if whole && place + 1 < files.len() { place + 1 } else { place })
}

/// What is to be expected at the moment `now`, by what was seen before it.
pub(super) fn outlook(seen: &Seen, now: CommitTime) -> PurgeOutlook {
    let Seen { rules, held, files, at, ended, looked_at } = seen;
    let (Some(place), by_age, by_size) = (needed(files, at), rules.after, rules.beyond_bytes) else {
        return PurgeOutlook { file: at.file.clone(), seconds_left: Some(0), bytes_left: None, risk: Risk::Gone };
    };
    if *held {
        let file = files.get(place).map(|(name, _)| name.clone()).unwrap_or_default();
        return PurgeOutlook { file, seconds_left: None, bytes_left: None, risk: Risk::Held };
    }
    let written = place + 1 == files.len();
    // Since the look it may have ended at any time.
    let ended = if written { *looked_at } else { ended.unwrap_or(*looked_at) };
    let waited = Duration::from_micros(u64::try_from(now.0.saturating_sub(ended.0)).unwrap_or(0));
    let left = by_age.map(|after| after.saturating_sub(waited));
    let total: u64 = files.iter().skip(place).fold(0, |total, (_, size)| total.saturating_add(*size));
    let room = by_size.map(|limit| limit.saturating_sub(total));
    // A file that is written as one looks is not purged before it ends.
    let asleep = written && waited < ON_ITS_WAY;
    let soon = by_age
        .zip(left)
        .is_some_and(|(after, left)| waited >= ON_ITS_WAY.min(after / 4) && left < ALWAYS.max(after / 2));
    let crowded = by_size.zip(room).is_some_and(|(limit, room)| room < limit / 2);
    let risk = match (by_age, by_size) {
        (None, None) => Risk::Never,
        _ if !asleep && (soon || (crowded && !written)) => Risk::Near,
        _ => Risk::Far,
    };
    let file = files.get(place).map(|(name, _)| name.clone()).unwrap_or_default();
    PurgeOutlook { file, seconds_left: left.map(|left| left.as_secs()), bytes_left: room, risk }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn files() -> Vec<(String, u64)> {
        [("b.1", 100), ("b.2", 200), ("b.3", 300)].map(|(name, size)| (name.to_owned(), size)).to_vec()
    }

    fn at(file: &str, offset: u64) -> BinlogPosition {
        BinlogPosition { file: file.to_owned(), offset }
    }

    fn seconds(seconds: u64) -> CommitTime {
        CommitTime(i64::try_from(seconds).unwrap() * 1_000_000)
    }

    /// Looked at just now: the file of the first byte that only the source has ended `waited` seconds ago.
    fn seen(at: BinlogPosition, after: Option<u64>, beyond_bytes: Option<u64>, waited: u64) -> (Seen, CommitTime) {
        let now = seconds(1000 * DAY);
        let rules = PurgeRules { after: after.map(Duration::from_secs), beyond_bytes };
        (
            Seen { rules, held: false, files: files(), at, ended: Some(seconds(1000 * DAY - waited)), looked_at: now },
            now,
        )
    }

    #[test]
    fn the_file_that_is_needed_is_the_one_of_the_first_byte_that_only_the_source_has() {
        for (position, place) in [
            (at("b.1", 0), Some(0)),
            (at("b.1", 99), Some(0)),
            (at("b.1", 100), Some(1)),
            (at("b.3", 300), Some(2)),
            (at("b.0", 5), None),
        ] {
            assert_eq!(needed(&files(), &position), place, "{position}");
        }
    }

    #[test]
    fn a_risk_is_told_with_the_time_left_before_anything_is_purged() {
        for (position, after, limit, waited, left, room, risk) in [
            (at("b.2", 4), None, None, 9 * DAY, None, None, Risk::Never),
            (at("b.2", 4), Some(30 * DAY), None, 9 * DAY, Some(21 * DAY), None, Risk::Far),
            (at("b.2", 4), Some(30 * DAY), None, 16 * DAY, Some(14 * DAY), None, Risk::Near),
            (at("b.2", 4), Some(30 * DAY), None, 31 * DAY, Some(0), None, Risk::Near),
            // Of a short expiry every hour counts, but not each file that was just ended.
            (at("b.2", 4), Some(HOUR), None, 9, Some(HOUR - 9), None, Risk::Far),
            (at("b.2", 4), Some(HOUR), None, 10, Some(HOUR - 10), None, Risk::Near),
            (at("b.2", 4), Some(4), None, 1, Some(3), None, Risk::Near),
            // The file that is written is not purged, however old its beginning is.
            (at("b.3", 4), Some(HOUR), None, 9 * DAY, Some(HOUR), None, Risk::Far),
            (at("b.2", 200), Some(HOUR), None, 9 * DAY, Some(HOUR), None, Risk::Far),
            (at("b.0", 4), Some(HOUR), None, 0, Some(0), None, Risk::Gone),
            (at("b.2", 4), None, Some(2000), 60, None, Some(1500), Risk::Far),
            (at("b.1", 4), None, Some(1100), 60, None, Some(500), Risk::Near),
            (at("b.1", 4), None, Some(400), 60, None, Some(0), Risk::Near),
        ] {
            let (seen, now) = seen(position, after, limit, waited);
            let PurgeOutlook { file: _, seconds_left, bytes_left, risk: told } = outlook(&seen, now);
            assert_eq!((seconds_left, bytes_left, told), (left, room, risk), "{seen:?}");
        }
    }

    #[test]
    fn what_is_held_back_is_no_risk_but_what_is_gone_is_gone() {
        for (position, risk) in [(at("b.2", 4), Risk::Held), (at("b.0", 4), Risk::Gone)] {
            let (mut seen, now) = seen(position, Some(HOUR), Some(1), DAY);
            seen.held = true;
            assert_eq!(outlook(&seen, now).risk, risk);
        }
    }

    #[test]
    fn a_source_that_cannot_be_asked_any_more_purges_on() {
        let (seen, now) = seen(at("b.3", 4), Some(DAY), None, 0);
        let later = |hours: u64| outlook(&seen, CommitTime(now.0 + seconds(hours * HOUR).0));
        assert_eq!((later(0).seconds_left, later(0).risk), (Some(DAY), Risk::Far));
        assert_eq!((later(11).seconds_left, later(11).risk), (Some(13 * HOUR), Risk::Far));
        assert_eq!((later(13).seconds_left, later(13).risk), (Some(11 * HOUR), Risk::Near));
    }

    proptest! {
        /// Never more time than the server itself gives: it purges a file that was last changed longer than `after` ago.
        #[test]
        fn no_file_goes_before_the_time_that_is_told(after in 1u64..40 * DAY, waited in 0u64..50 * DAY, later in 0u64..50 * DAY) {
            let (seen, now) = seen(at("b.1", 4), Some(after), None, waited);
            let told = outlook(&seen, CommitTime(now.0 + seconds(later).0));
            let purged = waited + later > after;
            prop_assert!(!purged || told.seconds_left == Some(0), "{told:?}");
            prop_assert!(!purged || told.risk == Risk::Near, "{told:?}");
            prop_assert_eq!(told.seconds_left, Some(after.saturating_sub(waited + later)));
        }
    }
}
