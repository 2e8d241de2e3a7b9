//! Further stores that hold what the first one holds, and the first one made anew from such a store.
//!
//! ```text
//! store ──[`Copier`]──▶ copy     what is referred to goes before what refers to it: a copy is a whole archive at every moment
//! a bucket as it was ──[`Copier::take_back`]──▶ the same bucket now
//! ```
//!
//! Nothing is deleted in a copy because it is gone in the store: each has a retention of its own.

mod copier;
mod error;
mod object;

pub use copier::{Copied, Copier};
pub use error::CopyError;
