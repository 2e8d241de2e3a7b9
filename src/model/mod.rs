//! Plain values every other module speaks in: GTID sets, positions, times, ids. No I/O.

mod flavor;
pub mod gtid;
mod pace;
mod position;
mod progress;
mod sum;
mod time;
mod transaction;

pub use flavor::Flavor;
pub use gtid::{Gtid, GtidSet};
pub use pace::Pace;
pub use position::BinlogPosition;
pub use progress::{Progress, ProgressReading};
pub use sum::total;
pub use time::{CommitTime, ParseTimeError, parse_rfc3339};
pub use transaction::{EndsBy, OpenTransaction};
