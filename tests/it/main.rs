//! The integration tests: one binary, a module a subject, real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod archive;
mod chart;
mod cli;
mod compaction;
mod copies;
mod crash;
mod encryption;
mod events;
mod fidelity;
mod full;
mod immutability;
mod json;
mod lab;
mod limits;
mod memory;
mod moments;
mod odd_targets;
mod plugin;
mod pods;
mod privileges;
mod processes;
mod ranges;
mod recovery;
mod rekey;
mod restore;
mod retention;
mod semisync;
mod serve;
mod servers;
mod sick_stores;
mod slow_store;
mod store;
mod stream;
mod topology;
mod verify;
mod wire;
