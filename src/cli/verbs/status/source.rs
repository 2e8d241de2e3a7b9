//! What the source itself says, when it answers.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;

use crate::archive::timeline::Timeline;
use crate::cli::config::Archive;
use crate::model::gtid::{MariadbGtid, MariadbGtidSet};
use crate::model::{Flavor, GtidSet};
use crate::mysql::flavor::preflight::{REPLICATION, unlogged_replication};
use crate::mysql::sql::Session;

/// The source may be gone: it is not waited for.
const SOURCE_PATIENCE: Duration = Duration::from_secs(3);

/// What the source itself says, when it answers.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SourceReport {
    pub(super) reachable: bool,
    pub(super) error: Option<String>,
    /// Transactions in its binlog that the archive does not hold yet; none where GTIDs are off. On MariaDB `0-1-4..5` are server 1's,
    /// and `0-?-4..5` numbers of which the server does not say who wrote them.
    pub(super) not_archived: Option<String>,
    /// Archived transactions that it has not executed (MySQL): what it did instead cannot be told by number.
    pub(super) lacks: Option<String>,
    /// Seconds since the newest archived commit, when something newer is not archived; 0 when nothing is.
    pub(super) lag_seconds: Option<f64>,
    /// That it does not log what it replicates.
    #[serde(skip)]
    pub(super) warning: Option<String>,
}

/// Compares the archive with what its source has executed by now.
pub(super) async fn ask(archive: &Archive, timeline: &Timeline) -> SourceReport {
    let mut report = SourceReport::default();
    let executed = match timeout(SOURCE_PATIENCE, executed(archive)).await {
        Ok(Ok((executed, warning))) => {
            report.warning = warning;
            executed
        }
        Ok(Err(error)) => {
            report.error = Some(error.to_string());
            return report;
        }
        Err(_) => {
            report.error = Some(format!("no answer within {} s", SOURCE_PATIENCE.as_secs()));
            return report;
        }
    };
    report.reachable = true;
    let newest = timeline.windows.iter().max_by_key(|window| window.latest);
    if let (Some(newest), Some(executed)) = (newest, executed) {
        report.lacks = executed.lacks(&newest.gtids);
        if report.lacks.is_some() {
            return report;
        }
        let pending = executed.beyond(&newest.gtids);
        let behind = Timestamp::now().as_microsecond().saturating_sub(newest.latest.0).max(0);
        report.lag_seconds = Some(if pending.is_empty() { 0.0 } else { behind as f64 / 1e6 });
        report.not_archived = Some(pending.to_string());
    }
    report
}

/// What a source says it has executed.
enum Executed {
    Mysql(GtidSet),
    /// `@@gtid_binlog_state`: the last transaction of each domain and server in its binlog.
    Mariadb(Vec<MariadbGtid>),
}

/// None where GTIDs are off, or nothing was executed; and what its log lacks.
async fn executed(archive: &Archive) -> anyhow::Result<(Option<Executed>, Option<String>)> {
    let Some(endpoint) = archive.sources.first() else { anyhow::bail!("the manifest names no source") };
    let mut session = Session::connect(endpoint).await?;
    let flavor = session.info().flavor();
    let text = session.variable(if flavor == Flavor::Mysql { "gtid_executed" } else { "gtid_binlog_state" }).await?;
    let warning = match flavor {
        Flavor::Mysql => None,
        Flavor::Mariadb => unlogged(&mut session).await?,
    };
    session.close().await;
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok((None, warning)) };
    let executed = match flavor {
        Flavor::Mysql => Executed::Mysql(GtidSet::parse(flavor, &text)?),
        Flavor::Mariadb => {
            Executed::Mariadb(text.split(',').map(|gtid| gtid.trim().parse()).collect::<Result<_, _>>()?)
        }
    };
    Ok((Some(executed), warning))
}

/// What a MariaDB server does not log of what it replicates, in words.
async fn unlogged(session: &mut Session) -> anyhow::Result<Option<String>> {
    type Text = Option<Vec<u8>>;
    let row = session.first::<(Text, Text, Text, Text)>(REPLICATION).await?;
    let finding = row.and_then(|(a, b, c, d)| unlogged_replication(&[a, b, c, d].map(|field| field.map(Bytes::from))));
    Ok(finding.map(|finding| format!("the source: {finding}")))
}

impl Executed {
    /// What of `archived` a MySQL server has not executed. (A MariaDB server's log need not hold what it executed.)
    fn lacks(&self, archived: &GtidSet) -> Option<String> {
        let Self::Mysql(executed) = self else { return None };
        let lacks = archived.difference(executed);
        (!lacks.is_empty()).then(|| lacks.to_string())
    }

    /// What `archived` lacks of it.
    fn beyond(&self, archived: &GtidSet) -> GtidSet {
        let state = match self {
            Self::Mysql(executed) => return executed.difference(archived),
            Self::Mariadb(state) => state,
        };
        let set = GtidSet::Mariadb(MariadbGtidSet::of_state(state)).difference(archived);
        let (GtidSet::Mariadb(mut pending), GtidSet::Mariadb(archived)) = (set.clone(), archived) else { return set };
        // A number that only the server which wrote the last archived one can have reached is that server's.
        for domain in pending.domains().collect::<Vec<_>>() {
            let ranges: Vec<(u64, u64)> = pending.unknown(domain).ranges().collect();
            for (first, last) in ranges {
                let mut able = state.iter().filter(|gtid| gtid.domain == domain && gtid.seq >= first);
                let wrote_before = archived.last(domain).map(|gtid| gtid.server);
                if let (Some(only), None) = (able.next(), able.next())
                    && wrote_before.map_or(first == 1, |server| server == only.server)
                {
                    pending.insert_range(domain, only.server, first, last);
                }
            }
        }
        GtidSet::Mariadb(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_archived_yet_is_said_by_server_wherever_that_is_sure() {
        for (state, archived, expected) in [
            ("0-1-5", "0-1-3", "0-1-4..5"),
            ("0-1-5", "0-1-5", ""),
            ("0-1-5", "", "0-1-1..5"),
            ("0-1-5,7-1-2", "0-1-5", "7-1-1..2"),
            // 2 took over somewhere behind 100, and nobody says that it did not write 91 to 99.
            ("0-1-100,0-2-150", "0-1-90", "0-?-91..99,0-1-100..100,0-2-101..150"),
            ("0-1-100,0-2-150", "0-1-100", "0-2-101..150"),
            ("0-1-100,0-2-150", "0-2-120", "0-2-121..150"),
            // 2 logs nothing of what it replicated, so what it began with is unknown.
            ("0-2-150", "0-1-90", "0-?-91..149,0-2-150..150"),
        ] {
            let executed = Executed::Mariadb(state.split(',').map(|gtid| gtid.parse().unwrap()).collect());
            let archived = GtidSet::parse(Flavor::Mariadb, archived).unwrap();
            assert_eq!(executed.beyond(&archived).to_string(), expected, "{state} beyond {archived}");
        }
    }
}
