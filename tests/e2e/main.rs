//! The operator on a real Kubernetes: API server, controllers, kubelet, containers, real databases, a real S3 server.
//!
//! `make e2e` runs them through `tests/e2e/run`, which starts a cluster and ends it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod chart;
mod cluster;
mod copies;
mod database;
mod disaster;
mod encryption;
mod failover;
mod load;
mod plugin;
mod refusals;
mod restarts;
mod retention;
mod secrets;
mod spool;
mod verification;
