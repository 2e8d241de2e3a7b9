use snafu::{ResultExt, Snafu, ensure};

use super::error::ParseEventError;
use super::{EventHeader, EventType, MariadbGtidEvent, MysqlGtidEvent, QueryKind};
use crate::model::{CommitTime, EndsBy, Gtid, OpenTransaction};

/// Finds where transactions begin and end in a binlog file of either flavor. It is told each event of the file in turn,
/// and keeps nothing but the open transaction.
#[derive(Clone, Debug)]
pub struct TransactionTracker {
    /// Offset of the event due next.
    next: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// Before the first transaction.
    Head,
    Between,
    Open(OpenTransaction),
}

/// Where an event leaves its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// In the head of the file, before its first transaction.
    Head,
    /// Behind an event that belongs to no transaction.
    Between,
    /// Within a transaction.
    Inside,
    /// Behind a whole transaction.
    Ended(Transaction),
}

/// One whole transaction of a file: a DDL, a compressed payload, the preparing or the ending half of an XA transaction
/// are one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its GTID; none where GTIDs are off.
    pub gtid: Option<Gtid>,
    /// When it committed; none where the server does not say. On MariaDB the end of the GTID event's second.
    pub commit: Option<CommitTime>,
    /// Offset of its first event.
    pub start: u64,
    /// Offset behind its last event.
    pub end: u64,
}

/// Events in an order no server writes: bytes are missing, or of a kind this program does not know.
#[derive(Debug, Snafu)]
pub enum TrackError {
    /// An event is not where the one before it ended.
    #[snafu(display("cannot follow the binary log: an event at {offset} was given where {expected} is next"))]
    Gap {
        /// The event's offset.
        offset: u64,
        /// Where it should be.
        expected: u64,
    },
    /// An event that says where transactions begin or end does not parse.
    #[snafu(display("cannot follow the binary log at {offset}: {source}"))]
    Parse {
        /// The event's offset.
        offset: u64,
        /// Why.
        source: ParseEventError,
    },
    /// A transaction or a file begins or ends within a transaction.
    #[snafu(display(
        "cannot follow the binary log at {offset}: {found} comes within the transaction {gtid} that began at {start}"
    ))]
    Unfinished {
        /// The event's offset.
        offset: u64,
        /// What it is.
        found: EventType,
        /// The open transaction's GTID, as text.
        gtid: String,
        /// Where that began.
        start: u64,
    },
    /// Data outside of any transaction.
    #[snafu(display("cannot follow the binary log at {offset}: {found} comes outside of any transaction"))]
    Outside {
        /// The event's offset.
        offset: u64,
        /// What it is.
        found: EventType,
    },
    /// The transaction's events do not add up to the length its GTID event states.
    #[snafu(display(
        "cannot follow the binary log: the transaction {gtid} at {start} states that it ends at {stated}, \
         its events say {found}"
    ))]
    Length {
        /// The transaction's GTID, as text.
        gtid: String,
        /// Where it began.
        start: u64,
        /// The end its GTID event states.
        stated: u64,
        /// Where its last event so far ends.
        found: u64,
    },
}

impl TransactionTracker {
    /// Begins with the first event of a file, at offset 4.
    pub fn new() -> Self {
        Self { next: 4, state: State::Head }
    }

    /// Goes on at `offset`, which lies between two events behind the head of a file.
    pub fn resume(offset: u64, open: Option<OpenTransaction>) -> Self {
        Self { next: offset, state: open.map_or(State::Between, State::Open) }
    }

    /// The transaction that has begun but not ended.
    pub fn open(&self) -> Option<&OpenTransaction> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Head | State::Between => None,
        }
    }

    /// Takes the next event of the file: its header, its offset, and the first bytes of its body, of which
    /// [`super::head_bytes`] are enough. Artificial events are no part of a file: leave them out.
    pub fn step(&mut self, header: &EventHeader, offset: u64, head: &[u8]) -> Result<Step, TrackError> {
        ensure!(offset == self.next, GapSnafu { offset, expected: self.next });
        let event_end = offset.saturating_add(header.event_size.into());
        let step = match &self.state {
            State::Head | State::Between => self.outside(header, offset, head)?,
            State::Open(open) => Self::inside(open.clone(), header, offset, head)?,
        };
        self.next = event_end;
        let (state, step) = step;
        self.state = state;
        Ok(step)
    }

    fn outside(&self, header: &EventHeader, offset: u64, head: &[u8]) -> Result<(State, Step), TrackError> {
        let in_head = matches!(self.state, State::Head);
        let event_end = offset.saturating_add(header.event_size.into());
        let event_type = header.event_type;
        let open = match event_type {
            EventType::GTID | EventType::ANONYMOUS_GTID | EventType::GTID_TAGGED => {
                let event = MysqlGtidEvent::parse(event_type, head).context(ParseSnafu { offset })?;
                OpenTransaction {
                    gtid: event.gtid.map(Gtid::Mysql),
                    commit: event.immediate_commit,
                    start: offset,
                    end: event.transaction_length.map(|length| offset.saturating_add(length)),
                    ends_by: EndsBy::Statement,
                }
            }
            EventType::MARIADB_GTID => {
                let event = MariadbGtidEvent::parse(header, head).context(ParseSnafu { offset })?;
                let one_statement = MariadbGtidEvent::STANDALONE | MariadbGtidEvent::COMPLETED_XA;
                OpenTransaction {
                    gtid: Some(Gtid::Mariadb(event.gtid)),
                    // What a server logs as it recovers from a crash (DDL that it had done) has none.
                    commit: (header.timestamp > 0).then(|| end_of_second(header.timestamp)),
                    start: offset,
                    end: None,
                    ends_by: if event.flags & one_statement != 0 { EndsBy::Statement } else { EndsBy::Commit },
                }
            }
            EventType::START_ENCRYPTION => return Err(ParseEventError::Encrypted).context(ParseSnafu { offset }),
            EventType::FORMAT_DESCRIPTION if in_head => return Ok((State::Head, Step::Head)),
            EventType::PREVIOUS_GTIDS | EventType::GTID_LIST if in_head => return Ok((State::Head, Step::Head)),
            EventType::BINLOG_CHECKPOINT if in_head => return Ok((State::Head, Step::Head)),
            EventType::BINLOG_CHECKPOINT
            | EventType::GTID_LIST
            | EventType::ROTATE
            | EventType::STOP
            | EventType::INCIDENT
            | EventType::IGNORABLE => return Ok((State::Between, Step::Between)),
            _ if event_type.name().is_none() && header.flags & EventHeader::IGNORABLE != 0 => {
                return Ok((State::Between, Step::Between));
            }
            found => return OutsideSnafu { offset, found }.fail(),
        };
        Self::check_length(&open, event_end, false)?;
        Ok((State::Open(open), Step::Inside))
    }

    fn inside(
        mut open: OpenTransaction,
        header: &EventHeader,
        offset: u64,
        head: &[u8],
    ) -> Result<(State, Step), TrackError> {
        let event_type = header.event_type;
        let event_end = offset.saturating_add(header.event_size.into());
        let of_statement = open.ends_by == EndsBy::Statement;
        let ended = match event_type {
            EventType::GTID
            | EventType::ANONYMOUS_GTID
            | EventType::GTID_TAGGED
            | EventType::MARIADB_GTID
            | EventType::FORMAT_DESCRIPTION
            | EventType::PREVIOUS_GTIDS
            | EventType::GTID_LIST
            | EventType::ROTATE
            | EventType::STOP => {
                return UnfinishedSnafu { offset, found: event_type, gtid: name(&open), start: open.start }.fail();
            }
            EventType::START_ENCRYPTION => return Err(ParseEventError::Encrypted).context(ParseSnafu { offset }),
            EventType::XID | EventType::XA_PREPARE | EventType::TRANSACTION_PAYLOAD => true,
            EventType::QUERY => match QueryKind::parse(head).context(ParseSnafu { offset })? {
                QueryKind::Begin => {
                    open.ends_by = EndsBy::Commit;
                    false
                }
                QueryKind::Commit | QueryKind::Rollback | QueryKind::XaEnd => true,
                QueryKind::Other => of_statement,
            },
            // MariaDB compresses no statement as short as COMMIT or ROLLBACK.
            EventType::QUERY_COMPRESSED | EventType::EXECUTE_LOAD_QUERY | EventType::INCIDENT => of_statement,
            _ => false,
        };
        Self::check_length(&open, event_end, ended)?;
        if !ended {
            return Ok((State::Open(open), Step::Inside));
        }
        let OpenTransaction { gtid, commit, start, end: _, ends_by: _ } = open;
        Ok((State::Between, Step::Ended(Transaction { gtid, commit, start, end: event_end })))
    }

    /// Compares with the length that the server stated: an open transaction must be shorter, an ended one exactly that.
    fn check_length(open: &OpenTransaction, event_end: u64, ended: bool) -> Result<(), TrackError> {
        let Some(stated) = open.end else { return Ok(()) };
        let fits = if ended { event_end == stated } else { event_end < stated };
        ensure!(fits, LengthSnafu { gtid: name(open), start: open.start, stated, found: event_end });
        Ok(())
    }
}

impl Default for TransactionTracker {
    fn default() -> Self {
        Self::new()
    }
}

fn name(open: &OpenTransaction) -> String {
    open.gtid.as_ref().map_or_else(|| "without a GTID".to_owned(), Gtid::to_string)
}

/// MariaDB writes whole seconds.
fn end_of_second(seconds: u32) -> CommitTime {
    CommitTime(i64::from(seconds) * 1_000_000 + 999_999)
}
