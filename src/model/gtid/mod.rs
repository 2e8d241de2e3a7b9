//! GTIDs of both flavors: one transaction ([`Gtid`]) and sets of them ([`GtidSet`]).

mod intervals;
mod mariadb;
mod mysql;
mod mysql_wire;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use snafu::Snafu;

use super::Flavor;

pub use intervals::{IntervalSet, Ranges};
pub use mariadb::{MariadbGtid, MariadbGtidSet};
pub use mysql::{MAX_GNO, MysqlGtid, MysqlGtidSet, Tag};
pub use mysql_wire::DecodeGtidSetError;
pub use text::ParseGtidError;

/// One transaction. Serialises as its text, which says its flavor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gtid {
    /// `uuid:5` or `uuid:tag:5`.
    Mysql(MysqlGtid),
    /// `0-1-5`.
    Mariadb(MariadbGtid),
}

/// A set of transactions of one flavor. Serialises as `{"mysql": "…"}` or `{"mariadb": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GtidSet {
    /// Of MySQL.
    Mysql(MysqlGtidSet),
    /// Of MariaDB.
    Mariadb(MariadbGtidSet),
}

/// A MySQL and a MariaDB value met where one flavor was due: the inputs belong to different sources.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("cannot add GTIDs of {added} to a set of {flavor}: they belong to different sources"))]
pub struct MixedFlavorsError {
    flavor: Flavor,
    added: Flavor,
}

impl Gtid {
    /// Whose it is.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::Mysql(_) => Flavor::Mysql,
            Self::Mariadb(_) => Flavor::Mariadb,
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(gtid) => gtid.fmt(f),
            Self::Mariadb(gtid) => gtid.fmt(f),
        }
    }
}

impl FromStr for Gtid {
    type Err = ParseGtidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') { text.parse().map(Self::Mysql) } else { text.parse().map(Self::Mariadb) }
    }
}

text::serde_as_text!(Gtid);

impl GtidSet {
    /// The set without a transaction.
    pub fn empty(flavor: Flavor) -> Self {
        match flavor {
            Flavor::Mysql => Self::Mysql(MysqlGtidSet::default()),
            Flavor::Mariadb => Self::Mariadb(MariadbGtidSet::default()),
        }
    }

    /// Reads the server's text of a set; white space and line feeds between parts are fine, so is empty text.
    pub fn parse(flavor: Flavor, text: &str) -> Result<Self, ParseGtidError> {
        match flavor {
            Flavor::Mysql => text.parse().map(Self::Mysql),
            Flavor::Mariadb => text.parse().map(Self::Mariadb),
        }
    }

    /// Whose transactions these are.
    pub fn flavor(&self) -> Flavor {
        match self {
            Self::Mysql(_) => Flavor::Mysql,
            Self::Mariadb(_) => Flavor::Mariadb,
        }
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Mysql(set) => set.is_empty(),
            Self::Mariadb(set) => set.is_empty(),
        }
    }

    /// How many transactions it holds (saturating).
    pub fn count(&self) -> u64 {
        match self {
            Self::Mysql(set) => set.count(),
            Self::Mariadb(set) => set.count(),
        }
    }

    /// Whether `gtid` is in it; one of the other flavor never is.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        match (self, gtid) {
            (Self::Mysql(set), Gtid::Mysql(gtid)) => set.contains(gtid),
            (Self::Mariadb(set), Gtid::Mariadb(gtid)) => set.contains(gtid),
            _ => false,
        }
    }

    /// Adds one transaction, in O(log n) of the ranges; false when it was there already.
    pub fn insert(&mut self, gtid: &Gtid) -> Result<bool, MixedFlavorsError> {
        match (self, gtid) {
            (Self::Mysql(set), Gtid::Mysql(gtid)) => Ok(set.insert(gtid)),
            (Self::Mariadb(set), Gtid::Mariadb(gtid)) => Ok(set.insert(gtid)),
            (set, gtid) => MixedFlavorsSnafu { flavor: set.flavor(), added: gtid.flavor() }.fail(),
        }
    }

    /// Adds everything `other` has.
    pub fn extend(&mut self, other: &Self) -> Result<(), MixedFlavorsError> {
        match (self, other) {
            (Self::Mysql(set), Self::Mysql(other)) => set.extend(other),
            (Self::Mariadb(set), Self::Mariadb(other)) => set.extend(other),
            (set, other) => return MixedFlavorsSnafu { flavor: set.flavor(), added: other.flavor() }.fail(),
        }
        Ok(())
    }

    /// What either has.
    pub fn union(&self, other: &Self) -> Result<Self, MixedFlavorsError> {
        let mut all = self.clone();
        all.extend(other)?;
        Ok(all)
    }

    /// What `self` has and `other` lacks; all of `self` when the flavors differ.
    pub fn difference(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Mysql(set), Self::Mysql(other)) => Self::Mysql(set.difference(other)),
            (Self::Mariadb(set), Self::Mariadb(other)) => Self::Mariadb(set.difference(other)),
            _ => self.clone(),
        }
    }

    /// What both have; nothing when the flavors differ.
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Mysql(set), Self::Mysql(other)) => Self::Mysql(set.intersection(other)),
            (Self::Mariadb(set), Self::Mariadb(other)) => Self::Mariadb(set.intersection(other)),
            _ => Self::empty(self.flavor()),
        }
    }

    /// Whether `of` has everything that `self` has; false when the flavors differ, unless `self` is empty.
    pub fn is_subset(&self, of: &Self) -> bool {
        match (self, of) {
            (Self::Mysql(set), Self::Mysql(of)) => set.is_subset(of),
            (Self::Mariadb(set), Self::Mariadb(of)) => set.is_subset(of),
            _ => self.is_empty(),
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(set) => set.fmt(f),
            Self::Mariadb(set) => set.fmt(f),
        }
    }
}
