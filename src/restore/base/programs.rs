//! Views, routines, triggers and events, each made as it was: with its `sql_mode`, character sets and time zone.

use super::error::BaseError;
use super::session::Session;
use crate::archive::logical::Program;
use crate::mysql::quote;

/// Makes all of them in an order that works. Returns what could not be, in words.
pub(super) async fn restore(
    session: &mut Session,
    mut programs: Vec<Program>,
    resumed: bool,
) -> Result<Vec<String>, BaseError> {
    let mut warnings = Vec::new();
    programs.retain(|program| {
        let name = quote::qualified(&program.schema, &program.name);
        if let Some(why) = &program.broken {
            warnings.push(format!("view {name} was broken on the source and was not restored ({why})"));
        }
        program.broken.is_none()
    });
    programs.sort_by(|a, b| (a.kind, &a.schema, a.order, &a.name).cmp(&(b.kind, &b.schema, b.order, &b.name)));
    // What another one needs may come later in the list (views of views): go round as long as that helps.
    while !programs.is_empty() {
        let before = programs.len();
        let mut left = Vec::new();
        let mut problem = None;
        for program in programs {
            match make(session, &program).await {
                Ok(()) => {}
                // There already: made whole by a load that was cut off.
                Err(e) if resumed && matches!(e.code(), Some(1050 | 1304 | 1359 | 1537)) => {}
                Err(e) if is_missing_something(&e) => {
                    problem.get_or_insert(e);
                    left.push(program);
                }
                Err(e) => return Err(e),
            }
        }
        match problem {
            Some(e) if left.len() == before => return Err(e),
            _ => programs = left,
        }
    }
    session.exec("SET NAMES binary").await?;
    session.exec("SET SESSION time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'").await?;
    Ok(warnings)
}

/// No such table, column, function, view that works or library.
fn is_missing_something(e: &BaseError) -> bool {
    matches!(e.code(), Some(1146 | 1054 | 1305 | 1356 | 1049 | 6421..=6440))
}

async fn make(session: &mut Session, program: &Program) -> Result<(), BaseError> {
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
    let made = session.define(program.create.as_bytes(), &what).await;
    // The rest of our statements is ASCII, but names need not be.
    session.exec("SET NAMES binary").await?;
    if let Some((_, now)) = &other_collation {
        session.exec(&format!("ALTER DATABASE {} COLLATE {now}", quote::identifier(&program.schema))).await?;
    }
    made.map(drop)
}
