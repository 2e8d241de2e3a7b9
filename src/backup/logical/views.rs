//! Views that do not work: they refer to what is gone. They are saved as they are, for the log may change them, or bring back what they lack.

use super::error::LogicalError;
use super::session::{Row, Session, bytes, text};
use crate::model::Flavor;
use crate::mysql::quote;

/// A view's row of `SHOW CREATE VIEW` and, where it does not work (or not for this account), why.
pub(super) async fn read(
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<(Row, Option<String>), LogicalError> {
    let qualified = quote::qualified(schema, name);
    let broken = match session.query(&format!("SELECT 1 FROM {qualified} LIMIT 0")).await {
        Err(LogicalError::Sql { source, doing }) => match source.server_error() {
            // DDL is at what it refers to.
            Some(e) if matches!(e.code, 1205 | 1213) => return Err(LogicalError::Changed { what: qualified }),
            Some(e) if !is_passing(e.code) => Some(e.to_string()),
            _ => return Err(LogicalError::Sql { source, doing }),
        },
        other => other.map(|_| None)?,
    };
    let shown = session.row(&format!("SHOW CREATE VIEW {qualified}"), "SHOW CREATE VIEW").await;
    let row = match (shown, &broken) {
        (Ok(row), Some(_)) if session.flavor == Flavor::Mariadb => {
            // What it cannot resolve it prints otherwise than it was said (`ORDER BY 1`); but for four-byte characters this is exact.
            let kept = from_schema(session, schema, name).await?;
            if bytes(&kept, 1).is_some_and(|create| create.contains(&b'?')) { row } else { kept }
        }
        // MySQL shows no view of a schema that is gone.
        (Err(LogicalError::Sql { source, .. }), Some(_)) if source.server_error().is_some() => {
            from_schema(session, schema, name).await?
        }
        (shown, _) => shown?,
    };
    Ok((row, broken))
}

/// Says nothing of the view: time limits, a KILL, a shutdown.
fn is_passing(code: u16) -> bool {
    matches!(code, 1053 | 1317 | 1969 | 3024)
}

/// The same row from what the server keeps. MySQL does not tell the algorithm there.
async fn from_schema(session: &mut Session, schema: &str, name: &str) -> Result<Row, LogicalError> {
    let algorithm = match session.flavor {
        Flavor::Mysql => "'UNDEFINED'",
        Flavor::Mariadb => "ALGORITHM",
    };
    let sql = format!(
        "SELECT {algorithm}, DEFINER, SECURITY_TYPE, VIEW_DEFINITION, CHECK_OPTION, CHARACTER_SET_CLIENT, COLLATION_CONNECTION \
         FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        quote::text(schema),
        quote::text(name)
    );
    let row = session.row(&sql, "a view's definition").await?;
    let definer = text(&row, 1);
    let (user, host) = definer.rsplit_once('@').unwrap_or((&definer, ""));
    let head = format!(
        "CREATE ALGORITHM={} DEFINER={} SQL SECURITY {} VIEW {} AS ",
        text(&row, 0),
        quote::account(user, host),
        text(&row, 2),
        quote::qualified(schema, name)
    );
    let check = match text(&row, 4).as_str() {
        "NONE" => String::new(),
        kind => format!(" WITH {kind} CHECK OPTION"),
    };
    let body = bytes(&row, 3).filter(|body| !body.is_empty());
    let create = body.map(|body| [head.as_bytes(), body, check.as_bytes()].concat().into());
    let field = |column: usize| bytes(&row, column).cloned();
    Ok(vec![Some(name.to_owned().into()), create, field(5), field(6)])
}
