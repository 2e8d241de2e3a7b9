//! Results on standard output.

use std::fmt;
use std::io::Write;

use anyhow::Context;
use serde::Serialize;

/// Prints one JSON document.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).context("cannot print the result")?;
    writeln!(out).context("cannot print the result")
}

/// Prints a line, as `println!` does, but does not panic when nobody reads any more (`tidemark status | head`).
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}
pub(crate) use say;

/// See [`say`]. A reader that went away has what it wanted.
pub fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
