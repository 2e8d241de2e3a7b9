//! What there is to back up, and every definition that is not a table's own.

use std::collections::BTreeMap;

use super::error::LogicalError;
use super::session::{Row, Session, bytes, number, text};
use super::{comments, extras, system, views};
use crate::archive::logical::{Program, ProgramKind, STATE_SCHEMA, Schema, ServerRecord, SqlText, TableKind};
use crate::model::Flavor;
use crate::mysql::quote;

/// Tables of the `mysql` schema that statements in the binlog may need and no definition brings back.
const TIME_ZONE_TABLES: [&str; 5] =
    ["time_zone", "time_zone_leap_second", "time_zone_name", "time_zone_transition", "time_zone_transition_type"];

/// Everything but rows and accounts. Two equal ones with the snapshot between them belong to the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definitions {
    pub(super) server: ServerRecord,
    pub(super) schemas: Vec<Schema>,
    pub(super) tables: BTreeMap<(String, String), TableHead>,
    pub(super) programs: Vec<Program>,
}

/// What is known of a table before its rows are read.
#[derive(Clone, Debug)]
pub(super) struct TableHead {
    pub(super) kind: TableKind,
    pub(super) engine: String,
    pub(super) versioned: bool,
    /// Creation time as the server states it.
    pub(super) created: String,
    /// Estimated size in bytes.
    pub(super) data_bytes: u64,
}

/// Sizes are estimates and change with every row.
impl PartialEq for TableHead {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.engine, self.versioned, &self.created)
            == (other.kind, &other.engine, other.versioned, &other.created)
    }
}
impl Eq for TableHead {}

/// Reads all of it.
pub(super) async fn read(session: &mut Session) -> Result<Definitions, LogicalError> {
    Ok(Definitions {
        server: server(session).await?,
        schemas: schemas(session).await?,
        tables: tables(session).await?,
        programs: programs(session).await?,
    })
}

/// InnoDB's own ids by table name: a rename moves an id to another name. Empty where the account may not see them.
pub(super) async fn table_ids(session: &mut Session) -> Result<BTreeMap<String, u64>, LogicalError> {
    let view = match session.flavor {
        Flavor::Mysql => "INNODB_TABLES",
        Flavor::Mariadb => "INNODB_SYS_TABLES",
    };
    let sql = format!(
        "SELECT NAME, TABLE_ID FROM information_schema.{view} WHERE NAME NOT LIKE 'mysql/%' AND NAME LIKE '%/%'"
    );
    match session.query(&sql).await {
        Ok(rows) => Ok(rows.iter().map(|row| (text(row, 0), number(row, 1))).collect()),
        Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1227) => {
            Ok(BTreeMap::new())
        }
        Err(e) => Err(e),
    }
}

async fn server(session: &mut Session) -> Result<ServerRecord, LogicalError> {
    let lower = session.value("SELECT @@lower_case_table_names").await?;
    let mut before_schemas = Vec::new();
    let mut partial_revokes = false;
    let mut mandatory_roles = None;
    if session.flavor == Flavor::Mysql {
        before_schemas = extras::spatial_systems(session).await?;
        partial_revokes = session.value("SELECT @@partial_revokes").await? == "1";
        mandatory_roles = Some(session.value("SELECT @@GLOBAL.mandatory_roles").await?);
        before_schemas.extend(extras::tablespaces(session).await?);
    }
    let functions = session.query("SELECT name, dl FROM mysql.func ORDER BY name").await?;
    Ok(ServerRecord {
        lower_case_table_names: lower.parse().unwrap_or(0),
        partial_revokes,
        before_schemas,
        default_storage_engine: Some(session.value("SELECT @@GLOBAL.default_storage_engine").await?),
        mandatory_roles,
        loadable_functions: functions.iter().map(|row| (text(row, 0), text(row, 1))).collect(),
        foreign_servers: foreign_servers(session).await?,
        histograms: Vec::new(),
        warnings: Vec::new(),
    })
}

/// What `CREATE SERVER` made, passwords included: they are rows of a table like others.
async fn foreign_servers(session: &mut Session) -> Result<Vec<SqlText>, LogicalError> {
    // MariaDB 11.7 keeps whatever options there are in JSON.
    let sql = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'servers' \
               AND COLUMN_NAME = 'Options'";
    let json = if session.query(sql).await?.is_empty() { "''" } else { "Options" };
    let sql = format!(
        "SELECT Server_name, Wrapper, Host, Db, Username, Password, Socket, Owner, Port, {json} FROM mysql.servers ORDER BY Server_name"
    );
    let mut out = Vec::new();
    for row in session.query(&sql).await? {
        const NAMES: [&str; 6] = ["HOST", "DATABASE", "USER", "PASSWORD", "SOCKET", "OWNER"];
        let mut options: Vec<(String, String)> =
            NAMES.iter().enumerate().map(|(i, name)| ((*name).to_owned(), text(&row, i + 2))).collect();
        options.push(("PORT".to_owned(), text(&row, 8)));
        let all: Result<BTreeMap<String, String>, _> = serde_json::from_str(&text(&row, 9));
        if let Ok(all) = all {
            options = all.into_iter().collect();
        }
        // A server must have an option; the port is the one that says nothing.
        let is_said = |(name, value): &&(String, String)| !value.is_empty() && (name != "PORT" || value != "0");
        let mut list: Vec<_> = options.iter().filter(is_said).map(server_option).collect();
        if list.is_empty() {
            list.push("PORT 0".to_owned());
        }
        let (name, wrapper) = (quote::identifier(&text(&row, 0)), quote::identifier(&text(&row, 1)));
        out.push(format!("CREATE SERVER {name} FOREIGN DATA WRAPPER {wrapper} OPTIONS ({})", list.join(", ")).into());
    }
    Ok(out)
}

fn server_option((name, value): &(String, String)) -> String {
    let known = ["HOST", "DATABASE", "USER", "PASSWORD", "SOCKET", "OWNER", "PORT"].contains(&name.as_str());
    let name = if known { name.clone() } else { quote::identifier(name) };
    if name == "PORT" && value.bytes().all(|b| b.is_ascii_digit()) {
        return format!("{name} {value}");
    }
    format!("{name} {}", quote::plain_text(value))
}

async fn schemas(session: &mut Session) -> Result<Vec<Schema>, LogicalError> {
    let sql = format!(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE LOWER(SCHEMA_NAME) NOT IN {} ORDER BY SCHEMA_NAME",
        system::SCHEMAS
    );
    let read_only = match session.flavor {
        Flavor::Mysql => {
            let sql =
                "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA_EXTENSIONS WHERE OPTIONS LIKE '%READ ONLY=1%'";
            match session.query(sql).await {
                // Before 8.0.22 there are none.
                Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1109) => {
                    Vec::new()
                }
                rows => rows?.iter().map(|row| text(row, 0)).collect(),
            }
        }
        Flavor::Mariadb => Vec::new(),
    };
    let mut out = Vec::new();
    for row in session.query(&sql).await? {
        let name = text(&row, 0);
        if name.eq_ignore_ascii_case(STATE_SCHEMA) {
            let reason =
                "a restore keeps its state in a schema of that name, and may have been killed here: drop or rename it"
                    .to_owned();
            return Err(LogicalError::Unsupported { what: format!("schema {name}"), reason });
        }
        let create =
            session.row(&format!("SHOW CREATE DATABASE {}", quote::identifier(&name)), "SHOW CREATE DATABASE").await?;
        out.push(Schema { create: sql_text(&create, 1, &name)?, read_only: read_only.contains(&name), name });
    }
    Ok(out)
}

async fn tables(session: &mut Session) -> Result<BTreeMap<(String, String), TableHead>, LogicalError> {
    let engines = session.query("SELECT ENGINE, TRANSACTIONS FROM information_schema.ENGINES").await?;
    let transactional = |engine: &str| {
        engines.iter().any(|row| text(row, 0).eq_ignore_ascii_case(engine) && text(row, 1).eq_ignore_ascii_case("YES"))
    };
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, CREATE_TIME, DATA_LENGTH, TABLE_COMMENT FROM information_schema.TABLES \
         WHERE {} AND TABLE_TYPE <> 'VIEW'",
        system::users_tables("TABLE_SCHEMA", "TABLE_NAME")
    );
    let mut out = BTreeMap::new();
    for row in session.query(&sql).await? {
        let (schema, name, table_type, engine) = (text(&row, 0), text(&row, 1), text(&row, 2), text(&row, 3));
        if engine.is_empty() {
            let comment = text(&row, 6);
            // DDL is at it: neither there nor gone.
            if ["Lock wait timeout", "Deadlock", "doesn't exist", "definition has changed"]
                .iter()
                .any(|word| comment.contains(word))
            {
                return Err(LogicalError::Changed { what: quote::qualified(&schema, &name) });
            }
            let reason = format!("the source cannot open it ({comment}); repair or drop it");
            return Err(LogicalError::Unsupported { what: quote::qualified(&schema, &name), reason });
        }
        let kind = match engine.to_ascii_uppercase().as_str() {
            _ if table_type == "SEQUENCE" => TableKind::Sequence,
            "BLACKHOLE" | "MRG_MYISAM" | "FEDERATED" | "CONNECT" | "SPIDER" | "SPHINX" | "S3" | "NDBCLUSTER" => {
                TableKind::NoRows
            }
            _ if transactional(&engine) => TableKind::Transactional,
            _ => TableKind::NonTransactional,
        };
        let created = if kind == TableKind::Transactional { text(&row, 4) } else { String::new() };
        let versioned = table_type == "SYSTEM VERSIONED";
        out.insert((schema, name), TableHead { kind, engine, versioned, created, data_bytes: number(&row, 5) });
    }
    if session.flavor == Flavor::Mariadb {
        refuse_transaction_ids(session).await?;
    }
    if !session.query("SELECT 1 FROM mysql.time_zone_name LIMIT 1").await?.is_empty() {
        for name in TIME_ZONE_TABLES {
            let head = TableHead {
                kind: TableKind::System,
                engine: String::new(),
                versioned: false,
                created: String::new(),
                data_bytes: 0,
            };
            out.insert(("mysql".to_owned(), name.to_owned()), head);
        }
    }
    Ok(out)
}

/// A history that is told by the ids of its server's transactions means nothing on another server.
async fn refuse_transaction_ids(session: &mut Session) -> Result<(), LogicalError> {
    let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMNS WHERE GENERATION_EXPRESSION = 'ROW START' \
               AND DATA_TYPE = 'bigint' LIMIT 1";
    let Some(row) = session.query(sql).await?.into_iter().next() else { return Ok(()) };
    let what = quote::qualified(&text(&row, 0), &text(&row, 1));
    let reason = format!(
        "its versions are told apart by transaction ids (a BIGINT column AS ROW START), which no other server knows; use TIMESTAMP(6) columns: \
         ALTER TABLE {what} DROP SYSTEM VERSIONING (which drops its history), then add it again"
    );
    Err(LogicalError::Unsupported { what, reason })
}

async fn programs(session: &mut Session) -> Result<Vec<Program>, LogicalError> {
    let users = |word: &str| system::users_programs(&format!("{word}_SCHEMA"), &format!("{word}_NAME"), "DEFINER");
    let mut out = Vec::new();
    let sql = format!(
        "SELECT ROUTINE_TYPE, ROUTINE_SCHEMA, ROUTINE_NAME, 0 FROM information_schema.ROUTINES WHERE {} \
         UNION ALL SELECT 'VIEW', TABLE_SCHEMA, TABLE_NAME, 0 FROM information_schema.VIEWS WHERE {} \
         UNION ALL SELECT 'TRIGGER', TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_ORDER FROM information_schema.TRIGGERS WHERE {} \
         UNION ALL SELECT 'EVENT', EVENT_SCHEMA, EVENT_NAME, 0 FROM information_schema.EVENTS WHERE {} ORDER BY 1, 2, 3",
        users("ROUTINE"),
        users("TABLE"),
        users("TRIGGER"),
        users("EVENT")
    );
    let mut list = session.query(&sql).await?;
    if session.flavor == Flavor::Mysql {
        let sql = format!(
            "SELECT 'LIBRARY', LIBRARY_SCHEMA, LIBRARY_NAME, 0 FROM information_schema.LIBRARIES WHERE LOWER(LIBRARY_SCHEMA) NOT IN {}",
            system::SCHEMAS
        );
        match session.query(&sql).await {
            Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1109) => {}
            rows => list.extend(rows?),
        }
    }
    for row in list {
        out.push(program(session, &row).await?);
    }
    Ok(out)
}

async fn program(session: &mut Session, row: &Row) -> Result<Program, LogicalError> {
    use ProgramKind::{Event, Function, Library, Package, PackageBody, Procedure, Trigger, View};
    let (word, schema, name) = (text(row, 0), text(row, 1), text(row, 2));
    let kind = match word.as_str() {
        "FUNCTION" => Function,
        "PROCEDURE" => Procedure,
        "PACKAGE" => Package,
        "PACKAGE BODY" => PackageBody,
        "LIBRARY" => Library,
        "VIEW" => View,
        "TRIGGER" => Trigger,
        "EVENT" => Event,
        _ => {
            return Err(LogicalError::Unsupported {
                what: quote::qualified(&schema, &name),
                reason: format!("unknown kind {word}"),
            });
        }
    };
    let qualified = quote::qualified(&schema, &name);
    let (shown, broken) = match kind {
        View => views::read(session, &schema, &name).await?,
        _ => (session.row(&format!("SHOW CREATE {word} {qualified}"), "SHOW CREATE").await?, None),
    };
    // Where the definition stands, and the character set after it.
    let (create, charset) = match kind {
        View => (1, 2),
        Event => (3, 4),
        _ => (2, 3),
    };
    let what = format!("{word} {qualified}");
    let mut program = Program {
        kind,
        create: sql_text(&shown, create, &what)?,
        sql_mode: (kind != View).then(|| text(&shown, 1)),
        client_charset: text(&shown, charset),
        connection_collation: text(&shown, charset + 1),
        database_collation: (kind != View && kind != Library).then(|| text(&shown, charset + 2)),
        time_zone: (kind == Event).then(|| text(&shown, 2)),
        order: number(row, 3),
        broken,
        schema,
        name,
    };
    if kind == Library {
        (program.client_charset, program.connection_collation) = ("utf8mb4".into(), "utf8mb4_bin".into());
    }
    if kind == View {
        // The server prints views in UTF-8, whatever they were made in.
        let own = program.client_charset.to_ascii_lowercase();
        if !own.starts_with("utf8") && !program.create.as_bytes().is_ascii() {
            (program.client_charset, program.connection_collation) = ("utf8mb4".into(), "utf8mb4_general_ci".into());
        }
    }
    comments::respell(session, &mut program).await?;
    Ok(program)
}

fn sql_text(row: &Row, column: usize, what: &str) -> Result<SqlText, LogicalError> {
    bytes(row, column).map(|b| SqlText::from(b.to_vec())).ok_or_else(|| LogicalError::Unsupported {
        what: what.to_owned(),
        reason:
            "the account may not see its definition; run GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* (MySQL: also \
                 SHOW_ROUTINE) TO the account"
                .to_owned(),
    })
}
