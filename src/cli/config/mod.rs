//! Documents → what was meant: references resolved, defaults filled, everything this version cannot do refused by name.

mod encryption;
mod immutability;
mod limits;
mod reference;
mod restore;
mod retention;
mod source;
mod storage;
mod verify;

use std::time::Duration;

use encryption::recipients_of;
use immutability::{locked, too_short};
use limits::limits_of;
pub use reference::Resolver;
pub use restore::{Restore, Target};
pub use retention::Copy;
use retention::{copies_of, retention_of, rules_of};
use source::sources_of;
pub use verify::Verify;
use verify::verify_of;

use super::args::{ArchiveArgs, PolicyArgs};
use super::manifests::{Document, Documents, ManifestError, Problem, load};
use crate::api::unsupported::{self, Refusal};
use crate::api::{Acknowledge, BackupPolicy, FlavorChoice, PurgeProtection, StorageSpec};
use crate::archive::crypt::{Identities, Recipients};
use crate::archive::store::StoreConfig;
use crate::backup::logical::Limits;
use crate::binlog::SpoolConfig;
use crate::model::Flavor;
use crate::mysql::endpoint::Endpoint;
use crate::retention::plan::Rules;
use crate::schedule::Schedule;

/// A policy that can be acted on.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The source's servers, best first.
    pub sources: Vec<Endpoint>,
    /// Whether they are a replication group: then a name among them stands for a server at each of its addresses.
    pub group: bool,
    /// The flavor the source must have; none: whatever it has.
    pub flavor: Option<Flavor>,
    /// When fulls are taken.
    pub schedule: Option<Schedule>,
    /// How the binary log is streamed; none: not at all.
    pub binlog: Option<Binlog>,
    /// The archive's store.
    pub store: StoreConfig,
    /// What fulls may cost their source.
    pub limits: Limits,
    /// zstd level of everything that is written.
    pub compression_level: i32,
    /// To whom it is encrypted.
    pub recipients: Recipients,
    /// What of the archive may go.
    pub retention: Rules,
    /// Further stores that hold what the first one holds.
    pub copies: Vec<Copy>,
    /// When and how the archive is verified.
    pub verify: Option<Verify>,
    /// What the archive does not withstand, although somebody may think so.
    pub warnings: Vec<String>,
}

/// How the binary log is streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binlog {
    /// Upload what has come within this time.
    pub flush_interval: Duration,
    /// Upload as soon as this much has come.
    pub segment_bytes: u64,
    /// Acknowledge commits once they are durable in the store.
    pub semi_sync: bool,
    /// Where it waits while the store is down.
    pub spool: Option<SpoolConfig>,
    /// Hold the source's own purging back while something is not archived.
    pub hold_purge: bool,
}

/// What a restore needs to know of the archive it reads.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The policy's or request's name.
    pub name: String,
    /// The archive's store.
    pub store: StoreConfig,
    /// The source's servers, best first; empty where they are not known.
    pub sources: Vec<Endpoint>,
    /// What opens its encrypted objects; none for those who read only what is in clear.
    pub identities: Identities,
    /// What it does not withstand, although somebody may think so.
    pub warnings: Vec<String>,
}

/// Loads files and validates every policy in them; there is at least one.
pub fn policies(documents: &Documents) -> Result<Vec<Policy>, ManifestError> {
    if documents.policies.is_empty() {
        return Err(no_policy());
    }
    let mut problems = Vec::new();
    let policies = documents
        .policies
        .values()
        .filter_map(|document| policy(document, documents, &mut problems))
        .collect::<Vec<_>>();
    finish(policies, problems)
}

/// The one policy that `args` mean.
pub fn one_policy(args: &PolicyArgs) -> Result<Policy, ManifestError> {
    let documents = load(&args.manifests)?;
    let document = choose(&documents, args.policy.as_deref())?;
    let mut problems = Vec::new();
    let policy = policy(document, &documents, &mut problems);
    finish(policy, problems)?.ok_or_else(no_policy)
}

/// The policies that `args` mean, for verbs that only read the archive: sources need not be reachable or even complete.
pub fn archives(args: &ArchiveArgs) -> Result<Vec<Archive>, ManifestError> {
    let ArchiveArgs { policy: PolicyArgs { manifests, policy }, copy } = args;
    let documents = load(manifests)?;
    let chosen: Vec<_> = match policy {
        Some(_) => vec![choose(&documents, policy.as_deref())?],
        None if documents.policies.is_empty() => return Err(no_policy()),
        None => documents.policies.values().collect(),
    };
    let mut problems = Vec::new();
    let archive = |document| archive_of(document, copy.as_deref(), &documents, &mut problems);
    let archives = chosen.into_iter().filter_map(archive).collect();
    finish(archives, problems)
}

/// The one policy's archive that `args` mean, with what a Secret opens of it.
pub fn one_archive(args: &ArchiveArgs, identity_secret: Option<&str>) -> Result<Archive, ManifestError> {
    let documents = load(&args.policy.manifests)?;
    let document = choose(&documents, args.policy.policy.as_deref())?;
    let mut problems = Vec::new();
    let archive = archive_of(document, args.copy.as_deref(), &documents, &mut problems);
    let mut resolver = Resolver::new(document, &documents, &mut problems);
    let identities = resolver.identities_of_argument(identity_secret);
    let archive = archive.map(|archive| Archive { identities, ..archive });
    finish(archive, problems)?.ok_or_else(no_policy)
}

/// The one policy's archive that `args` mean, and what of it may go.
pub fn one_retention(args: &ArchiveArgs) -> Result<(Archive, Rules), ManifestError> {
    let documents = load(&args.policy.manifests)?;
    let document = choose(&documents, args.policy.policy.as_deref())?;
    let mut problems = Vec::new();
    let archive = archive_of(document, args.copy.as_deref(), &documents, &mut problems);
    let schedule = document.object.spec.schedule.as_ref();
    if let Some(Err((field, message))) = schedule.map(Schedule::new) {
        problems.push(document.problem(field, message));
    }
    let (retention, field) = retention_of(document, args.copy.as_deref());
    let rules = rules_of(document, retention, field, &mut problems);
    finish(archive.map(|archive| (archive, rules)), problems)?.ok_or_else(no_policy)
}

/// The one policy that `args` mean, its first store and its copies: no source need be reachable or even complete.
pub fn one_with_copies(args: &PolicyArgs) -> Result<(Archive, Vec<Copy>), ManifestError> {
    let documents = load(&args.manifests)?;
    let document = choose(&documents, args.policy.as_deref())?;
    let mut problems = Vec::new();
    let archive = archive_of(document, None, &documents, &mut problems);
    let copies = copies_of(document, &documents, &mut problems);
    finish(archive.map(|archive| (archive, copies)), problems)?.ok_or_else(no_policy)
}

/// The one policy's archive that `args` mean, what of it may go, and how it is verified by schedule.
pub fn one_verify(
    args: &ArchiveArgs,
    identity_secret: Option<&str>,
) -> Result<(Archive, Rules, Option<Verify>), ManifestError> {
    let documents = load(&args.policy.manifests)?;
    let document = choose(&documents, args.policy.policy.as_deref())?;
    let mut problems = Vec::new();
    let archive = archive_of(document, args.copy.as_deref(), &documents, &mut problems);
    let mut resolver = Resolver::new(document, &documents, &mut problems);
    let identities = resolver.identities_of_argument(identity_secret);
    let archive = archive.map(|archive| Archive { identities, ..archive });
    let (retention, field) = retention_of(document, args.copy.as_deref());
    let rules = rules_of(document, retention, field, &mut problems);
    let verify = verify_of(document, &documents, &mut problems);
    finish(archive.map(|archive| (archive, rules, verify)), problems)?.ok_or_else(no_policy)
}

/// The one policy's archive that `args` mean with what a Secret opens of it, to whom it is to be encrypted, and the level of compression.
pub fn one_rekey(args: &ArchiveArgs, identity_secret: &str) -> Result<(Archive, Recipients, i32), ManifestError> {
    let documents = load(&args.policy.manifests)?;
    let document = choose(&documents, args.policy.policy.as_deref())?;
    let mut problems = Vec::new();
    let archive = archive_of(document, args.copy.as_deref(), &documents, &mut problems);
    let identities = Resolver::new(document, &documents, &mut problems).identities_of_argument(Some(identity_secret));
    let (recipients, level) = (recipients_of(document, &mut problems), compression_of(document, &mut problems));
    let archive = archive.map(|archive| (Archive { identities, ..archive }, recipients, level));
    finish(archive, problems)?.ok_or_else(no_policy)
}

/// The document called `name`, or the only one.
pub fn choose<'a>(documents: &'a Documents, name: Option<&str>) -> Result<&'a Document<BackupPolicy>, ManifestError> {
    let names = || documents.policies.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => documents.policies.get(name).ok_or_else(|| ManifestError::Choice {
            message: format!("the manifests hold no BackupPolicy {name:?}; there are: {}", names()),
        }),
        None => match (documents.policies.values().next(), documents.policies.len()) {
            (None, _) => Err(no_policy()),
            (Some(document), 1) => Ok(document),
            _ => Err(ManifestError::Choice {
                message: format!("the manifests hold several policies: say which by --policy NAME: {}", names()),
            }),
        },
    }
}

fn no_policy() -> ManifestError {
    ManifestError::Choice { message: "the manifests hold no BackupPolicy: add one, see `tidemark --help`".to_owned() }
}

fn finish<T>(value: T, problems: Vec<Problem>) -> Result<T, ManifestError> {
    if problems.is_empty() { Ok(value) } else { Err(ManifestError::Invalid { problems }) }
}

/// Where a policy's archive is, or the copy of that name.
pub fn archive_of(
    document: &Document<BackupPolicy>,
    copy: Option<&str>,
    documents: &Documents,
    problems: &mut Vec<Problem>,
) -> Option<Archive> {
    let spec = &document.object.spec;
    let store = match copy {
        None => {
            let store = storage_of(document, "spec.storage", &spec.storage, documents, problems);
            locked(document, "spec", spec.immutability.as_ref(), &spec.storage, store, problems)?
        }
        Some(name) => {
            let Some((i, copy)) = spec.copies.iter().enumerate().find(|(_, copy)| copy.name == name) else {
                let names: Vec<&str> = spec.copies.iter().map(|copy| copy.name.as_str()).collect();
                let message = format!("there is no copy {name:?}; there are: {}", names.join(", "));
                problems.push(document.problem("spec.copies", message));
                return None;
            };
            let field = format!("spec.copies[{i}]");
            let store = storage_of(document, &format!("{field}.storage"), &copy.storage, documents, problems);
            locked(document, &field, copy.immutability.as_ref(), &copy.storage, store, problems)?
        }
    };
    let name = document.object.metadata.name.clone().unwrap_or_default();
    // The archive alone is needed: what is wrong with the source is no problem here.
    let sources =
        sources_of(&mut Resolver::new(document, documents, &mut Vec::new()), &spec.source).unwrap_or_default();
    let (immutability, retention) = match spec.copies.iter().find(|each| Some(each.name.as_str()) == copy) {
        Some(copy) => (copy.immutability.as_ref(), copy.retention.as_ref()),
        None => (spec.immutability.as_ref(), spec.retention.as_ref()),
    };
    let warnings = too_short(immutability, retention);
    Some(Archive { name, store, sources, identities: Identities::default(), warnings })
}

/// Where an archive is, as any kind of document says it.
pub fn storage_of<T>(
    document: &Document<T>,
    field: &str,
    spec: &StorageSpec,
    documents: &Documents,
    problems: &mut Vec<Problem>,
) -> Option<StoreConfig> {
    storage::resolve(&mut Resolver::new(document, documents, problems), field, spec)
}

fn policy(document: &Document<BackupPolicy>, documents: &Documents, problems: &mut Vec<Problem>) -> Option<Policy> {
    let spec = &document.object.spec;
    let before = problems.len();
    refuse(document, unsupported::of_policy(spec), problems);
    tell_ignored(document);
    let sources = sources_of(&mut Resolver::new(document, documents, problems), &spec.source);
    let store = storage_of(document, "spec.storage", &spec.storage, documents, problems);
    let store = locked(document, "spec", spec.immutability.as_ref(), &spec.storage, store, problems);
    let warnings = too_short(spec.immutability.as_ref(), spec.retention.as_ref());
    let schedule = spec.schedule.as_ref().and_then(|schedule| {
        Schedule::new(schedule).map_err(|(field, message)| problems.push(document.problem(field, message))).ok()
    });
    let compression_level = compression_of(document, problems);
    let binlog = spec.binlog.enabled.then_some(Binlog {
        flush_interval: spec.binlog.flush_interval.0,
        segment_bytes: spec.binlog.segment_size.0,
        semi_sync: spec.binlog.acknowledge == Acknowledge::ObjectStore,
        spool: spool_of(document, problems),
        hold_purge: spec.binlog.purge_protection == PurgeProtection::Hold,
    });
    if let Some(binlog) = &binlog {
        if !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&binlog.flush_interval) {
            let message = format!("{} is out of bounds: write 10ms to 1h", spec.binlog.flush_interval);
            problems.push(document.problem("spec.binlog.flushInterval", message));
        }
        if !(64 << 10..=64 << 20).contains(&binlog.segment_bytes) {
            let message = format!("{} is out of bounds: write 64Ki to 64Mi", spec.binlog.segment_size);
            problems.push(document.problem("spec.binlog.segmentSize", message));
        }
    }
    let retention = rules_of(document, spec.retention.as_ref(), "spec.retention", problems);
    let recipients = recipients_of(document, problems);
    let copies = copies_of(document, documents, problems);
    let verify = verify_of(document, documents, problems);
    let limits = limits_of(document, problems);
    if problems.len() > before {
        return None;
    }
    let name = document.object.metadata.name.clone().unwrap_or_default();
    let flavor = flavor_of(spec.source.flavor);
    let (sources, store) = (sources?, store?);
    let group = spec.source.hosts.is_some();
    Some(Policy {
        name,
        sources,
        group,
        flavor,
        schedule,
        binlog,
        store,
        compression_level,
        recipients,
        retention,
        copies,
        verify,
        limits,
        warnings,
    })
}

/// The level of zstd; 0 for none.
fn compression_of(document: &Document<BackupPolicy>, problems: &mut Vec<Problem>) -> i32 {
    let level = document.object.spec.compression.level;
    if !(-7..=19).contains(&level) {
        problems.push(document.problem(
            "spec.compression.level",
            format!("{level} is not a zstd level: write 1 to 19, -1 to -7 for faster ones, or 0 for none"),
        ));
    }
    level
}

fn spool_of(document: &Document<BackupPolicy>, problems: &mut Vec<Problem>) -> Option<SpoolConfig> {
    let spool = document.object.spec.binlog.spool.as_ref()?;
    problems.extend(spool.problem().map(|(field, message)| document.problem(field, message)));
    match spool.path.as_deref().filter(|path| !path.trim().is_empty()) {
        Some(path) => Some(SpoolConfig { folder: path.into(), max_bytes: spool.max_size.0 }),
        None => {
            let message = "name a folder of this policy alone, on a disk that outlives a restart";
            problems.push(document.problem("spec.binlog.spool.path", message));
            None
        }
    }
}

fn refuse<T>(document: &Document<T>, refusals: impl IntoIterator<Item = Refusal>, problems: &mut Vec<Problem>) {
    problems.extend(refusals.into_iter().map(|(field, message)| document.problem(field, message)));
}

fn tell_ignored(document: &Document<BackupPolicy>) {
    let spec = &document.object.spec;
    if spec.job_template.is_some() || spec.pod_template.is_some() {
        tracing::debug!(document = %document.origin, "jobTemplate and podTemplate have a meaning in a cluster only");
    }
}

fn flavor_of(choice: FlavorChoice) -> Option<Flavor> {
    match choice {
        FlavorChoice::Auto => None,
        FlavorChoice::Mysql => Some(Flavor::Mysql),
        FlavorChoice::Mariadb => Some(Flavor::Mariadb),
    }
}
