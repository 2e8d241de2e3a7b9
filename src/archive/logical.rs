//! What a logical full consists of: a description object of JSON lines ([`Record`]) and chunks of rows.
//!
//! A chunk object is what `LOAD DATA … CHARACTER SET binary` reads with its default field and line options: fields parted by
//! tabs, rows ended by a newline, backslash escapes, `\N` for NULL; `zstd -d` and a stock client load it.

use serde::{Deserialize, Serialize};

use super::rows::Checksum;

/// What a description's key ends with, behind its full's folder. It is stored when all rows are.
pub const DESCRIPTION: &str = "description.jsonl.zst";

/// The schema in which a restore keeps its state on its target: a source must not have one of that name.
pub const STATE_SCHEMA: &str = "tidemark_restore";

/// The logical part of a full's manifest. Its size does not grow with the number of tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogicalContent {
    /// Index in the manifest's `objects` of the description: JSON lines, each a [`Record`].
    pub description: usize,
    /// Number of tables.
    pub tables: u64,
    /// Number of rows in all tables.
    pub rows: u64,
    /// Size of all rows before compression in bytes.
    pub raw_bytes: u64,
    /// What this full does not hold or a restore cannot bring back exactly, in words. Empty for an exact full, and in the stored manifest of an
    /// encrypted one: they name tables, and are in its description.
    pub warnings: Vec<String>,
}

/// SQL text as bytes: definitions may be in any character set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SqlText {
    /// Valid UTF-8.
    Text(String),
    /// Anything else.
    Hex {
        /// The bytes in hexadecimal.
        #[serde(with = "hex::serde")]
        hex: Vec<u8>,
    },
}

impl SqlText {
    /// The bytes, as they go to the server.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Hex { hex } => hex,
        }
    }
}

impl From<Vec<u8>> for SqlText {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|e| Self::Hex { hex: e.into_bytes() }, Self::Text)
    }
}

impl From<String> for SqlText {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// One line of the description. Lines come in no order but: the [`Record::End`] is last, and without it the object is torn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Record {
    /// Settings of the source that its definitions lean on.
    Server(ServerRecord),
    /// A schema.
    Schema(Schema),
    /// A table (or a MariaDB sequence) and its rows.
    Table(Table),
    /// A view, routine, trigger or event.
    Program(Program),
    /// A user or a role.
    Account(Account),
    /// Nothing is missing.
    End {
        /// How many records came before.
        records: u64,
    },
}

/// Settings of the source that its definitions lean on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRecord {
    /// `@@lower_case_table_names`.
    pub lower_case_table_names: u8,
    /// `@@partial_revokes` (MySQL): needed before grants that revoke in part.
    pub partial_revokes: bool,
    /// Statements for what belongs to the whole server and comes before schemas: spatial reference systems, general tablespaces.
    pub before_schemas: Vec<SqlText>,
    /// Loadable functions (name, library) that must be installed by hand.
    pub loadable_functions: Vec<(String, String)>,
    /// `@@default_storage_engine`: what a table in the log has that is made without saying one. None in older fulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_storage_engine: Option<String>,
    /// `@@mandatory_roles` (MySQL): accounts may have them as default roles without being granted them. None in older fulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandatory_roles: Option<String>,
    /// Statements that make what `mysql.servers` holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_servers: Vec<SqlText>,
    /// Statements that bring back histograms (MySQL), run once every row is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histograms: Vec<SqlText>,
    /// Of an encrypted full: [`LogicalContent::warnings`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// `CREATE DATABASE …`.
    pub create: SqlText,
    /// MySQL: `READ ONLY = 1`, to be set once everything is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A table and where its rows are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// The schema's name.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// `CREATE TABLE …` without the schema's name. A sequence: `CREATE SEQUENCE …`, its next value and its cycle count, a
    /// line each.
    pub create: SqlText,
    /// Expressions to select, in the order of a chunk's fields; those past `fields` are only in the checksum.
    pub select: Vec<String>,
    /// How many fields a row of a chunk has.
    pub fields: usize,
    /// The column list and `SET` clause of `LOAD DATA`.
    pub load: String,
    /// Session settings `LOAD DATA` needs beyond the usual ones.
    pub load_session: Vec<String>,
    /// Whether warning 1265 says nothing while loading: an ENUM's index 0 raises it.
    pub truncation_is_noise: bool,
    /// What follows the table's name in a `SELECT`: `FOR SYSTEM_TIME ALL`, or nothing.
    pub from_suffix: String,
    /// Rows in all chunks.
    pub rows: u64,
    /// The rows: their chunks cover all of the table, none twice.
    pub chunks: Vec<Chunk>,
}

impl Table {
    /// The statement that reads the rows of a chunk: the same on the source and, to prove them equal, on a target.
    pub fn select_rows(&self, condition: Option<&str>) -> String {
        let condition = condition.map(|c| format!(" WHERE {c}")).unwrap_or_default();
        let name = format!("`{}`.`{}`", self.schema.replace('`', "``"), self.name.replace('`', "``"));
        format!("SELECT {} FROM {name} {}{condition}", self.select.join(","), self.from_suffix)
    }
}

impl TableKind {
    /// Whether rows are copied.
    pub fn has_rows(self) -> bool {
        matches!(self, Self::Transactional | Self::NonTransactional | Self::System)
    }
}

/// What a [`Table`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TableKind {
    /// A table whose engine takes part in transactions.
    Transactional,
    /// A table of another engine: it is loaded in one piece or not at all.
    NonTransactional,
    /// A table without rows of its own (BLACKHOLE, MERGE, FEDERATED, …).
    NoRows,
    /// A table of the `mysql` schema that is restored by meaning: its rows replace those of the target.
    System,
    /// A MariaDB sequence; its state is part of `create`.
    Sequence,
}

/// The rows of a table that meet a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chunk {
    /// SQL condition; none for all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Number of rows.
    pub rows: u64,
    /// Size of the rows' lines in bytes.
    pub raw_bytes: u64,
    /// The rows' checksum.
    pub checksum: Checksum,
    /// The objects that hold the rows, in order.
    pub parts: Vec<Part>,
}

/// Rows in one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Index in the manifest's `objects`.
    pub object: usize,
    /// Number of rows.
    pub rows: u64,
}

/// A view, routine, trigger or event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// What it is.
    pub kind: ProgramKind,
    /// The schema's name.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `CREATE …` in the character set `client_charset`.
    pub create: SqlText,
    /// The `sql_mode` it was made with; none for views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_mode: Option<String>,
    /// `character_set_client` it was made with.
    pub client_charset: String,
    /// `collation_connection` it was made with.
    pub connection_collation: String,
    /// The schema's default collation when it was made; none for views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_collation: Option<String>,
    /// An event's time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Triggers of one table, moment and event fire in this order.
    #[serde(default)]
    pub order: u64,
    /// The source could not use it either (a view of a dropped table): why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// What a [`Program`] is, in the order they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProgramKind {
    /// `CREATE LIBRARY` (MySQL 9.2+).
    Library,
    /// `CREATE PACKAGE` (MariaDB).
    Package,
    /// `CREATE PACKAGE BODY` (MariaDB).
    PackageBody,
    /// `CREATE FUNCTION`.
    Function,
    /// `CREATE PROCEDURE`.
    Procedure,
    /// `CREATE VIEW`.
    View,
    /// `CREATE TRIGGER`.
    Trigger,
    /// `CREATE EVENT`.
    Event,
}

/// A user or a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Name part.
    pub user: String,
    /// Host part; empty for a MariaDB role.
    pub host: String,
    /// MariaDB: a role.
    pub role: bool,
    /// `CREATE USER …` or `CREATE ROLE …`, without default roles.
    pub create: SqlText,
    /// `GRANT`, `REVOKE`, `ALTER USER` (default roles, second passwords) and `SET DEFAULT ROLE` statements, run once every account and object
    /// exists.
    pub grants: Vec<SqlText>,
}
