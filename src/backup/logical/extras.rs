//! What MySQL holds beside tables, programs and accounts: spatial reference systems of its users, general tablespaces, and histograms.

use std::collections::BTreeMap;

use super::definitions::TableHead;
use super::error::LogicalError;
use super::look::TableName;
use super::session::{Session, number, text};
use crate::archive::logical::SqlText;
use crate::mysql::quote;

/// Statements that make the spatial reference systems which did not come with the server: all but those of EPSG under their own number.
pub(super) async fn spatial_systems(session: &mut Session) -> Result<Vec<SqlText>, LogicalError> {
    let sql = "SELECT SRS_ID, SRS_NAME, DEFINITION, ORGANIZATION, ORGANIZATION_COORDSYS_ID, DESCRIPTION \
               FROM information_schema.ST_SPATIAL_REFERENCE_SYSTEMS \
               WHERE SRS_ID <> 0 AND NOT COALESCE(ORGANIZATION = 'EPSG' AND ORGANIZATION_COORDSYS_ID = SRS_ID, 0) ORDER BY SRS_ID";
    let mut out = Vec::new();
    for row in session.query(sql).await? {
        let attribute = |word: &str, column: usize| match text(&row, column) {
            value if value.is_empty() => String::new(),
            value => format!(" {word} {}", quote::plain_text(&value)),
        };
        let mut create = format!(
            "CREATE OR REPLACE SPATIAL REFERENCE SYSTEM {}{}{}{}",
            text(&row, 0),
            attribute("NAME", 1),
            attribute("DEFINITION", 2),
            attribute("ORGANIZATION", 3)
        );
        if !text(&row, 3).is_empty() {
            create.push_str(&format!(" IDENTIFIED BY {}", text(&row, 4)));
        }
        create.push_str(&attribute("DESCRIPTION", 5));
        out.push(create.into());
    }
    Ok(out)
}

/// Statements that make the general tablespaces.
pub(super) async fn tablespaces(session: &mut Session) -> Result<Vec<SqlText>, LogicalError> {
    // AUTOEXTEND_SIZE came with 8.0.23, ENCRYPTION with 8.0.13.
    let sql = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' \
               AND TABLE_NAME = 'INNODB_TABLESPACES' AND COLUMN_NAME IN ('AUTOEXTEND_SIZE', 'ENCRYPTION')";
    let known: Vec<_> = session.query(sql).await?.iter().map(|row| text(row, 0)).collect();
    let column = |name: &str| if known.iter().any(|column| column == name) { format!("t.{name}") } else { "''".into() };
    let sql = format!(
        "SELECT f.TABLESPACE_NAME, f.FILE_NAME, {}, t.ZIP_PAGE_SIZE, {} FROM information_schema.FILES f \
         LEFT JOIN information_schema.INNODB_TABLESPACES t ON t.NAME = f.TABLESPACE_NAME \
         WHERE f.FILE_TYPE = 'TABLESPACE' AND f.TABLESPACE_NAME NOT LIKE '%/%' \
         AND f.TABLESPACE_NAME NOT IN ('mysql','innodb_system','innodb_temporary') ORDER BY f.TABLESPACE_NAME",
        column("AUTOEXTEND_SIZE"),
        column("ENCRYPTION")
    );
    let mut out = Vec::new();
    for row in session.query(&sql).await? {
        let (name, file) = (text(&row, 0), text(&row, 1));
        let file = file.rsplit('/').next().unwrap_or_default().replace('\'', "''");
        let mut create = format!("CREATE TABLESPACE {} ADD DATAFILE '{file}'", quote::identifier(&name));
        // Without the size of its pages it takes no compressed table.
        for (word, column) in [("AUTOEXTEND_SIZE", 2), ("FILE_BLOCK_SIZE", 3)] {
            match number(&row, column) {
                0 => {}
                bytes => create.push_str(&format!(" {word}={bytes}")),
            }
        }
        if text(&row, 4) == "Y" {
            create.push_str(" ENCRYPTION='Y'");
        }
        out.push(format!("{create} ENGINE=InnoDB").into());
    }
    Ok(out)
}

/// Statements that bring back the histograms of those tables (MySQL 8.0.31 and later take them).
pub(super) async fn histograms(
    session: &mut Session,
    tables: &BTreeMap<TableName, TableHead>,
) -> Result<Vec<SqlText>, LogicalError> {
    let sql = "SELECT SCHEMA_NAME, TABLE_NAME, COLUMN_NAME, HISTOGRAM FROM information_schema.COLUMN_STATISTICS ORDER BY 1, 2, 3";
    let mut out = Vec::new();
    for row in session.query(sql).await? {
        let (schema, table) = (text(&row, 0), text(&row, 1));
        let name = quote::qualified(&schema, &table);
        if tables.contains_key(&(schema, table)) {
            let (column, data) = (quote::identifier(&text(&row, 2)), quote::plain_text(&text(&row, 3)));
            let sql = format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {name} UPDATE HISTOGRAM ON {column} USING DATA {data}");
            out.push(sql.into());
        }
    }
    Ok(out)
}
