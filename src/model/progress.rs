use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How far a long verb has come. The engine writes it, the CLI (and later the pod's HTTP status) reads it.
/// Cloning gives another handle to the same counters.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    phase: Mutex<&'static str>,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    done_rows: AtomicU64,
}

/// One reading of a [`Progress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressReading {
    /// What is being done now, as a short noun: `tables`, `replay`, …
    pub phase: &'static str,
    /// Bytes of this phase done so far.
    pub done_bytes: u64,
    /// Estimated bytes of this phase in all; 0 when unknown.
    pub total_bytes: u64,
    /// Rows or transactions done so far in this phase.
    pub done_rows: u64,
}

impl Progress {
    /// Begins a phase: counters start again at zero.
    pub fn begin(&self, phase: &'static str, total_bytes: u64) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.0.done_bytes.store(0, Ordering::Relaxed);
        self.0.done_rows.store(0, Ordering::Relaxed);
        self.0.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    /// Gives the current phase another name; its counters go on.
    pub fn rename(&self, phase: &'static str) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Adds finished bytes and rows to the current phase.
    pub fn add(&self, bytes: u64, rows: u64) {
        self.0.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.done_rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Reads all counters.
    pub fn read(&self) -> ProgressReading {
        ProgressReading {
            phase: *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner),
            done_bytes: self.0.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.0.total_bytes.load(Ordering::Relaxed),
            done_rows: self.0.done_rows.load(Ordering::Relaxed),
        }
    }
}
