//! Shows how far a long verb has come: a bar on a terminal, a log line every few seconds otherwise.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::task::AbortHandle;
use tracing::Instrument;

use crate::model::{Progress, ProgressReading};

const LINE_INTERVAL: Duration = Duration::from_secs(5);
const BAR_INTERVAL: Duration = Duration::from_millis(200);

/// Shows a [`Progress`] until it is dropped.
#[derive(Debug)]
pub struct Display {
    task: AbortHandle,
    bar: Option<ProgressBar>,
}

impl Display {
    /// Begins to show `progress`. Must be called within a runtime.
    pub fn start(progress: Progress, bars: bool) -> Self {
        if bars && stderr().is_terminal() {
            let bar = ProgressBar::new(0);
            let shown = bar.clone();
            let task = tokio::spawn(async move {
                let mut ticks = tokio::time::interval(BAR_INTERVAL);
                loop {
                    ticks.tick().await;
                    draw(&shown, &progress.read());
                }
            });
            return Self { task: task.abort_handle(), bar: Some(bar) };
        }
        let task = tokio::spawn(
            async move {
                let mut ticks = tokio::time::interval(LINE_INTERVAL);
                let mut speed = Speed::default();
                ticks.tick().await;
                loop {
                    ticks.tick().await;
                    log(&progress.read(), &mut speed);
                }
            }
            .in_current_span(),
        );
        Self { task: task.abort_handle(), bar: None }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[derive(Default)]
struct Speed {
    phase: &'static str,
    at: Option<(Instant, u64)>,
}

impl Speed {
    fn bytes_per_s(&mut self, reading: &ProgressReading) -> u64 {
        let now = Instant::now();
        let speed = match self.at {
            Some((then, bytes)) if self.phase == reading.phase => {
                let seconds = now.duration_since(then).as_secs_f64().max(0.001);
                (reading.done_bytes.saturating_sub(bytes) as f64 / seconds) as u64
            }
            _ => 0,
        };
        self.phase = reading.phase;
        self.at = Some((now, reading.done_bytes));
        speed
    }
}

fn log(reading: &ProgressReading, speed: &mut Speed) {
    if reading.phase.is_empty() {
        return;
    }
    let bytes_per_s = speed.bytes_per_s(reading);
    let percent = (reading.total_bytes > 0).then(|| percent(reading));
    tracing::info!(
        phase = reading.phase,
        done_bytes = reading.done_bytes,
        total_bytes = reading.total_bytes,
        rows = reading.done_rows,
        percent,
        bytes_per_s,
        "progress"
    );
}

/// Whole percent; an estimate that was passed stays at 99.
fn percent(reading: &ProgressReading) -> u64 {
    let percent = u128::from(reading.done_bytes) * 100 / u128::from(reading.total_bytes.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX).min(if reading.done_bytes > reading.total_bytes { 99 } else { 100 })
}

fn draw(bar: &ProgressBar, reading: &ProgressReading) {
    if reading.phase.is_empty() {
        return;
    }
    let template = if reading.total_bytes > 0 {
        "{prefix:>10} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}"
    } else {
        "{prefix:>10} {spinner} {bytes} {binary_bytes_per_sec} {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if bar.prefix() != reading.phase {
        bar.set_prefix(reading.phase);
        bar.reset_eta();
    }
    bar.set_length(reading.total_bytes.max(reading.done_bytes));
    bar.set_position(reading.done_bytes);
    bar.set_message(format!("{} rows", reading.done_rows));
}

/// `1.4 GiB`.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// `0.42s`, `12.3s`, `3m12s`, `2h05m`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.2}s", duration.as_secs_f64()),
        10..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
