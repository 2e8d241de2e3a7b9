//! Cuts a table by values of its key that are in it: every so many rows, in the key's order, one value is a bound. The server compares, so
//! that a bound means the same to it as to its index, whatever the collation.

use super::error::LogicalError;
use super::session::{Row, Session, bytes, number, text};
use crate::mysql::quote;

/// More ranges than this are not made.
const MAX_BOUNDS: u64 = 2000;

/// A unique key without NULLs, as far as its columns can be compared with a literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The index's name.
    pub(super) index: String,
    /// Its columns, at least one.
    pub(super) columns: Vec<KeyColumn>,
}

/// A column of a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// How values of a column are written as literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Decimal,
    Date,
    DateTime,
    Time,
    /// Text in a character set and collation.
    Text(String, String),
    Binary,
    /// MariaDB's types with a text form of their own.
    Uuid,
}

impl Kind {
    fn of(data_type: &str, charset: &str, collation: &str) -> Option<Self> {
        match data_type {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Some(Self::Integer),
            "decimal" => Some(Self::Decimal),
            "date" => Some(Self::Date),
            "datetime" | "timestamp" => Some(Self::DateTime),
            "time" => Some(Self::Time),
            "char" | "varchar" => Some(Self::Text(charset.to_owned(), collation.to_owned())),
            "binary" | "varbinary" => Some(Self::Binary),
            "uuid" | "inet4" | "inet6" => Some(Self::Uuid),
            // Floats have no exact literal; ENUM, SET and BIT compare as numbers, which no index helps with.
            _ => None,
        }
    }

    /// A value as the server printed it, as a literal that stands for exactly it; none if there is no such.
    fn literal(&self, value: &[u8]) -> Option<String> {
        let plain = |allowed: &str| {
            let text = std::str::from_utf8(value).ok()?;
            (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || allowed.contains(c))).then_some(text)
        };
        // Servers keep dates that are none, and refuse them as literals.
        let date = |text: &str| text.get(..10).is_some_and(|day| day.parse::<jiff::civil::Date>().is_ok());
        match self {
            Self::Integer => plain("-").map(str::to_owned),
            Self::Decimal => plain("-.").map(str::to_owned),
            Self::Date => plain("-").filter(|text| date(text)).map(|text| format!("DATE'{text}'")),
            Self::DateTime => plain("-:. ").filter(|text| date(text)).map(|text| format!("TIMESTAMP'{text}'")),
            Self::Time => plain("-:.").map(|text| format!("TIME'{text}'")),
            Self::Text(charset, collation) => Some(format!("_{charset} x'{}' COLLATE {collation}", hex::encode(value))),
            Self::Binary => Some(format!("x'{}'", hex::encode(value))),
            Self::Uuid => {
                let text = std::str::from_utf8(value).ok()?;
                let simple = text.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '-' | ':' | '.'));
                simple.then(|| format!("_utf8mb4'{text}'"))
            }
        }
    }
}

/// The primary key, or where there is none the first other unique one without NULLs (InnoDB orders its rows by it).
pub(super) async fn key(session: &mut Session, schema: &str, name: &str) -> Result<Option<Key>, LogicalError> {
    let rows = session.query(&format!("SHOW INDEX FROM {}", quote::qualified(schema, name))).await?;
    let parts = |index: &str| rows.iter().filter(|row| text(row, 2) == index).collect::<Vec<_>>();
    let unique = |parts: &[&Row]| {
        parts.iter().all(|row| {
            let hidden = matches!((text(row, 13).as_str(), session.flavor), ("NO", crate::model::Flavor::Mysql))
                || matches!((text(row, 13).as_str(), session.flavor), ("YES", crate::model::Flavor::Mariadb));
            text(row, 1) == "0"
                && text(row, 9) != "YES"
                && bytes(row, 4).is_some()
                && text(row, 10) == "BTREE"
                && !hidden
        })
    };
    let mut names: Vec<_> = rows.iter().map(|row| text(row, 2)).collect();
    names.dedup();
    names.sort_by_key(|name| name != "PRIMARY");
    let Some(index) = names.into_iter().find(|name| unique(&parts(name)) && whole(&parts(name), name)) else {
        return Ok(None);
    };
    let parts = parts(&index);
    let described = session_columns(session, schema, name).await?;
    let direction = parts.first().map(|row| text(row, 5));
    let mut columns = Vec::new();
    for row in parts {
        let name = text(row, 4);
        let kind = described.iter().find(|column| text(column, 0) == name);
        let kind = kind.and_then(|c| Kind::of(&text(c, 1).to_ascii_lowercase(), &text(c, 2), &text(c, 3)));
        // A prefix of a column, or the other direction: from here on the index is not in the order of the values.
        match kind {
            Some(kind) if bytes(row, 7).is_none() && Some(text(row, 5)) == direction => {
                columns.push(KeyColumn { name, kind });
            }
            _ => break,
        }
    }
    Ok((!columns.is_empty()).then_some(Key { index, columns }))
}

/// Whether a key is unique by its columns' whole values. (A primary key of prefixes is still the order of the rows.)
fn whole(parts: &[&Row], name: &str) -> bool {
    name == "PRIMARY" || parts.iter().all(|row| bytes(row, 7).is_none())
}

async fn session_columns(session: &mut Session, schema: &str, name: &str) -> Result<Vec<Row>, LogicalError> {
    let sql = format!(
        "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        quote::text(schema),
        quote::text(name)
    );
    session.query(&sql).await
}

/// Conditions that part a table's rows into about `wanted` ranges of as many rows; a single `None` when it cannot be cut. Reads the key of
/// every row, in the server.
pub(super) async fn plan(
    session: &mut Session,
    schema: &str,
    name: &str,
    key: &Key,
    wanted: u64,
) -> Result<Vec<Option<String>>, LogicalError> {
    let step = (table_rows(session, schema, name).await? / wanted.max(1)).max(1);
    let columns: Vec<_> = key.columns.iter().map(|column| quote::identifier(&column.name)).collect();
    let list = columns.join(",");
    let from = format!(
        "SELECT {list} FROM {} FORCE INDEX ({})",
        quote::qualified(schema, name),
        quote::identifier(&key.index)
    );
    let mut bounds: Vec<Vec<String>> = Vec::new();
    // Values since the last bound that are none.
    let mut missed = 0;
    // The estimate may be far too low.
    while bounds.len() as u64 + missed < MAX_BOUNDS.min(wanted.saturating_mul(2)) {
        let (behind, skip) = match bounds.last() {
            None => (String::new(), step * (missed + 1)),
            Some(last) => (format!(" WHERE {}", compare(&columns, last, ">", ">")), step * (missed + 1) - 1),
        };
        let next = session.query(&format!("{from}{behind} ORDER BY {list} LIMIT 1 OFFSET {skip}")).await;
        let next = match next {
            // A value that is in the table and yet no literal the server takes: what was cut before it stays.
            Err(LogicalError::Sql { source, .. }) if source.server_error().is_some() && !bounds.is_empty() => {
                tracing::warn!(table = name, error = %source, "a key's value is no bound");
                bounds.pop();
                break;
            }
            other => other?,
        };
        let Some(row) = next.first() else { break };
        let literals: Option<Vec<_>> =
            key.columns.iter().enumerate().map(|(i, column)| column.kind.literal(bytes(row, i)?)).collect();
        match literals {
            Some(literals) => {
                bounds.push(literals);
                missed = 0;
            }
            None => missed += 1,
        }
    }
    Ok(conditions(&columns, &bounds))
}

/// The server's estimate of a table's rows.
pub(super) async fn table_rows(session: &mut Session, schema: &str, name: &str) -> Result<u64, LogicalError> {
    let sql = format!(
        "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        quote::text(schema),
        quote::text(name)
    );
    Ok(session.query(&sql).await?.first().map_or(0, |row| number(row, 0)))
}

/// Ranges below, between and above the bounds: together all values, none twice.
fn conditions(columns: &[String], bounds: &[Vec<String>]) -> Vec<Option<String>> {
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return vec![None] };
    let mut out = vec![Some(compare(columns, first, "<", "<"))];
    for pair in bounds.windows(2) {
        if let [low, high] = pair {
            out.push(Some(format!("{} AND {}", compare(columns, low, ">", ">="), compare(columns, high, "<", "<"))));
        }
    }
    out.push(Some(compare(columns, last, ">", ">=")));
    out
}

/// A comparison of rows spelled out, as servers use an index for this form only; `strict` decides between columns, `last` on the last one.
fn compare(columns: &[String], bound: &[String], strict: &str, last: &str) -> String {
    let mut out = String::new();
    for (i, (column, value)) in columns.iter().zip(bound).enumerate().rev() {
        out = match i {
            _ if out.is_empty() => format!("{column} {last} {value}"),
            // What follows from the rest, in the form every optimizer finds a range in.
            0 => {
                format!("{column} {strict}= {value} AND ({column} {strict} {value} OR {column} = {value} AND ({out}))")
            }
            _ => format!("{column} {strict} {value} OR {column} = {value} AND ({out})"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn ranges_of_rows_cover_every_key_once() {
        let one = conditions(&texts(&["a"]), &[texts(&["1"]), texts(&["5"])]);
        assert_eq!(one, ["a < 1", "a >= 1 AND a < 5", "a >= 5"].map(|c| Some(c.to_owned())));
        let two = conditions(&texts(&["a", "b"]), &[texts(&["1", "2"])]);
        let expected = ["a <= 1 AND (a < 1 OR a = 1 AND (b < 2))", "a >= 1 AND (a > 1 OR a = 1 AND (b >= 2))"];
        assert_eq!(two, expected.map(|c| Some(c.to_owned())));
        let three = compare(&texts(&["a", "b", "c"]), &texts(&["1", "2", "3"]), ">", ">=");
        assert_eq!(three, "a >= 1 AND (a > 1 OR a = 1 AND (b > 2 OR b = 2 AND (c >= 3)))");
        assert_eq!(conditions(&texts(&["a"]), &[]), [None]);
    }

    #[test]
    fn a_value_without_an_exact_literal_is_no_bound() {
        assert_eq!(Kind::DateTime.literal(b"2021-02-30 00:00:00"), None);
        assert_eq!(Kind::Date.literal(b"0000-00-00"), None);
        assert_eq!(Kind::Integer.literal(b"1e9"), None);
        assert_eq!(Kind::Time.literal(b"-838:59:59.00").unwrap(), "TIME'-838:59:59.00'");
        assert_eq!(
            Kind::Text("latin1".into(), "latin1_german1_ci".into()).literal(b"\xe4'").unwrap(),
            "_latin1 x'e427' COLLATE latin1_german1_ci"
        );
    }
}
