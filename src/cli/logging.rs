//! Logs go to standard error: for people on a terminal, one JSON object a line otherwise. Every line names the run.

use std::fmt;
use std::io::{IsTerminal, stderr};

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::LogFormat;

/// Begins logging; `trace_id` stands in every line.
pub fn init(format: LogFormat, verbose: u8, trace_id: &str) {
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
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr);
    let format = tracing_subscriber::fmt::format();
    let trace_id = trace_id.to_owned();
    // A second call (tests) changes nothing.
    let _ = if human {
        let ansi = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let format = Traced { format: format.with_target(false).with_ansi(ansi), json: false, trace_id };
        registry.with(layer.with_ansi(ansi).event_format(format)).try_init()
    } else {
        let format = Traced { format: format.json().flatten_event(true).with_span_list(false), json: true, trace_id };
        registry.with(layer.json().event_format(format)).try_init()
    };
}

/// An id of this run, in every log line and every manifest it writes: 16 hex digits.
pub fn trace_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Puts the trace id into every line. A span would be lost wherever a task or a library begins one of its own.
struct Traced<F> {
    format: F,
    json: bool,
    trace_id: String,
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let Self { json, trace_id, .. } = self;
        match line.strip_prefix('{').filter(|_| *json) {
            Some(rest) => write!(writer, "{{\"trace_id\":\"{trace_id}\",{rest}"),
            None => writeln!(writer, "{} trace_id={trace_id}", line.trim_end_matches('\n')),
        }
    }
}
