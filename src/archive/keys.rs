//! Object names. No other module spells one; all are relative to the archive's prefix.
//!
//! ```text
//! archive.json
//! full/<id>/manifest.json
//! full/<id>/…                                        what the manifest lists
//! binlog/<server>/<file>@<created_unix>/<start>-<end>.zst
//! binlog/<server>/<file>@<created_unix>/index.json
//! binlog/<server>/<file>@<created_unix>/<start>-<end>.<id>.pack.zst   segments of that range, one behind the other
//! binlog/<server>/<file>@<created_unix>/packed.json   where in packs segments are
//! binlog/<server>/<file>@<created_unix>/<start>-<end>.<edition>.zst.age, ….<edition>.<id>.pack.zst.age, packed.<edition>.json   after a rekey
//! lease/<id>.json
//! verify/state.json                                  how far a verify has come; no part of the archive
//! summary/binlogs.json                               a short account of closed binlog files; no part of the archive
//! ```
//! An encrypted object of a full, or segment, has `.age` behind its name, and so has a pack of such segments.
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
/// A short account of closed binlog files. It is no part of the archive, and may be deleted at any time.
pub const FOLDED: &str = "summary/binlogs.json";
/// Its folder.
const SUMMARY: &str = "summary/";
/// Scratch objects of [`super::store::Store::probe`].
pub(super) const PROBES: &str = "probe/";
/// Scratch objects of a folder's writers.
const TEMPS: &str = ".tmp/";

const ENCRYPTED: &str = ".age";
const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";
const PACKED: &str = "packed";
const JSON: &str = ".json";
const SEGMENT_END: &str = ".zst";
/// `<start>-<end>`.
const RANGE_CHARS: usize = 41;
const PACK_END: &str = ".pack.zst";

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
        /// The edition it is of; none: as it was backed up.
        edition: Option<String>,
        /// What follows the full's folder and that of an edition, without `.age`.
        name: String,
        /// Whether the bytes are encrypted.
        encrypted: bool,
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
        /// [`super::binlog_index::FileIndex::edition`] of the index that names it.
        edition: Option<String>,
    },
    /// Several segments in one object.
    Pack {
        /// The file.
        file: FileId,
        /// That of the segments in it.
        edition: Option<String>,
    },
    /// What says where in packs a file's segments are.
    Packed {
        /// The file.
        file: FileId,
        /// That of these segments.
        edition: Option<String>,
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

/// `full/<id>/<name>` or `full/<id>/<edition>/<name>`: an object of a full. Escape odd parts of `name` with [`escape`].
pub fn full_object(full: &str, edition: Option<&str>, name: &str, encrypted: bool) -> String {
    let folder = edition.map(|edition| format!("{edition}/")).unwrap_or_default();
    format!("{}{folder}{name}{}", full_dir(full), suffix(encrypted))
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

/// Key of the object that holds bytes `start..end` of `file`, in an edition (letters and digits) or as it was archived.
pub fn segment(file: &FileId, edition: Option<&str>, start: u64, end: u64, encrypted: bool) -> String {
    format!("{}{start:020}-{end:020}{}{SEGMENT_END}{}", file_dir(file), part(edition), suffix(encrypted))
}

/// Key of an object that holds all segments of `start..end` of `file`; `id` (letters and digits) is its writer's.
pub fn pack(file: &FileId, edition: Option<&str>, start: u64, end: u64, id: &str, encrypted: bool) -> String {
    format!("{}{start:020}-{end:020}{}.{id}{PACK_END}{}", file_dir(file), part(edition), suffix(encrypted))
}

/// Key of what says where in packs the segments of a closed file are.
pub fn packed(file: &FileId, edition: Option<&str>) -> String {
    format!("{}{PACKED}{}{JSON}", file_dir(file), part(edition))
}

/// A name for another making of objects, which nobody else gives.
pub fn new_edition() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Which edition an object is of that can be of one; none for other objects.
pub fn edition_of(key: &str) -> Option<Option<String>> {
    match parse(key)? {
        Key::FullObject { edition, .. }
        | Key::Segment { edition, .. }
        | Key::Pack { edition, .. }
        | Key::Packed { edition, .. } => Some(edition),
        _ => None,
    }
}

/// Whether an object of a full is of an edition, or (where the full `has_edition`) one that an edition can have replaced.
pub fn is_remade(key: &str, has_edition: bool) -> bool {
    let Some(Key::FullObject { edition, name, .. }) = parse(key) else { return false };
    edition.is_some() || has_edition && (name.starts_with("rows/") || name.starts_with("description."))
}

fn part(edition: Option<&str>) -> String {
    edition.map(|edition| format!(".{edition}")).unwrap_or_default()
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
    [VERIFY, SUMMARY, PROBES, TEMPS].contains(&dir)
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
            _ => {
                let (name, encrypted) = of_encrypted(rest);
                let in_edition = name.split_once('/').filter(|(folder, _)| is_edition_of_full(folder));
                let (edition, name) = in_edition.map_or((None, name), |(edition, name)| (Some(edition), name));
                Some(Key::FullObject { full, edition: edition.map(str::to_owned), name: name.to_owned(), encrypted })
            }
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
    if let Some(edition) = name.strip_prefix(PACKED).and_then(|rest| rest.strip_suffix(JSON)) {
        return Some(Key::Packed { file, edition: parse_edition(edition)? });
    }
    let (range, encrypted) = of_encrypted(name);
    let (range, is_pack) = match range.strip_suffix(PACK_END) {
        Some(range) => (range.rsplit_once('.').filter(|(_, id)| is_id(id))?.0, true),
        None => (range.strip_suffix(SEGMENT_END)?, false),
    };
    let (range, edition) = range.split_at_checked(RANGE_CHARS)?;
    let edition = parse_edition(edition)?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (offset(start)?, offset(end)?);
    (start < end).then_some(match is_pack {
        true => Key::Pack { file, edition },
        false => Key::Segment { file, start, end, encrypted, edition },
    })
}

/// What stands behind a name before its end: nothing, or a dot and an edition.
fn parse_edition(part: &str) -> Option<Option<String>> {
    match part {
        "" => Some(None),
        _ => part.strip_prefix('.').filter(|id| is_id(id)).map(|id| Some(id.to_owned())),
    }
}

/// A name without `.age`, and whether that was there.
fn of_encrypted(name: &str) -> (&str, bool) {
    name.strip_suffix(ENCRYPTED).map_or((name, false), |name| (name, true))
}

/// Whether a full's folder is one that [`new_edition`] named.
fn is_edition_of_full(folder: &str) -> bool {
    folder.len() == 16 && folder.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
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
            server in "\\PC{1,20}", name in "\\PC{1,20}", created_unix: u32, start: u64, len in 1u64..1 << 40, encrypted: bool,
            edition in prop::option::of("[0-9a-f]{16}")
        ) {
            let file = FileId { server, name, created_unix };
            let start = start >> 1;
            let end = start + len;
            let of = edition.as_deref();
            let key = segment(&file, of, start, end, encrypted);
            prop_assert_eq!(is_encrypted(&key), encrypted);
            prop_assert!(key.is_ascii() && !key.contains("..") || file.name.contains("..") || file.server.contains(".."));
            let parsed = Key::Segment { file: file.clone(), start, end, encrypted, edition: edition.clone() };
            prop_assert_eq!(parse(&key), Some(parsed));
            prop_assert_eq!(parse(&index(&file)), Some(Key::Index { file: file.clone() }));
            prop_assert_eq!(parse(&packed(&file, of)), Some(Key::Packed { file: file.clone(), edition: edition.clone() }));
            let pack = pack(&file, of, start, end, "1a2b", encrypted);
            prop_assert_eq!(parse(&pack), Some(Key::Pack { file: file.clone(), edition: edition.clone() }));
            prop_assert_eq!(parse_file_dir(&file_dir(&file)), Some(file.clone()));
            let rows = format!("rows/{}/00000-00000.tsv.zst", escape(&file.server));
            let object = Key::FullObject { full: file.name.clone(), edition: edition.clone(), name: rows.clone(), encrypted };
            prop_assert_eq!(parse(&full_object(&file.name, of, &rows, encrypted)), Some(object));
            prop_assert_eq!(parse(&manifest(&file.name)), Some(Key::Manifest { full: file.name.clone() }));
            prop_assert_eq!(parse(&lease(&file.name)), Some(Key::Lease { id: file.name }));
        }

        #[test]
        fn no_text_makes_parsing_fail_otherwise_than_by_none(text in "(full/|binlog/)?\\PC{0,60}") {
            if let Some(Key::Segment { file, start, end, encrypted, edition }) = parse(&text) {
                prop_assert_eq!(segment(&file, edition.as_deref(), start, end, encrypted), text);
            }
        }
    }

    #[test]
    fn names_of_a_newer_format_are_not_taken_for_ours() {
        let file = FileId { server: "s".into(), name: "binlog.000001".into(), created_unix: 7 };
        let key = segment(&file, None, 0, 1, false);
        assert_eq!(segment(&file, None, 0, 1, true), format!("{key}.age"));
        assert_eq!(key, "binlog/s/binlog.000001@7/00000000000000000000-00000000000000000001.zst");
        for odd in [
            format!("{key}.age.age"),
            format!("{key}.gpg"),
            key.replace(".zst", ".age"),
            key.replace("@7", "@07"),
            key.replace("@7", ""),
            key.replace("-0", "-"),
            key.replace(".zst", "..zst"),
            key.replace(".zst", ".a.b.zst"),
            key.replace(".zst", ".a_b.zst"),
            key.replace(".zst", ".a.b.c.pack.zst"),
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
