//! What of an archive may go, and its deletion.
//!
//! ```text
//! catalog + strays ──▶ plan (pure: every keep and every delete, with its reason) ──▶ execute (manifest, then data)
//! ```
//!
//! A plan is proved before it is given out: what is left must lead every full that the window needs exactly where all of the
//! archive leads it.

mod error;
mod execute;
pub mod plan;
mod strays;

pub use error::RetentionError;
pub use execute::{Pruned, Room, execute};
pub use strays::{Stray, strays};
