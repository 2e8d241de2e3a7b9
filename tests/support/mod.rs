//! Real servers for the tests, the demo and the benchmarks: MySQL, MariaDB and S3 as plain processes on loopback ports,
//! and the `tidemark` binary as a child that can be watched and killed.
//!
//! Nothing here skips: a missing server is a failure that names the command that installs it.

// Each crate that includes this module (tests, demo, benchmarks) uses a part of it, and a helper's failure is the test's.
#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
pub mod history;
pub mod load;
mod process;
mod s3;
mod server;
mod template;
mod tidemark;
mod tls;
mod tools;

use std::time::{Duration, Instant};

pub use faults::{Faults, Requests};
pub use process::{Process, Signal};
pub use s3::{S3Server, checksum_header};
pub use server::{ROOT_PASSWORD, Server, ServerOptions, free_port};
pub use tidemark::{plugin, tidemark_command};
pub use tls::{Authority, Certificate};
pub use tools::{find_tool, tool};

/// Polls `probe` until it returns a value, or fails the test after `timeout`, saying what was awaited.
pub fn wait_for<T>(what: &str, timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out after {timeout:?} waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
