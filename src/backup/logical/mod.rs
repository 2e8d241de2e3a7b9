//! A full backup over SQL: one consistent snapshot on several connections, read in parallel into chunks.
//!
//! Definitions and accounts are read before and after the snapshots are taken and must agree; a table's definition and its name are
//! compared again under its metadata lock when its rows are read. What changed in between starts the full over; after some attempts DDL
//! is made to wait for the next.

mod accounts;
mod columns;
mod comments;
mod config;
mod copy;
mod definitions;
mod donor;
mod error;
mod extras;
mod json;
mod keyset;
mod look;
mod members;
mod output;
mod queue;
mod quiet;
mod ranges;
mod run;
mod session;
mod shield;
mod snapshot;
mod stamp;
mod system;
mod views;

pub use config::LogicalConfig;
pub use donor::Limits;
pub use error::LogicalError;
pub use run::run;
