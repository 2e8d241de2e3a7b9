//! JSON objects that end in a checksum of themselves: `archive.json`, manifests and indexes. One flipped digit of a GTID would still be JSON.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use snafu::ResultExt;

use super::ArchiveError;
use super::digest::Digest;
use super::error::{DescribeSnafu, parse};

const NAME: &[u8] = br#","blake3":""#;
const END: &[u8] = br#""}"#;
const HEX_DIGITS: usize = 64;

/// Bytes of the seal that ends an object: `,"blake3":"…"}`.
pub const SEAL_BYTES: usize = NAME.len() + HEX_DIGITS + END.len();

/// Writes an object; its last field is the BLAKE3 of all bytes before that field. `key` names it in errors.
///
/// # Errors
/// If the value is not a JSON object.
pub fn seal<T: Serialize>(key: &str, value: &T) -> Result<Bytes, ArchiveError> {
    let mut json = serde_json::to_vec(value).context(DescribeSnafu { key })?;
    if json.len() < 3 || json.pop() != Some(b'}') {
        use serde::ser::Error;
        let source = serde_json::Error::custom("it is no object with fields");
        return Err(ArchiveError::Describe { key: key.to_owned(), source });
    }
    let digest = Digest::of(&json);
    json.extend_from_slice(&[NAME, digest.as_bytes(), END].concat());
    Ok(json.into())
}

/// Reads what [`seal`] wrote.
///
/// # Errors
/// [`ArchiveError::Newer`] before all else, [`ArchiveError::Unreadable`], or [`ArchiveError::Changed`].
pub fn unseal<T: DeserializeOwned>(key: &str, json: &[u8]) -> Result<T, ArchiveError> {
    let value = parse(key, json)?;
    let mut check = SealCheck::default();
    check.update(json);
    check.finish(key)?;
    Ok(value)
}

/// Checks an object's seal as its bytes pass by.
#[derive(Default)]
pub(super) struct SealCheck {
    before: Digest,
    /// The last bytes so far, which may be the seal.
    tail: Vec<u8>,
}

impl SealCheck {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (old, new) = bytes.split_at(bytes.len().saturating_sub(SEAL_BYTES));
        let surplus = (self.tail.len() + new.len()).saturating_sub(SEAL_BYTES);
        self.before.update(&self.tail[..surplus]);
        self.tail.drain(..surplus);
        self.before.update(old);
        self.tail.extend_from_slice(new);
    }

    pub(super) fn finish(self, key: &str) -> Result<(), ArchiveError> {
        if self.tail == [NAME, self.before.hex().as_bytes(), END].concat() {
            return Ok(());
        }
        Err(ArchiveError::Changed { key: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_seal_is_the_last_field_and_of_all_bytes_before_it() {
        let sealed = seal("k", &json!({ "format": 1 })).unwrap();
        assert_eq!(SEAL_BYTES, 77, "docs/archive-format.md cuts it off by that number");
        let (before, _) = sealed.split_at(sealed.len() - 77);
        assert_eq!(before, b"{\"format\":1");
        let read: Value = unseal("k", &sealed).unwrap();
        assert_eq!(read["blake3"], Digest::of(before));
        assert!(matches!(unseal::<Value>("k", b"{\"format\":99}"), Err(ArchiveError::Newer { found: 99, .. })));
    }

    proptest! {
        #[test]
        fn every_changed_cut_or_added_byte_is_noticed(
            text in ".{0,200}", at in any::<prop::sample::Index>(), to in any::<u8>(), piece in 1usize..300
        ) {
            let sealed = seal("k", &json!({ "format": 1, "text": text })).unwrap();
            let mut check = SealCheck::default();
            sealed.chunks(piece).for_each(|piece| check.update(piece));
            prop_assert!(check.finish("k").is_ok());
            prop_assert_eq!(&unseal::<Value>("k", &sealed).unwrap()["text"], &text);

            let mut changed = sealed.to_vec();
            let at = at.index(changed.len());
            changed[at] = to;
            prop_assert_eq!(unseal::<Value>("k", &changed).is_ok(), changed == sealed);
            prop_assert!(unseal::<Value>("k", &sealed[..at]).is_err());
            prop_assert!(unseal::<Value>("k", &[&sealed[..], &[to]].concat()).is_err());
        }
    }
}
