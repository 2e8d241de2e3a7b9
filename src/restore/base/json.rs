//! The functions that make documents of JSON again with the types their text does not tell (MySQL); see `docs/archive-format.md`.

use std::fmt::Write;

use super::error::BaseError;
use super::session::Session;
use super::target::STATE;
use crate::archive::logical::Table;
use crate::mysql::quote;

/// Values are replaced so many at a time: as many as a tail is a multiple of.
const BATCH: usize = 8;

/// Makes them where a table's rows need them.
pub(super) async fn prepare(session: &mut Session, tables: &[Table]) -> Result<(), BaseError> {
    if !tables.iter().any(|table| table.load.contains(&format!("{STATE}.typed_json("))) {
        return Ok(());
    }
    // Literals in the functions are text.
    session.exec("SET NAMES utf8mb4").await?;
    for sql in [
        // The server names a binary value's type in a document after the column it came from.
        format!(
            "CREATE TABLE IF NOT EXISTS {STATE}.binary_values (connection BIGINT UNSIGNED PRIMARY KEY, \
             t249 TINYBLOB, t250 MEDIUMBLOB, t251 LONGBLOB, t252 BLOB) ENGINE=InnoDB"
        ),
        format!("DROP FUNCTION IF EXISTS {STATE}.typed_value"),
        typed_value(),
        format!("DROP FUNCTION IF EXISTS {STATE}.typed_json"),
        typed_json(),
    ] {
        session.define(sql.as_bytes(), "preparing for documents of JSON").await?;
    }
    session.exec(quote::AS_STORED).await.map(drop)
}

/// The document of a text and its tail.
fn typed_json() -> String {
    let mut arguments = String::new();
    for entry in 0..BATCH {
        let part =
            |n: usize| format!("JSON_UNQUOTE(JSON_EXTRACT(tail, CONCAT(_utf8mb4'$[', i + {}, ']')))", entry * 3 + n);
        let (path, kind, value) = (part(0), part(1), part(2));
        let _ = write!(
            arguments,
            ", {path}, {STATE}.typed_value({kind}, COALESCE(NULLIF({value}, ''), JSON_UNQUOTE(JSON_EXTRACT(doc, {path}))))"
        );
    }
    format!(
        "CREATE FUNCTION {STATE}.typed_json(v LONGBLOB) RETURNS JSON DETERMINISTIC MODIFIES SQL DATA SQL SECURITY INVOKER BEGIN \
         DECLARE at BIGINT DEFAULT LOCATE(x'00', v); \
         DECLARE doc JSON DEFAULT CAST(CONVERT(SUBSTRING(v, 1, at - 1) USING utf8mb4) AS JSON); \
         DECLARE tail JSON DEFAULT CAST(CONVERT(SUBSTRING(v, at + 1) USING utf8mb4) AS JSON); \
         DECLARE n BIGINT DEFAULT JSON_LENGTH(tail); \
         DECLARE i BIGINT DEFAULT 0; \
         WHILE i < n DO SET doc = JSON_REPLACE(doc{arguments}), i = i + {}; END WHILE; \
         RETURN doc; END",
        BATCH * 3
    )
}

/// One value of a kind. Only an expression's own type decides how a document holds it, so each kind needs its own.
fn typed_value() -> String {
    let mut kinds = String::new();
    for scale in 0..=30 {
        let _ = write!(kinds, "WHEN 'decimal {scale}' THEN RETURN CAST(CAST(v AS DECIMAL(65,{scale})) AS JSON); ");
    }
    for (kind, sql_type) in
        [("unsigned", "UNSIGNED"), ("date", "DATE"), ("time", "TIME(6)"), ("datetime", "DATETIME(6)")]
    {
        let _ = write!(kinds, "WHEN '{kind}' THEN RETURN CAST(CAST(v AS {sql_type}) AS JSON); ");
    }
    let _ =
        write!(kinds, "WHEN 'timestamp' THEN BEGIN DECLARE x TIMESTAMP(6); SET x = v; RETURN CAST(x AS JSON); END; ");
    let bytes = "FROM_BASE64(SUBSTRING_INDEX(v, ':', -1))";
    let _ = write!(
        kinds,
        "WHEN 'opaque 15' THEN BEGIN DECLARE x VARBINARY(65535); SET x = {bytes}; RETURN CAST(x AS JSON); END; "
    );
    for length in 1..=8 {
        let bits = length * 8;
        let _ = write!(
            kinds,
            "WHEN 'opaque 16 {length}' THEN BEGIN DECLARE x BIT({bits}); SET x = {bytes}; RETURN CAST(x AS JSON); END; "
        );
    }
    for length in 0..=255 {
        let _ = write!(
            kinds,
            "WHEN 'opaque 254 {length}' THEN BEGIN DECLARE x BINARY({length}); SET x = {bytes}; RETURN CAST(x AS JSON); END; "
        );
    }
    for number in 249..=252 {
        let _ = write!(
            kinds,
            "WHEN 'opaque {number}' THEN BEGIN DECLARE x JSON; \
             REPLACE INTO {STATE}.binary_values (connection, t{number}) VALUES (CONNECTION_ID(), {bytes}); \
             SELECT CAST(t{number} AS JSON) INTO x FROM {STATE}.binary_values WHERE connection = CONNECTION_ID(); RETURN x; END; "
        );
    }
    format!(
        "CREATE FUNCTION {STATE}.typed_value(kind VARCHAR(20) CHARSET utf8mb4, v LONGTEXT CHARSET utf8mb4) RETURNS JSON DETERMINISTIC \
         MODIFIES SQL DATA SQL SECURITY INVOKER BEGIN CASE kind {kinds} \
         ELSE SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a document of JSON holds a type this version cannot make'; END CASE; END"
    )
}
