//! Comments of routines and events, which servers print with backslashes whatever the `sql_mode` that the definition is to be run under.

use super::error::LogicalError;
use super::session::{Session, bytes};
use crate::archive::logical::{Program, ProgramKind, SqlText};
use crate::mysql::quote;

/// Spells the comment so that `NO_BACKSLASH_ESCAPES`, where the program has it, reads it as it is.
pub(super) async fn respell(session: &mut Session, program: &mut Program) -> Result<(), LogicalError> {
    if !program.sql_mode.as_deref().is_some_and(|mode| mode.contains("NO_BACKSLASH_ESCAPES")) {
        return Ok(());
    }
    let (view, what) = match program.kind {
        ProgramKind::View | ProgramKind::Trigger => return Ok(()),
        ProgramKind::Event => ("EVENTS", "EVENT"),
        ProgramKind::Library => ("LIBRARIES", "LIBRARY"),
        _ => ("ROUTINES", "ROUTINE"),
    };
    let sql = format!(
        "SELECT {what}_COMMENT FROM information_schema.{view} WHERE {what}_SCHEMA = {} AND {what}_NAME = {}",
        quote::text(&program.schema),
        quote::text(&program.name)
    );
    // A function and a procedure may share a name: only what is printed is replaced.
    for row in session.query(&sql).await? {
        let Some(comment) = bytes(&row, 0) else { continue };
        if let Some(respelled) = without_backslashes(program.create.as_bytes(), comment) {
            program.create = SqlText::from(respelled);
        }
    }
    Ok(())
}

/// The definition with `comment` spelled without escapes, where it is in it with some.
fn without_backslashes(create: &[u8], comment: &[u8]) -> Option<Vec<u8>> {
    let (mut printed, mut plain) = (b" COMMENT '".to_vec(), b" COMMENT '".to_vec());
    for &byte in comment {
        match byte {
            0 => printed.extend(b"\\0"),
            b'\n' => printed.extend(b"\\n"),
            b'\r' => printed.extend(b"\\r"),
            b'\\' => printed.extend(b"\\\\"),
            b'\'' => printed.extend(b"''"),
            _ => printed.push(byte),
        }
        plain.extend(if byte == b'\'' { &b"''"[..] } else { std::slice::from_ref(&byte) });
    }
    printed.push(b'\'');
    plain.push(b'\'');
    if printed == plain {
        return None;
    }
    let at = memchr::memmem::find(create, &printed)?;
    Some([create.get(..at)?, &plain, create.get(at + printed.len()..)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_spelled_without_escapes() {
        let create = b"CREATE PROCEDURE `p`()\n    COMMENT 'a\\\\b it''s\\nx'\nselect 'a\\'";
        let respelled = without_backslashes(create, b"a\\b it's\nx").unwrap();
        assert_eq!(respelled, b"CREATE PROCEDURE `p`()\n    COMMENT 'a\\b it''s\nx'\nselect 'a\\'");
        assert_eq!(without_backslashes(b"CREATE EVENT e COMMENT 'it''s' DO x", b"it's"), None);
    }
}
