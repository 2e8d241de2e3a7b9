//! Object names. No other module spells one; all are relative to the archive's prefix.
//!
//! ```text
//! archive.json
//! full/<id>/manifest.json
//! full/<id>/…                                        what the manifest lists
//! binlog/<server>/<file>@<created_unix>/<start>-<end>.zst
//! binlog/<server>/<file>@<created_unix>/index.json
//! lease/<id>.json
//! verify/state.json                                  how far a verify has come; no part of the archive
//! ```
//! An encrypted object of a full, or segment, has `.age` behind its name.
//! `<start>` and `<end>` are byte offsets in 20 digits, so that a listing is in file order. `<server>` and `<file>` are
//! percent-escaped: letters, digits, `.`, `_` and `-` stand for themselves, every other byte is `%` and two upper-case hex
//! digits, and so is a leading `.`.

use super::binlog_index::FileId;

/// Key of the archive's identity.
pub const ARCHIVE: &str = "archive.json";
/// Everything below is full backups.
pub const FULLS: &str = "full/";
/// Everything below is binlog files.
pub const BINLOGS: &str = "binlog/";
/// Everything below is leases.
pub const LEASES: &str = "lease/";
/// How far the last verify has come. It is no part of the archive, and may be deleted at any time.
pub const VERIFY_STATE: &str = "verify/state.json";
/// Its folder.
const VERIFY: &str = "verify/";
/// Scratch objects of [`super::store::Store::probe`].
pub(super) const PROBES: &str = "probe/";
/// Scratch objects of a folder's writers.
const TEMPS: &str = ".tmp/";

const ENCRYPTED: &str = ".age";
const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";

/// A key taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// [`ARCHIVE`].
    Archive,
    /// A full's manifest.
    Manifest {
        /// The full's id.
        full: String,
    },
    /// Any other object of a full.
    FullObject {
        /// The full's id.
        full: String,
        /// What follows `full/<id>/`.
        rest: String,
    },
    /// A range of a binlog file.
    Segment {
        /// The file.
        file: FileId,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Whether the bytes are encrypted.
        encrypted: bool,
    },
    /// The index of a closed binlog file.
    Index {
        /// The file.
        file: FileId,
    },
    /// A lease.
    Lease {
        /// Its id.
        id: String,
    },
}

/// `full/<id>/`.
pub fn full_dir(full: &str) -> String {
    format!("{FULLS}{}/", escape(full))
}

/// `full/<id>/manifest.json`.
pub fn manifest(full: &str) -> String {
    format!("{}{MANIFEST}", full_dir(full))
}

/// `full/<id>/<rest>`: an object of a full. Escape odd parts of `rest` with [`escape`].
pub fn full_object(full: &str, rest: &str, encrypted: bool) -> String {
    format!("{}{rest}{}", full_dir(full), suffix(encrypted))
}

/// Whether an object of that name, if it is one of a full's or a segment, is encrypted.
pub fn is_encrypted(key: &str) -> bool {
    key.ends_with(ENCRYPTED)
}

fn suffix(encrypted: bool) -> &'static str {
    if encrypted { ENCRYPTED } else { "" }
}

/// `binlog/<server>/`.
pub fn server_dir(server: &str) -> String {
    format!("{BINLOGS}{}/", escape(server))
}

/// `binlog/<server>/<file>@<created_unix>/`.
pub fn file_dir(file: &FileId) -> String {
    format!("{}{}@{}/", server_dir(&file.server), escape(&file.name), file.created_unix)
}

/// Key of the object that holds bytes `start..end` of `file`.
pub fn segment(file: &FileId, start: u64, end: u64, encrypted: bool) -> String {
    format!("{}{start:020}-{end:020}.zst{}", file_dir(file), suffix(encrypted))
}

/// Key of the index of a closed file.
pub fn index(file: &FileId) -> String {
    format!("{}{INDEX}", file_dir(file))
}

/// `lease/<id>.json`.
pub fn lease(id: &str) -> String {
    format!("{LEASES}{}.json", escape(id))
}

/// Key of a scratch object that [`super::store::Store::probe`] writes and deletes.
pub(super) fn probe(nonce: &str) -> String {
    format!("{PROBES}{nonce}")
}

/// Whether an object of that name is for as long as the archive is: not a lease, nor scratch.
pub fn is_of_archive(key: &str) -> bool {
    key == ARCHIVE || key.starts_with(FULLS) || key.starts_with(BINLOGS)
}

/// Whether a folder at the top is no part of an archive, but of the work on it.
pub fn is_scratch_dir(dir: &str) -> bool {
    [VERIFY, PROBES, TEMPS].contains(&dir)
}

/// Takes a key apart; none for a name this format does not know.
pub fn parse(key: &str) -> Option<Key> {
    if key == ARCHIVE {
        return Some(Key::Archive);
    }
    if let Some(rest) = key.strip_prefix(FULLS) {
        let (full, rest) = rest.split_once('/')?;
        let full = unescape(full)?;
        return match rest {
            "" => None,
            MANIFEST => Some(Key::Manifest { full }),
            _ => Some(Key::FullObject { full, rest: rest.to_owned() }),
        };
    }
    if let Some(name) = key.strip_prefix(LEASES) {
        return Some(Key::Lease { id: unescape(name.strip_suffix(".json")?)? });
    }
    let rest = key.strip_prefix(BINLOGS)?;
    let (dir, name) = rest.rsplit_once('/')?;
    let file = parse_file_dir(&format!("{BINLOGS}{dir}/"))?;
    if name == INDEX {
        return Some(Key::Index { file });
    }
    let (range, encrypted) = match name.strip_suffix(ENCRYPTED) {
        Some(range) => (range, true),
        None => (name, false),
    };
    let (start, end) = range.strip_suffix(".zst")?.split_once('-')?;
    let (start, end) = (offset(start)?, offset(end)?);
    (start < end).then_some(Key::Segment { file, start, end, encrypted })
}

/// Takes [`full_dir`] apart.
pub fn parse_full_dir(dir: &str) -> Option<String> {
    unescape(dir.strip_prefix(FULLS)?.strip_suffix('/')?)
}

/// Takes [`file_dir`] apart.
pub fn parse_file_dir(dir: &str) -> Option<FileId> {
    let (server, file) = dir.strip_prefix(BINLOGS)?.strip_suffix('/')?.split_once('/')?;
    let (name, created) = file.rsplit_once('@')?;
    let created_unix: u32 = created.parse().ok()?;
    (created == created_unix.to_string()).then_some(())?;
    Some(FileId { server: unescape(server)?, name: unescape(name)?, created_unix })
}

/// Makes any text one safe path component (see the module's grammar).
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && i > 0) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes [`escape`]; none for text it cannot have made.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let mut value = [0u8];
                hex::decode_to_slice(digits, &mut value).ok()?;
                out.extend(value);
            }
            _ => out.push(byte),
        }
    }
    let out = String::from_utf8(out).ok()?;
    (!out.is_empty() && escape(&out) == text).then_some(out)
}

fn offset(digits: &str) -> Option<u64> {
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_survives_the_way_through_a_key(
            server in "\\PC{1,20}", name in "\\PC{1,20}", created_unix: u32, start: u64, len in 1u64..1 << 40, encrypted: bool
        ) {
            let file = FileId { server, name, created_unix };
            let start = start >> 1;
            let end = start + len;
            let key = segment(&file, start, end, encrypted);
            prop_assert_eq!(is_encrypted(&key), encrypted);
            prop_assert!(key.is_ascii() && !key.contains("..") || file.name.contains("..") || file.server.contains(".."));
            prop_assert_eq!(parse(&key), Some(Key::Segment { file: file.clone(), start, end, encrypted }));
            prop_assert_eq!(parse(&index(&file)), Some(Key::Index { file: file.clone() }));
            prop_assert_eq!(parse_file_dir(&file_dir(&file)), Some(file.clone()));
            prop_assert_eq!(parse(&manifest(&file.name)), Some(Key::Manifest { full: file.name.clone() }));
            prop_assert_eq!(parse(&lease(&file.name)), Some(Key::Lease { id: file.name }));
        }

        #[test]
        fn no_text_makes_parsing_fail_otherwise_than_by_none(text in "(full/|binlog/)?\\PC{0,60}") {
            if let Some(Key::Segment { file, start, end, encrypted }) = parse(&text) {
                prop_assert_eq!(segment(&file, start, end, encrypted), text);
            }
        }
    }

    #[test]
    fn names_of_a_newer_format_are_not_taken_for_ours() {
        let file = FileId { server: "s".into(), name: "binlog.000001".into(), created_unix: 7 };
        let key = segment(&file, 0, 1, false);
        assert_eq!(segment(&file, 0, 1, true), format!("{key}.age"));
        assert_eq!(key, "binlog/s/binlog.000001@7/00000000000000000000-00000000000000000001.zst");
        for odd in [
            format!("{key}.age.age"),
            format!("{key}.gpg"),
            key.replace(".zst", ".age"),
            key.replace("@7", "@07"),
            key.replace("@7", ""),
            key.replace("-0", "-"),
            key.replace("binlog.0", "%62inlog.0"),
            "binlog/s/binlog.000001@7/".into(),
            "full/x".into(),
            "full//manifest.json".into(),
            ".tmp/x".into(),
        ] {
            assert_eq!(parse(&odd), None, "{odd}");
        }
        assert_eq!(escape("../x"), "%2E.%2Fx");
    }
}
