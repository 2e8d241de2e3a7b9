#![no_main]
//! Whatever is in a manifest, ours or the archive's, it is read or refused with words, and what is read prints back to an equal value.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemark::api::{Size, Span};
use tidemark::archive::binlog_index::{FileId, FileIndex, SegmentMeta};
use tidemark::archive::catalog::{ArchivedFile, FullHead, parse_index};
use tidemark::archive::identity::ArchiveInfo;
use tidemark::archive::keys;
use tidemark::archive::logical::Record;
use tidemark::archive::manifest::FullManifest;
use tidemark::archive::sealed::{seal, unseal};
use tidemark::archive::segment::{SegmentObject, parse_meta};
use tidemark::archive::timeline::Timeline;
use tidemark::cli::manifests;

fuzz_target!(|data: &[u8]| {
    archive(data);
    let Ok(text) = str::from_utf8(data) else { return };
    if let Err(error) = manifests::parse(Path::new("fuzz.yaml"), text) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(span.to_string().parse::<Span>().ok(), Some(span));
    }
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse::<Size>().ok(), Some(size));
    }
    _ = keys::parse(text);
});

fn archive(data: &[u8]) {
    json::<ArchiveInfo>(data);
    json::<Record>(data);
    let manifest = json::<FullManifest>(data);
    let head = serde_json::from_slice::<FullHead>(data).ok();
    if let Some(manifest) = &manifest {
        let head = head.as_ref().expect("a manifest has a head");
        assert_eq!((&head.id, &head.gtids), (&manifest.id, &manifest.gtids));
        assert_eq!(head.objects, manifest.objects.len() as u64);
    }

    _ = unseal::<FullManifest>("fuzz", data);
    // No mutation finds a right checksum.
    let index = json::<FileIndex>(data);
    let index = index.and_then(|index| parse_index(&index.file.clone(), &seal("fuzz", &index).ok()?).ok());
    let fulls: Vec<FullHead> = head.into_iter().collect();
    if let Some(index) = index {
        assert_eq!(index.ranges.last().map_or(0, |range| range.end), index.size);
        let flavor = index.flavor;
        Timeline::new(flavor, &fulls, &[ArchivedFile::from(index)]);
    } else if let Some(full) = fulls.first() {
        Timeline::new(full.flavor, &fulls, &[]);
    }

    meta(data);
    let size = (data.len() as u32).to_le_bytes();
    let (frame, crc) = ((data.len() as u32 + 16).to_le_bytes(), crc32fast::hash(data).to_le_bytes());
    meta(&[&[0x54, 0x2a, 0x4d, 0x18], &frame, data, &crc, &size, b"TDMKSEG1"].concat());
    json::<SegmentMeta>(data);
}

fn meta(end_of_object: &[u8]) {
    let file = FileId { server: "s".into(), name: "binlog.000001".into(), created_unix: 1 };
    let object = SegmentObject { file, start: 0, end: 4, bytes: end_of_object.len() as u64, blake3: None, encrypted: false, edition: None };
    match parse_meta(&object, end_of_object) {
        Ok(meta) => assert_eq!((meta.start, meta.end), (0, 4)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn json<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(data).ok()?;
    let again: T = serde_json::from_slice(&serde_json::to_vec(&value).expect("it can be written")).expect("and read");
    assert_eq!(again, value);
    Some(value)
}
