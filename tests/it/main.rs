//! The integration tests: one binary, a module a subject, real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
<<<<<<< HEAD
mod events;
=======
mod lab;
mod restore;
>>>>>>> 536b54a (wip: restore run)
mod servers;
mod store;
mod wire;
