//! Results on standard output.

use std::io::Write;

use anyhow::Context;
use serde::Serialize;

/// Prints one JSON document.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).context("cannot print the result")?;
    writeln!(out).context("cannot print the result")
}
