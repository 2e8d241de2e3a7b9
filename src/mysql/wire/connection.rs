use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::auth;
use super::error::{Error, ServerError};
use super::handshake::{self, Greeting, capability};
use super::input::{Input, parse_err};
use super::packet::{PacketReader, lost, write_packet};
use super::rows::{Column, RowStream};
use super::tls;
use super::transport::{Transport, tune};
use crate::model::Flavor;
use crate::mysql::endpoint::{Endpoint, TlsMode};

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
/// No packet but a row or an event is longer than this.
const MAX_REPLY_BYTES: u64 = 16 * 1024 * 1024;
/// Longest row a server can send.
const MAX_ROW_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Data to load goes in packets of at most this size, below any sensible `max_allowed_packet`.
const LOAD_PACKET_BYTES: usize = 128 * 1024;

/// What a statement without a result did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows inserted, changed or deleted.
    pub affected_rows: u64,
    /// Warnings; read them with SHOW WARNINGS on the same connection.
    pub warnings: u16,
    /// The server's own summary, for example `Records: 3  Deleted: 0  Skipped: 0  Warnings: 0`.
    pub info: String,
}

/// A logged-in connection. One exchange at a time; one that was left half-way (an error or a dropped future) makes every
/// later call fail with [`Error::Abandoned`].
#[derive(Debug)]
pub struct Connection {
    pub(crate) io: Transport,
    pub(crate) reader: PacketReader,
    pub(crate) in_exchange: bool,
    server_version: String,
    connection_id: u32,
}

enum Reply {
    Done(Done),
    Columns(u64),
    LocalInfile,
}

impl Connection {
    /// Reaches the server, encrypts as the endpoint asks and logs in, all within its `connect_timeout`.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let began = Instant::now();
        let late =
            |doing| Error::ConnectTimeout { address: endpoint.address(), doing, after: endpoint.connect_timeout };
        let host = endpoint.target();
        let stream = timeout(endpoint.connect_timeout, TcpStream::connect((host.as_str(), endpoint.port)))
            .await
            .map_err(|_| late("connecting"))?
            .and_then(|stream| tune(&stream).map(|()| stream))
            .map_err(|source| Error::Unreachable { address: endpoint.address(), source })?;
        let left = endpoint.connect_timeout.saturating_sub(began.elapsed());
        timeout(left, Self::log_in(endpoint, stream)).await.map_err(|_| late("logging in"))?
    }

    /// The server's version text, for example `9.7.4` or `10.11.19-MariaDB-log`.
    pub fn server_version(&self) -> &str {
        self.server_version.strip_prefix("5.5.5-").unwrap_or(&self.server_version)
    }

    /// The server's flavor, by its version text.
    pub fn flavor(&self) -> Flavor {
        if self.server_version.to_ascii_lowercase().contains("mariadb") { Flavor::Mariadb } else { Flavor::Mysql }
    }

    /// The server's number for this connection, as in its process list (for KILL).
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.io.is_tls()
    }

    /// Runs a statement; rows it may return are read and dropped.
    pub async fn exec(&mut self, sql: &str) -> Result<Done, Error> {
        match self.start(sql).await? {
            Reply::Done(done) => Ok(done),
            Reply::LocalInfile => self.refuse_file().await,
            Reply::Columns(n) => {
                let columns = self.columns(n).await?;
                let mut rows = RowStream::new(self, columns, MAX_ROW_BYTES);
                while rows.next().await?.is_some() {}
                Ok(Done::default())
            }
        }
    }

    /// Like [`Self::exec`], for a statement that need not be UTF-8: the server reads it in `character_set_client`.
    pub async fn exec_bytes(&mut self, sql: &[u8]) -> Result<Done, Error> {
        let payload = [&[COM_QUERY], sql].concat();
        self.command(&payload).await?;
        match self.reply(&summary(&String::from_utf8_lossy(sql))).await? {
            Reply::Done(done) => Ok(done),
            Reply::LocalInfile => self.refuse_file().await,
            Reply::Columns(_) => Err(Error::Malformed { what: "a definition returned rows" }),
        }
    }

    /// Runs a query with a small result, read whole.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<Bytes>>>, Error> {
        let mut rows = self.stream_rows(sql, MAX_REPLY_BYTES).await?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().await? {
            out.push(row.fields().map(|f| Ok(f?.map(Bytes::copy_from_slice))).collect::<Result<_, Error>>()?);
        }
        Ok(out)
    }

    /// Runs a query with a result of any size, read row by row; a row longer than `max_row_bytes` is an error.
    pub async fn stream_rows(&mut self, sql: &str, max_row_bytes: u64) -> Result<RowStream<'_>, Error> {
        match self.start(sql).await? {
            Reply::Columns(n) => {
                let columns = self.columns(n).await?;
                Ok(RowStream::new(self, columns, max_row_bytes))
            }
            Reply::Done(_) => Err(Error::Malformed { what: "the statement returned no rows" }),
            Reply::LocalInfile => self.refuse_file().await,
        }
    }

    /// Runs a `LOAD DATA LOCAL INFILE` (the file name in it is not looked at) and sends what `source` yields as the file.
    ///
    /// An error of the source ends the connection, so that the server drops what came so far instead of keeping a part.
    pub async fn load_data<S, E>(&mut self, sql: &str, mut source: S) -> Result<Done, Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.start(sql).await {
            Ok(Reply::LocalInfile) => {}
            Ok(_) => return Err(Error::Malformed { what: "the server did not ask for the data to load" }),
            Err(Error::Server { source, .. }) if matches!(source.code, 1148 | 3948 | 4166) => {
                return Err(Error::LocalInfileOff { server: source });
            }
            Err(e) => return Err(e),
        }
        let mut seq = self.reader.next_seq;
        while let Some(chunk) = source.next().await {
            let mut chunk = match chunk {
                Ok(chunk) => chunk,
                Err(e) => {
                    let _ = self.io.shutdown().await;
                    return Err(Error::LoadSource { source: e.into() });
                }
            };
            while !chunk.is_empty() {
                let piece = chunk.split_to(chunk.len().min(LOAD_PACKET_BYTES));
                match write_packet(&mut self.io, seq, &piece).await {
                    Ok(next) => seq = next,
                    Err(e) => return Err(self.last_words().await.unwrap_or(e)),
                }
            }
        }
        write_packet(&mut self.io, seq, &[]).await?;
        self.flush().await?;
        match self.reply("loading data").await? {
            Reply::Done(done) => Ok(done),
            _ => Err(Error::Malformed { what: "the answer to the loaded data is neither OK nor an error" }),
        }
    }

    /// Says goodbye. Dropping the connection is as good, but counts as an aborted one on the server.
    pub async fn close(mut self) {
        if write_packet(&mut self.io, 0, &[COM_QUIT]).await.is_ok() {
            let _ = self.io.shutdown().await;
        }
    }

    /// Sends a command; the caller reads its answer.
    pub(crate) async fn command(&mut self, payload: &[u8]) -> Result<(), Error> {
        if self.in_exchange {
            return Err(Error::Abandoned);
        }
        self.in_exchange = true;
        write_packet(&mut self.io, 0, payload).await?;
        self.flush().await
    }

    /// Reads an answer that must be OK.
    pub(crate) async fn expect_ok(&mut self, doing: &str) -> Result<(), Error> {
        match self.reply(doing).await? {
            Reply::Done(_) => Ok(()),
            _ => Err(Error::Malformed { what: "an OK was due" }),
        }
    }

    async fn start(&mut self, sql: &str) -> Result<Reply, Error> {
        let mut payload = Vec::with_capacity(sql.len() + 1);
        payload.push(COM_QUERY);
        payload.extend_from_slice(sql.as_bytes());
        self.command(&payload).await?;
        drop(payload);
        self.reply(&summary(sql)).await
    }

    async fn reply(&mut self, doing: &str) -> Result<Reply, Error> {
        let packet = self.reader.read(&mut self.io, MAX_REPLY_BYTES).await?;
        let mut input = Input::new(packet);
        match packet.first() {
            Some(0x00) => {
                let done = parse_ok(packet)?;
                self.in_exchange = false;
                Ok(Reply::Done(done))
            }
            Some(0xff) => {
                let source = parse_err(packet)?;
                self.in_exchange = false;
                Err(Error::Server { doing: doing.to_owned(), source })
            }
            Some(0xfb) => Ok(Reply::LocalInfile),
            Some(_) => Ok(Reply::Columns(input.lenenc_int()?)),
            None => Err(Error::Malformed { what: "an empty answer" }),
        }
    }

    async fn columns(&mut self, count: u64) -> Result<Vec<Column>, Error> {
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(Column::parse(self.reader.read(&mut self.io, MAX_REPLY_BYTES).await?)?);
        }
        match self.reader.read(&mut self.io, MAX_REPLY_BYTES).await? {
            [0xfe, rest @ ..] if rest.len() < 8 => Ok(columns),
            _ => Err(Error::Malformed { what: "an EOF was due after the columns" }),
        }
    }

    /// A server that asks for a file nobody offered gets an empty one.
    async fn refuse_file<T>(&mut self) -> Result<T, Error> {
        write_packet(&mut self.io, self.reader.next_seq, &[]).await?;
        self.flush().await?;
        self.reply("refusing to send a file").await?;
        Err(Error::Malformed { what: "the server asked for a file; use load_data" })
    }

    /// Why the server closed the connection on us, if it said so.
    async fn last_words(&mut self) -> Option<Error> {
        match timeout(std::time::Duration::from_secs(1), self.reply("loading data")).await {
            Ok(Err(e @ Error::Server { .. })) => Some(e),
            _ => None,
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.io.flush().await.map_err(|e| lost("writing", e))
    }

    async fn log_in(endpoint: &Endpoint, mut stream: TcpStream) -> Result<Self, Error> {
        let address = || endpoint.address();
        let mut reader = PacketReader::default();
        let packet = reader.read(&mut stream, MAX_REPLY_BYTES).await?;
        if packet.first() == Some(&0xff) {
            return Err(Error::Refused { address: address(), server: parse_err(packet)? });
        }
        let greeting = Greeting::parse(packet)?;
        let wants_tls = endpoint.tls.mode != TlsMode::Disabled;
        let capabilities = handshake::client_capabilities(wants_tls)
            & (greeting.capabilities | capability::LONG_PASSWORD | capability::LOCAL_FILES);
        let mut seq = reader.next_seq;
        let io = if wants_tls {
            if greeting.capabilities & capability::SSL == 0 {
                return Err(Error::TlsNotOffered { address: address() });
            }
            seq = write_packet(&mut stream, seq, &handshake::ssl_request(capabilities)).await?;
            // Whatever came before encryption began could be anybody's.
            if !reader.is_empty() {
                return Err(Error::Malformed { what: "the server spoke out of turn before TLS" });
            }
            Transport::Tls(Box::new(tls::connect(endpoint, stream).await?))
        } else {
            Transport::Plain(stream)
        };
        let mut connection = Self {
            io,
            reader,
            in_exchange: true,
            server_version: greeting.server_version,
            connection_id: greeting.connection_id,
        };
        connection.authenticate(endpoint, capabilities, seq, greeting.plugin, greeting.nonce).await?;
        connection.in_exchange = false;
        Ok(connection)
    }

    async fn authenticate(
        &mut self,
        endpoint: &Endpoint,
        capabilities: u32,
        seq: u8,
        mut plugin: String,
        mut nonce: Vec<u8>,
    ) -> Result<(), Error> {
        let address = || endpoint.address();
        // The greeting names the server's default; the account's own plugin comes by an auth switch.
        let answer = match auth::first_answer(&plugin, &endpoint.password, &nonce) {
            Some(answer) => answer,
            None => {
                plugin = auth::NATIVE.to_owned();
                auth::first_answer(&plugin, &endpoint.password, &nonce).unwrap_or_default()
            }
        };
        let mut send = Some((seq, handshake::login(capabilities, &endpoint.user, &answer, &plugin)));
        loop {
            if let Some((seq, payload)) = send.take() {
                write_packet(&mut self.io, seq, &payload).await?;
                self.flush().await?;
            }
            let packet = self.reader.read(&mut self.io, MAX_REPLY_BYTES).await?.to_vec();
            let seq = self.reader.next_seq;
            match packet.as_slice() {
                [0x00, ..] => return Ok(()),
                [0xff, ..] => return Err(refused(endpoint, parse_err(&packet)?)),
                [0xfe] => {
                    return Err(Error::AuthPlugin { address: address(), plugin: "mysql_old_password".to_owned() });
                }
                [0xfe, rest @ ..] => {
                    let mut input = Input::new(rest);
                    plugin = String::from_utf8_lossy(input.nul_terminated()?).into_owned();
                    nonce = auth::switched_nonce(&plugin, input.rest()).to_vec();
                    let answer = auth::first_answer(&plugin, &endpoint.password, &nonce)
                        .ok_or_else(|| Error::AuthPlugin { address: address(), plugin: plugin.clone() })?;
                    send = Some((seq, answer));
                }
                [0x01, rest @ ..] if plugin == auth::CACHING_SHA2 => match rest {
                    [3] => {}
                    [4] if self.io.is_tls() => send = Some((seq, auth::password_with_nul(&endpoint.password))),
                    [4] => send = Some((seq, vec![2])),
                    key => send = Some((seq, auth::encrypted_password(&endpoint.password, &nonce, key)?)),
                },
                _ => return Err(Error::Malformed { what: "not an answer to a login" }),
            }
        }
    }
}

fn refused(endpoint: &Endpoint, server: ServerError) -> Error {
    match server.code {
        1044 | 1045 | 1698 | 1873 => {
            Error::AccessDenied { address: endpoint.address(), user: endpoint.user.clone(), server }
        }
        _ => Error::Refused { address: endpoint.address(), server },
    }
}

pub(crate) fn parse_ok(packet: &[u8]) -> Result<Done, Error> {
    let mut input = Input::new(packet);
    input.u8()?;
    let affected_rows = input.lenenc_int()?;
    input.lenenc_int()?;
    input.u16()?;
    let warnings = input.u16()?;
    let info = input.rest();
    // With a leading length byte only when session tracking is on; the text never starts with a control character.
    let info = info.strip_prefix(&[info.len().saturating_sub(1) as u8]).unwrap_or(info);
    Ok(Done { affected_rows, warnings, info: String::from_utf8_lossy(info).into_owned() })
}

/// The statement up to its first string: enough to find it, and no password or user data in an error text.
pub(crate) fn summary(sql: &str) -> String {
    const CHARS: usize = 120;
    let mut text: String = sql.chars().take_while(|c| !matches!(c, '\'' | '"')).take(CHARS).collect();
    if text.len() < sql.len() {
        text.push('…');
    }
    text
}
