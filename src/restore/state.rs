//! What a restore remembers in the target itself, so that a killed one goes on: one row in a schema of its own, written without
//! the binary log and dropped at the end.

use serde::{Deserialize, Serialize};

use super::error::RestoreError;
use super::events;
use super::plan::Plan;
use crate::archive::logical::STATE_SCHEMA;
use crate::mysql::flavor::quote;
use crate::mysql::sql::Session;

/// The schema; it exists only while a restore is unfinished.
pub(super) const SCHEMA: &str = STATE_SCHEMA;

/// How far a restore has come. Each phase can be begun again at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The base is being loaded and proved.
    Base,
    /// The target is being told what the base holds.
    Gtids,
    /// The log is being replayed.
    Replay,
    /// Everything is there and proved; settings are being given back.
    Cleanup,
}

/// The row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// Id of this restore.
    pub id: uuid::Uuid,
    /// What is being restored.
    pub plan: Plan,
    /// How far it is.
    pub phase: Phase,
    /// Global variables as they were before, in the order they are to be given back.
    pub saved: Vec<(String, String)>,
    /// Measured seconds of the phases that ended, over all runs.
    pub seconds: Vec<(Phase, f64)>,
    /// The events that the base brought.
    pub events: Vec<events::Listed>,
    /// What could not be restored as it was.
    pub warnings: Vec<String>,
    /// Global variables of the source when the base was taken.
    #[serde(default)]
    pub source_globals: Vec<(String, String)>,
    /// [`super::restart::started`] when the base was proved.
    #[serde(default)]
    pub server_started: Option<i64>,
    /// Whether the target was restarted since.
    #[serde(default)]
    pub restarted: bool,
}

impl State {
    /// Reads the state of an unfinished restore; none where there is none.
    pub async fn read(session: &mut Session, address: &str) -> Result<Option<Self>, RestoreError> {
        let tables = format!(
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {} AND table_name = 'state'",
            quote(SCHEMA)
        );
        if session.first::<u64>(&tables).await?.unwrap_or(0) == 0 {
            return Ok(None);
        }
        let json: Option<String> = session.first(&format!("SELECT state FROM {SCHEMA}.state WHERE id = 1")).await?;
        json.map(|json| {
            serde_json::from_str(&json)
                .map_err(|e| RestoreError::State { address: address.to_owned(), message: e.to_string() })
        })
        .transpose()
    }

    /// Writes it; durable when this returns.
    pub async fn write(&self, session: &mut Session) -> Result<(), RestoreError> {
        let json = serde_json::to_string(self)
            .map_err(|e| RestoreError::State { address: String::new(), message: e.to_string() })?;
        session.exec(&format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}")).await?;
        let table = format!(
            "CREATE TABLE IF NOT EXISTS {SCHEMA}.state (id INT PRIMARY KEY, state LONGTEXT CHARACTER SET utf8mb4 NOT NULL) ENGINE=InnoDB"
        );
        session.exec(&table).await?;
        session.exec(&format!("REPLACE INTO {SCHEMA}.state VALUES (1, {})", quote(&json))).await?;
        Ok(())
    }

    /// Forgets it: the restore is finished.
    pub async fn forget(session: &mut Session) -> Result<(), RestoreError> {
        Ok(session.exec(&format!("DROP SCHEMA IF EXISTS {SCHEMA}")).await?)
    }
}
