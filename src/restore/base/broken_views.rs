//! Views that did not work on the source. They must be on the target all the same, for the log may alter, rename or drop them, or bring back
//! what they lack: they are made before any table is there, over stand-ins of everything they refer to, which then go.
//!
//! What cannot be made so is a view of one constant until the restore ends, so that the log finds it.

use std::collections::BTreeSet;

use super::error::BaseError;
use super::programs;
use super::session::{Session, text};
use super::target::{STATE, Steps, note, remember};
use crate::archive::logical::{Program, Schema};
use crate::mysql::quote;

/// The step of [`make`].
const STEP: &str = "broken views";
/// Begins a step that is a statement which takes a stand-in away.
const UNDO: &str = "undo ";
/// What a view that only stands for another one says.
const MARK: &str = "tidemark_restore: stands for a view that did not work";
/// More things than this a view does not lack.
const MAX_STAND_INS: usize = 200;

/// Makes every view that was broken on the source. Nothing else of the full but its schemas may be there yet.
pub(super) async fn make(
    session: &mut Session,
    programs: &[Program],
    schemas: &[Schema],
    steps: &Steps,
) -> Result<(), BaseError> {
    let views = in_order(programs.iter().filter(|program| program.broken.is_some()).map(View::new).collect());
    if views.is_empty() || steps.done(STEP) {
        return Ok(());
    }
    let mut stand_ins = StandIns {
        own: schemas.iter().map(|schema| schema.name.clone()).collect(),
        undo: steps.0.iter().filter_map(|step| Some(step.strip_prefix(UNDO)?.to_owned())).collect(),
    };
    // What a load that was cut off here has left.
    stand_ins.clear(session).await?;
    remember(session, STEP, "made").await?;
    for view in &views {
        let Program { schema, name, .. } = view.program;
        // It may have been stood in for itself.
        stand_ins.take(session, &drop_table(schema, name)).await?;
        let name = quote::qualified(schema, name);
        session.exec(&format!("DROP VIEW IF EXISTS {name}")).await?;
        match over_stand_ins(session, view, &views, &mut stand_ins).await {
            Err(e) if e.code().is_some() => {
                tracing::info!(view = name, error = %e, "a broken view cannot be made as it was");
                session.exec(&format!("CREATE VIEW {name} AS SELECT '{MARK}' AS `{STATE}`")).await?;
            }
            other => other?,
        }
    }
    fail::fail_point!("restore::base::stood_in");
    stand_ins.clear(session).await?;
    session.exec(&note(STEP)).await.map(drop)
}

/// Says in words how a view that still does not work is there.
pub(super) async fn told(session: &mut Session, view: &Program) -> Result<String, BaseError> {
    let name = quote::qualified(&view.schema, &view.name);
    let sql = format!(
        "SELECT VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        quote::text(&view.schema),
        quote::text(&view.name)
    );
    let definition = session.value(&sql).await?;
    let why = view.broken.as_deref().unwrap_or_default();
    Ok(if definition.contains(MARK) {
        format!(
            "view {name} was broken on the source ({why}) and cannot be made as it was: it is not restored unless the log made it anew"
        )
    } else if contains(view.create.as_bytes(), definition.as_bytes()) || is_shown(session, view).await? {
        format!("view {name} was broken on the source and is so on the target ({why})")
    } else {
        format!(
            "view {name} was broken on the source and is so on the target ({why}); its definition reads otherwise there: compare it with {}",
            String::from_utf8_lossy(view.create.as_bytes())
        )
    })
}

/// Whether it is printed as it was. (What a server keeps of it is told without four-byte characters; what it prints does not always tell the order.)
async fn is_shown(session: &mut Session, view: &Program) -> Result<bool, BaseError> {
    // In the view's own schema names are shorter.
    session.exec(&format!("USE {STATE}")).await?;
    let shown = session.query(&format!("SHOW CREATE VIEW {}", quote::qualified(&view.schema, &view.name))).await;
    match shown {
        Err(e) if e.code().is_some() => Ok(false),
        rows => Ok(rows?
            .iter()
            .any(|row| row.get(1).and_then(Option::as_ref).is_some_and(|sql| sql == view.create.as_bytes()))),
    }
}

/// Drops the views of a constant that are still there, under whatever name.
pub(super) async fn drop_stand_ins(session: &mut Session) -> Result<(), BaseError> {
    if session.value(&format!("SELECT value FROM {STATE}.settings WHERE name = '{STEP}'")).await?.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS WHERE VIEW_DEFINITION LIKE '%{MARK}%' \
         AND VIEW_DEFINITION LIKE '%`{STATE}`'"
    );
    for row in session.query(&sql).await? {
        session.exec(&format!("DROP VIEW {}", quote::qualified(&text(&row, 0), &text(&row, 1)))).await?;
    }
    Ok(())
}

/// Those that another one refers to before it: over the stand-ins all of them work.
fn in_order(mut views: Vec<View<'_>>) -> Vec<View<'_>> {
    let mut out = Vec::new();
    while !views.is_empty() {
        let refers = |view: &View<'_>| {
            let name = &view.program.name;
            views.iter().any(|other| other.program.name != *name && view.words.contains(&other.program.name))
        };
        let next = views.iter().position(|view| !refers(view)).unwrap_or_default();
        out.push(views.remove(next));
    }
    out
}

/// Makes a view, and whatever the server says that it lacks. An error of the server's says why it cannot be made.
async fn over_stand_ins(
    session: &mut Session,
    view: &View<'_>,
    all: &[View<'_>],
    stand_ins: &mut StandIns,
) -> Result<(), BaseError> {
    let mut left = MAX_STAND_INS;
    loop {
        match programs::make(session, view.program, view.program.create.as_bytes()).await {
            Err(e) if e.code().is_some() && left > 0 => stand_ins.add(session, view, all, e).await?,
            other => return other,
        }
        left -= 1;
    }
}

/// A broken view and the names that it says.
struct View<'a> {
    program: &'a Program,
    words: BTreeSet<String>,
}

impl<'a> View<'a> {
    fn new(program: &'a Program) -> Self {
        Self { program, words: names(program.create.as_bytes()) }
    }
}

/// What is there in the place of what views refer to.
struct StandIns {
    /// Schemas of the full, and those that stand in.
    own: BTreeSet<String>,
    /// Statements that take them away.
    undo: Vec<String>,
}

impl StandIns {
    /// Makes what an error says is missing; gives the error back where it says something else.
    async fn add(
        &mut self,
        session: &mut Session,
        view: &View<'_>,
        all: &[View<'_>],
        e: BaseError,
    ) -> Result<(), BaseError> {
        let message = e.message().to_owned();
        let message = message.as_str();
        match e.code() {
            Some(1146) => {
                let full_name = between(message, "Table '", "' doesn't exist");
                let Some((schema, name)) = self.split(full_name, view) else {
                    // Of a schema that is gone, or of none that is ours.
                    return match full_name.and_then(|name| parts(name).find(|(schema, _)| says(&view.words, schema))) {
                        Some((schema, _)) => self.schema(session, schema, e).await,
                        None => Err(e),
                    };
                };
                let mentions = all.iter().filter(|view| says(&view.words, name));
                let columns = mentions.flat_map(|view| view.words.iter().cloned()).collect();
                self.note(session, drop_table(schema, name)).await?;
                table(session, &quote::qualified(schema, name), columns).await
            }
            Some(1049) => {
                let Some(schema) = between(message, "Unknown database '", "'") else { return Err(e) };
                self.schema(session, schema, e).await
            }
            // FUNCTION a.b does not exist; then: Incorrect number of arguments for FUNCTION a.b; expected 0, got 2.
            code @ (Some(1305) | Some(1318)) => {
                let end = if code == Some(1305) { " does not exist" } else { "; expected " };
                let Some((schema, name)) = self.split(between(message, "FUNCTION ", end), view) else { return Err(e) };
                let count = message.rsplit_once("got ").and_then(|(_, count)| count.trim().parse().ok()).unwrap_or(0);
                let arguments: Vec<_> = (0..count).map(|n: usize| format!("a{n} TEXT")).collect();
                let function = quote::qualified(schema, name);
                let undo = format!("DROP FUNCTION IF EXISTS {function}");
                self.take(session, &undo).await?;
                self.note(session, undo).await?;
                let arguments = arguments.join(", ");
                let sql =
                    format!("CREATE FUNCTION {function}({arguments}) RETURNS TEXT DETERMINISTIC NO SQL RETURN NULL");
                session.exec(&sql).await.map(drop)
            }
            _ => Err(e),
        }
    }

    /// Makes a schema, unless there is one: that is not ours, and the error stands.
    async fn schema(&mut self, session: &mut Session, schema: &str, e: BaseError) -> Result<(), BaseError> {
        let sql = format!("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", quote::text(schema));
        if !session.query(&sql).await?.is_empty() {
            return Err(e);
        }
        let name = quote::identifier(schema);
        self.own.insert(schema.to_owned());
        self.note(session, format!("DROP DATABASE IF EXISTS {name}")).await?;
        session.exec(&format!("CREATE DATABASE {name}")).await.map(drop)
    }

    /// Comes before the stand-in, so that nothing of it outlives a load that is cut off.
    async fn note(&mut self, session: &mut Session, undo: String) -> Result<(), BaseError> {
        session.exec(&note(&format!("{UNDO}{undo}"))).await?;
        self.undo.push(undo);
        Ok(())
    }

    /// `schema.name` of a message, where it may be made: only names that the view says tell which dot parts it.
    fn split<'a>(&self, name: Option<&'a str>, view: &View<'_>) -> Option<(&'a str, &'a str)> {
        parts(name?).find(|(schema, table)| self.own.contains(*schema) && says(&view.words, table))
    }

    /// Takes one away, if it is there.
    async fn take(&mut self, session: &mut Session, undo: &str) -> Result<(), BaseError> {
        if let Some(at) = self.undo.iter().position(|known| known == undo) {
            session.exec(&self.undo.remove(at)).await?;
        }
        Ok(())
    }

    async fn clear(&mut self, session: &mut Session) -> Result<(), BaseError> {
        for undo in std::mem::take(&mut self.undo) {
            session.exec(&undo).await?;
        }
        Ok(())
    }
}

/// Every way to part a name at a dot.
fn parts(name: &str) -> impl Iterator<Item = (&str, &str)> {
    name.match_indices('.').filter_map(|(dot, _)| Some((name.get(..dot)?, name.get(dot + 1..)?)))
}

fn drop_table(schema: &str, name: &str) -> String {
    format!("DROP TABLE IF EXISTS {}", quote::qualified(schema, name))
}

/// A table with as many of those columns as can be: every name that views of it say.
async fn table(session: &mut Session, name: &str, columns: BTreeSet<String>) -> Result<(), BaseError> {
    let mut columns: Vec<String> = columns.into_iter().collect();
    loop {
        let list: Vec<_> = columns.iter().map(|column| format!("{} TEXT", quote::identifier(column))).collect();
        let sql = format!("CREATE TABLE {name} ({}) DEFAULT CHARACTER SET utf8mb4", list.join(", "));
        match session.exec(&sql).await {
            // Duplicate column name (to the server's collation), incorrect column name.
            Err(e) if matches!(e.code(), Some(1060 | 1166)) => {
                let refused = between(e.message(), "column name '", "'");
                match columns.iter().rposition(|column| Some(column.as_str()) == refused) {
                    Some(at) => drop(columns.remove(at)),
                    None => return Err(e),
                }
            }
            other => return other.map(drop),
        }
    }
}

fn says(words: &BTreeSet<String>, name: &str) -> bool {
    words.iter().any(|word| word.to_lowercase() == name.to_lowercase())
}

/// Every name between backticks.
fn names(sql: &[u8]) -> BTreeSet<String> {
    let sql = String::from_utf8_lossy(sql);
    let mut out = BTreeSet::new();
    let mut rest = sql.chars().peekable();
    while let Some(quote) = rest.next() {
        if !matches!(quote, '`' | '\'') {
            continue;
        }
        let mut name = String::new();
        while let Some(c) = rest.next() {
            match c {
                '\\' if quote == '\'' => drop(rest.next()),
                _ if c != quote => name.push(c),
                _ if rest.peek() == Some(&quote) => name.extend(rest.next()),
                _ => break,
            }
        }
        if quote == '`' && !name.is_empty() {
            out.insert(name);
        }
    }
    out
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.rsplit_once(end).map(|(name, _)| name)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::logical::ProgramKind;

    #[test]
    fn names_are_what_stands_between_backticks_outside_of_texts() {
        let found = names(b"select `a``b`.`c` AS `d`,'it\\'s `no`' AS `e`,'`''`' from `f`");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a`b", "c", "d", "e", "f"]);
    }

    fn program(name: &str, create: &str) -> Program {
        Program {
            kind: ProgramKind::View,
            schema: "a.b".to_owned(),
            name: name.to_owned(),
            create: create.to_owned().into(),
            sql_mode: None,
            client_charset: String::new(),
            connection_collation: String::new(),
            database_collation: None,
            time_zone: None,
            order: 0,
            broken: Some(String::new()),
        }
    }

    #[test]
    fn a_view_comes_behind_those_that_it_says() {
        let all =
            [program("x", "from `y`"), program("y", "from `z`"), program("z", "from `t`"), program("k", "from `k`")];
        let order = in_order(all.iter().map(View::new).collect());
        assert_eq!(order.iter().map(|view| view.program.name.as_str()).collect::<Vec<_>>(), ["z", "y", "x", "k"]);
        let circle = [program("x", "from `y`"), program("y", "from `x`")];
        assert_eq!(in_order(circle.iter().map(View::new).collect()).len(), 2);
    }

    #[test]
    fn only_names_that_a_view_says_in_schemas_of_the_full_are_made() {
        let stand_ins = StandIns { own: BTreeSet::from(["a.b".to_owned()]), undo: Vec::new() };
        let program = program("v", "select 1 from `a.b`.`c.d`");
        let view = View::new(&program);
        assert_eq!(stand_ins.split(Some("a.b.c.d"), &view), Some(("a.b", "c.d")));
        assert_eq!(stand_ins.split(Some("a.b.c"), &view), None);
        assert_eq!(stand_ins.split(Some("mysql.c.d"), &view), None);
        assert_eq!(between("Table 'a.b' doesn't exist", "Table '", "' doesn't exist"), Some("a.b"));
    }
}
