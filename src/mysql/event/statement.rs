//! Events that end or stand for transactions: QUERY, XA_PREPARE, TRANSACTION_PAYLOAD.

use super::bytes::Reader;
use super::error::ParseEventError;

/// What a QUERY event does to the transaction it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// `BEGIN` or `XA START`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`, not one to a savepoint.
    Rollback,
    /// `XA COMMIT` or `XA ROLLBACK` of a transaction prepared before.
    XaEnd,
    /// Any other statement: DDL, DML in statement format, `SAVEPOINT`, `XA END`, …
    Other,
}

impl QueryKind {
    /// Reads the body of QUERY (2): u32 thread, u32 seconds, u8 length of the schema, u16 error, u16 length of the
    /// status variables, those, the schema and its NUL, the statement. Needs the statement's first bytes only.
    pub fn parse(body: &[u8]) -> Result<Self, ParseEventError> {
        query_event(body).map(|(_, statement)| Self::of(statement))
    }

    fn of(statement: &[u8]) -> Self {
        // The servers write these statements themselves, in capitals; a user's own text of them never gets into the log.
        if is(statement, b"BEGIN") || begins_with(statement, b"XA START") || begins_with(statement, b"XA BEGIN") {
            Self::Begin
        } else if is(statement, b"COMMIT") {
            Self::Commit
        } else if is(statement, b"ROLLBACK") {
            Self::Rollback
        } else if begins_with(statement, b"XA COMMIT") || begins_with(statement, b"XA ROLLBACK") {
            Self::XaEnd
        } else {
            Self::Other
        }
    }
}

/// The default schema and the statement (or its first bytes where only those are given) in the body of QUERY.
pub fn query_event(body: &[u8]) -> Result<(&[u8], &[u8]), ParseEventError> {
    let mut input = Reader::new("QUERY", body);
    input.take(8)?;
    let schema = usize::from(input.u8()?);
    input.u16()?;
    let variables = usize::from(input.u16()?);
    input.take(variables)?;
    let schema = input.take(schema)?;
    input.take(1)?;
    Ok((schema, input.rest()))
}

/// Whether a statement in the log is one that changed rows: the source logged it instead of what it changed (`binlog_format = STATEMENT`).
/// Needs its first bytes only. Comments before its first word are passed over.
pub fn changes_rows(statement: &[u8]) -> bool {
    let mut rest = statement.trim_ascii_start();
    while let Some(comment) = rest.strip_prefix(b"/*") {
        let Some(end) = comment.windows(2).position(|two| two == b"*/") else { return false };
        rest = comment.get(end + 2..).unwrap_or_default().trim_ascii_start();
    }
    let word = rest.split(|byte| !byte.is_ascii_alphabetic()).next().unwrap_or_default();
    // A SELECT is logged for the function it calls.
    [&b"INSERT"[..], b"REPLACE", b"UPDATE", b"DELETE", b"LOAD", b"WITH", b"SELECT", b"CALL"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

fn is(statement: &[u8], word: &[u8]) -> bool {
    statement.trim_ascii().eq_ignore_ascii_case(word)
}

fn begins_with(statement: &[u8], words: &[u8]) -> bool {
    statement.get(..words.len()).is_some_and(|head| head.eq_ignore_ascii_case(words))
}

/// XA_PREPARE (38): ends a group that prepares (or commits in one phase) an XA transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XaPrepare {
    /// `XA COMMIT … ONE PHASE`: nothing is left prepared.
    pub one_phase: bool,
    /// Format id of the XA id.
    pub format_id: u32,
    /// Global part of the XA id.
    pub global: Vec<u8>,
    /// Branch qualifier of the XA id.
    pub branch: Vec<u8>,
}

impl XaPrepare {
    /// Reads u8 one phase, u32 format, u32 length of each part, the parts.
    pub fn parse(body: &[u8]) -> Result<Self, ParseEventError> {
        let mut input = Reader::new("XA_PREPARE", body);
        let one_phase = input.u8()? != 0;
        let (format_id, global, branch) = (input.u32()?, input.u32()?, input.u32()?);
        if global > 64 || branch > 64 {
            return input.malformed("its XA id is too long");
        }
        let global = input.take(global as usize)?.to_vec();
        let branch = input.take(branch as usize)?.to_vec();
        Ok(Self { one_phase, format_id, global, branch })
    }
}

/// TRANSACTION_PAYLOAD (40): the events of one transaction, compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionPayload {
    /// Whether the payload is compressed with zstd; else it is stored as it is.
    pub zstd: bool,
    /// Size of the payload in bytes.
    pub payload_bytes: u64,
    /// Size of the events it holds in bytes.
    pub uncompressed_bytes: u64,
    /// Where in the event's body the payload begins.
    pub payload_at: usize,
}

impl TransactionPayload {
    /// Reads the fields before the payload: type, length, value of each, length-encoded, up to a type of 0.
    pub fn parse(body: &[u8]) -> Result<Self, ParseEventError> {
        const END: u64 = 0;
        const PAYLOAD_SIZE: u64 = 1;
        const COMPRESSION: u64 = 2;
        const UNCOMPRESSED_SIZE: u64 = 3;
        const ZSTD: u64 = 0;

        let mut input = Reader::new("TRANSACTION_PAYLOAD", body);
        let mut payload = Self { zstd: false, payload_bytes: 0, uncompressed_bytes: 0, payload_at: 0 };
        loop {
            let field = input.lenenc()?;
            if field == END {
                break;
            }
            let length = usize::try_from(input.lenenc()?).unwrap_or(usize::MAX);
            let value = Reader::new("TRANSACTION_PAYLOAD", input.take(length)?).lenenc()?;
            match field {
                PAYLOAD_SIZE => payload.payload_bytes = value,
                COMPRESSION => payload.zstd = value == ZSTD,
                UNCOMPRESSED_SIZE => payload.uncompressed_bytes = value,
                _ => {}
            }
        }
        payload.payload_at = input.at();
        Ok(payload)
    }
}
