//! Watches what the source would purge before it is archived, and holds it back where that is asked for.

mod hold;
mod outlook;
mod watch;

use serde::Serialize;

pub use hold::Hold;
pub(super) use hold::check;
pub use outlook::{PurgeOutlook, Risk};
pub(super) use watch::Watch;

/// What the last look at the source's own purging showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum PurgeLook {
    /// Nobody has looked yet, or it is not known yet what is archived.
    #[default]
    NotYet,
    /// What is to be expected.
    Seen(PurgeOutlook),
    /// It cannot be known, and why.
    Failed(String),
}

impl PurgeLook {
    /// What is to be expected, where it is known.
    pub fn outlook(&self) -> Option<&PurgeOutlook> {
        match self {
            Self::Seen(outlook) => Some(outlook),
            Self::NotYet | Self::Failed(_) => None,
        }
    }
}
