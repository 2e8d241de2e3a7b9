//! Plain SQL, for everything that is not bulk.

use std::collections::BTreeMap;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder, Row, SslOpts, Value};
use secrecy::ExposeSecret;
use snafu::Snafu;
use tokio::time::timeout;

use super::endpoint::{Endpoint, TlsMode};
use super::flavor::preflight::{Facts, VARIABLES};
use super::flavor::{Dialect, ServerVersion, quote};
use super::wire::{self, Connection, ServerError, is_transient_code, summary};
use crate::model::Flavor;

/// What can go wrong with a statement.
#[derive(Debug, Snafu)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum Error {
    #[snafu(transparent)]
    Connect { source: wire::Error },

    #[snafu(display("{doing}: the server answered {source}"))]
    Server { doing: String, source: ServerError },

    #[snafu(display("{doing}: {source}"))]
    Client { doing: String, source: mysql_async::Error },

    #[snafu(display("{doing}: the server answered with other columns or types than expected"))]
    Shape { doing: String },

    #[snafu(display("{text:?} is no version of a server this can work with; MySQL 8.0+ or MariaDB 10.11+ is needed"))]
    Version { text: String },
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source } => source.is_transient(),
            Self::Server { source, .. } => is_transient_code(source.code),
            Self::Client { source, .. } => matches!(source, mysql_async::Error::Io(_)) || source.is_fatal(),
            Self::Shape { .. } | Self::Version { .. } => false,
        }
    }

    /// The server's error number, where the server refused the statement.
    pub fn server_code(&self) -> Option<u16> {
        match self {
            Self::Connect { source } => source.server_error().map(|e| e.code),
            Self::Server { source, .. } => Some(source.code),
            _ => None,
        }
    }
}

/// Who a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Flavor and version number.
    pub version: ServerVersion,
    /// The server's own text, for example `10.11.19-MariaDB-log`.
    pub version_text: String,
    /// `server_id`.
    pub server_id: u32,
    /// `server_uuid`; MariaDB has none.
    pub server_uuid: Option<String>,
}

impl ServerInfo {
    /// MySQL or MariaDB.
    pub fn flavor(&self) -> Flavor {
        self.version.flavor
    }

    /// The name of this server in the archive: its uuid, or `mariadb-<server_id>`.
    pub fn identity(&self) -> String {
        match &self.server_uuid {
            Some(uuid) => uuid.clone(),
            None => format!("mariadb-{}", self.server_id),
        }
    }
}

/// A logged-in connection for SQL.
#[derive(Debug)]
pub struct Session {
    conn: Conn,
    info: ServerInfo,
}

impl Session {
    /// Reaches the server, logs in and asks who it is.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let conn = log_in(endpoint).await?;
        let nobody = ServerVersion { flavor: Flavor::Mysql, major: 0, minor: 0, patch: 0 };
        let info = ServerInfo { version: nobody, version_text: String::new(), server_id: 0, server_uuid: None };
        let mut session = Self { conn, info };
        session.identify().await?;
        // Whatever the server gives its users: a statement is a transaction, and its end begins no other.
        let no_limit = session.dialect().statement_limit();
        session.exec(&format!("SET SESSION autocommit = 1, completion_type = 0, {no_limit} = 0")).await?;
        Ok(session)
    }

    /// Who the server is.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// The words it understands.
    pub fn dialect(&self) -> Dialect {
        Dialect::new(self.info.version)
    }

    /// Runs a statement; rows it may return are dropped.
    pub async fn exec(&mut self, sql: &str) -> Result<(), Error> {
        self.conn.query_drop(sql).await.map_err(|e| explain(sql, e))
    }

    /// All rows of a query, converted; a row of another shape is an error.
    pub async fn rows<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Vec<T>, Error> {
        let rows: Vec<Row> = self.conn.query(sql).await.map_err(|e| explain(sql, e))?;
        rows.into_iter().map(|row| T::from_row_opt(row).map_err(|_| Error::Shape { doing: summary(sql) })).collect()
    }

    /// The first row of a query, converted.
    pub async fn first<T: FromRow + Send + 'static>(&mut self, sql: &str) -> Result<Option<T>, Error> {
        Ok(self.rows(sql).await?.into_iter().next())
    }

    /// All rows of a SHOW statement by column name, as text; a NULL is left out.
    pub async fn named_rows(&mut self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, Error> {
        let rows: Vec<Row> = self.conn.query(sql).await.map_err(|e| explain(sql, e))?;
        let named = |row: Row| {
            let columns = row.columns();
            let names = columns.iter().map(|c| c.name_str().into_owned());
            names.zip(row.unwrap()).filter_map(|(name, value)| Some((name, text(value)?))).collect()
        };
        Ok(rows.into_iter().map(named).collect())
    }

    /// A global variable as text; `None` where the server has none of that name.
    pub async fn variable(&mut self, name: &str) -> Result<Option<String>, Error> {
        let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name = {}", quote(name));
        Ok(self.first::<(String, String)>(&sql).await?.map(|(_, value)| value))
    }

    /// What [`super::flavor::preflight::check`] looks at.
    pub async fn facts(&mut self) -> Result<Facts, Error> {
        let names = VARIABLES.map(quote).join(", ");
        let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
        let variables = self.rows::<(String, String)>(&sql).await?;
        let variables = variables.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let account: String = self.first("SELECT CURRENT_USER()").await?.unwrap_or_default();
        let (user, host) = account.rsplit_once('@').unwrap_or((&account, "%"));
        let account = format!("{}@{}", quote(user), quote(host));
        // Privileges may come by roles; MySQL shows those only when asked for.
        let mut show = "SHOW GRANTS".to_owned();
        if self.info.flavor() == Flavor::Mysql {
            let roles: String = self.first("SELECT CURRENT_ROLE()").await?.unwrap_or_default();
            if !roles.is_empty() && roles != "NONE" {
                show = format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}");
            }
        }
        let grants = self.rows::<String>(&show).await?;
        Ok(Facts { version: self.info.version, variables, account, grants })
    }

    /// The connection itself, for what has no method here.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Says goodbye.
    pub async fn close(self) {
        let _ = self.conn.disconnect().await;
    }

    async fn identify(&mut self) -> Result<(), Error> {
        const SQL: &str = "SELECT VERSION(), @@GLOBAL.server_id";
        let (version_text, server_id): (String, u32) =
            self.first(SQL).await?.ok_or_else(|| Error::Shape { doing: SQL.to_owned() })?;
        let version =
            ServerVersion::parse(&version_text).ok_or_else(|| Error::Version { text: version_text.clone() })?;
        let server_uuid = match version.flavor {
            Flavor::Mysql => self.first::<String>("SELECT @@GLOBAL.server_uuid").await?,
            Flavor::Mariadb => None,
        };
        self.info = ServerInfo { version, version_text, server_id, server_uuid };
        Ok(())
    }
}

/// Logs in by mysql_async.
///
/// The wire client says what is wrong and how to mend it, as mysql_async names neither host nor way out; and where it is
/// let in and mysql_async is not, the fault may be mysql_async's own: it cuts a challenge of ed25519 that ends in a zero
/// byte, as one in 256 does. Another login gets another challenge.
async fn log_in(endpoint: &Endpoint) -> Result<Conn, Error> {
    const ATTEMPTS: u32 = 4;
    let mut attempt = 1;
    loop {
        let failed = match timeout(endpoint.connect_timeout, Conn::new(options(endpoint))).await {
            Ok(Ok(conn)) => return Ok(conn),
            Ok(Err(source)) => Some(source),
            Err(_) => None,
        };
        Connection::connect(endpoint).await?.close().await;
        match failed {
            Some(mysql_async::Error::Server(e)) if e.code == 1045 && attempt < ATTEMPTS => attempt += 1,
            Some(source) => {
                return Err(Error::Client { doing: format!("logging in to {}", endpoint.address()), source });
            }
            None => {
                let (address, after) = (endpoint.address(), endpoint.connect_timeout);
                return Err(wire::Error::ConnectTimeout { address, doing: "logging in", after }.into());
            }
        }
    }
}

fn options(endpoint: &Endpoint) -> OptsBuilder {
    // mysql_async takes the process's provider, and there is none to guess when several are compiled in.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tls = (endpoint.tls.mode != TlsMode::Disabled).then(|| {
        let mut tls = SslOpts::default();
        if let Some(pem) = &endpoint.tls.ca_pem {
            tls = tls.with_root_certs(vec![pem.clone().into_bytes().into()]).with_disable_built_in_roots(true);
        }
        match endpoint.tls.mode {
            TlsMode::Required => tls.with_danger_accept_invalid_certs(true),
            // mysql_async finds a wrong name by looking for this word in the error's text, where rustls no longer
            // writes it, but quotes the name that was asked for. The chain is checked either way.
            TlsMode::VerifyCa => {
                tls.with_danger_skip_domain_validation(true).with_danger_tls_hostname_override(Some("NotValidForName"))
            }
            // The certificate names the host, not the one of its addresses that is meant.
            _ => tls.with_danger_tls_hostname_override(endpoint.at.map(|_| endpoint.host.clone())),
        }
    });
    OptsBuilder::default()
        .ip_or_hostname(endpoint.target())
        .tcp_port(endpoint.port)
        .user(Some(&endpoint.user))
        .pass(Some(endpoint.password.expose_secret()))
        .prefer_socket(false)
        .max_allowed_packet(Some(1 << 30))
        .wait_timeout(Some(28_800))
        .ssl_opts(tls)
}

fn explain(sql: &str, error: mysql_async::Error) -> Error {
    let doing = summary(sql);
    match error {
        mysql_async::Error::Server(e) => {
            Error::Server { doing, source: ServerError { code: e.code, sqlstate: e.state, message: e.message } }
        }
        source => Error::Client { doing, source },
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}
