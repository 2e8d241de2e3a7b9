//! The bytes of one object, read and checked as they come by, in bounded memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::VerifyError;
use super::finding::Damage;
use crate::archive::ArchiveError;
use crate::archive::codec::Decoder;
use crate::archive::crypt::{self, Locked, OpenError};
use crate::archive::digest::Digest;
use crate::archive::keys;
use crate::archive::logical::Record;
use crate::archive::manifest::ObjectEntry;
use crate::archive::segment::{SegmentError, SegmentObject, SegmentReader, read_any_meta, verify_stored};
use crate::archive::store::{Store, StoreError};
use crate::model::{GtidSet, Pace, Progress};
use crate::mysql::event::{ChecksumAlgorithm, FileScanner};

/// Longest line of a description, in bytes.
const LINE_BYTES_MAX: usize = 256 << 20;

/// How objects are read; clones share all of it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where they are.
    pub store: Store,
    /// How fast.
    pub pace: Arc<Pace>,
    /// Who is told.
    pub progress: Progress,
    /// Bytes read so far.
    pub bytes: Arc<AtomicU64>,
}

/// What is wrong with an object, and the BLAKE3 of what it holds, where that may be another object's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What is wrong.
    pub damage: Damage,
    /// Hex BLAKE3 of all it holds.
    pub blake3: Option<String>,
}

impl From<Damage> for Bad {
    fn from(damage: Damage) -> Self {
        Self { damage, blake3: None }
    }
}

/// A segment to check.
#[derive(Clone, Debug)]
pub struct SegmentCheck {
    /// As the index says, or the listing.
    pub object: SegmentObject,
    /// Whether the file's events end with a checksum.
    pub crc32: bool,
    /// What the index says of it: where its last transaction ends, and which ones end in it.
    pub indexed: Option<(u64, GtidSet)>,
}

/// An object of a full to check.
#[derive(Clone, Debug)]
pub struct FullCheck {
    /// As the manifest says.
    pub entry: ObjectEntry,
    /// To whom it is encrypted.
    pub recipients: Vec<String>,
    /// Rows it should hold, where it holds rows.
    pub rows: Option<u64>,
}

/// An error of one read: damage of that object, or of the store as a whole.
fn of_store(error: StoreError) -> Result<Bad, VerifyError> {
    if error.is_not_found() {
        return Ok(Damage::Lost.into());
    }
    match error.is_transient() || error.is_refused() {
        true => Err(error.into()),
        false => Ok(Damage::Unreadable { problem: error.to_string() }.into()),
    }
}

fn of_segment(error: SegmentError) -> Result<Bad, VerifyError> {
    match error {
        SegmentError::Damaged { problem, .. } => Ok(Damage::Changed { problem }.into()),
        SegmentError::Store { source } => of_store(source),
        error => Err(error.into()),
    }
}

impl Source {
    /// Whether an object of that name is decoded: what is encrypted, only with an identity.
    pub fn decodes(&self, key: &str) -> bool {
        !keys::is_encrypted(key) || !self.store.identities().is_empty()
    }

    /// An object's bytes, at the pace.
    async fn stream(&self, key: &str, bytes: u64) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let (stream, source) = (self.store.read_stream(key, 0..bytes).await?, self.clone());
        let paced = stream.then(move |piece| {
            let source = source.clone();
            async move {
                if let Ok(piece) = &piece {
                    source.pace.take(piece.len()).await;
                    source.progress.add(piece.len() as u64, 0);
                    source.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                piece
            }
        });
        Ok(paced.boxed())
    }

    /// Checks a segment of `found` bytes: that it is this one, its checksums, every event's own, and that it says what the index says.
    pub async fn segment(&self, check: &SegmentCheck, found: u64) -> Result<Option<Bad>, VerifyError> {
        let SegmentCheck { object, crc32, indexed } = check;
        let key = object.key();
        let as_found = SegmentObject { bytes: found, ..object.clone() };
        let other_size: Option<Bad> = (found != object.bytes).then(|| Damage::of_size(object.bytes, found).into());
        let (meta, frame_bytes) = match read_any_meta(&self.store, &as_found).await {
            Ok(read) => read,
            Err(error) => {
                let bad = of_segment(error)?;
                return Ok(Some(other_size.unwrap_or(bad)));
            }
        };
        let of = meta.key();
        if of != key {
            return Ok(Some(Damage::Duplicated { of }.into()));
        }
        if other_size.is_some() {
            return Ok(other_size);
        }
        if indexed.as_ref().is_some_and(|(boundary, gtids)| *boundary != meta.summary.boundary || *gtids != meta.gtids)
        {
            let problem = "it says otherwise than the file's index which transactions it holds".to_owned();
            return Ok(Some(Damage::Changed { problem }.into()));
        }
        let stream = match self.stream(&key, found).await {
            Ok(stream) => stream,
            Err(error) => return of_store(error).map(Some),
        };
        let mut scanner = match (object.start, crc32) {
            (0, _) => FileScanner::new(),
            (start, true) => FileScanner::resume(start, ChecksumAlgorithm::Crc32),
            (start, false) => FileScanner::resume(start, ChecksumAlgorithm::Off),
        };
        if let (Some(encryption), false) = (&meta.encryption, self.decodes(&key)) {
            let checked = verify_stored(object, encryption, frame_bytes, stream).await;
            return checked.err().map(of_segment).transpose();
        }
        let mut reader = match SegmentReader::over(&self.store, object.clone(), meta, frame_bytes, stream).await {
            Ok(reader) => reader,
            Err(error) => return of_segment(error).map(Some),
        };
        let mut events = Ok(());
        loop {
            match reader.next().await {
                Ok(Some(piece)) => {
                    let mut input = &piece[..];
                    while events.is_ok() {
                        match scanner.scan(&mut input) {
                            Ok(Some(_)) => {}
                            Ok(None) => break,
                            Err(error) => events = Err(error),
                        }
                    }
                }
                Ok(None) => break,
                // The object's own checksums tell more than the events'.
                Err(error) => return of_segment(error).map(Some),
            }
        }
        let events = events.and_then(|()| scanner.finish());
        Ok(events.err().map(|error| Damage::Changed { problem: error.to_string() }.into()))
    }

    /// Checks an object of a full of `found` bytes: its checksum, that it decompresses to its size, and how many rows it holds.
    pub async fn object(&self, check: &FullCheck, found: u64) -> Result<Option<Bad>, VerifyError> {
        let mut lines = 0;
        let mut count = |piece: &[u8]| {
            lines += memchr::memchr_iter(b'\n', piece).count() as u64;
            Ok(())
        };
        if !self.decodes(&check.entry.key) {
            return self.stored(&check.entry, found).await;
        }
        let bad = self.decoded(&check.entry, &check.recipients, found, &mut count).await?;
        let wrong = |rows: &u64| *rows != lines;
        if let (None, Some(rows)) = (&bad, check.rows.filter(wrong)) {
            let problem = format!("it holds {lines} rows, the description says {rows}");
            return Ok(Some(Damage::Changed { problem }.into()));
        }
        Ok(bad)
    }

    /// Checks a description, and learns how many rows each of the full's objects holds.
    pub async fn description(
        &self,
        entry: &ObjectEntry,
        recipients: &[String],
        found: u64,
        objects: usize,
    ) -> Result<Rows, VerifyError> {
        if !self.decodes(&entry.key) {
            return Ok(Rows { rows: vec![None; objects], bad: self.stored(entry, found).await? });
        }
        let mut rows = vec![None; objects];
        let (mut line, mut records, mut ended) = (Vec::new(), 0u64, false);
        let mut read = |piece: &[u8]| -> Result<(), String> {
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.len() > LINE_BYTES_MAX {
                    return Err("it is not a description: a line has no end".to_owned());
                }
                if line.last() != Some(&b'\n') || line.len() == 1 {
                    continue;
                }
                let record = serde_json::from_slice(&line).map_err(|e| match recipients {
                    [] => format!("it is not a description ({e})"),
                    // What is wrong may quote what is encrypted, and findings are kept in clear.
                    _ => "it is not a description".to_owned(),
                })?;
                match record {
                    Record::Table(table) => {
                        for part in table.chunks.iter().flat_map(|chunk| &chunk.parts) {
                            let of = rows.get_mut(part.object);
                            *of.ok_or("it names objects that the manifest does not list")? = Some(part.rows);
                        }
                    }
                    Record::End { records: all } if all == records => ended = true,
                    Record::End { .. } => return Err("records are missing".to_owned()),
                    Record::Server(_) | Record::Schema(_) | Record::Program(_) | Record::Account(_) => {}
                }
                records += 1;
                line.clear();
            }
            Ok(())
        };
        let bad = self.decoded(entry, recipients, found, &mut read).await?;
        let torn = || -> Bad { Damage::Changed { problem: "its end is missing".to_owned() }.into() };
        let bad = bad.or_else(|| (!ended).then(torn));
        Ok(Rows { rows, bad })
    }

    /// Checks an object as it is stored.
    async fn stored(&self, entry: &ObjectEntry, found: u64) -> Result<Option<Bad>, VerifyError> {
        let mut digest = Digest::new();
        let mut stream = match self.stream(&entry.key, found).await {
            Ok(stream) => stream,
            Err(error) => return of_store(error).map(Some),
        };
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => digest.update(&piece),
                Err(error) => return of_store(error).map(Some),
            }
        }
        Ok(against_entry(entry, found, digest.hex()))
    }

    /// Checks an object as it is stored, and what it decodes to.
    async fn decoded(
        &self,
        entry: &ObjectEntry,
        recipients: &[String],
        found: u64,
        each: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
    ) -> Result<Option<Bad>, VerifyError> {
        if keys::is_encrypted(&entry.key) {
            return self.decrypted(entry, recipients, found, each).await;
        }
        let mut stream = match self.stream(&entry.key, found).await {
            Ok(stream) => stream,
            Err(error) => return of_store(error).map(Some),
        };
        let mut digest = Digest::new();
        let mut content = Decoded::new(entry, each);
        while let Some(piece) = stream.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return of_store(error).map(Some),
            };
            digest.update(&piece);
            // What does not decompress still has a checksum, which may be another object's.
            content.add(piece);
        }
        let wrong = || content.end().map(|problem| Damage::Changed { problem }.into());
        Ok(against_entry(entry, found, digest.hex()).or_else(wrong))
    }

    async fn decrypted(
        &self,
        entry: &ObjectEntry,
        recipients: &[String],
        found: u64,
        each: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
    ) -> Result<Option<Bad>, VerifyError> {
        if found != entry.bytes {
            return self.stored(entry, found).await;
        }
        let stream = match self.stream(&entry.key, found).await {
            Ok(stream) => stream,
            Err(error) => return of_store(error).map(Some),
        };
        let blake3 = Some(entry.blake3.as_str());
        let locked = Locked { key: &entry.key, recipients, age_bytes: found, age_blake3: None, blake3 };
        let mut content = Decoded::new(entry, each);
        let read = async {
            let mut opened = crypt::open(self.store.identities(), locked, stream).await?;
            while let Some(piece) = opened.next().await {
                content.add(piece?);
            }
            Ok(content.end())
        };
        let problem = match read.await {
            Ok(None) => return Ok(None),
            Ok(Some(problem)) | Err(OpenError::Damaged { problem }) => problem,
            Err(OpenError::Store { source }) => return of_store(source).map(Some),
            Err(OpenError::Locked { source }) => return Err(ArchiveError::from(source).into()),
        };
        // What is not this object may be another one: all of its bytes tell.
        let bad = self.stored(entry, found).await?;
        Ok(Some(bad.unwrap_or(Damage::Changed { problem }.into())))
    }
}

/// What an object decompresses to, as it comes.
struct Decoded<'a> {
    entry: &'a ObjectEntry,
    each: &'a mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
    decoder: io::Result<Decoder>,
    bytes: u64,
    content: Result<(), String>,
}

impl<'a> Decoded<'a> {
    fn new(entry: &'a ObjectEntry, each: &'a mut (dyn FnMut(&[u8]) -> Result<(), String> + Send)) -> Self {
        Self { entry, each, decoder: Decoder::new(), bytes: 0, content: Ok(()) }
    }

    /// Frames of it.
    fn add(&mut self, mut piece: Bytes) {
        while let Ok(decoding) = &mut self.decoder {
            let mut input = &piece[..];
            match decoding.decode(&mut input) {
                Ok(raw) if raw.is_empty() => break,
                Ok(raw) => {
                    self.bytes = self.bytes.saturating_add(raw.len() as u64);
                    if self.content.is_ok() && self.bytes <= self.entry.raw_bytes {
                        self.content = (self.each)(&raw);
                    }
                }
                Err(error) => self.decoder = Err(error),
            }
            let used = piece.len() - input.len();
            piece.advance(used);
        }
    }

    /// What is wrong with all of it.
    fn end(&self) -> Option<String> {
        let expected = self.entry.raw_bytes;
        match (&self.decoder, &self.content) {
            (Err(error), _) => Some(format!("it does not decompress ({error})")),
            (Ok(decoder), _) if !decoder.is_whole() || self.bytes != expected => {
                Some(format!("it holds {} bytes before compression, the manifest says {expected}", self.bytes))
            }
            (Ok(_), Err(problem)) => Some(problem.clone()),
            (Ok(_), Ok(())) => None,
        }
    }
}

/// What is wrong with an object's size and checksum.
fn against_entry(entry: &ObjectEntry, found: u64, blake3: String) -> Option<Bad> {
    let damage = if found != entry.bytes {
        Damage::of_size(entry.bytes, found)
    } else if blake3 != entry.blake3 {
        Damage::Changed { problem: format!("its BLAKE3 is {blake3}, it was stored with {}", entry.blake3) }
    } else {
        return None;
    };
    Some(Bad { damage, blake3: Some(blake3) })
}

/// What a description says of objects.
#[derive(Debug)]
pub struct Rows {
    /// Rows of each of the full's objects, where it holds rows.
    pub rows: Vec<Option<u64>>,
    /// What is wrong with the description.
    pub bad: Option<Bad>,
}
