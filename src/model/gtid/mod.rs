//! GTIDs of both flavors: one transaction ([`Gtid`]) and sets of them ([`GtidSet`]).

use serde::{Deserialize, Serialize};

use super::Flavor;

/// STUB: being written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MysqlGtid {
    /// The server that committed it.
    pub uuid: uuid::Uuid,
    /// Tag, lower case.
    pub tag: Option<String>,
    /// Number.
    pub gno: u64,
}

/// STUB: being written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MariadbGtid {
    /// Domain.
    pub domain: u32,
    /// Server id.
    pub server: u32,
    /// Sequence number.
    pub seq: u64,
}

/// STUB
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Gtid {
    /// MySQL
    Mysql(MysqlGtid),
    /// MariaDB
    Mariadb(MariadbGtid),
}

/// STUB
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GtidSet {
    /// MySQL
    Mysql(()),
    /// MariaDB
    Mariadb(()),
}

impl GtidSet {
    /// STUB
    pub fn empty(flavor: Flavor) -> Self {
        match flavor {
            Flavor::Mysql => Self::Mysql(()),
            Flavor::Mariadb => Self::Mariadb(()),
        }
    }
}
