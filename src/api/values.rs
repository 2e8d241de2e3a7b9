use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use snafu::Snafu;

/// A length of time as people write it: `1s`, `500ms`, `1m30s`, `36h`, `30d`, `4w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size in bytes as a Kubernetes quantity: `16Mi`, `1Gi`, `500M`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Text that is no [`Span`] or [`Size`].
#[derive(Debug, Snafu)]
pub enum ParseValueError {
    /// Not a length of time.
    #[snafu(display("{text:?} is not a length of time: write it as 500ms, 1s, 1m30s, 36h, 30d or 4w"))]
    Span {
        /// What was written.
        text: String,
    },
    /// Not a size.
    #[snafu(display("{text:?} is not a size: write it as 16Mi, 1Gi, 500M or a whole number of bytes"))]
    Size {
        /// What was written.
        text: String,
    },
}

const SPAN_UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

const SIZE_UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
];

/// Splits leading decimal digits from what follows them.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

impl FromStr for Span {
    type Err = ParseValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut rest = text.trim();
            let mut millis: u64 = 0;
            loop {
                let (number, after) = split_number(rest)?;
                let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
                let (unit, next) = after.split_at_checked(end)?;
                let (_, factor) = SPAN_UNITS.iter().find(|(name, _)| *name == unit)?;
                millis = millis.checked_add(number.checked_mul(*factor)?)?;
                if next.is_empty() {
                    return Some(Span(Duration::from_millis(millis)));
                }
                rest = next;
            }
        };
        parse().ok_or_else(|| ParseValueError::Span { text: text.to_owned() })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, factor) = SPAN_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| millis != 0 && millis.is_multiple_of(*factor))
            .unwrap_or(&SPAN_UNITS[0]);
        write!(f, "{}{unit}", millis / factor)
    }
}

impl FromStr for Size {
    type Err = ParseValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (number, unit) = split_number(text.trim())?;
            let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*factor).map(Size)
        };
        parse().ok_or_else(|| ParseValueError::Size { text: text.to_owned() })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .iter()
            .rev()
            .find(|(unit, factor)| {
                (unit.is_empty() || unit.ends_with('i')) && self.0 != 0 && self.0.is_multiple_of(*factor)
            })
            .unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 16Mi or a whole number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w))+$"})
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "pattern": "^[0-9]+(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them_and_print_in_the_largest_whole_unit() {
        for (text, millis, printed) in [
            ("1s", 1_000, "1s"),
            ("500ms", 500, "500ms"),
            ("1m30s", 90_000, "90s"),
            ("36h", 129_600_000, "36h"),
            ("30d", 2_592_000_000, "30d"),
            ("0s", 0, "0ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (millis, printed), "{text}");
        }
        for text in ["", "1", "s", "1 s", "-1s", "1.5s", "1y", "99999999999999999w", "١s"] {
            assert!(text.parse::<Span>().is_err(), "{text:?} was read");
        }
    }

    #[test]
    fn sizes_are_quantities() {
        for (text, bytes, printed) in
            [("16Mi", 16 << 20, "16Mi"), ("1G", 1_000_000_000, "1000000000"), ("4096", 4096, "4Ki"), ("0", 0, "0")]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, printed), "{text}");
        }
        for text in ["", "Mi", "16 Mi", "16MB", "-1", "1.5Gi", "99999999999Pi"] {
            assert!(text.parse::<Size>().is_err(), "{text:?} was read");
        }
        assert_eq!(serde_yaml::from_str::<Size>("4096").unwrap(), Size(4096));
    }
}
