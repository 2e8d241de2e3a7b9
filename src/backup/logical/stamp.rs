//! Which binlog file a position is in: names are used again, the creation stamp in a file's head tells them apart.
//!
//! The stamp is read after the locks are gone. A log that is begun anew in between may have a file of the same name, and before long the
//! same GTIDs and positions: only that there was a RESET tells.

use std::time::Duration;

use uuid::Uuid;

use super::error::LogicalError;
use super::session::{Session, number};
use crate::model::BinlogPosition;
use crate::mysql::endpoint::Endpoint;
use crate::mysql::event::{EventType, FileScanner, FormatDescription, MAGIC};
use crate::mysql::wire::{Connection, DumpItem, DumpRequest};

const PATIENCE: Duration = Duration::from_secs(30);

/// How often the server was told to reset something.
pub(super) async fn resets(session: &mut Session) -> Result<u64, LogicalError> {
    let row = session.row("SHOW GLOBAL STATUS LIKE 'Com\\_reset'", "how often it was reset").await?;
    Ok(number(&row, 1))
}

/// The creation stamp of the file of `position`; none if the source does not let us read its binlog.
pub(super) async fn created_unix(source: &Endpoint, position: &BinlogPosition) -> Option<u32> {
    tokio::time::timeout(PATIENCE, read(source, &position.file)).await.ok()?
}

async fn read(source: &Endpoint, file: &str) -> Option<u32> {
    let connection = Connection::connect(source).await.ok()?;
    let request = DumpRequest {
        start: BinlogPosition { file: file.to_owned(), offset: MAGIC.len() as u64 },
        server_id: rand::random_range(0x8000_0000..0xffff_fff0),
        replica_uuid: Uuid::new_v4().to_string(),
        heartbeat: PATIENCE,
        semi_sync: false,
        follow: false,
    };
    let (mut dump, _acks) = connection.dump(&request).await.ok()?;
    let mut scanner = FileScanner::new();
    let _ = scanner.scan(&mut MAGIC.as_slice());
    while let Some(item) = dump.next().await.ok()? {
        let DumpItem::Piece(piece) = item else { continue };
        let mut data = &piece.data[..];
        while let Some(event) = scanner.next_event(&mut data).ok()? {
            if event.header.event_type == EventType::FORMAT_DESCRIPTION {
                return FormatDescription::parse(&event.header, event.body).ok().map(|format| format.created_unix);
            }
        }
    }
    None
}
