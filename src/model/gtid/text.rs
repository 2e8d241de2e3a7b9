//! Reading and serialising the text form, alike for every type of this module.

use snafu::Snafu;

/// Text that is not a GTID or a GTID set of the flavor at hand.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("cannot read {part:?} as {expected}: {reason}"))]
pub struct ParseGtidError {
    /// What was being read, with an example of how to write it.
    expected: &'static str,
    /// The part that does not fit, cut to a readable length.
    part: String,
    /// What is wrong with it.
    reason: &'static str,
}

impl ParseGtidError {
    pub(super) fn new(expected: &'static str, part: &str, reason: &'static str) -> Self {
        Self { expected, part: part.trim().chars().take(100).collect(), reason }
    }
}

/// A number of digits only: no sign, which `str::parse` would take.
pub(super) fn parse_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Serialises types as their text form, which `FromStr` reads back.
macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

pub(super) use serde_as_text;
