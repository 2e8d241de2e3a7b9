//! A closed binlog file: its segments are read, checked, and written again with the same borders.

use futures::{StreamExt, TryStreamExt, stream};

use super::{RekeyError, Work};
use crate::archive::ArchiveError;
use crate::archive::binlog_index::{EDITIONS_FORMAT, FileId, FileIndex, IndexedRange, SegmentMeta};
use crate::archive::catalog::load_index;
use crate::archive::index_writer::indexed;
use crate::archive::keys;
use crate::archive::sealed::seal;
use crate::archive::segment::{SegmentError, SegmentObject, SegmentReader, SegmentUpload, StoredSegment, read_meta};

/// Segments at a time.
const AT_ONCE: usize = 4;

impl Work<'_> {
    pub(super) async fn file(&mut self, id: &FileId) -> Result<(), RekeyError> {
        self.go_on()?;
        let (old, dir) = (load_index(self.store, id).await?, keys::file_dir(id));
        let index = match self.remake(&old).await {
            Ok(index) => index,
            Err(e) => {
                self.discard(&dir).await;
                return Err(e);
            }
        };
        let key = keys::index(id);
        let named = index.ranges.iter().map(|range| (index.object(range).key(), range.object_bytes)).collect();
        self.publish(&key, &dir, seal(&key, &index)?, named).await?;
        fail::fail_point!("rekey::after_index");
        self.done.files += 1;
        self.done.objects += index.ranges.len() as u64;
        self.done.bytes += index.ranges.iter().map(|range| range.object_bytes).sum::<u64>();
        let stored = self.store.list_stored(&dir).await?.into_iter().map(|object| object.key);
        let replaced = stored.filter(|key| keys::edition_of(key).is_some_and(|edition| edition == old.edition));
        self.clear(replaced.collect()).await
    }

    /// The file's index in this run's edition, whose objects are stored.
    async fn remake(&self, old: &FileIndex) -> Result<FileIndex, RekeyError> {
        let stored: Vec<StoredSegment> = stream::iter(&old.ranges)
            .map(|range| async { self.segment(old, range).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut recipients = Vec::new();
        let ranges: Vec<IndexedRange> = stored.iter().map(|stored| indexed(stored, &mut recipients)).collect();
        fail::fail_point!("rekey::before_index");
        if load_index(self.store, &old.file).await? != *old {
            return Err(RekeyError::Changed { key: keys::index(&old.file) });
        }
        let edition = Some(self.edition.clone());
        Ok(FileIndex { format: EDITIONS_FORMAT, ranges, recipients, edition, ..old.clone() })
    }

    /// One segment, which is read back, as its old object is to go.
    async fn segment(&self, index: &FileIndex, range: &IndexedRange) -> Result<StoredSegment, RekeyError> {
        let object = index.object(range);
        // First: it looks at the size, and finds what is in a pack although another making of it is beside that.
        let mut reader = SegmentReader::open(self.store, object.clone()).await.map_err(ArchiveError::from)?;
        let meta = read_meta(self.store, &object).await.map_err(ArchiveError::from)?;
        if (meta.summary.boundary, &meta.gtids) != (range.boundary, &range.gtids) {
            let problem = "its meta and the index of its file do not agree".to_owned();
            return Err(RekeyError::Damaged { key: object.key(), problem });
        }
        let (file, start, end) = (meta.file.clone(), meta.start, meta.end);
        let edition = Some(self.edition.as_str());
        let (compression, recipients) = (self.options.compression, &self.options.recipients);
        let upload = SegmentUpload::begin(self.store, &file, edition, start, end, compression, recipients).await;
        let mut upload = upload.map_err(ArchiveError::from)?;
        while let Some(piece) = reader.next().await.map_err(ArchiveError::from)? {
            self.go_on()?;
            upload.write(&piece).await.map_err(ArchiveError::from)?;
        }
        self.pace.take(usize::try_from(object.bytes).unwrap_or(usize::MAX)).await;
        let meta = SegmentMeta { edition: Some(self.edition.clone()), ..meta };
        let stored = upload.finish(meta).await.map_err(ArchiveError::from)?;
        fail::fail_point!("rekey::after_segment");
        let blake3 = Some(stored.object_blake3.clone());
        self.read_back(SegmentObject { blake3, ..SegmentObject::of_meta(&stored.meta, stored.object_bytes) }).await?;
        self.progress.add(range.object_bytes, 1);
        Ok(stored)
    }

    async fn read_back(&self, object: SegmentObject) -> Result<(), RekeyError> {
        let key = object.key();
        let read = async {
            let mut reader = SegmentReader::open(self.store, object).await?;
            while reader.next().await?.is_some() {}
            Ok(())
        };
        match read.await {
            Err(SegmentError::Damaged { problem, .. }) => Err(RekeyError::Torn { key, problem }),
            read => Ok(read.map_err(ArchiveError::from)?),
        }
    }
}
