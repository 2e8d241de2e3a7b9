//! Tidemark: backups, binlog streaming and point-in-time restores with proof, for MySQL and MariaDB.
//!
//! The modules follow the data's path; `docs/architecture.md` is the map and a test keeps it true.

pub mod api;
pub mod archive;
pub mod backup;
pub mod binlog;
pub mod cli;
pub mod compaction;
pub mod controller;
pub mod copies;
pub mod kubectl;
pub mod model;
pub mod mysql;
pub mod rekey;
pub mod restore;
pub mod retention;
pub mod schedule;
pub mod serve;
pub mod verify;
