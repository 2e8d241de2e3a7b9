//! One range of a binlog file as one object: zstd frames of the raw bytes, then a skippable frame with the [`SegmentMeta`].
