//! What a statement of the log does to scheduled events. Pure.

use std::collections::BTreeMap;

/// The state a statement leaves an event in, on the server that ran it for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Enabled,
    Disabled,
    /// `DISABLE ON REPLICA`.
    OnReplica,
    /// Nobody can tell.
    Unknown,
}

/// Events by schema and lower-case name, as the log leaves them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Events(BTreeMap<(String, String), Status>);

impl Events {
    /// Adds an event that was there before the log.
    pub fn insert(&mut self, schema: &str, name: &str, status: Status) {
        self.0.insert((schema.to_owned(), name.to_lowercase()), status);
    }

    pub fn get(&self, schema: &str, name: &str) -> Status {
        self.0.get(&(schema.to_owned(), name.to_lowercase())).copied().unwrap_or(Status::Unknown)
    }

    /// Takes a statement that ran with `schema` as its default.
    pub fn run(&mut self, schema: &str, statement: &str) {
        let tokens = tokens(statement);
        let mut words = tokens.iter().map(Token::word);
        let verb = words.next().flatten().unwrap_or_default();
        match verb.as_str() {
            "CREATE" | "ALTER" | "DROP" => {}
            _ => return,
        }
        // `DEFINER = user@host` may come between; nothing else may that looks like the word.
        let Some(at) =
            tokens.iter().take(16).position(|t| matches!(t.word().as_deref(), Some("EVENT" | "DATABASE" | "SCHEMA")))
        else {
            return;
        };
        let (_, mut rest) = tokens.split_at(at + 1);
        let conditional = rest.first().is_some_and(|t| t.is("IF"));
        while rest.first().is_some_and(|t| t.is("IF") || t.is("NOT") || t.is("EXISTS")) {
            rest = rest.get(1..).unwrap_or_default();
        }
        let Some((key, rest)) = name(rest, schema) else { return };
        if !tokens.get(at).is_some_and(|t| t.is("EVENT")) {
            if verb == "DROP" {
                self.0.retain(|(of, _), _| *of != key.1);
            }
            return;
        }
        let key = (key.0, key.1.to_lowercase());
        match verb.as_str() {
            "DROP" => _ = self.0.remove(&key),
            "CREATE" if conditional && self.0.contains_key(&key) => {}
            "CREATE" => _ = self.0.insert(key, status(rest).unwrap_or(Status::Enabled)),
            _ => {
                let before = self.0.remove(&key).unwrap_or(Status::Unknown);
                let to = rest.windows(2).position(|pair| matches!(pair, [a, b] if a.is("RENAME") && b.is("TO")));
                let renamed = to.and_then(|at| name(rest.get(at + 2..).unwrap_or_default(), schema));
                let key = renamed.map_or(key, |((schema, name), _)| (schema, name.to_lowercase()));
                self.0.insert(key, status(rest).unwrap_or(before));
            }
        }
    }
}

/// The status clause before the body; none: there is none.
fn status(tokens: &[Token]) -> Option<Status> {
    let head = tokens.iter().position(|t| t.is("DO")).map_or(tokens, |body| tokens.split_at(body).0);
    let at = head.iter().position(|t| t.is("ENABLE") || t.is("DISABLE"))?;
    let on = head.get(at + 1).is_some_and(|t| t.is("ON"));
    let replica = head.get(at + 2).is_some_and(|t| t.is("SLAVE") || t.is("REPLICA"));
    Some(match head.get(at) {
        Some(t) if t.is("ENABLE") => Status::Enabled,
        _ if on && replica => Status::OnReplica,
        _ => Status::Disabled,
    })
}

/// `name` or `schema.name`, and what follows it.
fn name<'a>(tokens: &'a [Token], schema: &str) -> Option<((String, String), &'a [Token])> {
    match tokens {
        [of, Token::Symbol('.'), name, rest @ ..] => Some(((of.text()?, name.text()?), rest)),
        [name, rest @ ..] => Some(((schema.to_owned(), name.text()?), rest)),
        [] => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A word without quotes.
    Name(String),
    /// A quoted name.
    Quoted(String),
    Symbol(char),
}

impl Token {
    fn text(&self) -> Option<String> {
        match self {
            Self::Name(text) | Self::Quoted(text) => Some(text.clone()),
            Self::Symbol(_) => None,
        }
    }

    fn word(&self) -> Option<String> {
        match self {
            Self::Name(word) => Some(word.to_ascii_uppercase()),
            _ => None,
        }
    }

    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Name(name) if name.eq_ignore_ascii_case(word))
    }
}

/// The tokens outside comments, strings and parentheses; what MySQL runs inside `/*! … */` counts.
fn tokens(sql: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut chars = sql.chars().peekable();
    let mut depth = 0_u32;
    while let Some(c) = chars.next() {
        let token = match c {
            '\'' => {
                quoted(&mut chars, c, true);
                None
            }
            // A name with ANSI_QUOTES, else a string: where a name is due it is one.
            '"' => Some(Token::Quoted(quoted(&mut chars, c, true))),
            '`' => Some(Token::Quoted(quoted(&mut chars, c, false))),
            '#' => {
                _ = chars.by_ref().find(|c| *c == '\n');
                None
            }
            '-' if chars.peek() == Some(&'-') => {
                _ = chars.by_ref().find(|c| *c == '\n');
                None
            }
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                if matches!(chars.peek(), Some('!' | 'M')) {
                    while chars.next_if(|c| matches!(c, '!' | 'M') || c.is_ascii_digit()).is_some() {}
                } else {
                    let mut last = ' ';
                    for c in chars.by_ref() {
                        if last == '*' && c == '/' {
                            break;
                        }
                        last = c;
                    }
                }
                None
            }
            '(' => {
                depth += 1;
                None
            }
            ')' => {
                depth = depth.saturating_sub(1);
                None
            }
            c if c.is_whitespace() => None,
            c if c.is_alphanumeric() || matches!(c, '_' | '$') => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
                    word.push(c);
                }
                Some(Token::Name(word))
            }
            c => Some(Token::Symbol(c)),
        };
        if depth == 0 {
            out.extend(token);
        }
    }
    out
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, quote: char, escapes: bool) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' if escapes => text.extend(chars.next()),
            c if c == quote => match chars.next_if_eq(&quote) {
                Some(doubled) => text.push(doubled),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(statements: &[&str]) -> Events {
        let mut events = Events::default();
        statements.iter().for_each(|s| events.run("d", s));
        events
    }

    #[test]
    fn an_event_ends_as_the_last_statement_that_says_so_leaves_it() {
        use Status::{Disabled, Enabled, OnReplica, Unknown};
        let create = "CREATE DEFINER=`o'k`@`%` EVENT e ON SCHEDULE EVERY (1+(SELECT 1)) DAY";
        for (statements, expected) in [
            (vec![format!("{create} DO SET @a = 'DISABLE'")], Enabled),
            (vec![format!("{create} DISABLE COMMENT 'do ENABLE' DO SELECT 1")], Disabled),
            (vec![format!("{create} /* ENABLE */ DISABLE ON SLAVE DO SELECT 1")], OnReplica),
            (vec![format!("/*!50106 {create} DISABLE ON REPLICA DO SELECT 1 */")], OnReplica),
            (vec![format!("{create} DISABLE DO SELECT 1"), "ALTER EVENT `E` COMMENT 'ENABLE'".into()], Disabled),
            (vec![format!("{create} DISABLE DO SELECT 1"), "alter event d.e enable".into()], Enabled),
            (vec![format!("{create} DO SELECT 1"), "ALTER EVENT e DO SELECT 'x' -- DISABLE".into()], Enabled),
            (vec!["ALTER EVENT e COMMENT ''".into()], Unknown),
            (vec![format!("{create} DO SELECT 1"), "DROP EVENT IF EXISTS e".into()], Unknown),
            (vec![format!("{create} DO SELECT 1"), "DROP DATABASE `d`".into()], Unknown),
            (
                vec![
                    format!("{create} DISABLE DO SELECT 1"),
                    "CREATE EVENT IF NOT EXISTS e ON SCHEDULE AT NOW() DO SELECT 1".into(),
                ],
                Disabled,
            ),
            (
                vec![
                    "CREATE TABLE event (e INT)".into(),
                    "CREATE OR REPLACE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1".into(),
                ],
                Enabled,
            ),
        ] {
            let texts: Vec<&str> = statements.iter().map(String::as_str).collect();
            assert_eq!(after(&texts).get("d", "e"), expected, "{texts:?}");
        }
        let moved = after(&[&format!("{create} DISABLE DO SELECT 1"), "ALTER EVENT e RENAME TO `x`.`y z`"]);
        assert_eq!((moved.get("x", "Y Z"), moved.get("d", "e")), (Disabled, Unknown));
    }
}
