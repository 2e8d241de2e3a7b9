//! The true members of ENUM and SET columns. Servers print definitions in three-byte UTF-8, other characters as `?`; a temporary
//! table of the column's own type, filled with every member's number, tells them.

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
    for column in columns.iter().filter(|column| column.may_be_unprintable()) {
        let unknown = |way_out: &str| {
            format!(
                "{table}: a member of {} {} may have characters that the server prints as '?' in definitions; it then comes back as '?' \
                 (its rows keep their member's number){way_out}",
                column.data_type.to_ascii_uppercase(),
                column.name
            )
        };
        if session.flavor == Flavor::Mariadb {
            // It logs what becomes of temporary tables: a backup must leave no transaction on its source.
            warnings.push(unknown(""));
            continue;
        }
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
    let (own, scratch) = (quote::identifier(&column.name), quote::qualified(schema, "tidemark_members"));
    session.exec(&format!("CREATE TEMPORARY TABLE {scratch} SELECT {own} AS member FROM {table} LIMIT 0")).await?;
    let mut out = Vec::new();
    // Number by number, until one is not taken.
    for number in 0u32.. {
        let value =
            if column.data_type == "set" { 1u64.checked_shl(number).unwrap_or(0) } else { u64::from(number) + 1 };
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

/// The definition with a column's members spelled in hexadecimal.
fn with_members(create: &[u8], column: &ColumnInfo, members: &[String]) -> Option<Vec<u8>> {
    let head = format!("\n  {} ", quote::identifier(&column.name));
    let printed = format!("{head}{}", column.column_type);
    let at = memchr::memmem::find(create, printed.as_bytes())?;
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
