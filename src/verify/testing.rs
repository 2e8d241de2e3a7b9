//! What the unit tests of this module stand on.

use jiff::Timestamp;

use crate::archive::binlog_index::{Ending, FileId, FileSummary};
use crate::archive::catalog::{ArchivedFile, Closed, FileEncryption, FullHead};
use crate::model::{CommitTime, Flavor, GtidSet};

/// `A:1-5`, with a letter instead of a UUID.
pub(super) fn set(text: &str) -> GtidSet {
    let long = |c: char| match c {
        'A'..='F' => format!("{}-0000-0000-0000-000000000000", c.to_string().repeat(8)),
        c => c.to_string(),
    };
    GtidSet::parse(Flavor::Mysql, &text.chars().map(long).collect::<String>()).unwrap()
}

pub(super) fn file(server: &str, number: u32, created: u32, previous: GtidSet, gtids: GtidSet) -> ArchivedFile {
    let commit = |us: i64| CommitTime(i64::from(created) * 1_000_000 + us);
    let transactions = gtids.count();
    ArchivedFile {
        id: FileId { server: server.into(), name: format!("binlog.{number:06}"), created_unix: created },
        flavor: gtids.flavor(),
        server_version: "9.7.0".into(),
        size: 1000,
        summary: FileSummary {
            previous_gtids: previous,
            gtids,
            boundary: 1000,
            transactions,
            first_commit: Some(commit(0)),
            last_commit: (transactions > 0).then_some(commit(500_000)),
            last_gtid: None,
            crc32: true,
            statements: 0,
        },
        objects: 1,
        object_bytes: 500,
        open_transaction: None,
        closed: Some(Closed { ending: Ending::Rotate, next_file: None }),
        hole_until: None,
        encryption: FileEncryption::default(),
        further: None,
    }
}

pub(super) fn full(id: &str, server: &str, at: i64, gtids: GtidSet) -> FullHead {
    let at = Timestamp::from_second(at).unwrap();
    FullHead {
        id: id.into(),
        flavor: gtids.flavor(),
        server_version: "9.7.0".into(),
        server: server.into(),
        started_at: at,
        consistent_at: at,
        finished_at: at,
        gtids,
        position: None,
        position_created_unix: None,
        prepared_xa: None,
        log_slave_updates: None,
        recipients: Vec::new(),
        method: "logical".into(),
        objects: 1,
        bytes: 1,
        raw_bytes: 1,
        trace_id: String::new(),
    }
}
