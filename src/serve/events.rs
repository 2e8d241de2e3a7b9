//! The empty transaction that stands in for a skipped one.

use crate::model::gtid::MariadbGtid;
use crate::mysql::event::{ChecksumAlgorithm, EventHead, EventHeader, EventType, HEADER_BYTES};

/// The events of a transaction that has the GTID of the one `gtid_event` begins, and does nothing.
/// `mariadb` is that GTID where the flavor is MariaDB.
pub fn empty_transaction(
    gtid_event: &EventHead<'_>,
    mariadb: Option<&MariadbGtid>,
    checksum: ChecksumAlgorithm,
) -> Vec<Vec<u8>> {
    let header = &gtid_event.header;
    match mariadb {
        Some(gtid) => vec![mariadb_gtid(header, gtid, checksum), query(header, "COMMIT", checksum)],
        None => vec![gtid_event.raw.to_vec(), query(header, "BEGIN", checksum), query(header, "COMMIT", checksum)],
    }
}

/// `BEGIN` or `COMMIT`.
fn query(of: &EventHeader, statement: &str, checksum: ChecksumAlgorithm) -> Vec<u8> {
    // u32 thread, u32 seconds, u8 schema length, u16 error, u16 length of the status variables, the schema's NUL.
    let mut body = vec![0; 14];
    body.extend_from_slice(statement.as_bytes());
    event(of, EventType::QUERY, checksum, &body)
}

/// The GTID event of a plain transaction, whatever the original was: DDL has no COMMIT, for one.
fn mariadb_gtid(of: &EventHeader, gtid: &MariadbGtid, checksum: ChecksumAlgorithm) -> Vec<u8> {
    const TRANSACTIONAL: u8 = 4;
    let mut body = gtid.seq.to_le_bytes().to_vec();
    body.extend_from_slice(&gtid.domain.to_le_bytes());
    body.push(TRANSACTIONAL);
    body.extend_from_slice(&[0; 6]);
    event(of, EventType::MARIADB_GTID, checksum, &body)
}

fn event(of: &EventHeader, event_type: EventType, checksum: ChecksumAlgorithm, body: &[u8]) -> Vec<u8> {
    let size = HEADER_BYTES + body.len() + checksum.bytes();
    let header = EventHeader { event_type, event_size: u32::try_from(size).unwrap_or(u32::MAX), flags: 0, ..*of };
    let mut out = [header.encode().as_slice(), body].concat();
    if checksum == ChecksumAlgorithm::Crc32 {
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::event::{QueryKind, crc_is_right};

    #[test]
    fn an_empty_transaction_has_its_gtid_and_right_checksums() {
        let header = EventHeader {
            timestamp: 1,
            event_type: EventType::MARIADB_GTID,
            server_id: 5,
            event_size: 42,
            log_pos: 1000,
            flags: 8,
        };
        let original = EventHead { header, offset: 4, raw: b"raw", body: b"" };
        let gtid = MariadbGtid { domain: 1, server: 5, seq: 7 };
        let made = empty_transaction(&original, Some(&gtid), ChecksumAlgorithm::Crc32);
        assert!(made.iter().all(|event| crc_is_right(event)));
        let parsed = crate::mysql::event::MariadbGtidEvent::parse(&header, &made[0][HEADER_BYTES..]).unwrap();
        assert_eq!((parsed.gtid, parsed.flags), (gtid, 4));
        let commit = &made[1][HEADER_BYTES..made[1].len() - 4];
        assert_eq!(QueryKind::parse(commit).unwrap(), QueryKind::Commit);
        let mysql = empty_transaction(&original, None, ChecksumAlgorithm::Off);
        assert_eq!(mysql[0], b"raw");
        assert_eq!(QueryKind::parse(&mysql[1][HEADER_BYTES..]).unwrap(), QueryKind::Begin);
    }
}
