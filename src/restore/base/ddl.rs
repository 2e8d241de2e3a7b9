//! Takes a `CREATE TABLE` apart, so that secondary keys are built after the rows and foreign keys after all tables.

/// A table's definition in the order its parts are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SplitTable {
    /// `CREATE TABLE …` without what follows here.
    pub(super) create: Vec<u8>,
    /// `KEY …` and `UNIQUE KEY …` to add once the rows are there.
    pub(super) keys: Vec<Vec<u8>>,
    /// `CONSTRAINT … FOREIGN KEY …` to add once all tables are there.
    pub(super) foreign_keys: Vec<Vec<u8>>,
}

/// Splits a definition as `SHOW CREATE TABLE` prints it; with `keep_keys` only foreign keys are taken out. A definition of
/// another form is left whole.
pub(super) fn split(create: &[u8], keep_keys: bool) -> SplitTable {
    let whole = || SplitTable { create: create.to_vec(), keys: Vec::new(), foreign_keys: Vec::new() };
    let Some((head, entries, tail)) = parse(create) else { return whole() };
    let foreign = |entry: &[u8]| {
        entry.starts_with(b"CONSTRAINT `")
            && after_name(entry, 11).is_some_and(|rest| rest.starts_with(b" FOREIGN KEY"))
    };
    let (foreign_keys, mut kept): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| foreign(entry));
    let keys = if keep_keys { Vec::new() } else { take_keys(&mut kept) };
    let mut out = head.to_vec();
    out.extend_from_slice(b"(\n  ");
    out.extend_from_slice(&kept.join(&b",\n  "[..]));
    out.extend_from_slice(b"\n)");
    out.extend_from_slice(tail);
    SplitTable { create: out, keys, foreign_keys }
}

/// Takes out the keys that can come later. Only a tail of the list can: a key added later is listed after those that stayed.
fn take_keys(entries: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let Some(primary) = entries.iter().find(|e| e.starts_with(b"PRIMARY KEY")) else { return Vec::new() };
    let counter = entries
        .iter()
        .find(|e| e.starts_with(b"`") && find_unquoted(e, 0, b" AUTO_INCREMENT").is_some())
        .and_then(|e| leading_name(e));
    // The counter must lead a key from the start.
    let counter = counter.filter(|name| first_part(primary) != Some(name)).map(<[u8]>::to_vec);
    let mut from = entries.len();
    for (i, entry) in entries.iter().enumerate().rev() {
        let is_listed_last = entry.starts_with(b"FULLTEXT KEY") || entry.starts_with(b"CONSTRAINT `");
        let plain = is_key(entry)
            && ["((", ",(", "USING HASH"].iter().all(|odd| find_unquoted(entry, 0, odd.as_bytes()).is_none())
            && (counter.is_none() || first_part(entry) != counter.as_deref());
        if plain {
            from = i;
        } else if !is_listed_last {
            break;
        }
    }
    let (mut keys, mut stay) = (Vec::new(), Vec::new());
    for (i, entry) in entries.drain(..).enumerate() {
        if i >= from && is_key(&entry) { keys.push(entry) } else { stay.push(entry) }
    }
    *entries = stay;
    keys
}

fn is_key(entry: &[u8]) -> bool {
    entry.starts_with(b"KEY `") || entry.starts_with(b"UNIQUE KEY `")
}

/// The quoted name that comes first in a key's list of columns.
fn first_part(entry: &[u8]) -> Option<&[u8]> {
    leading_name(entry.get(find_unquoted(entry, 0, b"(")? + 1..)?)
}

/// The backtick-quoted name a text starts with, quotes included.
fn leading_name(text: &[u8]) -> Option<&[u8]> {
    text.get(..text.len() - after_name(text, 0)?.len())
}

/// What follows the backtick-quoted name that starts at `from`.
fn after_name(text: &[u8], from: usize) -> Option<&[u8]> {
    text.get(from).filter(|b| **b == b'`')?;
    text.get(end_of_quote(text, from)? + 1..)
}

/// Head, entries of the outer parentheses, tail.
type Parsed<'a> = (&'a [u8], Vec<Vec<u8>>, &'a [u8]);

fn parse(create: &[u8]) -> Option<Parsed<'_>> {
    let open = find_unquoted(create, 0, b"(")?;
    let mut entries = Vec::new();
    let (mut depth, mut start, mut i) = (0u32, open + 1, open);
    while let Some(&byte) = create.get(i) {
        match byte {
            b'\'' | b'"' | b'`' => i = end_of_quote(create, i)?,
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if (byte == b',' && depth == 1) || (byte == b')' && depth == 0) {
            entries.push(create.get(start..i)?.trim_ascii().to_vec());
            start = i + 1;
        }
        if byte == b')' && depth == 0 {
            return Some((create.get(..open)?, entries, create.get(i + 1..)?));
        }
        i += 1;
    }
    None
}

/// Position of the quote that ends the one at `from`.
fn end_of_quote(sql: &[u8], from: usize) -> Option<usize> {
    let quote = *sql.get(from)?;
    let mut i = from + 1;
    loop {
        let byte = *sql.get(i)?;
        if (byte == b'\\' && quote != b'`') || (byte == quote && sql.get(i + 1) == Some(&quote)) {
            i += 2;
        } else if byte == quote {
            return Some(i);
        } else {
            i += 1;
        }
    }
}

/// Where `needle` stands outside quotes at or after `from`.
fn find_unquoted(sql: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let mut i = from;
    while let Some(&byte) = sql.get(i) {
        if sql.get(i..)?.starts_with(needle) {
            return Some(i);
        }
        if matches!(byte, b'\'' | b'"' | b'`') {
            i = end_of_quote(sql, i)?;
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(parts: &[Vec<u8>]) -> Vec<String> {
        parts.iter().map(|part| String::from_utf8(part.clone()).unwrap()).collect()
    }

    #[test]
    fn plain_keys_and_foreign_keys_come_later_and_nothing_else_moves() {
        let create = b"CREATE TABLE `a``(b` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `x,)` varchar(9) DEFAULT '),\\'' COMMENT 'KEY `k` (''',\n  \
            `g` int GENERATED ALWAYS AS ((`id` + 1)) STORED,\n  PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`x,)`),\n  \
            KEY `f` ((lower(`x,)`))),\n  KEY `k1` (`g`,`id`),\n  KEY `k2` (`x,)`(3) DESC) COMMENT 'a,b',\n  FULLTEXT KEY `ft` (`x,)`),\n  \
            CONSTRAINT `c` FOREIGN KEY (`g`) REFERENCES `p` (`id`) ON DELETE CASCADE,\n  \
            CONSTRAINT `c FOREIGN KEY` CHECK ((`g` > 0))\n) ENGINE=InnoDB COMMENT='(x'\n/*!50100 PARTITION BY HASH (`id`) */";
        let split = split(create, false);
        assert_eq!(text(&split.keys), ["KEY `k1` (`g`,`id`)", "KEY `k2` (`x,)`(3) DESC) COMMENT 'a,b'"]);
        assert_eq!(
            text(&split.foreign_keys),
            ["CONSTRAINT `c` FOREIGN KEY (`g`) REFERENCES `p` (`id`) ON DELETE CASCADE"]
        );
        let kept = String::from_utf8(split.create).unwrap();
        for part in
            ["UNIQUE KEY `u`", "KEY `f`", "FULLTEXT", "CHECK", "\n) ENGINE=InnoDB COMMENT='(x'\n/*!50100 PARTITION"]
        {
            assert!(kept.contains(part), "{part} in {kept}");
        }
    }

    #[test]
    fn a_table_keeps_the_keys_it_cannot_be_made_without() {
        let no_primary = b"CREATE TABLE `t` (\n  `a` int NOT NULL,\n  UNIQUE KEY `u` (`a`)\n) ENGINE=InnoDB";
        assert_eq!(split(no_primary, false).keys.len(), 0);
        let counter =
            b"CREATE TABLE `t` (\n  `a` int NOT NULL AUTO_INCREMENT,\n  `b` int NOT NULL,\n  PRIMARY KEY (`b`),\n  \
            KEY `a` (`a`),\n  KEY `b` (`b`)\n) ENGINE=InnoDB";
        assert_eq!(text(&split(counter, false).keys), ["KEY `b` (`b`)"]);
        assert_eq!(split(counter, true).keys.len(), 0);
    }

    #[test]
    fn what_is_not_understood_is_left_whole() {
        for odd in [&b"CREATE TABLE `t"[..], b"", b"CREATE TABLE t (`a` int", b"CREATE TABLE t (a 'x"] {
            assert_eq!(split(odd, false).create, odd);
        }
    }
}
