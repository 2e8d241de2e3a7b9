//! What waits for the store, a file each:
//!
//! ```text
//! the object's bytes, as they go to the store       (none for the end of a binlog file)
//! Tail (JSON, sealed by its BLAKE3) · u32 size of the JSON · "TDMKSPL1"
//! ```
//! A file appears whole, synced: written under another name, then renamed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::cutter::{Closing, CommitCounts, Seal};
use crate::archive::binlog_index::{Ending, FileId, SegmentMeta};
use crate::archive::digest::Digest;
use crate::archive::format_of;
use crate::archive::sealed::{seal, unseal};
use crate::archive::segment::{EncodedSegment, StoredSegment};
use crate::model::CommitTime;

const MAGIC: &[u8; 8] = b"TDMKSPL1";
/// Behind the JSON.
const END_BYTES: u64 = 4 + 8;
const TAIL_BYTES_MAX: u64 = 64 << 20;
const SUFFIX: &str = ".object";
/// Of files that are being written.
const PART: &str = ".part";
const PIECE_BYTES: usize = 1 << 20;

/// The end of a file: what its bytes are.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tail {
    format: u32,
    number: u64,
    content: Content,
}

/// What waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Content {
    /// Bytes of a binlog file.
    Segment(Box<Segment>),
    /// The end of one.
    Close { file: FileId, size: u64, ending: Ending, next_file: Option<String> },
}

/// A segment object that is a file's first part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub meta: SegmentMeta,
    pub object_bytes: u64,
    pub object_blake3: String,
    /// Commit times (µs) of the transactions that end in it, and how many have each.
    pub commits: Vec<(CommitTime, u64)>,
}

impl Content {
    pub fn of_close(closing: &Closing) -> Self {
        let Closing { file, size, ending, next_file } = closing.clone();
        Self::Close { file, size, ending, next_file }
    }

    pub fn file(&self) -> &FileId {
        match self {
            Self::Segment(segment) => &segment.meta.file,
            Self::Close { file, .. } => file,
        }
    }

    /// The archive's format that its reader must know.
    fn format(&self) -> u32 {
        format_of(matches!(self, Self::Segment(segment) if segment.meta.encryption.is_some()))
    }

    fn object(&self) -> (u64, Option<&str>) {
        match self {
            Self::Segment(segment) => (segment.object_bytes, Some(&segment.object_blake3)),
            Self::Close { .. } => (0, None),
        }
    }
}

impl Segment {
    pub fn new(encoded: &EncodedSegment, seal: &Seal) -> Self {
        Self {
            meta: encoded.meta.clone(),
            object_bytes: encoded.object_bytes,
            object_blake3: encoded.object_blake3.clone(),
            commits: seal.commits.0.clone(),
        }
    }

    /// As the uploader takes it; `upto` counts bytes of this session.
    pub fn seal(&self, upto: u64) -> Seal {
        Seal { meta: self.meta.clone(), commits: CommitCounts(self.commits.clone()), upto }
    }

    pub fn stored(&self) -> StoredSegment {
        StoredSegment {
            meta: self.meta.clone(),
            object_bytes: self.object_bytes,
            object_blake3: self.object_blake3.clone(),
        }
    }
}

/// The file of that number.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}{SUFFIX}"))
}

/// The numbers of the files in a folder, in order. What was being written when a process died is removed.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(PART) {
            fs::remove_file(folder.join(name))?;
        }
        let number = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20);
        numbers.extend(number.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A file that is being written; dropped before [`Self::finish`], nothing of it is left.
pub(super) struct Part {
    folder: PathBuf,
    number: u64,
    path: Option<PathBuf>,
    file: File,
    bytes: u64,
}

impl Part {
    pub fn begin(folder: &Path, number: u64) -> io::Result<Self> {
        let path = folder.join(format!("{number:020}{PART}"));
        let file = File::create(&path)?;
        Ok(Self { folder: folder.to_owned(), number, path: Some(path), file, bytes: 0 })
    }

    /// Bytes of the object.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes it appear, durable. Its size in bytes.
    pub fn finish(mut self, content: Content) -> io::Result<u64> {
        fail::fail_point!("binlog::spool::before_finish");
        let path = path(&self.folder, self.number);
        let tail = Tail { format: content.format(), number: self.number, content };
        let json = seal(&path.to_string_lossy(), &tail).map_err(io::Error::other)?;
        let size = u32::try_from(json.len()).map_err(io::Error::other)?;
        self.write(&[&json[..], &size.to_le_bytes(), MAGIC].concat())?;
        self.file.sync_all()?;
        if let Some(part) = self.path.take() {
            fs::rename(part, &path)?;
        }
        sync(&self.folder)?;
        Ok(self.bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(part) = self.path.take() {
            // One that stays is removed by the next start.
            let _ = fs::remove_file(part);
        }
    }
}

/// Makes what was done in a folder outlive a power cut.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What a file holds and its size, by its end alone.
///
/// # Errors
/// `InvalidData` where it is not what was once written under this number.
pub(super) fn read(folder: &Path, number: u64) -> io::Result<(Content, u64)> {
    let path = path(folder, number);
    let torn = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{} is {what}", path.display()));
    let mut file = File::open(&path)?;
    let bytes = file.metadata()?.len();
    let end = bytes.checked_sub(END_BYTES).ok_or_else(|| torn("cut off"))?;
    file.seek(SeekFrom::Start(end))?;
    let mut last = [0; END_BYTES as usize];
    file.read_exact(&mut last)?;
    let (size, magic) = last.split_at(4);
    let size = u64::from(u32::from_le_bytes(size.try_into().map_err(io::Error::other)?));
    let start = end.checked_sub(size).filter(|_| magic == MAGIC && size <= TAIL_BYTES_MAX);
    let start = start.ok_or_else(|| torn("cut off, or something else"))?;
    file.seek(SeekFrom::Start(start))?;
    let mut json = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact(&mut json)?;
    let tail: Tail = unseal(&path.to_string_lossy(), &json).map_err(|_| torn("damaged at its end"))?;
    let (object_bytes, _) = tail.content.object();
    if tail.number != number || object_bytes != start {
        return Err(torn("not what it says"));
    }
    Ok((tail.content, bytes))
}

/// Reads a file's object from its beginning to its end, in pieces, and checks it against what the file says.
pub(super) fn each_piece(
    folder: &Path,
    number: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Content> {
    let (content, _) = read(folder, number)?;
    let (object_bytes, blake3) = content.object();
    let path = path(folder, number);
    let mut object = File::open(&path)?.take(object_bytes);
    let mut digest = Digest::new();
    let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(object_bytes).unwrap_or(PIECE_BYTES)).max(1)];
    loop {
        let length = object.read(&mut piece)?;
        let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { break };
        digest.update(read);
        take(read)?;
    }
    match blake3 {
        Some(blake3) if digest.hex() != blake3 => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())))
        }
        _ => Ok(content),
    }
}
