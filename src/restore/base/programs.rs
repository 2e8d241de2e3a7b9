//! Views, routines, triggers and events, each made as it was: with its `sql_mode`, character sets and time zone.

use super::broken_views;
use super::error::BaseError;
use super::session::{SQL_MODE, Session};
use crate::archive::logical::Program;
use crate::mysql::quote;

/// Makes all of them in an order that works. Returns what could not be, in words.
pub(super) async fn restore(
    session: &mut Session,
    mut programs: Vec<Program>,
    resumed: bool,
) -> Result<Vec<String>, BaseError> {
    programs.sort_by(|a, b| (a.kind, &a.schema, a.order, &a.name).cmp(&(b.kind, &b.schema, b.order, &b.name)));
    let (doubtful, sound): (Vec<_>, Vec<_>) = programs.into_iter().partition(|program| program.broken.is_some());
    if let (_, Some(e)) = make_all(session, sound, resumed).await? {
        return Err(e);
    }
    // Views that the account of the backup could not read: some of them only for want of a right.
    let (broken, _) = make_all(session, doubtful, resumed).await?;
    let mut warnings = Vec::new();
    for view in &broken {
        warnings.push(broken_views::told(session, view).await?);
    }
    session.exec(quote::AS_STORED).await?;
    session.exec("SET SESSION time_zone = '+00:00'").await?;
    session.exec(SQL_MODE).await?;
    Ok(warnings)
}

/// Makes those that can be made; the others, with what the first of them lacks.
async fn make_all(
    session: &mut Session,
    mut programs: Vec<Program>,
    resumed: bool,
) -> Result<(Vec<Program>, Option<BaseError>), BaseError> {
    // What another one needs may come later in the list (views of views): go round as long as that helps.
    loop {
        let before = programs.len();
        let mut left = Vec::new();
        let mut problem = None;
        for program in programs {
            let sql = match program.broken {
                // It is there already, made without what it needs.
                Some(_) => or_replace(program.create.as_bytes()),
                None => program.create.as_bytes().to_vec(),
            };
            match make(session, &program, &sql).await {
                Ok(()) => {}
                // There already: made whole by a load that was cut off.
                Err(e) if resumed && matches!(e.code(), Some(1050 | 1304 | 1359 | 1537)) => {}
                Err(e) if is_missing_something(&e) || (program.broken.is_some() && e.code().is_some()) => {
                    problem.get_or_insert(e);
                    left.push(program);
                }
                Err(e) => return Err(e),
            }
        }
        if left.is_empty() || left.len() == before {
            return Ok((left, problem));
        }
        programs = left;
    }
}

/// No such table, column, function, view that works or library.
fn is_missing_something(e: &BaseError) -> bool {
    matches!(e.code(), Some(1146 | 1054 | 1305 | 1356 | 1049 | 6421..=6440))
}

fn or_replace(create: &[u8]) -> Vec<u8> {
    [b"CREATE OR REPLACE", create.strip_prefix(b"CREATE").unwrap_or(create)].concat()
}

/// Runs `sql`, its definition, as it was run on the source.
pub(super) async fn make(session: &mut Session, program: &Program, sql: &[u8]) -> Result<(), BaseError> {
    let what = format!("creating {:?} {}", program.kind, quote::qualified(&program.schema, &program.name));
    session.exec(&format!("USE {}", quote::identifier(&program.schema))).await?;
    let mode = program.sql_mode.as_deref().unwrap_or("");
    let zone = program.time_zone.as_deref().unwrap_or("+00:00");
    session.exec(&format!("SET SESSION sql_mode = {}, time_zone = {}", quote::text(mode), quote::text(zone))).await?;
    session
        .exec(&format!(
            "SET SESSION character_set_client = {}, character_set_results = binary, collation_connection = {}",
            program.client_charset, program.connection_collation
        ))
        .await?;
    let other_collation = match &program.database_collation {
        Some(wanted) => {
            let now = session.value("SELECT @@collation_database").await?;
            (!wanted.is_empty() && now != *wanted).then(|| (wanted.clone(), now))
        }
        None => None,
    };
    if let Some((wanted, _)) = &other_collation {
        session.exec(&format!("ALTER DATABASE {} COLLATE {wanted}", quote::identifier(&program.schema))).await?;
    }
    let made = session.define(sql, &what).await;
    // The rest of our statements is ASCII, but names need not be.
    session.exec(quote::AS_STORED).await?;
    if let Some((_, now)) = &other_collation {
        session.exec(&format!("ALTER DATABASE {} COLLATE {now}", quote::identifier(&program.schema))).await?;
    }
    made.map(drop)
}
