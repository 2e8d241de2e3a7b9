use std::fmt;
use std::io;
use std::time::Duration;

use snafu::Snafu;

/// An error packet as the server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The server's error number, for example 1045.
    pub code: u16,
    /// Five characters, for example `28000`; empty when the server sent none.
    pub sqlstate: String,
    /// The server's text.
    pub message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sqlstate.is_empty() {
            write!(f, "ERROR {}: {}", self.code, self.message)
        } else {
            write!(f, "ERROR {} ({}): {}", self.code, self.sqlstate, self.message)
        }
    }
}

impl std::error::Error for ServerError {}

/// What can go wrong between us and a server (or, on the serving side, a replica).
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum Error {
    #[snafu(display(
        "cannot reach {address}: {source}; check host and port, that the server listens there, and that no firewall or network policy is between"
    ))]
    Unreachable { address: String, source: io::Error },

    #[snafu(display(
        "{address} did not answer within {} s while {doing}; check host and port and that the server is not overloaded",
        after.as_secs_f32()
    ))]
    ConnectTimeout { address: String, doing: &'static str, after: Duration },

    #[snafu(display(
        "{address} refused the login of user {user:?} ({server}); check user name and password, and that the account's host part allows this client"
    ))]
    AccessDenied { address: String, user: String, server: ServerError },

    #[snafu(display("{address} refuses connections ({server}); {}", refused_way_out(server)))]
    Refused { address: String, server: ServerError },

    #[snafu(display(
        "{address} offers no TLS; switch it on there (ssl_cert, ssl_key), or set the TLS mode to Disabled if you trust the network"
    ))]
    TlsNotOffered { address: String },

    #[snafu(display(
        "cannot use the CA certificate for {address}: {reason}; give PEM text with one or more certificates"
    ))]
    BadCa { address: String, reason: String },

    #[snafu(display(
        "the certificate of {address} is not trusted: {reason}; give the CA that signed it (of a certificate that MySQL made for itself it is ca.pem in its data directory, and the TLS mode is VerifyCA), or set the TLS mode to Required to encrypt without checking"
    ))]
    CertificateNotTrusted { address: String, reason: String },

    #[snafu(display(
        "the certificate of {address} is for another name: {reason}; connect by a name it carries, issue one with this name in subjectAltName, or set the TLS mode to VerifyCA"
    ))]
    CertificateName { address: String, reason: String },

    #[snafu(display("TLS with {address} failed: {source}"))]
    Tls { address: String, source: io::Error },

    #[snafu(display(
        "{address} wants the account to log in by {plugin}, which is not supported; use an account with caching_sha2_password, mysql_native_password or (MariaDB) ed25519"
    ))]
    AuthPlugin { address: String, plugin: String },

    #[snafu(display("{doing}: the server answered {source}"))]
    Server { doing: String, source: ServerError },

    #[snafu(display("{doing}: the connection was lost: {source}"))]
    ConnectionLost { doing: String, source: io::Error },

    #[snafu(display("nothing was heard from the server for {} s, not even a heartbeat", after.as_secs_f32()))]
    Silent { after: Duration },

    #[snafu(display("malformed packet: {what}"))]
    Malformed { what: &'static str },

    #[snafu(display("a packet of {bytes} bytes is larger than the limit of {limit} bytes"))]
    PacketTooLarge { bytes: u64, limit: u64 },

    #[snafu(display("the connection was left in the middle of an answer and cannot be used again"))]
    Abandoned,

    #[snafu(display("reading the data to load: {source}"))]
    LoadSource { source: Box<dyn std::error::Error + Send + Sync> },

    #[snafu(display(
        "the server does not let clients load data ({server}); run SET GLOBAL local_infile = ON on it while restoring"
    ))]
    LocalInfileOff { server: ServerError },

    #[snafu(display("the source no longer has {file} ({server}); its binary logs were purged before they were read"))]
    Purged { file: String, server: ServerError },

    #[snafu(display(
        "{file}:{offset} is past the end of the source's binary log ({server}); the source lost data, or is not the server this position is from"
    ))]
    BeyondEnd { file: String, offset: u64, server: ServerError },

    #[snafu(display(
        "another replica with the same server id or uuid reads from this source ({server}); give each streamer an id of its own"
    ))]
    DuplicateReplica { server: ServerError },

    #[snafu(display("the source's binary log is off ({server}); start the server with --log-bin"))]
    BinlogOff { server: ServerError },

    #[snafu(display(
        "the account may not read the binary log ({server}); run GRANT REPLICATION SLAVE ON *.* TO the account"
    ))]
    DumpDenied { server: ServerError },

    #[snafu(display("the source ended the stream: {server}"))]
    DumpRefused { server: ServerError },

    #[snafu(display(
        "the stream is out of step: the event at {file}:{offset} should end at {expected} (modulo 2^32), but says {found}; nothing of it was used"
    ))]
    OutOfStep { file: String, offset: u64, expected: u32, found: u32 },

    #[snafu(display("the login of {user:?} was refused: unknown user or wrong password"))]
    ReplicaDenied { user: String },
}

fn refused_way_out(server: &ServerError) -> &'static str {
    match server.code {
        1040 | 1203 | 1226 => "raise max_connections or the account's limits, or run fewer workers",
        1129 => "run FLUSH HOSTS (or TRUNCATE performance_schema.host_cache) on it",
        1130 => "create the account for this client's host, for example 'user'@'%'",
        3159 => "it demands TLS: set the TLS mode to Required or stronger",
        3118 => "the account is locked: run ALTER USER … ACCOUNT UNLOCK",
        1820 | 1862 => "the password has expired: run ALTER USER … IDENTIFIED BY …",
        _ => "see the server's error log",
    }
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::ConnectionLost { .. }
            | Self::Silent { .. }
            | Self::Abandoned => true,
            Self::Tls { source, .. } => source.kind() != io::ErrorKind::InvalidData,
            Self::Refused { server, .. } => matches!(server.code, 1040 | 1053 | 1203 | 1226),
            Self::Server { source, .. } => is_transient_code(source.code),
            Self::DumpRefused { server } => is_transient_code(server.code),
            _ => false,
        }
    }

    /// The server's own error, where one is behind this.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::AccessDenied { server, .. }
            | Self::Refused { server, .. }
            | Self::LocalInfileOff { server }
            | Self::Purged { server, .. }
            | Self::BeyondEnd { server, .. }
            | Self::DuplicateReplica { server }
            | Self::BinlogOff { server }
            | Self::DumpDenied { server }
            | Self::DumpRefused { server } => Some(server),
            Self::Server { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Lock waits, deadlocks, shutdowns, kills and full connection tables pass by themselves.
pub(crate) fn is_transient_code(code: u16) -> bool {
    matches!(
        code,
        1040 | 1053 | 1077 | 1078 | 1079 | 1158..=1161 | 1203 | 1205 | 1213 | 1226 | 1317 | 1927 | 3024 | 4031
    )
}
