//! What a server has executed, as far as it tells whose transactions those were.

use crate::model::gtid::{MariadbGtid, MariadbGtidSet, ParseGtidError};
use crate::model::{Flavor, GtidSet};

/// The question that [`lineage`] reads the answer of.
pub fn lineage_query(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Mysql => "SELECT @@GLOBAL.gtid_executed",
        // The position names only the last writer of a domain.
        Flavor::Mariadb => {
            "SELECT CONCAT_WS(',', NULLIF(@@GLOBAL.gtid_binlog_state, ''), NULLIF(@@GLOBAL.gtid_slave_pos, ''))"
        }
    }
}

/// Reads a server's answer. On MariaDB the result holds more than was executed: see [`MariadbGtidSet::of_writers`].
///
/// # Errors
/// If it is no list of GTIDs.
pub fn lineage(flavor: Flavor, answer: &str) -> Result<GtidSet, ParseGtidError> {
    if flavor == Flavor::Mysql {
        return GtidSet::parse(flavor, answer);
    }
    let state: Result<Vec<MariadbGtid>, _> =
        answer.split(',').map(str::trim).filter(|gtid| !gtid.is_empty()).map(str::parse).collect();
    Ok(GtidSet::Mariadb(MariadbGtidSet::of_writers(&state?)))
}
