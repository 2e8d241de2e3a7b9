//! A bucket's past: what it held at a moment, where it keeps versions.
//!
//! Whoever deletes an object in such a bucket hides it behind a delete marker, whoever overwrites it puts a version in front: neither changes what
//! a listing of versions shows of the time before.
//!
//! A listing says when each version was made, to the second on Amazon's S3. versitygw says of a version that is no longer current when it was replaced,
//! but names versions by ULIDs, which begin with the millisecond in which they were made: so that counts where a version has such a name.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use opendal::{Entry, EntryMode, ErrorKind};
use snafu::ResultExt;

use super::error::{ListSnafu, ReadSnafu};
use super::listing::below;
use super::{Object, Store, StoreError};

/// One version of an object, or the mark of a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    id: String,
    pub(super) bytes: u64,
    etag: Option<String>,
    made: Option<Timestamp>,
    /// Whether it is what everybody sees who asks for no version.
    latest: bool,
    /// Whether it marks a delete.
    deleted: bool,
}

impl Store {
    /// The same store as it was at that moment, by the store's clock and to its precision (a second, often): for readers. What is written is written now.
    ///
    /// # Errors
    /// Of a store that is no S3 bucket.
    pub fn as_of(self, at: Timestamp) -> Result<Self, StoreError> {
        if self.inner.guard.is_none() {
            let problem = "what a store held before is kept by an S3 bucket with versioning only; use a copy, or leave the time out".to_owned();
            return Err(StoreError::Unfit { store: self.url().to_owned(), problem });
        }
        Ok(Self { as_of: Some(at), packs: Arc::default(), ..self })
    }

    /// Whether everybody sees an object as this store shows it, which is as it was at a moment: the same version, or one with the same content.
    pub async fn is_unchanged(&self, key: &str) -> Result<bool, StoreError> {
        let Some(at) = self.as_of else { return Ok(true) };
        let versions = self.versions(key).await?;
        let then = at_moment(&versions, at);
        let now = versions.iter().find(|version| version.latest && !version.deleted);
        Ok(match (then, now) {
            (Some(then), Some(now)) => {
                then.id == now.id || then.bytes == now.bytes && then.etag.is_some() && then.etag == now.etag
            }
            (None, None) => true,
            _ => false,
        })
    }

    /// The version to read of an object; none where what is current is read.
    pub(super) async fn version_of(&self, key: &str) -> Result<Option<String>, StoreError> {
        let Some(at) = self.as_of else { return Ok(None) };
        match self.version_at(key, at).await? {
            Some(version) => Ok(Some(version.id)),
            None => Err(opendal::Error::new(ErrorKind::NotFound, "no version of it is of that time"))
                .context(ReadSnafu { key, store: self.url() }),
        }
    }

    pub(super) async fn version_at(&self, key: &str, at: Timestamp) -> Result<Option<Version>, StoreError> {
        Ok(at_moment(&self.versions(key).await?, at).cloned())
    }

    /// Every version of an object.
    async fn versions(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let entries = self.list_versions(key, true).await?;
        Ok(entries.into_iter().filter(|entry| entry.path() == key).map(|entry| version(&entry)).collect())
    }

    /// Folders and objects below a prefix, as they were at a moment. A folder that holds nothing of that time is there, too.
    pub(super) async fn shown(
        &self,
        prefix: &str,
        recursive: bool,
        at: Timestamp,
    ) -> Result<(Vec<String>, Vec<Object>), StoreError> {
        let entries = self.list_versions(prefix, recursive).await?;
        let (files, dirs): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.metadata().mode() == EntryMode::FILE);
        let mut objects: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for entry in files {
            objects.entry(entry.path().to_owned()).or_default().push(version(&entry));
        }
        let shown = objects.into_iter().filter_map(|(key, versions)| {
            let Version { bytes, made, .. } = at_moment(&versions, at)?;
            Some(Object { bytes: *bytes, modified: *made, key })
        });
        let shown = shown.collect();
        Ok((below(prefix, dirs), shown))
    }

    async fn list_versions(&self, prefix: &str, recursive: bool) -> Result<Vec<Entry>, StoreError> {
        let list = self.inner.operator.list_with(prefix).versions(true).deleted(true).recursive(recursive);
        list.await.context(ListSnafu { key: prefix, store: self.url() })
    }
}

fn version(entry: &Entry) -> Version {
    let meta = entry.metadata();
    let id = meta.version().unwrap_or_default();
    Version {
        id: id.to_owned(),
        bytes: meta.content_length(),
        etag: meta.etag().map(str::to_owned),
        made: ulid_time(id).or(meta.last_modified().map(Timestamp::from)),
        latest: meta.is_current().unwrap_or(false),
        deleted: meta.is_deleted(),
    }
}

/// What was current at a moment; none where nothing was there, or it was deleted. The versions of an object come newest first, the marks of
/// deletes apart from them: of what has the same time, a version counts before a mark, and an earlier one in the list before a later one.
fn at_moment(versions: &[Version], at: Timestamp) -> Option<&Version> {
    let mut newest: Option<&Version> = None;
    for version in versions.iter().filter(|version| version.made.is_some_and(|made| made <= at)) {
        let newer = newest.is_none_or(|newest| {
            version.made > newest.made || version.made == newest.made && newest.deleted && !version.deleted
        });
        if newer {
            newest = Some(version);
        }
    }
    newest.filter(|version| !version.deleted)
}

/// When a version was made whose name is a ULID: 26 digits of Crockford's Base32, of which the first ten are milliseconds since 1970. No other store
/// that is known names versions like that.
fn ulid_time(id: &str) -> Option<Timestamp> {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let value = |digit: char| DIGITS.find(digit).and_then(|value| i64::try_from(value).ok());
    if id.len() != 26 || !id.chars().all(|digit| value(digit).is_some()) || id.starts_with(|first| first > '7') {
        return None;
    }
    let millis = id.chars().take(10).try_fold(0i64, |sum, digit| Some(sum * 32 + value(digit)?))?;
    Timestamp::from_millisecond(millis).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(id: &str, second: i64, deleted: bool) -> Version {
        let made = Some(Timestamp::from_second(second).unwrap());
        Version { id: id.to_owned(), bytes: 1, etag: None, made, latest: false, deleted }
    }

    #[test]
    fn a_name_that_holds_a_time_is_told_from_others() {
        assert_eq!(ulid_time("01M8JD027WVZ0G034E0DNB133J").unwrap().to_string(), "2026-11-29T00:59:03.292Z");
        for other in [
            "",
            "null",
            "3HL4kqtJvjVBH40Nrjfkd3HL4kqtJvjV",
            "9c3a11f0-6f27-4d0e-8a7e-53d2c1f4b1aa",
            "81M8JD027WVZ0G034E0DNB133J",
            "01m8jd027wvz0g034e0dnb133j",
            "é1M8JD027WVZ0G034E0DNB133",
        ] {
            assert_eq!(ulid_time(other), None, "{other}");
        }
        assert!(ulid_time("7ZZZZZZZZZZZZZZZZZZZZZZZZZ").is_none(), "a time of no calendar");
    }

    #[test]
    fn what_was_deleted_or_overwritten_later_was_there_before() {
        let versions = [
            made("junk", 9, false),
            made("b", 5, false),
            made("a", 2, false),
            made("gone", 7, true),
            made("put back", 4, true),
        ];
        let shown =
            |second| at_moment(&versions, Timestamp::from_second(second).unwrap()).map(|version| version.id.as_str());
        for (second, wanted) in [
            (1, None),
            (2, Some("a")),
            (3, Some("a")),
            (4, None),
            (5, Some("b")),
            (6, Some("b")),
            (7, None),
            (8, None),
            (9, Some("junk")),
        ] {
            assert_eq!(shown(second), wanted, "{second}");
        }
        // Within one second of the store's clock.
        let at = Timestamp::from_second(5).unwrap();
        let same = [made("newer", 5, false), made("older", 5, false), made("gone", 5, true)];
        assert_eq!(at_moment(&same, at).unwrap().id, "newer");
        assert_eq!(at_moment(&same[2..], at), None);
    }
}
