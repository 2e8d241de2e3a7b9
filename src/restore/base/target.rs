//! The target server: whether it will do, what is switched while loading, and how far a load has come.
//!
//! The state is kept in a schema of the target itself, so that it can never disagree with the rows: a part of a table and the
//! note that it is there commit together.

use std::collections::BTreeSet;

use super::error::BaseError;
use super::session::{Session, text};
use crate::archive::logical::{STATE_SCHEMA, Schema, ServerRecord};
use crate::archive::manifest::FullManifest;
use crate::model::Flavor;
use crate::mysql::flavor::ServerVersion;
use crate::mysql::quote;

/// The schema that holds the state until [`super::finish`].
pub(super) const STATE: &str = STATE_SCHEMA;

/// MySQL's: what the source's accounts may have as default roles without being granted them.
const MANDATORY_ROLES: &str = "mandatory_roles";

const NOT_SYSTEM: &str = "NOT IN ('mysql','information_schema','performance_schema','sys','tidemark_restore')";

/// Steps that are done; each is named once.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(pub(super) BTreeSet<String>);

impl Steps {
    pub(super) fn done(&self, step: &str) -> bool {
        self.0.contains(step)
    }
}

/// The statement that notes a step.
pub(super) fn note(step: &str) -> String {
    format!("REPLACE INTO {STATE}.steps VALUES (x'{}')", hex::encode(step))
}

/// Refuses a server of another flavor or an older version.
pub(super) async fn check_server(session: &mut Session, manifest: &FullManifest) -> Result<(), BaseError> {
    let target = session.value("SELECT @@version").await?;
    let refuse = |reason: &str| {
        Err(BaseError::WrongServer {
            target: format!("{} {target}", session.flavor),
            source_server: format!("{} {}", manifest.flavor, manifest.server_version),
            reason: reason.to_owned(),
        })
    };
    if session.flavor != manifest.flavor {
        return refuse("a full restores into its own flavor only");
    }
    match (ServerVersion::parse(&target), ServerVersion::parse(&manifest.server_version)) {
        (Some(new), Some(old)) if (new.major, new.minor) < (old.major, old.minor) => {
            refuse("the target is older; restore into the same version or a later one")
        }
        (Some(_), Some(_)) => Ok(()),
        _ => refuse("a version could not be read"),
    }
}

/// Begins the state, or goes on with the one of a load that was cut off; returns the steps it has done.
pub(super) async fn begin(session: &mut Session, full_id: &str, allow_non_empty: bool) -> Result<Steps, BaseError> {
    let exists = format!("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", quote::text(STATE));
    if !session.query(&exists).await?.is_empty() {
        let begun = match session.value(&format!("SELECT value FROM {STATE}.settings WHERE name = 'full'")).await {
            // Cut off while the state itself was made: nothing else was.
            Err(e) if e.code() == Some(1146) => String::new(),
            other => other?,
        };
        if begun == full_id {
            let steps = session.query(&format!("SELECT name FROM {STATE}.steps")).await?;
            return Ok(Steps(steps.iter().map(|row| text(row, 0)).collect()));
        }
        if !begun.is_empty() {
            return Err(BaseError::NotEmpty {
                what: format!("it holds a restore of full {begun} that was not finished"),
            });
        }
    }
    if !allow_non_empty {
        check_empty(session).await?;
    }
    for sql in [
        format!("CREATE DATABASE IF NOT EXISTS {STATE} CHARACTER SET utf8mb4"),
        format!("CREATE TABLE IF NOT EXISTS {STATE}.steps (name VARBINARY(760) NOT NULL PRIMARY KEY) ENGINE=InnoDB"),
        format!(
            "CREATE TABLE IF NOT EXISTS {STATE}.settings (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT) CHARACTER SET utf8mb4 ENGINE=InnoDB"
        ),
    ] {
        session.exec(&sql).await?;
    }
    remember(session, "full", full_id).await?;
    Ok(Steps::default())
}

/// Refuses a server that would make other tables of what it is told: of other names, or of other engines.
pub(super) async fn check_settings(session: &mut Session, source: &ServerRecord) -> Result<(), BaseError> {
    let (own, wanted) =
        (session.value("SELECT @@GLOBAL.lower_case_table_names").await?, source.lower_case_table_names.to_string());
    if own != wanted {
        return Err(BaseError::Names { own, wanted });
    }
    // Only MariaDB has it.
    let enforced = match session.value("SELECT @@GLOBAL.enforce_storage_engine").await {
        Err(e) if e.code() == Some(1193) => String::new(),
        other => other?,
    };
    if !enforced.is_empty() {
        let reason = format!("its enforce_storage_engine is {enforced}: SET GLOBAL enforce_storage_engine = NULL");
        return Err(BaseError::Engines { reason });
    }
    let Some(engine) = &source.default_storage_engine else { return Ok(()) };
    let sql = format!(
        "SELECT 1 FROM information_schema.ENGINES WHERE ENGINE = {} AND SUPPORT IN ('YES', 'DEFAULT')",
        quote::text(engine)
    );
    if session.query(&sql).await?.is_empty() {
        let reason = format!("the source's default_storage_engine is {engine}, which it lacks: switch that on");
        return Err(BaseError::Engines { reason });
    }
    Ok(())
}

pub(super) async fn check_empty(session: &mut Session) -> Result<(), BaseError> {
    let not_empty = |what: String| Err(BaseError::NotEmpty { what });
    for (view, schema, name, what) in [
        ("TABLES", "TABLE_SCHEMA", "TABLE_NAME", "table"),
        ("ROUTINES", "ROUTINE_SCHEMA", "ROUTINE_NAME", "routine"),
        ("EVENTS", "EVENT_SCHEMA", "EVENT_NAME", "event"),
    ] {
        let sql = format!(
            "SELECT {schema}, {name} FROM information_schema.{view} WHERE LOWER({schema}) {NOT_SYSTEM} LIMIT 1"
        );
        if let Some(row) = session.query(&sql).await?.first() {
            return not_empty(format!("{what} {}", quote::qualified(&text(row, 0), &text(row, 1))));
        }
    }
    let sql = "SELECT User, Host FROM mysql.user WHERE User NOT IN \
               ('root','','mysql','mysql.sys','mysql.session','mysql.infoschema','mariadb.sys','PUBLIC','healthcheck') \
               AND CONCAT(User, '@', Host) <> CURRENT_USER() LIMIT 1";
    match session.query(sql).await?.first() {
        Some(row) => not_empty(format!("account {}", quote::account(&text(row, 0), &text(row, 1)))),
        None => Ok(()),
    }
}

/// Globals that are given back by [`switch_off`].
const WHILE_LOADING: [(&str, &str); 3] =
    [("local_infile", "1"), ("innodb_flush_log_at_trx_commit", "0"), ("innodb_file_per_table", "1")];

/// Globals that are given back by [`super::finish`]: events stay off, and documents of any size are read by the proof too.
const UNTIL_FINISHED: [(&str, &str); 2] = [("event_scheduler", "0"), ("max_allowed_packet", "1073741824")];

/// Switches the server over to loading. What is changed is remembered first, so that a cut-off load gives it back too.
pub(super) async fn switch_on(
    session: &mut Session,
    source: &ServerRecord,
    fresh: bool,
    disable_redo_log: bool,
) -> Result<(), BaseError> {
    for (name, value) in WHILE_LOADING.into_iter().chain(UNTIL_FINISHED) {
        switch(session, name, value).await?;
    }
    if let Some(roles) = source.mandatory_roles.as_ref().filter(|roles| !roles.is_empty()) {
        switch(session, MANDATORY_ROLES, &quote::text(roles)).await?;
    }
    if session.flavor == Flavor::Mysql && fresh && disable_redo_log {
        remember(session, "redo_log", "disabled").await?;
        match session.exec("ALTER INSTANCE DISABLE INNODB REDO_LOG").await {
            Err(e) if matches!(e.code(), Some(1227 | 1064 | 1235 | 3182)) => {
                tracing::info!(error = %e, "the redo log stays on while loading");
            }
            other => drop(other?),
        }
    }
    Ok(())
}

async fn switch(session: &mut Session, name: &str, to: &str) -> Result<(), BaseError> {
    let before = session.value(&format!("SELECT @@GLOBAL.{name}")).await?;
    let (key, value) = (quote::text(name), quote::text(&before));
    session.exec(&format!("INSERT IGNORE INTO {STATE}.settings VALUES ({key}, {value})")).await?;
    // A scheduler that was disabled at the start cannot be switched, and need not be.
    if before != "DISABLED" {
        session.exec(&format!("SET GLOBAL {name} = {to}")).await?;
    }
    Ok(())
}

/// Gives back what loading needed.
pub(super) async fn switch_off(session: &mut Session) -> Result<(), BaseError> {
    give_back(session, &WHILE_LOADING.map(|(name, _)| name)).await?;
    give_back(session, &[MANDATORY_ROLES]).await?;
    let redo = session.value(&format!("SELECT value FROM {STATE}.settings WHERE name = 'redo_log'")).await?;
    if redo == "disabled" {
        session.exec("ALTER INSTANCE ENABLE INNODB REDO_LOG").await?;
    }
    Ok(())
}

/// Gives back the rest.
pub(super) async fn open(session: &mut Session) -> Result<(), BaseError> {
    give_back(session, &UNTIL_FINISHED.map(|(name, _)| name)).await
}

/// Notes which schemas are to be made read-only by [`set_read_only`]: the log that is replayed before may write to them, as it does not say
/// when that was allowed.
pub(super) async fn remember_read_only(session: &mut Session, schemas: &[Schema]) -> Result<(), BaseError> {
    for (number, schema) in schemas.iter().filter(|schema| schema.read_only).enumerate() {
        remember(session, &format!("read_only {number}"), &schema.name).await?;
    }
    Ok(())
}

/// Makes those that are still there read-only.
pub(super) async fn set_read_only(session: &mut Session) -> Result<(), BaseError> {
    let sql = format!("SELECT value FROM {STATE}.settings WHERE name LIKE 'read\\_only %' ORDER BY name");
    for row in session.query(&sql).await? {
        let schema = quote::identifier(&text(&row, 0));
        match session.exec(&format!("ALTER SCHEMA {schema} READ ONLY = 1")).await {
            Err(e) if e.code() == Some(1049) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Sets globals to what they were before the load.
async fn give_back(session: &mut Session, names: &[&str]) -> Result<(), BaseError> {
    for name in names {
        let sql = format!("SELECT value FROM {STATE}.settings WHERE name = {}", quote::text(name));
        let Some(value) = session.query(&sql).await?.first().map(|row| text(row, 0)) else { continue };
        if value == "DISABLED" {
            continue;
        }
        let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let value = if is_number { value } else { quote::text(&value) };
        session.exec(&format!("SET GLOBAL {name} = {value}")).await?;
    }
    Ok(())
}

pub(super) async fn remember(session: &mut Session, name: &str, value: &str) -> Result<(), BaseError> {
    let sql = format!("REPLACE INTO {STATE}.settings VALUES ({}, {})", quote::text(name), quote::text(value));
    session.exec(&sql).await.map(drop)
}
