use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::api::report::{Outcome, PruneOutcome};
use crate::archive::catalog::{ArchivedFile, Catalog, FullHead, keep_folded};
use crate::archive::lease::Leases;
use crate::archive::store::{Store, StoreConfig};
use crate::archive::{ArchiveError, keys, timeline};
use crate::cli::args::{Output, PruneArgs};
use crate::cli::config;
use crate::cli::output::say;
use crate::cli::progress::{Display, bytes};
use crate::cli::report::{self, WorkSubject, outcome};
use crate::cli::{engine, output};
use crate::compaction::{self, Compacted, CompactionError};
use crate::model::Progress;
use crate::retention::plan::{self, FileVerdict, Plan, Rules};
use crate::retention::{Pruned, RetentionError, Room, execute, strays};

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    policy: String,
    archive: String,
    dry_run: bool,
    #[serde(flatten)]
    plan: Plan,
    /// Stored bytes of what the plan deletes.
    freed_bytes: u64,
    /// What becomes of their room.
    room: Room,
    /// What was deleted; none in a dry run.
    pruned: Option<Pruned>,
    /// Binlog files that stay, whose segments are to be packed.
    files_to_pack: usize,
    /// What was packed; none in a dry run.
    packed: Option<Compacted>,
}

/// Deletes what retention lets go, or one full, packs what stays, prints every keep and every delete, and says how that ended.
pub async fn run(args: PruneArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Outcome::default();
    let done = one(&args, &shutdown, &mut outcome).await;
    if let Some(file) = &args.outcome.file {
        outcome::write(file, outcome, done.as_ref().err());
    }
    done
}

/// Deletes what rules let go, if there are any, and packs what stays: for whoever has just taken a full, or copied one.
pub async fn by_rules(
    name: &str,
    store: &StoreConfig,
    rules: &Rules,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let store = engine::store_to_read(store)?;
    let Decision { plan, leases, files, fulls } = decide(&store, rules, None).await?;
    let pruned = execute(&store, &plan, &leases, &Progress::default(), cancel).await?;
    tell(name, &pruned);
    let due = to_pack(&store, pruned.room, &files).await?;
    compaction::compact(&store, &due, &Progress::default(), cancel).await?;
    fold(&store, files, &fulls).await?;
    Ok(())
}

/// Folders of what rules let go of an archive; none of one that is damaged, as nobody knows then.
pub async fn let_go(store: &Store, rules: &Rules) -> anyhow::Result<HashSet<String>> {
    if rules.is_empty() {
        return Ok(HashSet::new());
    }
    let catalog = Catalog::load_folded(store).await?;
    match plan::plan(&catalog, &[], &BTreeSet::new(), rules, Timestamp::now()) {
        Ok(plan) => {
            let fulls = plan.fulls.iter().filter(|full| !full.keep).map(|full| keys::full_dir(&full.id));
            let files = plan.files.iter().filter(|file| !file.keep).flat_map(|file| file.ids.iter());
            let files = files.map(|file| keys::file_dir(&file));
            Ok(fulls.chain(files).collect())
        }
        Err(RetentionError::Damaged { .. }) => Ok(HashSet::new()),
        Err(error) => Err(error.into()),
    }
}

fn tell(name: &str, pruned: &Pruned) {
    let Pruned { fulls, files, objects: _, bytes, room, held_objects, held_bytes: _ } = pruned;
    tracing::info!(archive = name, fulls, files, bytes, ?room, held_objects, "the archive is pruned");
}

/// What somebody should know of what was deleted, for whom it was meant to free room.
fn notes_on(room: Room, pruned: Option<&Pruned>) -> Vec<String> {
    let note = match room {
        Room::Freed => None,
        Room::Hidden => Some(
            "the bucket keeps versions: what is deleted is hidden and goes on taking up room until a rule of the bucket deletes versions that are not \
             current (NoncurrentVersionExpiration; not before their lock ends)"
                .to_owned(),
        ),
        Room::Unknown => Some(
            "whether room was freed cannot be told: the store does not say whether it keeps versions (s3:GetBucketVersioning), or keeps those of \
             before versioning was suspended"
                .to_owned(),
        ),
    };
    let held = pruned.filter(|pruned| pruned.held_objects > 0).map(|pruned| {
        format!(
            "{} objects ({}) stay, as the store holds them until their lock or its retention rule ends: a later prune deletes them",
            pruned.held_objects,
            bytes(pruned.held_bytes)
        )
    });
    note.into_iter().chain(held).collect()
}

async fn one(args: &PruneArgs, cancel: &CancellationToken, outcome: &mut Outcome) -> anyhow::Result<()> {
    let (archive, rules) = config::one_retention(&args.archive)?;
    let progress = Progress::default();
    progress.begin("planning", 0);
    let _server = match args.report.listen {
        Some(listen) => {
            let subject = WorkSubject::new("prune", &archive.name, progress.clone());
            Some(report::serve(listen, subject, cancel).await?)
        }
        None => None,
    };
    let display = Display::start(progress.clone(), args.output == Output::Human);
    let store = engine::store_to_read(&archive.store)?;
    let Decision { mut plan, leases, files, fulls } = decide(&store, &rules, args.full.as_deref()).await?;
    let room = Room::of(&store).await?;
    let pruned = match args.dry_run {
        true => None,
        false => Some(execute(&store, &plan, &leases, &progress, cancel).await?),
    };
    if plan.freed_bytes() > 0 {
        plan.notes.extend(notes_on(room, pruned.as_ref()));
    }
    if let Some(pruned) = &pruned {
        tell(&archive.name, pruned);
        let Pruned { fulls, files, bytes, .. } = *pruned;
        let hidden = room != Room::Freed;
        let kept: Vec<String> = plan.fulls.iter().filter(|full| full.keep).map(|full| full.id.clone()).collect();
        let kept_fulls = kept.len() as u64;
        let (at, notes) = (Timestamp::now().to_string(), plan.notes.clone());
        outcome.prune = Some(PruneOutcome { at, fulls, files, bytes, hidden, kept_fulls, kept, notes });
    }
    // Whoever names a full wants that one to go and nothing else.
    let due = if args.full.is_some() { Vec::new() } else { to_pack(&store, room, &files).await? };
    let packed = match args.dry_run {
        true => None,
        false => Some(compaction::compact(&store, &due, &progress, cancel).await?),
    };
    let files_to_pack = due.len();
    if packed.is_some() {
        fold(&store, files, &fulls).await?;
    }
    drop(display);
    let news: Vec<String> =
        packed.iter().flat_map(|packed| packed.notes.iter().cloned().chain(note_on(packed))).collect();
    if let Some(prune) = &mut outcome.prune {
        prune.notes.extend(news.iter().cloned());
    }
    plan.notes.extend(news);
    let (policy, freed_bytes) = (archive.name, plan.freed_bytes());
    let (archive, dry_run) = (store.url().to_owned(), args.dry_run);
    let report = Report { policy, archive, dry_run, plan, freed_bytes, room, pruned, files_to_pack, packed };
    match args.output {
        Output::Json => output::json(&report),
        Output::Human => {
            show(&report);
            Ok(())
        }
    }
}

/// What goes, and what stays.
struct Decision {
    plan: Plan,
    leases: Leases,
    /// The binlog files that stay.
    files: Vec<ArchivedFile>,
    /// The fulls that stay.
    fulls: Vec<FullHead>,
}

/// Files whose segments are to be packed. Where a bucket keeps versions, a delete frees nothing: then packs would only take up room beside them.
async fn to_pack<'a>(
    store: &Store,
    room: Room,
    files: &'a [ArchivedFile],
) -> Result<Vec<&'a ArchivedFile>, CompactionError> {
    if room == Room::Freed { compaction::due(store, files).await } else { Ok(Vec::new()) }
}

/// Keeps a short account of long logs for the next look, if there are files that it does not tell of yet.
async fn fold(store: &Store, files: Vec<ArchivedFile>, fulls: &[FullHead]) -> Result<(), ArchiveError> {
    let count = files.len();
    let folded = timeline::fold(files, fulls);
    if folded.len() < count {
        keep_folded(store, &folded).await?;
    }
    Ok(())
}

fn note_on(packed: &Compacted) -> Option<String> {
    let Compacted { files, segments, packs, bytes: size, notes: _ } = packed;
    let note = format!(
        "the segments of {files} binlog files ({segments} objects) are in {packs} packs now ({})",
        bytes(*size)
    );
    (*files > 0).then_some(note)
}

async fn decide(store: &Store, rules: &Rules, full: Option<&str>) -> Result<Decision, RetentionError> {
    let now = Timestamp::now();
    let leases = Leases::load(store, now).await?;
    if let Some(planning) = leases.held.iter().find(|lease| lease.full.is_none()) {
        return Err(RetentionError::Restoring { lease: keys::lease(&planning.id) });
    }
    let held: BTreeSet<String> = leases.held.iter().filter_map(|lease| lease.full.clone()).collect();
    let catalog = Catalog::load_folded(store).await?;
    let plan = match full {
        Some(full) => plan::one(&catalog, &held, rules, now, full)?,
        None => plan::plan(&catalog, &strays(store, &catalog).await?, &held, rules, now)?,
    };
    let gone: HashSet<_> = plan.files.iter().filter(|file| !file.keep).map(|file| &file.file).collect();
    let files = catalog.files.into_iter().filter(|file| !gone.contains(&file.id)).collect();
    let gone: HashSet<_> = plan.fulls.iter().filter(|full| !full.keep).map(|full| &full.id).collect();
    let fulls = catalog.fulls.into_iter().filter(|full| !gone.contains(&full.id)).collect();
    Ok(Decision { plan, leases, files, fulls })
}

fn show(report: &Report) {
    let Report { policy, archive, dry_run, plan, freed_bytes, room, pruned, files_to_pack, packed: _ } = report;
    say!("policy {policy}");
    say!("  archive  {archive}");
    if let Some(from) = plan.window_from {
        say!("  window   every moment since {from} that can be restored stays so");
    }
    for full in &plan.fulls {
        let (at, size, reasons) = (full.consistent_at, bytes(full.bytes), full.reasons.join("; "));
        say!("  {}   full {} shows {at} ({size}): {reasons}", word(full.keep), full.id);
    }
    for run in plan.files.chunk_by(alike) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let names = match run.iter().map(|file| file.ids.count()).sum() {
            1_u64 => format!("binlog file {}", first.file.name),
            count => format!("{count} binlog files {} to {}", first.file.name, last.ids.last().name),
        };
        let size = bytes(crate::model::total(run.iter().map(|file| file.bytes)));
        say!("  {}   {names} of server {} ({size}): {}", word(first.keep), first.file.server, first.reason);
    }
    for stray in &plan.strays {
        say!("  {}   objects in {} ({}): {}", word(stray.keep), stray.dir, bytes(stray.bytes), stray.reason);
    }
    for note in &plan.notes {
        say!("  note     {note}");
    }
    match pruned {
        Some(pruned) => {
            let word = match room {
                Room::Freed => "freed   ",
                Room::Hidden => "hidden  ",
                Room::Unknown => "deleted ",
            };
            say!("  {word} {} in {} objects", bytes(pruned.bytes), pruned.objects);
        }
        None if *dry_run => {
            let word = match room {
                Room::Freed => "frees   ",
                Room::Hidden => "hides   ",
                Room::Unknown => "deletes ",
            };
            say!("  {word} {} (--dry-run: nothing was changed)", bytes(*freed_bytes));
            if *files_to_pack > 0 {
                say!("  packs    the segments of {files_to_pack} binlog files into few large objects");
            }
        }
        None => {}
    }
}

fn word(keep: bool) -> &'static str {
    if keep { "keep  " } else { "DELETE" }
}

/// Whether two files are told in one line.
fn alike(a: &FileVerdict, b: &FileVerdict) -> bool {
    a.keep == b.keep && a.reason == b.reason && a.file.server == b.file.server
}
