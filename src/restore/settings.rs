//! The target's settings while a restore is under way, and how they were before.

use super::error::RestoreError;
use crate::model::Flavor;
use crate::mysql::flavor::quote;
use crate::mysql::sql::Session;

/// Commits that are not flushed to disk one by one: a crash of the server loses none of them, one of its machine means a new
/// restore. It is several times as fast.
const FLUSHING: [(&str, &str); 2] = [("sync_binlog", "0"), ("innodb_flush_log_at_trx_commit", "2")];

/// What the log leans on and does not tell: what a table is made of whose statement says nothing, and which roles are everybody's.
const SOURCES: [&str; 2] = ["default_storage_engine", "mandatory_roles"];

/// Takes whatever the source took: statements that were fit for it are in the log, however strict its target is.
const LENIENT: [(&str, &str); 3] =
    [("innodb_file_per_table", "ON"), ("innodb_strict_mode", "OFF"), ("old_passwords", "0")];

/// What keeps users out. read_only before super_read_only: giving back super_read_only=ON first would switch read_only on, too.
const SHUTTING: [&str; 2] = ["read_only", "super_read_only"];

/// Variables that a restore changes, as they are now, in the order they are to be given back.
pub(super) async fn save(session: &mut Session) -> Result<Vec<(String, String)>, RestoreError> {
    let dialect = session.dialect();
    let mut names = vec![dialect.applier_workers(), dialect.replica_max_packet(), "max_allowed_packet"];
    names.extend(FLUSHING.map(|(name, _)| name));
    names.extend(SOURCES);
    names.extend(LENIENT.map(|(name, _)| name));
    match session.info().flavor() {
        Flavor::Mysql => names.extend(SHUTTING),
        Flavor::Mariadb => names.extend(["slave_parallel_mode", "read_only"]),
    }
    let mut saved = Vec::new();
    for name in names {
        if let Some(value) = session.variable(name).await? {
            saved.push((name.to_owned(), value));
        }
    }
    Ok(saved)
}

/// Shuts out everybody without administrative rights. (Events are the base's: they stay off until it is finished.)
pub(super) async fn shut(session: &mut Session) -> Result<(), RestoreError> {
    set(session, "read_only", "ON").await
}

/// MySQL: shuts out administrators too, or lets them in again. Only the applier writes then.
pub(super) async fn shut_admins(session: &mut Session, shut: bool) -> Result<(), RestoreError> {
    if session.info().flavor() == Flavor::Mysql {
        set(session, "super_read_only", if shut { "ON" } else { "OFF" }).await?;
    }
    Ok(())
}

/// Readies the applier: parallel, and for events of any size. Replication must be stopped.
pub(super) async fn ready_applier(session: &mut Session, workers: u32) -> Result<(), RestoreError> {
    const GIB: &str = "1073741824";
    let dialect = session.dialect();
    set(session, "max_allowed_packet", GIB).await?;
    set(session, dialect.replica_max_packet(), GIB).await?;
    set(session, dialect.applier_workers(), &workers.to_string()).await?;
    for (name, value) in FLUSHING {
        set(session, name, value).await?;
    }
    for (name, value) in LENIENT {
        if session.variable(name).await?.is_some() {
            set(session, name, value).await?;
        }
    }
    if session.info().flavor() == Flavor::Mariadb {
        set(session, "slave_parallel_mode", "optimistic").await?;
    }
    Ok(())
}

/// Sets the globals that the log leans on to the source's values of when the full was taken, as far as it tells them.
pub(super) async fn be_like_the_source(
    session: &mut Session,
    globals: &[(String, String)],
) -> Result<(), RestoreError> {
    for (name, value) in globals.iter().filter(|(name, _)| SOURCES.contains(&name.as_str())) {
        set(session, name, value).await?;
    }
    Ok(())
}

/// Gives `saved` back. Before the server opens to its users everything restored is on disk.
pub(super) async fn give_back(session: &mut Session, saved: &[(String, String)]) -> Result<(), RestoreError> {
    let opens = |name: &str| SHUTTING.contains(&name);
    for (name, value) in saved.iter().filter(|(name, _)| !opens(name)) {
        set(session, name, value).await?;
    }
    // A server closes a binlog only when it is on disk.
    for logs in ["BINARY LOGS", "ENGINE LOGS"] {
        session.exec(&format!("FLUSH NO_WRITE_TO_BINLOG {logs}")).await?;
    }
    fail::fail_point!("restore::cleanup::flushed");
    for (name, value) in saved.iter().filter(|(name, _)| opens(name)) {
        set(session, name, value).await?;
    }
    Ok(())
}

/// Some need a privilege even to be set to what they are.
async fn set(session: &mut Session, name: &str, value: &str) -> Result<(), RestoreError> {
    if session.variable(name).await?.is_some_and(|now| now.eq_ignore_ascii_case(value)) {
        return Ok(());
    }
    let numeric = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let value = if numeric { value.to_owned() } else { quote(value) };
    Ok(session.exec(&format!("SET GLOBAL {name} = {value}")).await?)
}
