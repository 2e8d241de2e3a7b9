//! From a request to a plan: lists the archive, and decodes the one range of the log that holds the target's boundary.

use super::error::{self, RestoreError};
use super::plan::{self, Cut, Facts, Found, Plan, PlanError, PreparedXa, Question, Reject, Request, Step, Throughput};
use super::{present, xa};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::{self, ArchivedFile, ArchivedRange, Catalog, load_ranges};
use crate::archive::reader::BinlogReader;
use crate::archive::store::Store;
use crate::archive::timeline::Chain;
use crate::model::{CommitTime, GtidSet};
use crate::mysql::event::{ChecksumAlgorithm, FileScanner, Step as Tracked, Transaction, TransactionTracker};

/// Plans a restore of what `store` holds now.
pub async fn plan(store: &Store, request: &Request, speed: Throughput) -> Result<Plan, RestoreError> {
    let mut catalog = Catalog::load_folded(store).await?;
    let damage = std::mem::take(&mut catalog.problems);
    let told = |problem: &String| format!("DAMAGE in the archive, which this restore does without: {problem}");
    match plan_from(store, Facts::of(catalog), request, speed).await {
        Ok(plan) => {
            present::check(store, &plan).await?;
            Ok(Plan { forks: plan.forks.into_iter().chain(damage.iter().map(told)).collect(), ..plan })
        }
        Err(RestoreError::Plan { source }) if !damage.is_empty() => Err(RestoreError::Damaged {
            message: format!("{source}; the archive is damaged, which may be why: {}", damage.join("; ")),
        }),
        Err(error) => Err(error),
    }
}

async fn plan_from(
    store: &Store,
    mut facts: Facts,
    request: &Request,
    speed: Throughput,
) -> Result<Plan, RestoreError> {
    if facts.fulls.is_empty() {
        return Err(PlanError::NoFull.into());
    }
    let folded = facts.folded_target(request);
    facts = unfold(store, facts, &folded).await?;
    // Each time fewer files are told as one.
    loop {
        match plan_once(store, &mut facts, request, speed).await? {
            Ok(plan) => return Ok(plan),
            Err(folded) => facts = unfold(store, facts, &folded).await?,
        }
    }
}

/// Looks at files that are told as one.
async fn unfold(store: &Store, facts: Facts, folded: &[FileId]) -> Result<Facts, RestoreError> {
    if folded.is_empty() {
        return Ok(facts);
    }
    let mut files = Vec::new();
    for span in folded.iter().filter_map(|id| facts.file(id)) {
        files.extend(catalog::unfold(store, span).await?);
    }
    Ok(facts.unfolded(folded, files))
}

/// Names files that have to be known by themselves first, instead of a plan.
async fn plan_once(
    store: &Store,
    facts: &mut Facts,
    request: &Request,
    speed: Throughput,
) -> Result<Result<Plan, Vec<FileId>>, RestoreError> {
    facts.begun = begun(store, facts, request).await?;
    let mut refused: Option<PlanError> = None;
    // Chains are in the fulls' order, oldest first.
    for chain in facts.timeline.chains.clone().iter().rev() {
        match on_chain(store, facts, request, chain, speed).await? {
            Ok(plan) => {
                if !plan.skipped.is_empty() {
                    xa::check(store, facts, &plan).await?;
                }
                return Ok(Ok(plan));
            }
            Err(Reject::Folded(files)) => return Ok(Err(files)),
            Err(Reject::TooNew | Reject::NotLooked) => {}
            // What an older full says of it is nearer to the cause than that a newer one holds the target.
            Err(Reject::Unreachable(e)) => match refused {
                None | Some(PlanError::InsideFull { .. }) => refused = Some(e),
                Some(_) => {}
            },
            Err(Reject::Request(e)) => return Err(e.into()),
        }
    }
    let too_early = || PlanError::TooEarly { target: request.to_string(), reachable: facts.reachable() };
    Err(refused.unwrap_or_else(too_early).into())
}

/// Which contested forks have something by the time that is asked for.
async fn begun(store: &Store, facts: &Facts, request: &Request) -> Result<Vec<usize>, RestoreError> {
    let mut begun = Vec::new();
    for (fork, file, question) in plan::unsure(facts, request) {
        let gtids = facts.timeline.forks.get(fork).map(|fork| &fork.gtids);
        let found = match find(store, file, &question, &GtidSet::empty(facts.flavor)).await {
            // A file that cannot be read may hold it.
            Err(e) if !e.is_transient() && !e.is_locked() => {
                tracing::warn!(file = file.id.name, error = %e, "where two lineages part cannot be read");
                None
            }
            found => found?,
        };
        // Nothing found: all of the file is no later.
        if found.zip(gtids).is_none_or(|(found, gtids)| !found.gtids.intersection(gtids).is_empty()) {
            begun.push(fork);
        }
    }
    Ok(begun)
}

async fn on_chain(
    store: &Store,
    facts: &mut Facts,
    request: &Request,
    chain: &Chain,
    speed: Throughput,
) -> Result<Result<Plan, Reject>, RestoreError> {
    let mut from = 0;
    loop {
        let asked = plan::ask(facts, request, chain, from);
        if let Ok(Step::Cut(Some(Cut { link, .. })) | Step::Look { link, .. }) = &asked {
            let folded = facts.folded_links(chain, *link);
            if !folded.is_empty() {
                return Ok(Err(Reject::Folded(folded)));
            }
        }
        let cut = match asked {
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
            Err(Reject::Unreachable(e)) => {
                let folded = facts.folded_in_part(chain);
                return Ok(Err(if folded.is_empty() { Reject::Unreachable(e) } else { Reject::Folded(folded) }));
            }
            Err(reject) => return Ok(Err(reject)),
        };
        let made = plan::make(facts, request, chain, cut.as_ref(), speed);
        if !matches!(made, Err(Reject::NotLooked)) {
            return Ok(made);
        }
        let prepared = prepared_at(store, facts, &chain.full).await?;
        facts.prepared.insert(chain.full.clone(), prepared);
        return Ok(plan::make(facts, request, chain, cut.as_ref(), speed));
    }
}

/// What the log says of the XA transactions that were prepared when a full was taken.
async fn prepared_at(store: &Store, facts: &Facts, full: &str) -> Result<PreparedXa, RestoreError> {
    let Some(full) = facts.fulls.iter().find(|head| head.id == full) else { return Ok(PreparedXa::default()) };
    match xa::prepared_at(store, facts, full).await {
        // Another full may do.
        Err(e) if !e.is_transient() => {
            tracing::warn!(full = full.id, error = %e, "what prepared its XA transactions cannot be read");
            Ok(PreparedXa { unknown: full.prepared_xa.clone().unwrap_or_default(), ..PreparedXa::default() })
        }
        found => found,
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
    let first = behind_last_time(&ranges, question, first);
    let before = first.checked_sub(1).and_then(|i| ranges.get(i));
    let mut search = Search::new(file, question, known);
    search.times = ranges.iter().map(|range| (range.boundary, range.last_commit)).collect();
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

/// Where to begin to decode for a time. A transaction whose stamp was in the future when it was archived counts with the next that
/// has a time, so not before the newest of the times that are early enough: `first`, or the range that holds that time.
fn behind_last_time(ranges: &[ArchivedRange], question: &Question, first: usize) -> usize {
    let newest = first.checked_sub(1).and_then(|i| ranges.get(i)).map(|range| range.last_commit);
    match question {
        Question::UpToTime(_) | Question::BeforeTime(_) => {
            ranges.iter().position(|range| Some(range.last_commit) == newest).unwrap_or(first)
        }
        _ => first,
    }
}

/// The prefix found so far, and what it is looking for.
struct Search<'a> {
    question: &'a Question,
    known: &'a GtidSet,
    file: &'a ArchivedFile,
    /// Each range's boundary, and the highest commit time up to it that was believed when it was archived.
    times: Vec<(u64, Option<CommitTime>)>,
    /// Transactions without a time, behind the prefix: with the next that has one they are in it or not.
    held: Vec<Transaction>,
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
        Self {
            question,
            known,
            file,
            times: Vec::new(),
            held: Vec::new(),
            end: 0,
            gtids,
            last_commit: None,
            last_gtid: None,
            remaining,
        }
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
        let end = transaction.end;
        let believed = self.times.iter().find(|(boundary, _)| *boundary >= end).and_then(|(_, highest)| *highest);
        let commit = transaction.commit.filter(|commit| Some(*commit) <= believed);
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
        if commit.is_none() && matches!(self.question, Question::UpToTime(_) | Question::BeforeTime(_)) {
            self.held.push(transaction.clone());
            return None;
        }
        for held in std::mem::take(&mut self.held) {
            self.include(&held);
        }
        self.include(transaction);
        self.last_commit = self.last_commit.max(commit);
        let done = matches!(self.question, Question::UpToGtids(_)) && self.remaining.is_empty();
        done.then(|| self.found(false))
    }

    fn include(&mut self, transaction: &Transaction) {
        if let Some(gtid) = &transaction.gtid {
            _ = self.gtids.insert(gtid);
            if self.remaining.contains(gtid) {
                let mut one = GtidSet::empty(self.file.flavor);
                _ = one.insert(gtid);
                self.remaining = self.remaining.difference(&one);
            }
        }
        self.last_gtid = transaction.gtid.clone();
        self.end = transaction.end;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::binlog_index::{FileId, FileSummary};
    use crate::archive::catalog::FileEncryption;
    use crate::archive::segment::SegmentObject;
    use crate::model::{Flavor, Gtid};

    fn gtids(text: &str) -> GtidSet {
        GtidSet::parse(Flavor::Mariadb, text).unwrap()
    }

    fn file() -> ArchivedFile {
        let none = gtids("");
        ArchivedFile {
            id: FileId { server: "mariadb-1".into(), name: "binlog.000001".into(), created_unix: 1 },
            flavor: Flavor::Mariadb,
            server_version: String::new(),
            size: 0,
            summary: FileSummary {
                previous_gtids: none.clone(),
                gtids: none,
                boundary: 0,
                transactions: 0,
                first_commit: None,
                last_commit: None,
                last_gtid: None,
                crc32: true,
                statements: 0,
            },
            objects: 0,
            object_bytes: 0,
            open_transaction: None,
            closed: None,
            hole_until: None,
            encryption: FileEncryption::default(),
            further: None,
        }
    }

    /// Ends at its number times 10, like its range.
    fn transaction(number: u64, commit: i64) -> Transaction {
        let gtid: Gtid = format!("0-1-{number}").parse().unwrap();
        Transaction { gtid: Some(gtid), commit: Some(CommitTime(commit)), start: number * 10 - 10, end: number * 10 }
    }

    /// Stamps of transactions 1…; 9999 was in the future when it was archived, in a range of its own.
    const STAMPS: [i64; 7] = [100, 9999, 200, 300, 9999, 400, 9999];

    fn ranges() -> Vec<ArchivedRange> {
        let mut highest = None;
        let range = |(number, stamp): (u64, &i64)| {
            highest = highest.max(Some(CommitTime(*stamp)).filter(|_| *stamp != 9999));
            let (start, end) = (number * 10 - 10, number * 10);
            ArchivedRange {
                object: SegmentObject {
                    file: file().id,
                    start,
                    end,
                    bytes: 1,
                    blake3: None,
                    encrypted: false,
                    edition: None,
                },
                boundary: end,
                last_commit: highest,
                gtids: gtids(&format!("0-1-{number}..{number}")),
                recipients: Vec::new(),
            }
        };
        (1..).zip(&STAMPS).map(range).collect()
    }

    /// How many transactions a restore to `time` takes from the file; none if it takes them all.
    fn taken(question: &Question) -> Option<u64> {
        let (ranges, file, known) = (ranges(), file(), gtids(""));
        let first = behind_last_time(&ranges, question, first_range(&ranges, question).unwrap_or(ranges.len()));
        let mut search = Search::new(&file, question, &known);
        search.times = ranges.iter().map(|range| (range.boundary, range.last_commit)).collect();
        for range in &ranges[..first] {
            search.add(&range.gtids, range.last_commit);
        }
        search.end = first as u64 * 10;
        let mut rest = (1..).zip(STAMPS).skip(first).map(|(number, stamp)| transaction(number, stamp));
        let found = rest.find_map(|transaction| search.take(&transaction))?;
        assert_eq!(found.offset, found.gtids.count() * 10);
        Some(found.gtids.count())
    }

    #[test]
    fn a_stamp_in_the_future_hides_nothing_and_brings_nothing_too_early() {
        for (time, expected) in [(50, 0), (100, 1), (150, 1), (200, 3), (300, 4), (350, 4)] {
            assert_eq!(taken(&Question::UpToTime(CommitTime(time))), Some(expected), "up to {time}");
        }
        assert_eq!(taken(&Question::BeforeTime(CommitTime(200))), Some(1));
        assert_eq!(taken(&Question::UpToTime(CommitTime(400))), None, "nothing in the file is later");
        assert_eq!(taken(&Question::UpToTime(CommitTime(5000))), None, "the stamp is no end");
    }
}
