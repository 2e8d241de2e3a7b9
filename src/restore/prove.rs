//! The proof: what the target says it has executed is exactly what was planned.

use super::error::{Difference, RestoreError};
use super::plan::{Coordinates, Plan, after_replay};
use crate::model::gtid::MariadbGtidSet;
use crate::model::{Flavor, GtidSet};
use crate::mysql::flavor::quote;
use crate::mysql::sql::{self, Session};

/// What the target has executed. On MariaDB what the applier did; what others wrote there is [`foreign`].
pub(super) async fn executed(session: &mut Session) -> Result<GtidSet, RestoreError> {
    let (flavor, variable) = match session.info().flavor() {
        Flavor::Mysql => (Flavor::Mysql, "gtid_executed"),
        Flavor::Mariadb => (Flavor::Mariadb, "gtid_slave_pos"),
    };
    read(session, flavor, variable).await
}

/// MariaDB: counts all of the base's transactions as executed once those that it only had prepared have been replayed.
pub(super) async fn count_base(session: &mut Session, plan: &Plan) -> Result<(), RestoreError> {
    if plan.prepared.is_empty() {
        return Ok(());
    }
    let now = executed(session).await?;
    if let Some(GtidSet::Mariadb(set)) = after_replay(&now, &plan.prepared, &plan.replay_gtids, &plan.expected_gtids) {
        session.exec(&format!("SET GLOBAL gtid_slave_pos = {}", quote(&set.position()))).await?;
    }
    Ok(())
}

/// MariaDB: transactions in the target's own binary log that are not planned: somebody wrote to it. (With log_slave_updates the replayed
/// ones are there, too.)
async fn foreign(session: &mut Session, plan: &Plan) -> Result<String, RestoreError> {
    let own = session.info().server_id;
    let state: String = session.first("SELECT @@GLOBAL.gtid_binlog_state").await?.unwrap_or_default();
    let GtidSet::Mariadb(expected) = &plan.expected_gtids else { return Ok(String::new()) };
    let written = state.split(',').filter_map(|gtid| gtid.trim().parse::<crate::model::gtid::MariadbGtid>().ok());
    let strange: Vec<String> = written
        .filter(|gtid| {
            let planned = expected.last(gtid.domain).is_some_and(|last| gtid.seq <= last.seq);
            !planned || (gtid.server == own && !came_from(plan, own))
        })
        .map(|gtid| gtid.to_string())
        .collect();
    Ok(strange.join(","))
}

/// Whether the source had the target's server id at any time: then nothing can be said by server id.
fn came_from(plan: &Plan, server_id: u32) -> bool {
    plan.files.iter().any(|f| f.file.server == format!("mariadb-{server_id}"))
}

/// Compares, and says what differs. In position mode the applied position has been compared already.
pub(super) async fn prove(session: &mut Session, plan: &Plan) -> Result<(), RestoreError> {
    if plan.coordinates == Coordinates::Position {
        return Ok(());
    }
    let executed = executed(session).await?;
    let mut strange = String::new();
    if let (GtidSet::Mariadb(expected), GtidSet::Mariadb(executed)) = (&plan.expected_gtids, &executed) {
        strange = foreign(session, plan).await?;
        if expected.position() == executed.position() && strange.is_empty() {
            return Ok(());
        }
    }
    if executed == plan.expected_gtids && strange.is_empty() {
        return Ok(());
    }
    let missing = plan.expected_gtids.difference(&executed).to_string();
    let mut foreign = executed.difference(&plan.expected_gtids).to_string();
    if !strange.is_empty() {
        foreign = strange;
    }
    Err(RestoreError::Proof { difference: Difference { missing, foreign } })
}

async fn read(session: &mut Session, flavor: Flavor, variable: &str) -> Result<GtidSet, RestoreError> {
    let sql = format!("SELECT @@GLOBAL.{variable}");
    let text: String = session.first(&sql).await?.unwrap_or_default();
    GtidSet::parse(flavor, &text).map_err(|_| sql::Error::Shape { doing: sql }.into())
}

/// How many of the planned transactions `executed` holds.
pub(super) fn replayed(plan: &Plan, executed: &GtidSet) -> u64 {
    match (&plan.replay_gtids, executed) {
        (GtidSet::Mariadb(replay), GtidSet::Mariadb(executed)) => {
            let mut done = MariadbGtidSet::default();
            executed.domains().filter_map(|d| executed.last(d)).for_each(|last| done.insert_prefix(&last));
            replay.intersection(&done).count()
        }
        (replay, executed) => replay.intersection(executed).count(),
    }
}
