//! From a request to a plan: lists the archive, and decodes the one range of the log that holds the target's boundary.

use super::error::{self, RestoreError};
use super::plan::{self, Cut, Facts, Found, Plan, PlanError, Question, Reject, Request, Step, Throughput};
use super::xa;
use crate::archive::catalog::{ArchivedFile, ArchivedRange, Catalog, load_ranges};
use crate::archive::reader::BinlogReader;
use crate::archive::store::Store;
use crate::archive::timeline::Chain;
use crate::model::{CommitTime, GtidSet};
use crate::mysql::event::{ChecksumAlgorithm, FileScanner, Step as Tracked, Transaction, TransactionTracker};

/// Plans a restore of what `store` holds now.
pub async fn plan(store: &Store, request: &Request, speed: Throughput) -> Result<Plan, RestoreError> {
    let facts = Facts::of(Catalog::load(store).await?);
    if facts.fulls.is_empty() {
        return Err(PlanError::NoFull.into());
    }
    let mut refused: Option<PlanError> = None;
    // Chains are in the fulls' order, oldest first.
    for chain in facts.timeline.chains.iter().rev() {
        match on_chain(store, &facts, request, chain, speed).await? {
            Ok(plan) => {
                if !plan.skipped.is_empty() {
                    xa::check(store, &facts, &plan).await?;
                }
                return Ok(plan);
            }
            Err(Reject::TooNew) => {}
            Err(Reject::Unreachable(e)) => refused = refused.or(Some(e)),
            Err(Reject::Request(e)) => return Err(e.into()),
        }
    }
    let too_early = || PlanError::TooEarly { target: request.to_string(), reachable: facts.reachable() };
    Err(refused.unwrap_or_else(too_early).into())
}

async fn on_chain(
    store: &Store,
    facts: &Facts,
    request: &Request,
    chain: &Chain,
    speed: Throughput,
) -> Result<Result<Plan, Reject>, RestoreError> {
    let mut from = 0;
    loop {
        let cut = match plan::ask(facts, request, chain, from) {
            Ok(Step::Cut(cut)) => cut,
            Ok(Step::Look { link, question, known }) => {
                let Some(file) = chain.links.get(link).and_then(|l| facts.file(&l.file)) else {
                    return Ok(Err(Reject::TooNew));
                };
                match find(store, file, &question, &known).await? {
                    Some(found) => Some(Cut { link, found }),
                    None => {
                        from = link + 1;
                        continue;
                    }
                }
            }
            Err(reject) => return Ok(Err(reject)),
        };
        return Ok(plan::make(facts, request, chain, cut.as_ref(), speed));
    }
}

/// Answers `question` from the file's bytes; none if nothing in it decides.
async fn find(
    store: &Store,
    file: &ArchivedFile,
    question: &Question,
    known: &GtidSet,
) -> Result<Option<Found>, RestoreError> {
    let ranges = load_ranges(store, file).await?;
    let first = first_range(&ranges, question).unwrap_or(ranges.len());
    let before = first.checked_sub(1).and_then(|i| ranges.get(i));
    let mut search = Search::new(file, question, known);
    for range in ranges.iter().take(first) {
        search.add(&range.gtids, range.last_commit);
    }
    // Between the boundary and the range's end a transaction may begin that the next range goes on with.
    let start = before.map_or(0, |range| range.boundary);
    let (mut scanner, mut tracker) = match start {
        0 => (FileScanner::new(), TransactionTracker::new()),
        _ => {
            let checksum = if file.summary.crc32 { ChecksumAlgorithm::Crc32 } else { ChecksumAlgorithm::Off };
            (FileScanner::resume(start, checksum), TransactionTracker::resume(start, None))
        }
    };
    search.end = start;
    let end = file.summary.boundary;
    let mut reader = BinlogReader::of_ranges(store, &file.id.name, ranges, start, end)?;
    let name = || file.id.name.clone();
    while let Some(piece) = reader.next().await? {
        let mut input = &piece[..];
        while let Some(event) = scanner.next_event(&mut input).map_err(|e| error::unreadable(name(), e))? {
            let step =
                tracker.step(&event.header, event.offset, event.body).map_err(|e| error::unreadable(name(), e))?;
            match step {
                Tracked::Head => search.end = event.end(),
                Tracked::Ended(transaction) => {
                    if let Some(found) = search.take(&transaction) {
                        return Ok(Some(found));
                    }
                }
                Tracked::Between | Tracked::Inside => {}
            }
        }
    }
    Ok(search.at_end())
}

/// The first range in which the answer may be: everything before it is included in it, whole.
fn first_range(ranges: &[ArchivedRange], question: &Question) -> Option<usize> {
    let later = |r: &ArchivedRange, test: &dyn Fn(CommitTime) -> bool| r.last_commit.is_some_and(test);
    match question {
        Question::UpToTime(time) => ranges.iter().position(|r| later(r, &|c| c > *time)),
        Question::BeforeTime(time) => ranges.iter().position(|r| later(r, &|c| c >= *time)),
        Question::UpToGtids(set) => ranges.iter().rposition(|r| !r.gtids.intersection(set).is_empty()),
        Question::BeforeGtids(set) => ranges.iter().position(|r| !r.gtids.intersection(set).is_empty()),
        Question::UpToOffset(offset) | Question::BeforeOffset(offset) => {
            ranges.iter().position(|r| r.boundary >= *offset)
        }
    }
}

/// The prefix found so far, and what it is looking for.
struct Search<'a> {
    question: &'a Question,
    known: &'a GtidSet,
    file: &'a ArchivedFile,
    end: u64,
    gtids: GtidSet,
    last_commit: Option<CommitTime>,
    last_gtid: Option<crate::model::Gtid>,
    /// [`Question::UpToGtids`]: those not met yet.
    remaining: GtidSet,
}

impl<'a> Search<'a> {
    fn new(file: &'a ArchivedFile, question: &'a Question, known: &'a GtidSet) -> Self {
        let remaining = match question {
            Question::UpToGtids(set) => set.clone(),
            _ => GtidSet::empty(file.flavor),
        };
        let gtids = GtidSet::empty(file.flavor);
        Self { question, known, file, end: 0, gtids, last_commit: None, last_gtid: None, remaining }
    }

    fn add(&mut self, gtids: &GtidSet, last_commit: Option<CommitTime>) {
        // One archive has one flavor.
        _ = self.gtids.extend(gtids);
        self.remaining = self.remaining.difference(gtids);
        self.last_commit = self.last_commit.max(last_commit);
    }

    /// Takes the next transaction; the answer, if it decides.
    fn take(&mut self, transaction: &Transaction) -> Option<Found> {
        let copy = transaction.gtid.as_ref().is_some_and(|gtid| self.known.contains(gtid));
        let (commit, end) = (transaction.commit, transaction.end);
        let stop_before = match self.question {
            Question::UpToTime(time) => !copy && commit.is_some_and(|c| c > *time),
            Question::BeforeTime(time) => !copy && commit.is_some_and(|c| c >= *time),
            Question::BeforeGtids(set) => !copy && transaction.gtid.as_ref().is_some_and(|g| set.contains(g)),
            Question::UpToOffset(offset) => end > *offset,
            Question::BeforeOffset(offset) => end >= *offset,
            Question::UpToGtids(_) => false,
        };
        if stop_before {
            let inside = matches!(self.question, Question::UpToOffset(offset) if transaction.start < *offset);
            return Some(self.found(inside));
        }
        if let Some(gtid) = &transaction.gtid {
            _ = self.gtids.insert(gtid);
            if self.remaining.contains(gtid) {
                let mut one = GtidSet::empty(self.file.flavor);
                _ = one.insert(gtid);
                self.remaining = self.remaining.difference(&one);
            }
        }
        self.last_commit = self.last_commit.max(commit);
        self.last_gtid = transaction.gtid.clone();
        self.end = end;
        let done = matches!(self.question, Question::UpToGtids(_)) && self.remaining.is_empty();
        done.then(|| self.found(false))
    }

    /// The answer when the file's whole transactions are used up.
    fn at_end(&self) -> Option<Found> {
        match self.question {
            Question::UpToOffset(offset) => {
                let inside = self.file.open_transaction.is_some() && *offset > self.file.summary.boundary;
                Some(self.found(inside))
            }
            Question::BeforeOffset(_) => Some(self.found(false)),
            _ => None,
        }
    }

    fn found(&self, inside: bool) -> Found {
        Found {
            offset: self.end,
            gtids: self.gtids.clone(),
            last_commit: self.last_commit,
            last_gtid: self.last_gtid.clone(),
            inside,
        }
    }
}
