//! Cuts a large table into ranges of its primary key, from the optimizer's estimates alone: no row is read.

use super::error::LogicalError;
use super::session::{Session, text};
use crate::mysql::quote;

/// More estimates than this are not asked for.
const MAX_ESTIMATES: usize = 2000;

/// Conditions that part a table's rows into about `wanted` ranges; a single `None` when it cannot be cut.
pub(super) async fn plan(
    session: &mut Session,
    schema: &str,
    name: &str,
    wanted: u64,
) -> Result<Vec<Option<String>>, LogicalError> {
    let Some(key) = leading_integer_key(session, schema, name).await? else { return Ok(vec![None]) };
    let key = quote::identifier(&key);
    let table = quote::qualified(schema, name);
    let row = session.row(&format!("SELECT MIN({key}), MAX({key}) FROM {table}"), "the bounds of a key").await?;
    let (Ok(min), Ok(max)) = (text(&row, 0).parse::<i128>(), text(&row, 1).parse::<i128>()) else {
        return Ok(vec![None]);
    };
    let all = estimate(session, &table, &key, min, max + 1).await?;
    let target = (all / wanted.max(1)).max(1);
    let mut todo = vec![(min, max + 1, all)];
    let mut pieces: Vec<(i128, i128, u64)> = Vec::new();
    let mut estimates = 1;
    while let Some((low, high, rows)) = todo.pop() {
        if rows <= target + target / 4 || high - low < 2 || estimates >= MAX_ESTIMATES {
            // Small neighbours become one range.
            match pieces.last_mut() {
                Some(last) if last.2 + rows <= target + target / 4 => *last = (last.0, high, last.2 + rows),
                _ => pieces.push((low, high, rows)),
            }
            continue;
        }
        let middle = low + (high - low) / 2;
        let left = estimate(session, &table, &key, low, middle).await?;
        let right = estimate(session, &table, &key, middle, high).await?;
        estimates += 2;
        // Estimates that lead nowhere end the search.
        if left >= rows && right >= rows {
            pieces.push((low, high, rows));
            continue;
        }
        todo.push((middle, high, right));
        todo.push((low, middle, left));
    }
    let bounds: Vec<i128> = pieces.iter().skip(1).map(|piece| piece.0).collect();
    Ok(conditions(&key, &bounds))
}

/// Ranges below, between and above the bounds: together all values, none twice.
fn conditions(key: &str, bounds: &[i128]) -> Vec<Option<String>> {
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return vec![None] };
    let mut out = vec![Some(format!("{key} < {first}"))];
    for pair in bounds.windows(2) {
        if let [low, high] = pair {
            out.push(Some(format!("{key} >= {low} AND {key} < {high}")));
        }
    }
    out.push(Some(format!("{key} >= {last}")));
    out
}

async fn leading_integer_key(session: &mut Session, schema: &str, name: &str) -> Result<Option<String>, LogicalError> {
    let sql = format!(
        "SELECT s.COLUMN_NAME FROM information_schema.STATISTICS s JOIN information_schema.COLUMNS c \
         ON c.TABLE_SCHEMA = s.TABLE_SCHEMA AND c.TABLE_NAME = s.TABLE_NAME AND c.COLUMN_NAME = s.COLUMN_NAME \
         WHERE s.TABLE_SCHEMA = {schema} AND s.TABLE_NAME = {name} AND c.TABLE_SCHEMA = {schema} AND c.TABLE_NAME = {name} \
         AND s.INDEX_NAME = 'PRIMARY' AND s.SEQ_IN_INDEX = 1 \
         AND c.DATA_TYPE IN ('tinyint','smallint','mediumint','int','bigint')",
        schema = quote::text(schema),
        name = quote::text(name)
    );
    Ok(session.query(&sql).await?.first().map(|row| text(row, 0)))
}

async fn estimate(session: &mut Session, table: &str, key: &str, low: i128, high: i128) -> Result<u64, LogicalError> {
    let sql =
        format!("EXPLAIN SELECT {key} FROM {table} FORCE INDEX (PRIMARY) WHERE {key} >= {low} AND {key} < {high}");
    let rows = session.connection.stream_rows(&sql, 1 << 20).await;
    let mut rows =
        rows.map_err(|source| LogicalError::Sql { doing: "an estimate".to_owned(), source: Box::new(source) })?;
    let column = rows.columns().iter().position(|c| c.name.eq_ignore_ascii_case("rows"));
    let mut estimate = 0;
    while let Some(row) = rows
        .next()
        .await
        .map_err(|source| LogicalError::Sql { doing: "an estimate".to_owned(), source: Box::new(source) })?
    {
        let field = column.and_then(|n| row.fields().nth(n)).and_then(Result::ok).flatten();
        estimate = field.and_then(|f| std::str::from_utf8(f).ok()?.parse().ok()).unwrap_or(0);
    }
    Ok(estimate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_key_once() {
        assert_eq!(conditions("k", &[]), [None]);
        let all = conditions("`k`", &[-5, 10]);
        assert_eq!(all, ["`k` < -5", "`k` >= -5 AND `k` < 10", "`k` >= 10"].map(|c| Some(c.to_owned())));
    }
}
