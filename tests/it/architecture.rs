//! The rules of `docs/architecture.md`, checked over the sources. The table of modules is read from that page itself, so
//! a new edge needs a line there that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a source file before its unit tests.
const MAX_LINES: usize = 400;

#[test]
fn sources_keep_the_rules_of_the_architecture_page() {
    let rules = Rules::read(&fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    let mut broken = Vec::new();
    for path in sources() {
        let source = fs::read_to_string(root().join(&path)).unwrap();
        broken.extend(rules.broken_by(path.to_str().unwrap(), &source));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn the_architecture_page_names_every_module() {
    let rules = Rules::read(&fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    let mut modules: BTreeSet<String> = sources().iter().map(|path| module_of(path.to_str().unwrap())).collect();
    modules.remove("lib");
    assert_eq!(modules, rules.may_use.keys().cloned().collect(), "the modules of src/, and those of the page's table");
}

#[test]
fn no_tracked_file_names_a_path_of_somebodys_machine() {
    let paths = ["home", "Users", "work"].map(|folder| format!("/{folder}/"));
    let files = Command::new("git").arg("ls-files").current_dir(root()).output().unwrap();
    assert!(files.status.success(), "git ls-files: {}", String::from_utf8_lossy(&files.stderr));
    let mut found = Vec::new();
    for file in String::from_utf8(files.stdout).unwrap().lines() {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default(); // deleted, or not text
        for (number, line) in text.lines().enumerate() {
            let starts = |path: &String| line.match_indices(path.as_str()).any(|(at, _)| !ends_in_a_word(&line[..at]));
            if paths.iter().any(starts) {
                found.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    let rules = Rules::read(TABLE);
    let red = |path: &str, source: &str| {
        let broken = rules.broken_by(path, source);
        assert_eq!(broken.len(), 1, "{path}: {source:?} breaks one rule, found: {broken:?}");
    };
    red("src/binlog/mod.rs", "use crate::backup::Plan;");
    red("src/binlog/reader.rs", "use crate::{model::Gtid, backup};");
    red("src/binlog/reader.rs", "use crate::{\n    model::{self, gtid::{Set, Gtid}},\n    backup::{Plan, run},\n};");
    red("src/binlog/reader.rs", "fn f() { let _ = crate :: backup::run(); }");
    red("src/binlog/mod.rs", "use super::backup::Plan;");
    red("src/binlog/reader/frame.rs", "use super::super::super::backup::Plan;");
    red("src/binlog/mod.rs", "use tidemark::backup::Plan;");
    red("src/binlog/mod.rs", "use crate as all;");
    red("src/binlog/mod.rs", "use crate::*;");
    red("src/binlog/mod.rs", "use crate::unheard_of::Thing;");
    red("src/model/mod.rs", "fn f() -> crate::binlog::Cut { loop {} }");
    red("src/binlog/mod.rs", "use kube::Client;");
    red("src/binlog/mod.rs", "fn f(e: anyhow::Error) {}");
    red("src/binlog/mod.rs", r#"fn key() -> String { format!("{}/index.json", 1) }"#);
    red("src/binlog/mod.rs", r##"const PREFIX: &str = r#"binlog/"#;"##);
    red("src/binlog/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::backup;\n}\nuse crate::backup::Plan;");
    red("src/binlog/mod.rs", &"//\n".repeat(MAX_LINES + 1));
}

#[test]
fn what_the_rules_allow_is_left_alone() {
    let rules = Rules::read(TABLE);
    let green =
        |path: &str, source: &str| assert_eq!(rules.broken_by(path, source), Vec::<String>::new(), "{source:?}");
    green(
        "src/binlog/mod.rs",
        "use crate::model::{Gtid, backup};\nuse crate::archive::keys;\nuse crate::binlog::reader;",
    );
    green("src/binlog/mod.rs", "// use crate::backup;\n/* crate::backup /* nested */ kube::x */\npub(crate) fn f() {}");
    green(
        "src/binlog/mod.rs",
        "const S: &str = \"crate::backup \\\" binlog::cut\"; const C: char = '\"';\nfn f<'a>(x: &'a u8) {}",
    );
    green("src/binlog/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::backup;\n}\n");
    green("src/binlog/tests.rs", "use crate::backup;");
    green("src/binlog/reader.rs", "use super::backup_like;");
    green("src/binlog/mod.rs", r#"const HELP: &str = "archive.json is missing";"#);
    green("src/archive/keys.rs", r#"fn key() -> &'static str { "archive.json" }"#);
    green("src/cli/mod.rs", "use crate::backup;\nuse anyhow::Context;\nuse kube::CustomResourceExt;");
    green("src/main.rs", "use tidemark::cli;");
}

const TABLE: &str = "
| module | owns | may use |
|---|---|---|
| `main`, `cli/` | verbs | everything |
| `api/` | manifests | `model` |
| `backup/` | fulls | `archive`, `model` |
| `binlog/` | the stream, in `reader` | `archive`, `model` |
| `archive/` | the format | `model` |
| `model/` | types | – |
";

/// What each module may use.
struct Rules {
    may_use: BTreeMap<String, BTreeSet<String>>,
}

impl Rules {
    /// Reads the table whose head is `| module | owns | may use |`.
    fn read(page: &str) -> Rules {
        let mut rows = page.lines().skip_while(|line| !line.starts_with("| module |")).skip(2);
        let names = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned()).collect()
        };
        let mut may_use = BTreeMap::new();
        let mut everything = Vec::new();
        for row in rows.by_ref().take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 3, "a row of three cells: {row}");
            let modules = names(cells[0]);
            assert!(!modules.is_empty(), "a row names its module in backticks: {row}");
            if cells[2] == "everything" {
                everything.extend(modules.clone());
            }
            for module in modules {
                may_use.insert(module, names(cells[2]).into_iter().collect());
            }
        }
        assert!(!may_use.is_empty(), "docs/architecture.md has a table with the head `| module | owns | may use |`");
        let all: BTreeSet<String> = may_use.keys().cloned().collect();
        for module in everything {
            may_use.insert(module, all.clone());
        }
        Rules { may_use }
    }

    /// The rules that one source file breaks, a line each.
    fn broken_by(&self, path: &str, source: &str) -> Vec<String> {
        let module = module_of(path);
        if is_test(path) || module == "lib" {
            return Vec::new();
        }
        let Some(allowed) = self.may_use.get(&module) else {
            return vec![format!("{path}: docs/architecture.md says nothing about the module `{module}`")];
        };
        let production = without_unit_tests(source);
        let tokens = lex(&production);
        let mut broken = Vec::new();

        for (line, used) in edges(path, &tokens) {
            if used != module && !allowed.contains(&used) {
                broken.push(format!("{path}:{line}: `{module}` may not use `{used}` (see docs/architecture.md)"));
            }
        }
        let on_top = allowed.contains("cli");
        for token in &tokens {
            match &token.kind {
                Kind::Ident(name) if name == "anyhow" && !on_top => {
                    broken.push(format!("{path}:{}: anyhow is for `cli`; here an error is an enum", token.line));
                }
                Kind::Ident(name)
                    if (name == "kube" || name == "k8s_openapi")
                        && !on_top
                        && !["api", "controller", "kubectl"].contains(&module.as_str()) =>
                {
                    broken.push(format!("{path}:{}: an engine module knows no Kubernetes", token.line));
                }
                Kind::Str(text) if path != "src/archive/keys.rs" && spells_an_object_name(text) => {
                    broken.push(format!("{path}:{}: only archive::keys spells an object name: {text:?}", token.line));
                }
                _ => {}
            }
        }
        let lines = production.lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{path}: {lines} lines before its tests: split it (at most {MAX_LINES})"));
        }
        broken
    }
}

/// Prose, which has spaces, may mention a name; a key has none.
fn spells_an_object_name(literal: &str) -> bool {
    if literal.contains(' ') {
        return false;
    }
    let folder = |name: &str| literal.starts_with(name) || literal.contains(&format!("/{name}"));
    folder("binlog/")
        || folder("full/")
        || ["manifest.json", "index.json", "archive.json"].iter().any(|n| literal.contains(n))
}

/// The crate's modules that these tokens name, with the line: `crate::x`, `crate::{x::…, y}`, `tidemark::x`, and as many
/// `super::` as lead to the crate's root. A glob or a renaming of the root counts as a use of "*".
fn edges(path: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    let mut edges = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let line = tokens[at].line;
        let Kind::Ident(name) = &tokens[at].kind else {
            at += 1;
            continue;
        };
        let after_path = at > 0 && tokens[at - 1].is(':');
        let mut next = at + 1;
        let from_root = match name.as_str() {
            "crate" => true,
            "tidemark" => !after_path,
            "super" => {
                let mut climbed = 1;
                while is_path_separator(tokens, next) && tokens.get(next + 2).is_some_and(|t| t.is_ident("super")) {
                    climbed += 1;
                    next += 3;
                }
                climbed >= depth(path)
            }
            _ => false,
        };
        if from_root {
            if is_path_separator(tokens, next) {
                edges.extend(first_names(&tokens[next + 2..]).into_iter().map(|name| (line, name)));
            } else if tokens.get(next).is_some_and(|t| t.is_ident("as")) {
                edges.push((line, "*".to_owned()));
            }
        }
        at = next;
    }
    edges
}

fn is_path_separator(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|t| t.is(':')) && tokens.get(at + 1).is_some_and(|t| t.is(':'))
}

/// The first name of a path, or of each path in a braced group.
fn first_names(tokens: &[Token]) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut expected) = (0, true);
    for token in tokens {
        match &token.kind {
            Kind::Punct('{') => depth += 1,
            Kind::Punct('}') => depth -= 1,
            Kind::Punct(',') if depth == 1 => expected = true,
            Kind::Punct('*') if expected => names.push("*".to_owned()),
            Kind::Ident(name) if expected => {
                names.push(name.clone());
                expected = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// How many `super::` lead from this file to the crate's root.
fn depth(path: &str) -> usize {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if inside == "main" { 0 } else { inside.split('/').count() }
}

fn module_of(path: &str) -> String {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    inside.split('/').next().unwrap().to_owned()
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The source without its `#[cfg(test)] mod … { … }` and `#[cfg(test)] mod …;`, as rustfmt lays them out.
fn without_unit_tests(source: &str) -> String {
    let mut kept = String::new();
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or_default();
        if line == "#[cfg(test)]" && next.starts_with("mod ") {
            if next.ends_with('{') {
                lines.by_ref().find(|line| *line == "}");
            } else {
                lines.next();
            }
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

struct Token {
    line: usize,
    kind: Kind,
}

enum Kind {
    Ident(String),
    Str(String),
    Punct(char),
}

impl Token {
    fn is(&self, punct: char) -> bool {
        matches!(self.kind, Kind::Punct(c) if c == punct)
    }

    fn is_ident(&self, ident: &str) -> bool {
        matches!(&self.kind, Kind::Ident(name) if name == ident)
    }
}

/// Enough of Rust's lexer to tell names and string literals from comments, characters and lifetimes.
fn lex(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let start = at;
        let mut kind = None;
        match chars[at] {
            '/' if peek(at + 1) == '/' => at = find(&chars, at, "\n"),
            '/' if peek(at + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (peek(at), peek(at + 1)) {
                        ('/', '*') => (depth, at) = (depth + 1, at + 2),
                        ('*', '/') => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                    if depth == 0 || at >= chars.len() {
                        break;
                    }
                }
            }
            'r' if peek(at + 1) == '"' || (peek(at + 1) == '#' && matches!(peek(at + 2), '"' | '#')) => {
                let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
                let open = at + hashes + 2;
                let close = find(&chars, open, &format!("\"{}", "#".repeat(hashes)));
                kind = Some(Kind::Str(chars[open.min(close)..close].iter().collect()));
                at = close + 1 + hashes;
            }
            '"' => {
                at += 1;
                while at < chars.len() && chars[at] != '"' {
                    at += if chars[at] == '\\' { 2 } else { 1 };
                }
                kind = Some(Kind::Str(chars[start + 1..at.min(chars.len())].iter().collect()));
                at += 1;
            }
            '\'' if peek(at + 1) == '\\' => at = find(&chars, at + 3, "'") + 1,
            '\'' if peek(at + 2) == '\'' => at += 3,
            c if c.is_alphabetic() || c == '_' => {
                while peek(at).is_alphanumeric() || peek(at) == '_' {
                    at += 1;
                }
                let ident: String = chars[start..at].iter().collect();
                // A prefix of a literal (b"…", br"…", c"…") is none of the names looked for.
                kind = (!(ident.len() <= 2 && peek(at) == '"')).then_some(Kind::Ident(ident));
            }
            c => {
                at += 1;
                kind = (!c.is_whitespace()).then_some(Kind::Punct(c));
            }
        }
        at = at.min(chars.len());
        tokens.extend(kind.map(|kind| Token { line, kind }));
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Where `text` next occurs from `from` on, or the end.
fn find(chars: &[char], from: usize, text: &str) -> usize {
    let text: Vec<char> = text.chars().collect();
    (from..chars.len()).find(|at| chars[*at..].starts_with(&text)).unwrap_or(chars.len())
}

fn ends_in_a_word(text: &str) -> bool {
    text.ends_with(|c: char| c.is_alphanumeric() || "._-}~)".contains(c))
}

fn sources() -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
