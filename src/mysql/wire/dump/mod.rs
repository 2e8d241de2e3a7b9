//! The binary log as a replica reads it, by file and position.

mod decode;

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use self::decode::Decoder;
use super::connection::Connection;
use super::error::{Error, ServerError};
use super::packet::{lost, read_more, write_packet};
use super::transport::Transport;
use crate::model::{BinlogPosition, Flavor};
use crate::mysql::event::EventType;

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_REPLICA: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
const NON_BLOCKING: u16 = 1;
/// MySQL: heartbeats of the second kind, whose positions have 64 bits.
const HEARTBEAT_V2: u16 = 2;
/// MariaDB: send ANNOTATE_ROWS events too; without it the stream has holes.
const SEND_ANNOTATE_ROWS: u16 = 2;
const SEMI_SYNC_MAGIC: u8 = 0xef;
/// Heartbeats missed before the source counts as gone.
const MISSED_HEARTBEATS: u32 = 3;

/// What to read, and as whom.
#[derive(Clone, Debug)]
pub struct DumpRequest {
    /// First byte wanted: 4, or the end of an event.
    pub start: BinlogPosition,
    /// Unique among everything that replicates from this source, and not 0.
    pub server_id: u32,
    /// The uuid to register with; unique as well.
    pub replica_uuid: String,
    /// How often the source speaks when it has nothing to say.
    pub heartbeat: Duration,
    /// Ask to be a semi-synchronous replica, whose acknowledgements commits wait for.
    pub semi_sync: bool,
    /// Wait for more at the end; without it the stream ends there.
    pub follow: bool,
}

/// Part of an event, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file `data` starts.
    pub offset: u64,
    /// Raw bytes of the file. The first piece of an event holds at least its 19-byte header; an event of up to 64 KiB
    /// comes in one piece, a longer one in pieces of up to 1 MiB.
    pub data: Bytes,
    /// Whether an event starts with this piece.
    pub first: bool,
    /// Whether the event ends with this piece.
    pub last: bool,
    /// The event's type.
    pub event_type: EventType,
    /// The whole event's length.
    pub event_bytes: u32,
    /// Semi-sync: a commit waits for [`Acks::ack`] of this event's end.
    pub ack_wanted: bool,
}

/// What a [`DumpStream`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpItem {
    /// The bytes that follow are of this file and begin here (the source's fake ROTATE; no byte of the file itself).
    File(BinlogPosition),
    /// The file's format description event, repeated because reading starts behind it; no bytes of the file at this point.
    Format(Bytes),
    /// Bytes of the file, without gaps.
    Piece(Piece),
    /// Nothing new: everything up to here has been sent.
    Heartbeat(BinlogPosition),
}

/// The binary log's bytes as they arrive.
#[derive(Debug)]
pub struct DumpStream {
    io: ReadHalf<Transport>,
    decoder: Decoder,
    silence: Option<Duration>,
}

/// The other direction of a [`DumpStream`]: semi-sync acknowledgements, to be sent while the stream is read.
#[derive(Debug)]
pub struct Acks {
    io: WriteHalf<Transport>,
}

impl Connection {
    /// Registers as a replica and starts reading the binary log. The connection is used up.
    pub async fn dump(mut self, request: &DumpRequest) -> Result<(DumpStream, Acks), Error> {
        let flavor = self.flavor();
        let by_gtid_command = flavor == Flavor::Mysql && self.gtid_mode_allows_dump_gtid().await?;
        self.announce(flavor, request).await?;
        self.command(&register(request)).await?;
        let denied = |e| match e {
            Error::Server { source, .. } => classify(source, request),
            e => e,
        };
        self.expect_ok("registering as a replica").await.map_err(denied)?;

        let mut flags = if request.follow { 0 } else { NON_BLOCKING };
        let mut command = Vec::new();
        let mut sent = request.start.offset;
        if by_gtid_command {
            flags |= HEARTBEAT_V2;
            command.push(COM_BINLOG_DUMP_GTID);
            command.extend_from_slice(&flags.to_le_bytes());
            command.extend_from_slice(&request.server_id.to_le_bytes());
            command.extend_from_slice(&(request.start.file.len() as u32).to_le_bytes());
            command.extend_from_slice(request.start.file.as_bytes());
            command.extend_from_slice(&sent.to_le_bytes());
            // An empty set: nothing is to be left out.
            command.extend_from_slice(&8u32.to_le_bytes());
            command.extend_from_slice(&0u64.to_le_bytes());
        } else {
            // Positions have 32 bits here: what lies further is read from the file's head and passed over.
            let position = u32::try_from(sent).unwrap_or(4);
            sent = position.into();
            if flavor == Flavor::Mariadb {
                flags |= SEND_ANNOTATE_ROWS;
            }
            command.push(COM_BINLOG_DUMP);
            command.extend_from_slice(&position.to_le_bytes());
            command.extend_from_slice(&flags.to_le_bytes());
            command.extend_from_slice(&request.server_id.to_le_bytes());
            command.extend_from_slice(request.start.file.as_bytes());
        }
        self.command(&command).await?;
        let decoder = Decoder::new(self.reader.into_rest(), request.clone(), sent);
        let (read, write) = tokio::io::split(self.io);
        let silence = request.follow.then(|| request.heartbeat * MISSED_HEARTBEATS + Duration::from_secs(1));
        Ok((DumpStream { io: read, decoder, silence }, Acks { io: write }))
    }

    /// COM_BINLOG_DUMP_GTID has 64-bit positions, but a server with GTIDs off refuses it.
    async fn gtid_mode_allows_dump_gtid(&mut self) -> Result<bool, Error> {
        let rows = self.query("SELECT @@GLOBAL.gtid_mode").await?;
        Ok(!matches!(rows.first().and_then(|r| r.first()), Some(Some(mode)) if mode.as_ref() == b"OFF"))
    }

    async fn announce(&mut self, flavor: Flavor, request: &DumpRequest) -> Result<(), Error> {
        // CRC32 even where the server writes none: it means "send checksums as they are in the file".
        let heartbeat_ns = request.heartbeat.as_nanos();
        let mut set = format!(
            "SET @master_binlog_checksum = 'CRC32', @master_heartbeat_period = {heartbeat_ns}, @slave_uuid = '{}'",
            escape(&request.replica_uuid)
        );
        match flavor {
            Flavor::Mysql => set.push_str(&format!(
                ", @source_binlog_checksum = 'CRC32', @source_heartbeat_period = {heartbeat_ns}, @replica_uuid = '{}'",
                escape(&request.replica_uuid)
            )),
            Flavor::Mariadb => set.push_str(", @mariadb_slave_capability = 4"),
        }
        if request.semi_sync {
            set.push_str(", @rpl_semi_sync_slave = 1");
            if flavor == Flavor::Mysql {
                set.push_str(", @rpl_semi_sync_replica = 1");
            }
        }
        self.exec(&set).await.map(drop)
    }
}

impl DumpStream {
    /// The next item; `None` when the source ended the stream (at the end when not following, or because it shuts down).
    pub async fn next(&mut self) -> Result<Option<DumpItem>, Error> {
        loop {
            if let Some(item) = self.decoder.decode()? {
                return Ok(Some(item));
            }
            if self.decoder.has_ended() {
                return Ok(None);
            }
            let more = read_more(&mut self.io, self.decoder.buffer(), 0);
            match self.silence {
                Some(after) => timeout(after, more).await.map_err(|_| Error::Silent { after })??,
                None => more.await?,
            }
        }
    }

    /// The next item if it has arrived already, without waiting.
    pub fn next_ready(&mut self) -> Result<Option<DumpItem>, Error> {
        self.decoder.decode()
    }

    /// Whether the source treats us as a semi-synchronous replica; `None` until its first packet.
    pub fn semi_sync_active(&self) -> Option<bool> {
        self.decoder.semi_sync_active()
    }
}

impl Acks {
    /// Tells a semi-synchronous source that everything up to `position` is safe.
    pub async fn ack(&mut self, position: &BinlogPosition) -> Result<(), Error> {
        let mut payload = vec![SEMI_SYNC_MAGIC];
        payload.extend_from_slice(&position.offset.to_le_bytes());
        payload.extend_from_slice(position.file.as_bytes());
        write_packet(&mut self.io, 0, &payload).await?;
        self.io.flush().await.map_err(|e| lost("acknowledging", e))
    }
}

/// Decodes `bytes` as a dump; for the fuzz target.
pub(super) fn decode_untrusted(bytes: &[u8]) {
    let request = DumpRequest {
        start: BinlogPosition { file: "binlog.000001".to_owned(), offset: 4 },
        server_id: 1,
        replica_uuid: String::new(),
        heartbeat: Duration::from_secs(1),
        semi_sync: bytes.len().is_multiple_of(2),
        follow: false,
    };
    let mut decoder = Decoder::new(bytes.into(), request, 4);
    while let Ok(Some(_)) = decoder.decode() {}
}

fn register(request: &DumpRequest) -> Vec<u8> {
    let mut out = vec![COM_REGISTER_REPLICA];
    out.extend_from_slice(&request.server_id.to_le_bytes());
    let host = b"tidemark";
    out.push(host.len() as u8);
    out.extend_from_slice(host);
    // No user, password or port to show; rank and source id are unused.
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(&[0; 8]);
    out
}

fn escape(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// What the source's error means for whoever reads its binary log. The source has one number, 1236, for most of them.
fn classify(server: ServerError, request: &DumpRequest) -> Error {
    let text = server.message.to_ascii_lowercase();
    let BinlogPosition { file, offset } = request.start.clone();
    match server.code {
        4052 => Error::DuplicateReplica { server },
        1227 | 1045 | 1044 => Error::DumpDenied { server },
        1381 => Error::BinlogOff { server },
        1789 => Error::Purged { file, server },
        1236 if text.contains("could not find first log") || text.contains("purged") => Error::Purged { file, server },
        1236 if text.contains("position > file size") || text.contains("impossible position") => {
            Error::BeyondEnd { file, offset, server }
        }
        1236 if text.contains("same server_uuid") || text.contains("same server_id") => {
            Error::DuplicateReplica { server }
        }
        1236 if text.contains("binary log is not open") => Error::BinlogOff { server },
        _ => Error::DumpRefused { server },
    }
}
