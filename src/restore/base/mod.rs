//! The base: a full loaded into an empty server and proved equal to what was saved.
//!
//! [`check`] does nothing to the target; [`load`] goes on where a killed one stopped; [`verify`] reads everything back; [`finish`] lets events run again and removes
//! the last trace of the load.

mod accounts;
mod broken_views;
mod config;
mod ddl;
mod description;
mod error;
mod json;
mod load;
mod object;
mod programs;
mod session;
mod tables;
mod takeover;
mod target;
mod verify;

pub use config::BaseConfig;
pub use error::BaseError;
pub use load::{Loaded, check, finish, load};
pub use object::try_to_open;
pub use verify::{Verified, verify};
