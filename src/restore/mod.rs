//! Restores: a pure plan, the base load, replay by the target's own applier, and the proof.
//!
//! ```text
//! plan (resolve decodes one range) ─▶ run: readable ─▶ preflight ─▶ base ─▶ gtids ─▶ replay (serve ─▶ target's applier) ─▶ prove ─▶ clean up
//! ```

pub mod base;
mod error;
mod events;
pub mod plan;
mod preflight;
mod present;
mod prove;
mod readable;
mod replay;
mod resolve;
mod restart;
mod run;
mod settings;
mod state;
mod xa;

use std::net::{Ipv4Addr, SocketAddr};

use serde::Serialize;

pub use error::{Difference, RestoreError};
pub use readable::check_readable;
pub use resolve::plan;
pub use run::{check_target, run, unfinished};
pub use state::Phase;

use crate::model::{BinlogPosition, CommitTime};

/// How a restore is carried out.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Load into a target that has schemas already.
    pub allow_non_empty: bool,
    /// Where our own source listens; the target must be able to reach it. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The name or address by which the target reaches `listen`; none: `listen`'s own.
    pub advertise_host: Option<String>,
    /// Applier threads of the target.
    pub workers: u32,
    /// How the base is loaded.
    pub base: base::BaseConfig,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            allow_non_empty: false,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise_host: None,
            workers: 4,
            base: base::BaseConfig::default(),
        }
    }
}

/// What a finished restore did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// Id of the restore.
    pub id: uuid::Uuid,
    /// The target's address.
    pub target: String,
    /// The full it began with.
    pub base: String,
    /// What the target has executed, proved: a GTID set (MySQL) or position (MariaDB); empty where GTIDs are off.
    pub executed: String,
    /// The source's position up to which the log was replayed.
    pub end: Option<BinlogPosition>,
    /// Commit time of the newest replayed transaction.
    pub restored_to: Option<CommitTime>,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
    /// Measured seconds from the beginning to the proof, without the time between runs.
    pub rto_seconds: f64,
    /// The same by phase.
    pub seconds: Vec<(Phase, f64)>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}
