//! Scheduled events. A replica switches off every event that the log makes or changes, whatever it was on the source; those that
//! the log leaves enabled are switched on again when the replay is proved.

mod ddl;

use super::error::{self, RestoreError};
use super::plan::Plan;
use crate::archive::catalog::load_file;
use crate::archive::reader::BinlogReader;
use crate::archive::store::Store;
use crate::mysql::event::{EventType, FileScanner, query_event};
use crate::mysql::quote;
use crate::mysql::sql::Session;
use ddl::{Events, Status};

/// `schema`, `name` and `ENABLED`, `DISABLED` or that of a replica.
pub(super) type Listed = (String, String, String);

/// Every event of the target.
pub(super) async fn list(session: &mut Session) -> Result<Vec<Listed>, RestoreError> {
    let sql = "SELECT event_schema, event_name, status FROM information_schema.events ORDER BY 1, 2";
    Ok(session.rows(sql).await?)
}

/// Switches on those that the log left enabled; `before` is what the target had before the replay. Returns, in words, what it could
/// not decide or do.
pub(super) async fn switch_on(
    session: &mut Session,
    plan: &Plan,
    store: &Store,
    before: &[Listed],
) -> Result<Vec<String>, RestoreError> {
    let off: Vec<Listed> =
        list(session).await?.into_iter().filter(|(_, _, status)| status.contains("SIDE_DISABLED")).collect();
    if off.is_empty() {
        return Ok(Vec::new());
    }
    let events = replayed(plan, store, before).await?;
    let mut warnings = Vec::new();
    for (schema, name, _) in off {
        let event = quote::qualified(&schema, &name);
        let how = match events.as_ref().map_or(Status::Unknown, |events| events.get(&schema, &name)) {
            Status::OnReplica => continue,
            Status::Enabled => "ENABLE",
            Status::Disabled => "DISABLE",
            Status::Unknown => {
                warnings.push(format!(
                    "the event {event} is off, because a replica does not run events, and the log does not tell whether it was on: compare \
                     with the source and, if it was, ALTER DEFINER = (its definer) EVENT {event} ENABLE"
                ));
                continue;
            }
        };
        if let Err(e) = alter(session, &schema, &name, how).await {
            warnings.push(format!("the event {event} is off on the target and could not be altered to {how}: {e}"));
        }
    }
    Ok(warnings)
}

/// Keeps everything about the event but its status: an ALTER would make us its definer, and our character sets its own.
async fn alter(session: &mut Session, schema: &str, name: &str, how: &str) -> Result<(), RestoreError> {
    let sql = format!(
        "SELECT definer, character_set_client, collation_connection FROM information_schema.events WHERE event_schema = {} AND event_name = {}",
        quote::text(schema),
        quote::text(name)
    );
    let Some((definer, client, collation)) = session.first::<(String, String, String)>(&sql).await? else {
        return Ok(());
    };
    let definer = match definer.rsplit_once('@') {
        Some((user, host)) => quote::account(user, host),
        None => quote::identifier(&definer),
    };
    let statement = format!("ALTER DEFINER = {definer} EVENT {} {how}", quote::qualified(schema, name));
    session.exec(&format!("SET SESSION character_set_client = {client}, collation_connection = {collation}")).await?;
    let altered = session.exec(&statement).await;
    session.exec("SET NAMES utf8mb4").await?;
    Ok(altered?)
}

/// The events as the replayed log leaves them; none where it holds statements that cannot be read.
async fn replayed(plan: &Plan, store: &Store, before: &[Listed]) -> Result<Option<Events>, RestoreError> {
    let mut events = Events::default();
    for (schema, name, status) in before {
        let status = match status.as_str() {
            "ENABLED" => Status::Enabled,
            "DISABLED" => Status::Disabled,
            _ => Status::OnReplica,
        };
        events.insert(schema, name, status);
    }
    for part in &plan.files {
        let gone = || RestoreError::PlannedFileGone { file: part.file.name.clone(), end: part.end };
        let file = load_file(store, &part.file).await?.ok_or_else(gone)?;
        let mut reader = BinlogReader::open(store, &file, 0, part.end).await?;
        let mut scanner = FileScanner::new();
        while let Some(piece) = reader.next().await? {
            let mut input = &piece[..];
            let unreadable = |e| error::unreadable(part.file.name.clone(), e);
            while let Some(event) = scanner.next_event(&mut input).map_err(unreadable)? {
                match event.header.event_type {
                    EventType::QUERY_COMPRESSED if event.offset >= part.start => return Ok(None),
                    EventType::QUERY if event.offset >= part.start => {
                        let query = query_event(event.body);
                        let (schema, statement) = query.map_err(|e| error::unreadable(part.file.name.clone(), e))?;
                        events.run(&String::from_utf8_lossy(schema), &String::from_utf8_lossy(statement));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(Some(events))
}
