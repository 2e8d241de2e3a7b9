//! A full backup over SQL: one consistent snapshot on several connections, read in parallel into chunks.

mod config;

pub use config::LogicalConfig;
