//! The source's side of replication: logs a replica in, reads its commands, and writes answers and events. No TLS here:
//! it is meant for loopback and for networks that encrypt by themselves.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use rand::RngCore;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::auth::{self, CACHING_SHA2, NATIVE};
use super::error::{Error, ServerError};
use super::handshake::{Greeting, Login, capability};
use super::input::{Input, put_lenenc_bytes, put_lenenc_int};
use super::packet::{MAX_PAYLOAD, PacketReader, lost, packet_header, write_packet};
use super::transport::tune;
use crate::model::Flavor;

const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_COMMAND_BYTES: u64 = 64 * 1024 * 1024;
const WRITE_BUFFER_BYTES: usize = 256 * 1024;
const MAX_LOGIN_BYTES: u64 = 64 * 1024;
const AUTOCOMMIT: u8 = 2;
/// caching_sha2_password: the scramble was right, no full exchange is needed (the password is known here).
const FAST_AUTH_DONE: [u8; 2] = [1, 3];

/// How the served source presents itself and whom it lets in.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Whose dialect replicas expect.
    pub flavor: Flavor,
    /// Version text for the greeting, for example `9.7.4` or `10.11.19-MariaDB-log`.
    pub version: String,
    /// The one account.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// What a replica asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// SQL text.
    Query(String),
    /// COM_REGISTER_SLAVE.
    RegisterReplica {
        /// The replica's server id.
        server_id: u32,
    },
    /// COM_BINLOG_DUMP: by file and position; with MariaDB GTIDs the position is in `@slave_connect_state` before it.
    BinlogDump {
        /// Where to begin.
        position: u32,
        /// Bit 0: do not wait at the end.
        flags: u16,
        /// The replica's server id.
        server_id: u32,
        /// The file, or nothing.
        file: String,
    },
    /// COM_BINLOG_DUMP_GTID.
    BinlogDumpGtid {
        /// Bit 0: do not wait at the end; bit 1: heartbeats of the second kind; bit 2: by GTID.
        flags: u16,
        /// The replica's server id.
        server_id: u32,
        /// The file, or nothing.
        file: String,
        /// Where to begin in `file`.
        position: u64,
        /// What the replica has, in the wire form of a GTID set.
        gtid_data: Bytes,
    },
    /// COM_PING.
    Ping,
    /// COM_QUIT.
    Quit,
    /// Any other command, by its number.
    Other(u8),
}

/// A logged-in replica.
#[derive(Debug)]
pub struct ReplicaConnection {
    io: BufWriter<TcpStream>,
    reader: PacketReader,
    seq: u8,
    event: EventProgress,
}

/// How far the event being written has come.
#[derive(Debug, Default)]
struct EventProgress {
    packet_left: usize,
    event_left: usize,
    packet_full: bool,
}

impl ReplicaConnection {
    /// Greets whoever connected and logs them in, within ten seconds.
    pub async fn accept(stream: TcpStream, config: &ServerConfig, connection_id: u32) -> Result<Self, Error> {
        timeout(LOGIN_TIMEOUT, Self::log_in(stream, config, connection_id))
            .await
            .map_err(|_| Error::Silent { after: LOGIN_TIMEOUT })?
    }

    /// The next command; `None` when the replica closed the connection.
    pub async fn next_command(&mut self) -> Result<Option<Command>, Error> {
        let packet = match self.reader.read(self.io.get_mut(), MAX_COMMAND_BYTES).await {
            Ok(packet) => packet,
            Err(Error::ConnectionLost { source, .. }) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let command = Command::parse(packet)?;
        self.seq = self.reader.next_seq;
        Ok(Some(command))
    }

    /// Answers OK.
    pub async fn ok(&mut self) -> Result<(), Error> {
        self.write(&[0, 0, 0, AUTOCOMMIT, 0, 0, 0]).await?;
        self.flush().await
    }

    /// Answers with an error; during a dump it ends the stream.
    pub async fn error(&mut self, error: &ServerError) -> Result<(), Error> {
        let payload = encode_err(error);
        self.write(&payload).await?;
        self.flush().await
    }

    /// Ends a stream of events the way a source does that was asked not to wait.
    pub async fn eof(&mut self) -> Result<(), Error> {
        self.write(&[0xfe, 0, 0, AUTOCOMMIT, 0]).await?;
        self.flush().await
    }

    /// Answers with a result set; `None` is SQL NULL.
    pub async fn result_set(&mut self, columns: &[&str], rows: &[Vec<Option<String>>]) -> Result<(), Error> {
        let mut payload = Vec::new();
        put_lenenc_int(&mut payload, columns.len() as u64);
        self.write(&payload).await?;
        for column in columns {
            payload.clear();
            for text in ["def", "", "", "", column, ""] {
                put_lenenc_bytes(&mut payload, text.as_bytes());
            }
            // utf8mb4, VARCHAR, 1024 bytes.
            payload.extend_from_slice(&[0x0c, 45, 0, 0, 4, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
            self.write(&payload).await?;
        }
        let eof = [0xfe, 0, 0, AUTOCOMMIT, 0];
        self.write(&eof).await?;
        for row in rows {
            payload.clear();
            for field in row {
                match field {
                    Some(text) => put_lenenc_bytes(&mut payload, text.as_bytes()),
                    None => payload.push(0xfb),
                }
            }
            self.write(&payload).await?;
        }
        self.write(&eof).await?;
        self.flush().await
    }

    /// Writes a whole event. Nothing is sent before the buffer is full or [`Self::flush`] is called.
    pub async fn event(&mut self, event: &[u8]) -> Result<(), Error> {
        self.begin_event(event.len()).await?;
        self.event_data(event).await
    }

    /// Begins an event of `event_bytes` whose bytes follow by [`Self::event_data`], in pieces of any size.
    pub async fn begin_event(&mut self, event_bytes: usize) -> Result<(), Error> {
        if self.event.event_left > 0 {
            return Err(Error::Malformed { what: "an event begins before the last one ended" });
        }
        self.event.event_left = event_bytes;
        self.begin_packet(event_bytes.saturating_add(1)).await?;
        self.io.write_all(&[0]).await.map_err(sending)?;
        self.event.packet_left -= 1;
        Ok(())
    }

    /// Writes the next bytes of the event begun last.
    pub async fn event_data(&mut self, mut data: &[u8]) -> Result<(), Error> {
        if data.len() > self.event.event_left {
            return Err(Error::Malformed { what: "an event is longer than announced" });
        }
        loop {
            let (piece, rest) = data.split_at(data.len().min(self.event.packet_left));
            self.io.write_all(piece).await.map_err(sending)?;
            self.event.packet_left -= piece.len();
            self.event.event_left -= piece.len();
            data = rest;
            // A full packet says that another follows, be it an empty one.
            if self.event.packet_left == 0 && self.event.packet_full {
                self.begin_packet(self.event.event_left).await?;
            }
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends what is buffered.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.io.flush().await.map_err(sending)
    }

    /// Completes when the replica closes the connection or says anything more (as it does to stop); cancel-safe.
    pub async fn closed(&mut self) {
        let mut byte = [0; 1];
        let _ = self.io.get_mut().read(&mut byte).await;
    }

    async fn begin_packet(&mut self, payload_bytes: usize) -> Result<(), Error> {
        let length = payload_bytes.min(MAX_PAYLOAD);
        let header = packet_header(length, self.seq);
        self.seq = self.seq.wrapping_add(1);
        self.event.packet_left = length;
        self.event.packet_full = length == MAX_PAYLOAD;
        self.io.write_all(&header).await.map_err(sending)
    }

    async fn write(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.seq = write_packet(&mut self.io, self.seq, payload).await?;
        Ok(())
    }

    async fn log_in(stream: TcpStream, config: &ServerConfig, connection_id: u32) -> Result<Self, Error> {
        tune(&stream).map_err(sending)?;
        let io = BufWriter::with_capacity(WRITE_BUFFER_BYTES, stream);
        let mut this = Self { io, reader: PacketReader::default(), seq: 0, event: EventProgress::default() };
        let greeting = greeting(config, connection_id);
        this.write(&greeting.encode()).await?;
        this.flush().await?;
        let login = Login::parse(&this.answer().await?)?;
        let answer = if login.plugin == greeting.plugin {
            login.auth
        } else {
            let mut switch = vec![0xfe];
            for part in [greeting.plugin.as_bytes(), &greeting.nonce] {
                switch.extend_from_slice(part);
                switch.push(0);
            }
            this.write(&switch).await?;
            this.flush().await?;
            this.answer().await?
        };
        let expected = auth::first_answer(&greeting.plugin, &config.password, &greeting.nonce).unwrap_or_default();
        if login.user != config.user || verify_slices_are_equal(&answer, &expected).is_err() {
            let message = format!("Access denied for user '{}' (using password: YES)", login.user);
            this.error(&ServerError { code: 1045, sqlstate: "28000".to_owned(), message }).await?;
            return Err(Error::ReplicaDenied { user: login.user });
        }
        if greeting.plugin == CACHING_SHA2 && !answer.is_empty() {
            this.write(&FAST_AUTH_DONE).await?;
        }
        this.ok().await?;
        Ok(this)
    }

    async fn answer(&mut self) -> Result<Vec<u8>, Error> {
        let packet = self.reader.read(self.io.get_mut(), MAX_LOGIN_BYTES).await?.to_vec();
        self.seq = self.reader.next_seq;
        Ok(packet)
    }
}

impl Command {
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, Error> {
        let mut input = Input::new(packet);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(match input.u8()? {
            0x01 => Self::Quit,
            0x03 => Self::Query(text(input.rest())),
            0x0e => Self::Ping,
            0x12 => {
                let (position, flags, server_id) = (input.u32()?, input.u16()?, input.u32()?);
                Self::BinlogDump { position, flags, server_id, file: text(input.rest()) }
            }
            0x15 => Self::RegisterReplica { server_id: input.u32()? },
            0x1e => {
                let (flags, server_id, name_bytes) = (input.u16()?, input.u32()?, input.u32()?);
                let file = text(input.bytes(name_bytes as usize)?);
                let position = input.u64()?;
                let data_bytes = input.u32()?;
                let gtid_data = Bytes::copy_from_slice(input.bytes(data_bytes as usize)?);
                Self::BinlogDumpGtid { flags, server_id, file, position, gtid_data }
            }
            other => Self::Other(other),
        })
    }
}

fn greeting(config: &ServerConfig, connection_id: u32) -> Greeting {
    use capability::*;
    // The nonce is text on the wire: no NUL may end it early.
    let mut nonce = vec![0; 20];
    rand::rng().fill_bytes(&mut nonce);
    for byte in &mut nonce {
        *byte = *byte % 94 + 33;
    }
    let (plugin, prefix) = match config.flavor {
        Flavor::Mysql => (CACHING_SHA2, ""),
        // Replicas older than MariaDB 11 look for this in front of a version above 5.
        Flavor::Mariadb => (NATIVE, "5.5.5-"),
    };
    Greeting {
        server_version: format!("{prefix}{}", config.version),
        connection_id,
        capabilities: LONG_PASSWORD
            | LONG_FLAG
            | CONNECT_WITH_DB
            | PROTOCOL_41
            | TRANSACTIONS
            | SECURE_CONNECTION
            | PLUGIN_AUTH,
        nonce,
        plugin: plugin.to_owned(),
    }
}

fn encode_err(error: &ServerError) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend_from_slice(&error.code.to_le_bytes());
    payload.push(b'#');
    let state = if error.sqlstate.len() == 5 { error.sqlstate.as_str() } else { "HY000" };
    payload.extend_from_slice(state.as_bytes());
    payload.extend_from_slice(error.message.as_bytes());
    payload
}

fn sending(e: std::io::Error) -> Error {
    lost("answering a replica", e)
}
