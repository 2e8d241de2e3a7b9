//! The halves of an XA transaction: one transaction prepares it and a later one ends it, and neither makes sense alone.

use std::collections::BTreeMap;

use super::error::{self, RestoreError};
use super::plan::{self, Facts, FilePart, Plan, PlanError, PreparedXa, SplitXaSnafu};
use crate::archive::catalog::{ArchivedFile, FullHead, unfold};
use crate::archive::reader::BinlogReader;
use crate::archive::store::Store;
use crate::archive::timeline::Timeline;
use crate::model::{Flavor, Gtid, GtidSet};
use crate::mysql::event::{
    EventHead, EventType, FileScanner, ParseEventError, QueryKind, Step, Transaction, TransactionTracker, XaPrepare,
    query_event,
};
use crate::mysql::sql::Session;

/// What the log says of the XA transactions that were prepared when `full` was taken: reads it from there backwards until it has met what
/// prepared each of them, or came to an older full at which it was not prepared yet, or to the server's first file.
pub(super) async fn prepared_at(store: &Store, facts: &Facts, full: &FullHead) -> Result<PreparedXa, RestoreError> {
    let held = plan::closure(&full.gtids);
    let mut wanted: Vec<&String> = full.prepared_xa.iter().flatten().collect();
    let mut found = PreparedXa::default();
    let files = Timeline::back_from(&facts.files, full, &held);
    // What comes after the archived log may have prepared any of them.
    let newest = files.first().map(|file| &file.summary);
    let executed = newest.map(|s| plan::closure(&plan::joined(&s.previous_gtids, &s.gtids)));
    if !executed.is_some_and(|executed| held.is_subset(&executed)) {
        found.unknown = wanted.into_iter().cloned().collect();
        return Ok(found);
    }
    'log: for file in files {
        let single = unfold(store, file).await?.into_iter().rev();
        for file in single.filter(|file| !file.summary.gtids.intersection(&held).is_empty()) {
            let mut last: BTreeMap<String, (Transaction, Half)> = BTreeMap::new();
            for (gtid, transaction, half) in halves(store, &file, file.summary.boundary).await? {
                if held.contains(&gtid) {
                    let (Half::Prepares(id) | Half::Ends(id)) = &half;
                    last.insert(id.clone(), (transaction, half));
                }
            }
            wanted.retain(|id| match last.get(*id) {
                None => !is_first(facts, full, id, &file),
                // Ended, and prepared again by something that is not logged: it changed nothing.
                Some((_, Half::Ends(_))) => false,
                Some((transaction, Half::Prepares(_))) => {
                    let mut take = GtidSet::empty(facts.flavor);
                    if let Some(gtid) = &transaction.gtid {
                        _ = take.insert(gtid);
                    }
                    found.parts.push(FilePart { file: file.id.clone(), start: 4, end: transaction.end, take });
                    false
                }
            });
            if wanted.is_empty() {
                break 'log;
            }
        }
    }
    found.unknown = wanted.into_iter().cloned().collect();
    Ok(found)
}

/// Whether what prepared `id` cannot be in a file before this one: the server's log begins here, or an older full found it not prepared.
fn is_first(facts: &Facts, full: &FullHead, id: &String, file: &ArchivedFile) -> bool {
    let previous = &file.summary.previous_gtids;
    let without = |older: &&FullHead| {
        older.server == full.server
            && older.consistent_at < full.consistent_at
            && older.prepared_xa.as_ref().is_some_and(|ids| !ids.contains(id))
    };
    let newest = facts.fulls.iter().filter(without).max_by_key(|older| older.consistent_at);
    let digits = file.id.name.rsplit_once('.').and_then(|(_, digits)| digits.parse::<u64>().ok());
    (previous.is_empty() && digits == Some(1))
        || newest.is_some_and(|older| previous.is_subset(&plan::closure(&older.gtids)))
}

/// XA transactions that the restored server holds prepared, in words.
pub(super) async fn left_prepared(session: &mut Session) -> Result<Option<String>, RestoreError> {
    let how = match session.info().flavor() {
        Flavor::Mysql => "XA RECOVER CONVERT XID",
        Flavor::Mariadb => "XA RECOVER FORMAT='SQL'",
    };
    let rows = session.named_rows(how).await?;
    let ids: Vec<_> = rows.iter().filter_map(|row| row.get("data").map(String::as_str)).collect();
    let words = "XA transactions are prepared and not ended, as they were on the source at that point: end them with XA COMMIT or XA ROLLBACK";
    Ok((!ids.is_empty()).then(|| format!("{words} ({})", ids.join("; "))))
}

/// One half, by the XA id as the servers write it: `X'global',X'branch',format`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Half {
    Prepares(String),
    Ends(String),
}

/// Refuses a plan that skips one half of an XA transaction and replays the other: a prepared transaction nobody ends would keep its
/// locks for ever, and one nobody prepared cannot be ended. Reads the log only where a skipped transaction is such a half.
pub(super) async fn check(store: &Store, facts: &Facts, plan: &Plan) -> Result<(), RestoreError> {
    let mut skipped = Vec::new();
    for (file, end, take) in parts(facts, plan) {
        let here = take.intersection(&plan.skipped);
        if !here.is_empty() {
            skipped.extend(halves(store, file, end).await?.into_iter().filter(|(gtid, ..)| here.contains(gtid)));
        }
    }
    if skipped.is_empty() {
        return Ok(());
    }
    // XA ids are used again: of each, the halves alternate.
    let mut open: BTreeMap<String, Gtid> = BTreeMap::new();
    for (file, end, take) in parts(facts, plan) {
        for (gtid, _, half) in halves(store, file, end).await?.into_iter().filter(|(gtid, ..)| take.contains(gtid)) {
            match half {
                Half::Prepares(id) => _ = open.insert(id, gtid),
                Half::Ends(id) => {
                    let prepared = open.remove(&id);
                    let both = prepared.as_ref().map(|gtid| plan.skipped.contains(gtid));
                    match (both, plan.skipped.contains(&gtid)) {
                        (Some(a), b) if a == b => {}
                        (None, false) => {}
                        (Some(true), _) => return Err(split(plan, prepared.as_ref(), id, Some(&gtid))),
                        _ => return Err(split(plan, Some(&gtid), id, prepared.as_ref())),
                    }
                }
            }
        }
    }
    // Prepared and never ended in this log: skipping it leaves nothing behind.
    Ok(())
}

fn split(plan: &Plan, skipped: Option<&Gtid>, id: String, other: Option<&Gtid>) -> RestoreError {
    let way_out = match other {
        Some(other) => format!("skip {other} with it, which is its other half, or neither"),
        None => format!("it was prepared before full {}, so it cannot be skipped alone", plan.base.id),
    };
    let gtid = skipped.map(Gtid::to_string).unwrap_or_default();
    let error: PlanError = SplitXaSnafu { gtid, id, way_out }.build();
    error.into()
}

fn parts<'a>(facts: &'a Facts, plan: &'a Plan) -> impl Iterator<Item = (&'a ArchivedFile, u64, &'a GtidSet)> {
    plan.files.iter().filter_map(|part| Some((facts.file(&part.file)?, part.end, &part.take)))
}

/// Every half in a file up to `end`.
async fn halves(store: &Store, file: &ArchivedFile, end: u64) -> Result<Vec<(Gtid, Transaction, Half)>, RestoreError> {
    let mut reader = BinlogReader::open(store, file, 0, end).await?;
    let (mut scanner, mut tracker) = (FileScanner::new(), TransactionTracker::new());
    let (mut found, mut half) = (Vec::new(), None);
    let name = || file.id.name.clone();
    while let Some(piece) = reader.next().await? {
        let mut input = &piece[..];
        while let Some(event) = scanner.next_event(&mut input).map_err(|e| error::unreadable(name(), e))? {
            half = half_of(&event).map_err(|e| error::unreadable(name(), e))?.or(half);
            let step =
                tracker.step(&event.header, event.offset, event.body).map_err(|e| error::unreadable(name(), e))?;
            if let Step::Ended(transaction) = step
                && let (Some(gtid), Some(half)) = (transaction.gtid.clone(), half.take())
            {
                found.push((gtid, transaction, half));
            }
        }
    }
    Ok(found)
}

fn half_of(event: &EventHead<'_>) -> Result<Option<Half>, ParseEventError> {
    match event.header.event_type {
        EventType::XA_PREPARE => {
            let prepare = XaPrepare::parse(event.body)?;
            let (global, branch) = (hex::encode(&prepare.global), hex::encode(&prepare.branch));
            Ok((!prepare.one_phase).then(|| Half::Prepares(format!("X'{global}',X'{branch}',{}", prepare.format_id))))
        }
        EventType::QUERY if QueryKind::parse(event.body)? == QueryKind::XaEnd => {
            let statement = String::from_utf8_lossy(query_event(event.body)?.1).into_owned();
            let id = statement.split_ascii_whitespace().nth(2).unwrap_or_default();
            Ok(Some(Half::Ends(id.to_ascii_lowercase().replace('x', "X"))))
        }
        _ => Ok(None),
    }
}
