//! MySQL's JSON holds types that its text does not tell: decimals, unsigned integers, dates and binary strings. A probe beside each
//! JSON column names them, and a tail behind a document's text says how to bring them back.
//!
//! The tail of a document is a NUL (which JSON text never holds) and a JSON array of paths, kinds and values; the target's
//! `typed_json` reads it. The probe is part of a row's checksum, so that the proof of a restore compares types as well.

use std::fmt::Write;

use crate::mysql::quote::identifier;

/// The function that makes a document of text and tail, in the schema a load keeps on its target.
pub const REBUILD: &str = "tidemark_restore.typed_json";

/// Values are replaced so many at a time: each time copies the document. The last one fills up the tail.
const BATCH: usize = 8;

/// Types that parsing a document's text never makes, or (unsigned integers) only beyond the signed ones.
const TYPES: &str = "_utf8mb4'DECIMAL',_utf8mb4'UNSIGNED INTEGER',_utf8mb4'DATE',_utf8mb4'TIME',_utf8mb4'DATETIME',_utf8mb4'TIMESTAMP',\
                     _utf8mb4'BLOB',_utf8mb4'BIT',_utf8mb4'OPAQUE'";

/// Why a document cannot be brought back from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrebuildable {
    /// Where in the document.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// The expression that names a column's odd values: empty for a document that its text tells exactly, else `r` (the root),
/// `m` (the n-th value of `$**.*`) or `c` (the n-th of `$**[*]`) with its type, and how many they are.
pub fn probe(column: &str) -> String {
    let column = identifier(column);
    format!(
        "CONCAT_WS(',', IF(JSON_TYPE({column}) IN ({TYPES}), CONCAT('r', JSON_TYPE({column})), NULL), \
         (SELECT IF(COUNT(*) = 0, NULL, CONCAT(COUNT(*), ',', GROUP_CONCAT(IF(m IS NULL, CONCAT('c', c, JSON_TYPE(w)), \
         CONCAT('m', m, JSON_TYPE(v))) ORDER BY m, c))) \
         FROM JSON_TABLE({column}, _utf8mb4'$' COLUMNS (NESTED PATH _utf8mb4'$**.*' COLUMNS (m FOR ORDINALITY, v JSON PATH _utf8mb4'$'), \
         NESTED PATH _utf8mb4'$**[*]' COLUMNS (c FOR ORDINALITY, w JSON PATH _utf8mb4'$'))) tidemark \
         WHERE JSON_TYPE(IF(m IS NULL, w, v)) IN ({TYPES})))"
    )
}

/// The expression that stores a field with or without a tail.
pub fn load(variable: &str) -> String {
    format!("IF(LOCATE(x'00', {variable}) > 0, {REBUILD}({variable}), CAST(CONVERT({variable} USING utf8mb4) AS JSON))")
}

/// The tail for a document's text and what the probe said of it; none when the text tells it exactly.
pub fn tail(text: &[u8], probed: &[u8]) -> Result<Option<Vec<u8>>, Unrebuildable> {
    let nowhere = |reason: &str| Unrebuildable { path: "$".to_owned(), reason: reason.to_owned() };
    let probed = std::str::from_utf8(probed).map_err(|_| nowhere("the probe's answer is not understood"))?;
    if probed.is_empty() {
        return Ok(None);
    }
    let nodes = Nodes::parse(text).ok_or_else(|| nowhere("its text is not understood"))?;
    let (members, cells) = nodes.by_parent();
    let (mut expected, mut found) = (0, 0);
    let mut entries = Vec::new();
    for word in probed.split(',') {
        let digits = word.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
        let number = digits.parse::<usize>().ok();
        let kind = word.rsplit(|c: char| c.is_ascii_digit() || c.is_ascii_lowercase()).next().unwrap_or_default();
        let node = match (word.as_bytes().first(), number) {
            (Some(b'r'), None) => Some(0),
            (Some(b'm'), Some(n)) => n.checked_sub(1).and_then(|n| members.get(n).copied()),
            (Some(b'c'), Some(n)) => n.checked_sub(1).and_then(|n| cells.get(n).copied()),
            (_, Some(n)) if kind.is_empty() => {
                expected = n;
                continue;
            }
            _ => None,
        };
        found += usize::from(number.is_some());
        let node = node.ok_or_else(|| nowhere("the probe's answer does not fit its text"))?;
        entries.extend(nodes.entry(node, kind)?);
    }
    if expected != found {
        return Err(nowhere("the probe's answer was cut off"));
    }
    let Some(last) = entries.last().cloned() else { return Ok(None) };
    entries.resize(entries.len().next_multiple_of(BATCH), last);
    Ok(Some([b"\0[", entries.join(",").as_bytes(), b"]"].concat()))
}

#[derive(Clone, Copy, Debug)]
enum Leg {
    Root,
    /// The quoted name in the text.
    Member(usize, usize),
    Cell(usize),
}

#[derive(Clone, Copy, Debug)]
struct Node {
    parent: usize,
    leg: Leg,
    start: usize,
    end: usize,
}

/// A document's values, each after the one that holds it.
struct Nodes<'a> {
    text: &'a [u8],
    nodes: Vec<Node>,
}

impl<'a> Nodes<'a> {
    /// Reads the server's own JSON text; it is valid, or this is not it.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut nodes: Vec<Node> = Vec::new();
        // Open objects and arrays: the node, whether it is an object, values so far.
        let mut open: Vec<(usize, bool, usize)> = Vec::new();
        let mut name = None;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match byte {
                b' ' | b',' | b':' => at += 1,
                b'}' | b']' => {
                    let (node, ..) = open.pop()?;
                    at += 1;
                    nodes.get_mut(node)?.end = at;
                }
                b'"' if name.is_none() && open.last().is_some_and(|(_, object, _)| *object) => {
                    let end = end_of_string(text, at)?;
                    name = Some((at, end));
                    at = end;
                }
                _ => {
                    let end = match byte {
                        b'"' => end_of_string(text, at)?,
                        b'{' | b'[' => at + 1,
                        _ => at + text.get(at..)?.iter().take_while(|b| !b" ,]}".contains(b)).count(),
                    };
                    let (parent, leg) = match (open.last_mut(), name.take()) {
                        (None, None) if nodes.is_empty() => (0, Leg::Root),
                        (Some((node, true, _)), Some((from, to))) => (*node, Leg::Member(from, to)),
                        (Some((node, false, count)), None) => {
                            *count += 1;
                            (*node, Leg::Cell(*count - 1))
                        }
                        _ => return None,
                    };
                    if matches!(byte, b'{' | b'[') {
                        open.push((nodes.len(), byte == b'{', 0));
                    }
                    nodes.push(Node { parent, leg, start: at, end });
                    at = end;
                }
            }
        }
        (open.is_empty() && !nodes.is_empty()).then_some(Self { text, nodes })
    }

    /// Members and cells in the order of `$**.*` and `$**[*]`: those of one object or array together.
    fn by_parent(&self) -> (Vec<usize>, Vec<usize>) {
        let of = |wanted: fn(&Leg) -> bool| {
            let mut out: Vec<_> =
                (0..self.nodes.len()).filter(|i| self.nodes.get(*i).is_some_and(|n| wanted(&n.leg))).collect();
            out.sort_by_key(|i| self.nodes.get(*i).map(|node| node.parent));
            out
        };
        (of(|leg| matches!(leg, Leg::Member(..))), of(|leg| matches!(leg, Leg::Cell(_))))
    }

    fn token(&self, from: usize, to: usize) -> &'a str {
        std::str::from_utf8(self.text.get(from..to).unwrap_or_default()).unwrap_or_default()
    }

    fn path(&self, mut node: usize) -> String {
        let mut legs = Vec::new();
        while let Some(Node { parent, leg, .. }) = self.nodes.get(node) {
            match leg {
                Leg::Root => break,
                Leg::Member(from, to) => legs.push(format!(".{}", self.token(*from, *to))),
                Leg::Cell(n) => legs.push(format!("[{n}]")),
            }
            node = *parent;
        }
        legs.iter().rev().fold("$".to_owned(), |path, leg| path + leg)
    }

    /// Path, kind and value of a node as parts of a JSON array; none when text tells its type.
    fn entry(&self, node: usize, json_type: &str) -> Result<Option<String>, Unrebuildable> {
        let token = self.nodes.get(node).map_or("", |n| self.token(n.start, n.end));
        let refuse = |reason: String| Err(Unrebuildable { path: self.path(node), reason });
        let is_number = token.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let (kind, value) = match json_type {
            "UNSIGNED INTEGER" if is_number && token.parse::<i64>().is_err() => return Ok(None),
            "UNSIGNED INTEGER" if is_number => ("unsigned".to_owned(), token),
            "DECIMAL" if is_number => (format!("decimal {}", token.split_once('.').map_or(0, |(_, d)| d.len())), token),
            "DATE" | "TIME" | "DATETIME" | "TIMESTAMP" if token.starts_with('"') => {
                (json_type.to_ascii_lowercase(), "")
            }
            "BLOB" | "BIT" | "OPAQUE" => {
                let Some((number, base64)) = token.strip_prefix("\"base64:type").and_then(|rest| rest.split_once(':'))
                else {
                    return refuse(format!("a {json_type} is not understood"));
                };
                // Bytes of a base64 text without line ends, less its padding.
                let text = base64.trim_end_matches('"').replace("\\n", "");
                let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
                let bytes = (text.len() / 4 * 3).saturating_sub(padding);
                match number {
                    "16" | "254" => (format!("opaque {number} {bytes}"), ""),
                    "15" | "249" | "250" | "251" | "252" => (format!("opaque {number}"), ""),
                    _ => return refuse(format!("no SQL makes a binary value of type {number} again")),
                }
            }
            _ => return refuse(format!("the probe says {json_type}, its text something else")),
        };
        let mut entry = serde_json::Value::from(self.path(node)).to_string();
        let _ = write!(entry, ",\"{kind}\",\"{value}\"");
        Ok(Some(entry))
    }
}

/// Position after the string that starts at `from`.
fn end_of_string(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        match text.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_values_are_found_by_their_place_in_the_walk() {
        let text =
            br#"{"a": [1, 7, {"k": 1.10, "l\"}": ["2020-02-02 00:00:00.000000", [8]]}], "z": "base64:type16:ASw="}"#;
        let tail = tail(text, b"5,m2BIT,m3DECIMAL,c2UNSIGNED INTEGER,c4DATETIME,c6UNSIGNED INTEGER").unwrap().unwrap();
        let said = std::str::from_utf8(&tail).unwrap().strip_prefix('\0').unwrap();
        let said: Vec<String> = serde_json::from_str(said).unwrap();
        assert_eq!(said.len(), 3 * BATCH);
        let expected = [
            "$.\"z\"",
            "opaque 16 2",
            "",
            "$.\"a\"[2].\"k\"",
            "decimal 2",
            "1.10",
            "$.\"a\"[1]",
            "unsigned",
            "7",
            "$.\"a\"[2].\"l\\\"}\"[0]",
            "datetime",
            "",
            "$.\"a\"[2].\"l\\\"}\"[1][0]",
            "unsigned",
            "8",
        ];
        assert_eq!(said[..15], expected);
        assert_eq!(said[21..], expected[12..], "filled up with the last one");
    }

    #[test]
    fn the_root_may_be_odd_and_numbers_that_text_tells_are_not() {
        assert_eq!(tail(b"7", b"rUNSIGNED INTEGER").unwrap().unwrap()[..25], *b"\0[\"$\",\"unsigned\",\"7\",\"$\",");
        assert_eq!(tail(b"18446744073709551615", b"rUNSIGNED INTEGER"), Ok(None));
        assert_eq!(tail(b"[18446744073709551615]", b"1,c1UNSIGNED INTEGER"), Ok(None));
        assert_eq!(tail(b"{}", b""), Ok(None));
        let one_byte = tail(b"\"base64:type16:BQ==\"", b"rBIT").unwrap().unwrap();
        assert!(one_byte.starts_with(b"\0[\"$\",\"opaque 16 1\","));
    }

    #[test]
    fn what_cannot_be_made_again_is_refused_with_its_path() {
        let refused = tail(br#"{"a b": ["base64:type253:eA=="]}"#, b"1,c1BLOB").unwrap_err();
        assert_eq!(refused.path, "$.\"a b\"[0]");
        for (text, probed) in [
            ("[1, 2]", "1,c3DECIMAL"),
            ("[1, 2]", "2,c1DECIMAL"),
            ("[1, 2]", "1,m1DECIMAL"),
            ("[\"x\"]", "1,c1DECIMAL"),
            ("[1", "1,c1DECIMAL"),
            ("{\"a\" 1", "1,c1DECIMAL"),
            ("1", "c0DECIMAL"),
            ("1", "rWHAT"),
            ("", "rDATE"),
        ] {
            assert!(tail(text.as_bytes(), probed.as_bytes()).is_err(), "{text} {probed}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(text: Vec<u8>, probed in "[rmc0-9A-Z ,]{0,30}") {
            let _ = tail(&text, probed.as_bytes());
        }

        #[test]
        fn no_text_like_json_breaks_it(text in r#"[\[\]{}:,"\\a1 .-]{0,40}"#, probed in "[1-3],[mc][1-4](DECIMAL|DATE|BLOB)") {
            let _ = tail(text.as_bytes(), probed.as_bytes());
        }
    }
}
