//! A full backup over SQL: one consistent snapshot on several connections, read in parallel into chunks.
//!
//! Definitions and accounts are read before and after the snapshots are taken and must agree; a table's definition is
//! compared again under its metadata lock when its rows are read. What changed in between starts the full over.

mod accounts;
mod columns;
mod config;
mod copy;
mod definitions;
mod error;
mod json;
mod members;
mod output;
mod ranges;
mod run;
mod session;
mod snapshot;

pub use config::LogicalConfig;
pub use error::LogicalError;
pub use run::run;
