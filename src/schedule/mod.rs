//! When fulls and verifies are due: pure arithmetic over a policy's schedule, for the binary alone and for the operator.

mod cron;
mod due;

pub use cron::{Schedule, Times};
pub use due::{Due, due};
