//! The true members of ENUM and SET columns. Servers print definitions in three-byte UTF-8, other characters as `?`; a temporary
//! table (MySQL) or a variable (MariaDB) of the column's own type, set to every member's number, tells them.

use super::columns::ColumnInfo;
use super::error::LogicalError;
use super::session::{Session, text};
use crate::archive::logical::SqlText;
use crate::model::Flavor;
use crate::mysql::quote;
use crate::mysql::wire::ServerError;

/// Puts the true members into a table's definition. Returns what could not be found out, in words.
pub(super) async fn restore(
    session: &mut Session,
    schema: &str,
    name: &str,
    columns: &[ColumnInfo],
    create: &mut SqlText,
) -> Result<Vec<String>, LogicalError> {
    let mut warnings = Vec::new();
    let table = quote::qualified(schema, name);
    if session.flavor == Flavor::Mariadb {
        for column in
            columns.iter().filter(|column| column.is_wide() && has_doubtful_default(create.as_bytes(), column))
        {
            warnings.push(format!(
                "{table}: the DEFAULT of column {} may have characters that MariaDB prints as '?' in definitions; it then comes back as '?' (rows keep \
                 what they have), and one of an ENUM or SET cannot be made at all: look at it, and set it anew behind a restore",
                column.name
            ));
        }
    }
    for column in columns.iter().filter(|column| column.may_be_unprintable()) {
        let unknown = |way_out: &str| {
            format!(
                "{table}: a member of {} {} may have characters that the server prints as '?' in definitions; it then comes back as '?' \
                 (its rows keep their member's number){way_out}",
                column.data_type.to_ascii_uppercase(),
                column.name
            )
        };
        let denied = |e: &ServerError| matches!(e.code, 1044 | 1142 | 1227 | 1290);
        let members = match members(session, schema, &table, column).await {
            Ok(members) => members,
            Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(denied) => {
                warnings.push(unknown(
                    ". Run GRANT CREATE TEMPORARY TABLES ON *.* TO the account, so that the true members can be read",
                ));
                continue;
            }
            Err(e) => return Err(e),
        };
        let what = || format!("column {} of {table}", column.name);
        let changed = with_members(create.as_bytes(), column, &members).ok_or_else(|| LogicalError::Unsupported {
            what: what(),
            reason: "its members are not found in the table's definition".to_owned(),
        })?;
        *create = changed.into();
    }
    Ok(warnings)
}

/// Every member's bytes in hex.
async fn members(
    session: &mut Session,
    schema: &str,
    table: &str,
    column: &ColumnInfo,
) -> Result<Vec<String>, LogicalError> {
    if session.flavor == Flavor::Mariadb {
        return members_by_variable(session, table, column).await;
    }
    let (own, scratch) = (quote::identifier(&column.name), quote::qualified(schema, "tidemark_members"));
    session.exec(&format!("CREATE TEMPORARY TABLE {scratch} SELECT {own} AS member FROM {table} LIMIT 0")).await?;
    let mut out = Vec::new();
    // Number by number, until one is not taken.
    for value in values(column) {
        session.exec(&format!("DELETE FROM {scratch}")).await?;
        session.exec(&format!("INSERT IGNORE INTO {scratch} VALUES ({value})")).await?;
        let row =
            session.row(&format!("SELECT CAST(member AS UNSIGNED), HEX(member) FROM {scratch}"), "a member").await?;
        if text(&row, 0) != value.to_string() || value == 0 {
            break;
        }
        out.push(text(&row, 1));
    }
    session.exec(&format!("DROP TEMPORARY TABLE {scratch}")).await?;
    Ok(out)
}

/// MariaDB logs what becomes of temporary tables, and a backup must leave no transaction on its source; it has variables of a column's type.
async fn members_by_variable(
    session: &mut Session,
    table: &str,
    column: &ColumnInfo,
) -> Result<Vec<String>, LogicalError> {
    let own = quote::identifier(&column.name);
    let mut out = Vec::new();
    for value in values(column) {
        session
            .exec(&format!(
                "BEGIN NOT ATOMIC DECLARE member TYPE OF {table}.{own}; SET member = {value}; \
                 SET @tidemark_number = member + 0, @tidemark_member = HEX(member); END"
            ))
            .await?;
        let row = session.row("SELECT @tidemark_number, @tidemark_member", "a member").await?;
        if text(&row, 0) != value.to_string() || value == 0 {
            break;
        }
        out.push(text(&row, 1));
    }
    Ok(out)
}

/// The numbers its members may have, in order.
fn values(column: &ColumnInfo) -> impl Iterator<Item = u64> {
    let is_set = column.data_type == "set";
    (0u32..).map(move |n| if is_set { 1u64.checked_shl(n).unwrap_or(0) } else { u64::from(n) + 1 })
}

/// Whether the default in a column's definition may have been printed with `?` for a character.
fn has_doubtful_default(create: &[u8], column: &ColumnInfo) -> bool {
    const DEFAULT: &[u8] = b" DEFAULT '";
    let head = format!("\n  {} ", quote::identifier(&column.name));
    let Some(at) = memchr::memmem::find(create, head.as_bytes()) else { return false };
    let line = create.get(at + 1..).unwrap_or_default().split(|byte| *byte == b'\n').next().unwrap_or_default();
    memchr::memmem::find(line, DEFAULT).is_some_and(|at| line.get(at..).unwrap_or_default().contains(&b'?'))
}

/// The definition with a column's members spelled in hexadecimal.
fn with_members(create: &[u8], column: &ColumnInfo, members: &[String]) -> Option<Vec<u8>> {
    let head = format!("\n  {} ", quote::identifier(&column.name));
    let printed = format!("{head}{}", column.column_type);
    let at = memchr::memmem::find(create, printed.as_bytes())?;
    if members.is_empty() {
        return None;
    }
    // An empty member has no hexadecimal form.
    let list: Vec<_> =
        members.iter().map(|hex| if hex.is_empty() { "''".to_owned() } else { format!("0x{hex}") }).collect();
    let spelled = format!("{head}{}({})", column.data_type, list.join(","));
    Some([create.get(..at)?, spelled.as_bytes(), create.get(at + printed.len()..)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_spelled_in_hexadecimal_where_the_column_is_defined() {
        let column = ColumnInfo {
            name: "c`c".into(),
            data_type: "enum".into(),
            column_type: "enum('?','')".into(),
            ..ColumnInfo::default()
        };
        let create = b"CREATE TABLE `t` (\n  `x` enum('?',''),\n  `c``c` enum('?','') DEFAULT NULL\n)";
        let out = with_members(create, &column, &["F09F9880".into(), String::new()]).unwrap();
        assert_eq!(out, b"CREATE TABLE `t` (\n  `x` enum('?',''),\n  `c``c` enum(0xF09F9880,'') DEFAULT NULL\n)");
        assert_eq!(with_members(b"CREATE TABLE `t` (\n  `x` int)", &column, &[]), None);
    }
}
