//! When a server deletes its own binary logs, by the settings it has, and how that is held back. All pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ServerVersion;
use crate::model::Flavor;

/// The global variables that [`PurgeRules::read`] looks at; one that a server does not have is simply absent from its answer.
pub const VARIABLES: [&str; 6] = [
    "binlog_expire_logs_auto_purge",
    "binlog_expire_logs_seconds",
    "binlog_space_limit",
    "expire_logs_days",
    "max_binlog_total_size",
    "slave_connections_needed_for_purge",
];

/// When a server purges a binary log by itself: as it begins a new one, and as it starts. The one it writes never goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeRules {
    /// When the file was last changed longer ago than this; none: age alone never does it.
    pub after: Option<Duration>,
    /// When all files together are larger than this many bytes, the oldest first; none: size alone never does it.
    pub beyond_bytes: Option<u64>,
}

impl PurgeRules {
    /// The rules by which a server of this version and with these variables (by lower-case name) goes.
    pub fn read(version: ServerVersion, variables: &BTreeMap<String, String>) -> Self {
        let seconds = number(variables, "binlog_expire_logs_seconds");
        let days = variables.get("expire_logs_days").and_then(|text| text.parse::<f64>().ok());
        let days = days.filter(|days| *days > 0.0).and_then(|days| Duration::try_from_secs_f64(days * 86_400.0).ok());
        let after = seconds.map(Duration::from_secs).or(days);
        let off =
            |name: &str| variables.get(name).is_some_and(|value| value.eq_ignore_ascii_case("off") || value == "0");
        match version.flavor {
            // binlog_space_limit is Percona's.
            Flavor::Mysql => Self {
                after: after.filter(|_| !off("binlog_expire_logs_auto_purge")),
                beyond_bytes: number(variables, "binlog_space_limit"),
            },
            // Both names are of one variable, from 11.4 on. That nothing is purged while too few replicas are connected
            // (slave_connections_needed_for_purge) is no rule: replicas come and go.
            Flavor::Mariadb => Self {
                after,
                beyond_bytes: number(variables, "max_binlog_total_size")
                    .or_else(|| number(variables, "binlog_space_limit")),
            },
        }
    }
}

/// How a server's own purging is held back: by one variable. What that is set to tells what it was before, so that whoever comes later can
/// give it back. Nothing else has to be remembered anywhere, and a server that is restarted forgets both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeHold {
    /// It purges nothing by itself.
    Needless,
    /// This statement holds it back.
    Free {
        /// The variable.
        variable: &'static str,
        /// `SET GLOBAL …`.
        hold: String,
    },
    /// It is held back, and this statement gives back what was there before.
    Held {
        /// The variable.
        variable: &'static str,
        /// `SET GLOBAL …`.
        give_back: String,
    },
    /// It cannot be held back as it is set up: why, and the way out.
    Impossible(&'static str),
}

/// Seconds that stand for "never": 4,000,000,000 and the value of before. No server is set to 127 years otherwise, but to the most it takes.
const SECONDS: &str = "binlog_expire_logs_seconds";
/// Days, in millionths: 90 days, and a millionth for each second of before. MariaDB takes 99 days at most.
const DAYS: &str = "expire_logs_days";
/// Replicas, from MariaDB 11.4 on: 4,000,000,000 and the value of before. It holds purges by age and by size alike.
const REPLICAS: &str = "slave_connections_needed_for_purge";
const BASE: u64 = 4_000_000_000;
const BASE_MOST: u64 = 294_967_294;
const MILLION: u64 = 1_000_000;
const DAYS_BASE: u64 = 90;
const DAYS_MOST: u64 = 8_553_600;

impl PurgeHold {
    /// How a server of this version and with these variables (by lower-case name) is, or can be, held back.
    pub fn read(version: ServerVersion, variables: &BTreeMap<String, String>) -> Self {
        let rules = PurgeRules::read(version, variables);
        let seconds = number(variables, SECONDS);
        let give_back =
            |variable, found| Self::Held { variable, give_back: format!("SET GLOBAL {variable} = {found}") };
        let based = |value: u64| value.checked_sub(BASE).filter(|found| *found <= BASE_MOST);
        let never = rules.after.is_none() && rules.beyond_bytes.is_none();
        match (version.flavor, variables.get(REPLICAS).and_then(|text| text.parse::<u64>().ok())) {
            (Flavor::Mysql, _) => match seconds {
                Some(value) if based(value).is_some_and(|found| found > 0) => give_back(SECONDS, value - BASE),
                _ if rules.beyond_bytes.is_some() => Self::Impossible(
                    "binlog_space_limit makes the server purge by size, which cannot be held back: SET GLOBAL binlog_space_limit = 0, or write \
                     spec.binlog.purgeProtection: Warn",
                ),
                _ if never => Self::Needless,
                Some(found) if found > BASE_MOST => Self::Needless,
                Some(found) => {
                    Self::Free { variable: SECONDS, hold: format!("SET GLOBAL {SECONDS} = {}", BASE + found) }
                }
                None => Self::Impossible(
                    "its purging is set by expire_logs_days, which cannot be held back: SET PERSIST expire_logs_days = 0 and SET PERSIST \
                     binlog_expire_logs_seconds = 2592000, or write spec.binlog.purgeProtection: Warn",
                ),
            },
            (Flavor::Mariadb, Some(replicas)) => match based(replicas) {
                Some(found) => give_back(REPLICAS, found),
                None if never => Self::Needless,
                None => Self::Free { variable: REPLICAS, hold: format!("SET GLOBAL {REPLICAS} = {}", BASE + replicas) },
            },
            (Flavor::Mariadb, None) => {
                let days = variables.get(DAYS).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
                let millionths = (days * MILLION as f64).round() as u64;
                let held = millionths.checked_sub(DAYS_BASE * MILLION).filter(|found| found % MILLION != 0);
                match (held.filter(|found| *found <= DAYS_MOST), seconds) {
                    (Some(found), _) => {
                        Self::Held { variable: DAYS, give_back: format!("SET GLOBAL {SECONDS} = {found}") }
                    }
                    (None, None) => Self::Needless,
                    (None, Some(found)) if found % MILLION == 0 || found > DAYS_MOST => Self::Impossible(
                        "its binlog_expire_logs_seconds is a value that could not be given back: add a second to it",
                    ),
                    (None, Some(found)) => Self::Free {
                        variable: DAYS,
                        hold: format!("SET GLOBAL {DAYS} = {}.{:06}", DAYS_BASE + found / MILLION, found % MILLION),
                    },
                }
            }
        }
    }

    /// The privilege that it takes to set the variable.
    pub fn privilege(flavor: Flavor) -> &'static str {
        match flavor {
            Flavor::Mysql => "SYSTEM_VARIABLES_ADMIN",
            Flavor::Mariadb => "BINLOG ADMIN",
        }
    }
}

/// A variable that is a number and not 0, which stands for "never" in all of these.
fn number(variables: &BTreeMap<String, String>, name: &str) -> Option<u64> {
    variables.get(name)?.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_server_purges_by_the_settings_of_its_version() {
        for (version, settings, after, beyond_bytes) in [
            (
                "9.7.0",
                vec![("binlog_expire_logs_auto_purge", "ON"), ("binlog_expire_logs_seconds", "2592000")],
                Some(30 * DAY),
                None,
            ),
            (
                "9.7.0",
                vec![("binlog_expire_logs_auto_purge", "OFF"), ("binlog_expire_logs_seconds", "2592000")],
                None,
                None,
            ),
            ("8.4.0", vec![("binlog_expire_logs_auto_purge", "1"), ("binlog_expire_logs_seconds", "0")], None, None),
            ("8.0.28", vec![("binlog_expire_logs_seconds", "60"), ("expire_logs_days", "0")], Some(60), None),
            ("8.0.28", vec![("binlog_expire_logs_seconds", "0"), ("expire_logs_days", "2")], Some(2 * DAY), None),
            (
                "8.0.36-28",
                vec![("binlog_expire_logs_seconds", "60"), ("binlog_space_limit", "4096")],
                Some(60),
                Some(4096),
            ),
            (
                "10.11.6-MariaDB",
                vec![("binlog_expire_logs_seconds", "0"), ("expire_logs_days", "0.000000")],
                None,
                None,
            ),
            (
                "10.11.6-MariaDB",
                vec![("binlog_expire_logs_seconds", "864000"), ("expire_logs_days", "10.000000")],
                Some(10 * DAY),
                None,
            ),
            (
                "11.8.3-MariaDB",
                vec![
                    ("binlog_expire_logs_seconds", "0"),
                    ("max_binlog_total_size", "1048576"),
                    ("binlog_space_limit", "1048576"),
                ],
                None,
                Some(1 << 20),
            ),
        ] {
            let rules = PurgeRules::read(ServerVersion::parse(version).unwrap(), &variables(&settings));
            let expected = PurgeRules { after: after.map(Duration::from_secs), beyond_bytes };
            assert_eq!(rules, expected, "{version}: {settings:?}");
        }
    }

    #[test]
    fn what_a_server_is_held_back_by_tells_what_was_there_before() {
        for (version, settings, hold, held, give_back) in [
            (
                "9.7.0",
                vec![("binlog_expire_logs_seconds", "2592000")],
                "SET GLOBAL binlog_expire_logs_seconds = 4002592000",
                ("binlog_expire_logs_seconds", "4002592000"),
                "SET GLOBAL binlog_expire_logs_seconds = 2592000",
            ),
            (
                "8.0.28",
                vec![("binlog_expire_logs_seconds", "1"), ("expire_logs_days", "0")],
                "SET GLOBAL binlog_expire_logs_seconds = 4000000001",
                ("binlog_expire_logs_seconds", "4000000001"),
                "SET GLOBAL binlog_expire_logs_seconds = 1",
            ),
            (
                "11.8.3-MariaDB",
                vec![("max_binlog_total_size", "4096"), ("slave_connections_needed_for_purge", "1")],
                "SET GLOBAL slave_connections_needed_for_purge = 4000000001",
                ("slave_connections_needed_for_purge", "4000000001"),
                "SET GLOBAL slave_connections_needed_for_purge = 1",
            ),
            (
                "10.11.6-MariaDB",
                vec![("binlog_expire_logs_seconds", "864000"), ("expire_logs_days", "10.000000")],
                "SET GLOBAL expire_logs_days = 90.864000",
                ("expire_logs_days", "90.864000"),
                "SET GLOBAL binlog_expire_logs_seconds = 864000",
            ),
            (
                "10.11.6-MariaDB",
                vec![("binlog_expire_logs_seconds", "8553599"), ("expire_logs_days", "98.999988")],
                "SET GLOBAL expire_logs_days = 98.553599",
                ("expire_logs_days", "98.553599"),
                "SET GLOBAL binlog_expire_logs_seconds = 8553599",
            ),
        ] {
            let version = ServerVersion::parse(version).unwrap();
            let mut variables = variables(&settings);
            let free = PurgeHold::read(version, &variables);
            assert!(matches!(&free, PurgeHold::Free { hold: found, .. } if found == hold), "{settings:?}: {free:?}");
            variables.insert(held.0.to_owned(), held.1.to_owned());
            let told = PurgeHold::read(version, &variables);
            let expected = PurgeHold::Held { variable: held.0, give_back: give_back.to_owned() };
            assert_eq!(told, expected, "{settings:?}");
        }
    }

    #[test]
    fn a_server_that_purges_nothing_needs_no_hold_and_one_that_cannot_be_held_says_why() {
        let read = |version: &str, settings: &[(&str, &str)]| {
            PurgeHold::read(ServerVersion::parse(version).unwrap(), &variables(settings))
        };
        for (version, settings) in [
            ("9.7.0", vec![("binlog_expire_logs_seconds", "0")]),
            ("9.7.0", vec![("binlog_expire_logs_seconds", "60"), ("binlog_expire_logs_auto_purge", "OFF")]),
            // The most it takes: somebody's own "never".
            ("9.7.0", vec![("binlog_expire_logs_seconds", "4294967295")]),
            ("10.11.6-MariaDB", vec![("binlog_expire_logs_seconds", "0"), ("expire_logs_days", "0.000000")]),
            ("11.8.3-MariaDB", vec![("binlog_expire_logs_seconds", "0"), ("slave_connections_needed_for_purge", "1")]),
        ] {
            assert_eq!(read(version, &settings), PurgeHold::Needless, "{version}: {settings:?}");
        }
        for (version, settings, why) in [
            ("8.0.28", vec![("binlog_expire_logs_seconds", "0"), ("expire_logs_days", "9")], "expire_logs_days"),
            ("8.0.36", vec![("binlog_expire_logs_seconds", "60"), ("binlog_space_limit", "9")], "binlog_space_limit"),
            (
                "10.11.6-MariaDB",
                vec![("binlog_expire_logs_seconds", "2000000"), ("expire_logs_days", "23.148148")],
                "add a second",
            ),
        ] {
            let told = read(version, &settings);
            assert!(matches!(told, PurgeHold::Impossible(text) if text.contains(why)), "{version}: {told:?}");
        }
    }
}
