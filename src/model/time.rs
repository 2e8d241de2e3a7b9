use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use snafu::Snafu;

/// When a transaction committed, in microseconds since 1970-01-01T00:00:00Z.
///
/// MySQL: `immediate_commit_timestamp` of the GTID event, taken from the server's clock at the commit. MariaDB has no such
/// field: its GTID event says in whole seconds when the last statement *began* (`COMMIT`, or the one statement of an
/// autocommitted transaction, or what `SET TIMESTAMP` said), and counts here at the end of that second. A statement that ran for
/// an hour thus counts an hour early; only the order of the log, which is that of the commits, is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitTime(pub i64);

impl CommitTime {
    /// How far apart the clocks of two hosts may be: 60 seconds.
    pub const SKEW_US: i64 = 60_000_000;

    /// The same moment as a timestamp (clamped to what a timestamp can hold).
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }
}

impl From<Timestamp> for CommitTime {
    fn from(t: Timestamp) -> Self {
        Self(t.as_microsecond())
    }
}

/// Text that is not an RFC 3339 time with a zone.
#[derive(Debug, Snafu)]
#[snafu(display(
    "{text:?} is not a time this can restore to: write RFC 3339 with a zone, for example 2026-11-21T03:04:05.678901Z or 2026-11-21T04:04:05+01:00"
))]
pub struct ParseTimeError {
    text: String,
}

/// Reads an RFC 3339 time; the zone (`Z` or an offset) is required, fractions may go down to microseconds.
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, ParseTimeError> {
    text.trim().parse().map_err(|_| ParseTimeError { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_refused() {
        assert!(parse_rfc3339("2026-11-21T03:04:05").is_err());
        assert!(parse_rfc3339("2026-11-21 03:04:05").is_err());
        assert_eq!(
            parse_rfc3339("2026-11-21T03:04:05.000001+01:00").unwrap(),
            parse_rfc3339("2026-11-21T02:04:05.000001Z").unwrap()
        );
    }
}
