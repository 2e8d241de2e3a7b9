use std::fmt;

use crate::model::Flavor;

/// A server's flavor and version number: all that its dialect depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerVersion {
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// First number, for example 8.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl ServerVersion {
    /// Reads `SELECT VERSION()` or a greeting: `8.0.36-28`, `9.7.4`, `10.11.19-MariaDB-log`, `5.5.5-10.11.19-MariaDB`.
    pub fn parse(text: &str) -> Option<Self> {
        let flavor = if text.to_ascii_lowercase().contains("mariadb") { Flavor::Mariadb } else { Flavor::Mysql };
        let text = match flavor {
            Flavor::Mariadb => text.strip_prefix("5.5.5-").unwrap_or(text),
            Flavor::Mysql => text,
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text.get(..end)?.split('.').map(str::parse::<u16>);
        let mut next = || numbers.next()?.ok();
        Some(Self { flavor, major: next()?, minor: next()?, patch: next().unwrap_or(0) })
    }

    /// Whether this is that flavor, at that version or later.
    pub fn is(&self, flavor: Flavor, major: u16, minor: u16, patch: u16) -> bool {
        self.flavor == flavor && (self.major, self.minor, self.patch) >= (major, minor, patch)
    }

    /// Whether this project supports the version: MySQL 8.0 or MariaDB 10.11, and later.
    pub fn is_supported(&self) -> bool {
        self.is(Flavor::Mysql, 8, 0, 0) || self.is(Flavor::Mariadb, 10, 11, 0)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}.{}", self.flavor, self.major, self.minor, self.patch)
    }
}
