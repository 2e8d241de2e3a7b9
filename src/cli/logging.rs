//! Logs go to standard error: for people on a terminal, one JSON object a line otherwise.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::LogFormat;

/// Begins logging.
pub fn init(format: LogFormat, verbose: u8) {
    let human = match format {
        LogFormat::Auto => stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let level = match verbose {
        0 => "tidemark=info,warn",
        1 => "tidemark=debug,warn",
        _ => "tidemark=trace,info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let registry = tracing_subscriber::registry().with(filter);
    // A second call (tests) changes nothing.
    let _ = if human {
        let ansi = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        registry.with(fmt::layer().with_writer(stderr).with_ansi(ansi).with_target(false)).try_init()
    } else {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(stderr).with_span_list(false)).try_init()
    };
}

/// An id of this run, in every log line and every manifest it writes: 16 hex digits.
pub fn trace_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}
