use std::fmt;

use serde::{Deserialize, Serialize};

/// The two server families. What differs between them in SQL and on the wire is in `mysql::flavor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// Oracle MySQL and Percona Server, 8.0 and later.
    Mysql,
    /// MariaDB 10.11 and later.
    Mariadb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavor::Mysql => "MySQL",
            Flavor::Mariadb => "MariaDB",
        })
    }
}
