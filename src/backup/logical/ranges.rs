//! Cuts a large table into ranges of its key: an integer that leads it from the optimizer's estimates alone, no row is read; any other, or
//! where that does not help, by values that are there ([`keyset`]).

use super::error::LogicalError;
use super::keyset::{self, Kind};
use super::session::{Session, text};
use crate::model::Flavor;
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
    let Some(key) = keyset::key(session, schema, name).await? else { return Ok(vec![None]) };
    if let Some(first) = key.columns.first().filter(|column| column.kind == Kind::Integer) {
        let (conditions, even) = by_estimates(session, schema, name, &key.index, &first.name, wanted).await?;
        // A few values of the first column may hold all rows.
        if even || key.columns.len() == 1 {
            return Ok(conditions);
        }
    }
    keyset::plan(session, schema, name, &key, wanted).await
}

/// Conditions, and whether no range is much larger than the others.
async fn by_estimates(
    session: &mut Session,
    schema: &str,
    name: &str,
    index: &str,
    column: &str,
    wanted: u64,
) -> Result<(Vec<Option<String>>, bool), LogicalError> {
    let (key, index) = (quote::identifier(column), quote::identifier(index));
    let table = format!("{} FORCE INDEX ({index})", quote::qualified(schema, name));
    let row = session.row(&format!("SELECT MIN({key}), MAX({key}) FROM {table}"), "the bounds of a key").await?;
    let (Ok(min), Ok(max)) = (text(&row, 0).parse::<i128>(), text(&row, 1).parse::<i128>()) else {
        return Ok((vec![None], true));
    };
    // Not an estimate of the whole range: InnoDB says half of the table for every range larger than that.
    let all = keyset::table_rows(session, schema, name).await?;
    let target = (all / wanted.max(1)).max(1);
    let mut todo = vec![(min, max + 1, all)];
    let mut pieces: Vec<(i128, i128, u64)> = Vec::new();
    let mut estimates = 0;
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
    let even = pieces.iter().all(|piece| piece.2 <= target.saturating_mul(4));
    Ok((conditions(&key, &bounds), even))
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

async fn estimate(session: &mut Session, table: &str, key: &str, low: i128, high: i128) -> Result<u64, LogicalError> {
    // MySQL's default may be another form, with no such column. Without COUNT it does not estimate for a forced index.
    let explain = match session.flavor {
        Flavor::Mysql => "EXPLAIN FORMAT=TRADITIONAL",
        Flavor::Mariadb => "EXPLAIN",
    };
    let sql = format!("{explain} SELECT COUNT(*) FROM {table} WHERE {key} >= {low} AND {key} < {high}");
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
