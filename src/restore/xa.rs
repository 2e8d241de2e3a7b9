//! The halves of an XA transaction: one transaction prepares it and a later one ends it, and neither makes sense alone.

use std::collections::BTreeMap;

use super::error::{self, RestoreError};
use super::plan::{Facts, Plan, PlanError, SplitXaSnafu};
use crate::archive::catalog::ArchivedFile;
use crate::archive::reader::BinlogReader;
use crate::archive::store::Store;
use crate::model::{Gtid, GtidSet};
use crate::mysql::event::{
    EventHead, EventType, FileScanner, ParseEventError, QueryKind, Step, TransactionTracker, XaPrepare, query_event,
};

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
            skipped.extend(halves(store, file, end).await?.into_iter().filter(|(gtid, _)| here.contains(gtid)));
        }
    }
    if skipped.is_empty() {
        return Ok(());
    }
    // XA ids are used again: of each, the halves alternate.
    let mut open: BTreeMap<String, Gtid> = BTreeMap::new();
    for (file, end, take) in parts(facts, plan) {
        for (gtid, half) in halves(store, file, end).await?.into_iter().filter(|(gtid, _)| take.contains(gtid)) {
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
async fn halves(store: &Store, file: &ArchivedFile, end: u64) -> Result<Vec<(Gtid, Half)>, RestoreError> {
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
                && let (Some(gtid), Some(half)) = (transaction.gtid, half.take())
            {
                found.push((gtid, half));
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
