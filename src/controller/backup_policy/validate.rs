//! Raw spec → what can be acted on, or what is wrong with it. (The binary alone decides alike in `cli::config`: a test compares.)

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;

use super::build::source_name;
use crate::api::{
    BackupPolicy, BackupPolicySpec, BinlogSpec, CompressionSpec, CopySpec, EncryptionSpec, ImmutabilitySpec,
    LimitsSpec, PodSelector, RetentionSpec, ScheduleSpec, SourceSpec, SpoolSpec, StorageSpec, VerifySpec, rate_problem,
    unsupported,
};
use crate::controller::{secrets, storage};
use crate::schedule::{Schedule, Times};

/// A policy that can be acted on.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Its name.
    pub name: String,
    /// The source, by host names alone.
    pub source: SourceSpec,
    /// The pods that the host name of the source leads to, where it is one of ours.
    pub selector: Option<PodSelector>,
    /// When fulls are taken.
    pub schedule: Option<Schedule>,
    /// The stream.
    pub binlog: BinlogSpec,
    /// Where the archive is.
    pub storage: StorageSpec,
    /// What is locked there.
    pub immutability: Option<ImmutabilitySpec>,
    /// Further stores, which the stream fills.
    pub copies: Vec<CopySpec>,
    /// To whom it is encrypted.
    pub encryption: Option<EncryptionSpec>,
    /// How it is compressed.
    pub compression: CompressionSpec,
    /// What of the archive may go.
    pub retention: Option<RetentionSpec>,
    /// How the archive is verified.
    pub verify: Option<VerifySpec>,
    /// What fulls may cost their source.
    pub limits: Option<LimitsSpec>,
    /// And when.
    pub verifies: Option<Times>,
    /// The schedule as it is written, for its time zone.
    pub written_schedule: Option<ScheduleSpec>,
    /// Names of the Secrets that its pods mount.
    pub secrets: BTreeSet<String>,
    /// Names of those that only the stream's needs, to fill copies.
    pub copy_secrets: BTreeSet<String>,
    /// What the user wants otherwise in a Job's pod.
    pub job_template: Option<PodTemplateSpec>,
    /// And in the stream's.
    pub pod_template: Option<PodTemplateSpec>,
}

/// Why a spec cannot be acted on: it waits for somebody to change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong: a field each, and the way out.
    invalid: Vec<String>,
    /// What this version cannot do.
    unsupported: Vec<String>,
}

impl Refusal {
    /// A condition's reason.
    pub fn reason(&self) -> &'static str {
        if self.invalid.is_empty() { "Unsupported" } else { "InvalidSpec" }
    }

    /// Everything that is wrong, in words.
    pub fn message(&self) -> String {
        self.invalid.iter().chain(&self.unsupported).map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    fn is_empty(&self) -> bool {
        let Self { invalid, unsupported } = self;
        invalid.is_empty() && unsupported.is_empty()
    }

    fn invalid(&mut self, field: &str, message: &str) {
        self.invalid.push(format!("{field}: {message}"));
    }
}

/// Checks everything, and tells everything that is wrong at once.
pub fn validate(policy: &BackupPolicy) -> Result<Validated, Refusal> {
    let BackupPolicySpec {
        source,
        schedule,
        method: _,
        binlog,
        storage,
        immutability,
        copies,
        retention,
        encryption,
        limits,
        compression,
        drill: _,
        verify,
        job_template,
        pod_template,
    } = &policy.spec;
    let mut refusal = Refusal::default();
    for (field, message) in unsupported::of_policy(&policy.spec) {
        refusal.unsupported.push(format!("{field}: {message}"));
    }
    let pod_source = source_of(policy, &mut refusal);
    check_binlog(binlog, &mut refusal);
    storage::check("spec.storage", storage, |field, message| refusal.invalid(field, message));
    check_immutability("spec", immutability.as_ref(), storage, &mut refusal);
    check_copies(storage, copies, &mut refusal);
    if !(-7..=19).contains(&compression.level) {
        let message = format!(
            "{} is not a zstd level: write 1 to 19, -1 to -7 for faster ones, or 0 for none",
            compression.level
        );
        refusal.invalid("spec.compression.level", &message);
    }
    if let Some((field, message)) = encryption.as_ref().and_then(EncryptionSpec::problem) {
        refusal.invalid(field, &message);
    }
    for (field, message) in retention.as_ref().map(RetentionSpec::problems).unwrap_or_default() {
        refusal.invalid(field, message);
    }
    for (field, message) in limits.as_ref().map(LimitsSpec::problems).unwrap_or_default() {
        refusal.invalid(field, message);
    }
    for (field, message) in verify.as_ref().map(VerifySpec::problems).unwrap_or_default() {
        refusal.invalid(field, message);
    }
    let zone = schedule.as_ref().map_or("UTC", |schedule| &schedule.time_zone);
    // One that is not known is refused with the schedule it is in.
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let verifies = verify.as_ref().and_then(|spec| {
        Times::new(&spec.cron, zone).map_err(|message| refusal.invalid("spec.verify.cron", &message)).ok()
    });
    let written = schedule.clone();
    let schedule = schedule
        .as_ref()
        .and_then(|spec| Schedule::new(spec).map_err(|(field, message)| refusal.invalid(field, &message)).ok());
    if !refusal.is_empty() {
        return Err(refusal);
    }
    Ok(Validated {
        name: policy.name_any(),
        source: pod_source,
        selector: source.selector.clone(),
        schedule,
        binlog: binlog.clone(),
        storage: storage.clone(),
        immutability: immutability.clone(),
        copies: copies.clone(),
        encryption: encryption.clone(),
        compression: compression.clone(),
        retention: retention.clone(),
        verify: verify.clone(),
        limits: limits.clone(),
        verifies,
        written_schedule: written,
        secrets: secrets::of_source(source).into_iter().chain(secrets::of_storage(storage)).collect(),
        copy_secrets: copies.iter().flat_map(|copy| secrets::of_storage(&copy.storage)).collect(),
        job_template: job_template.clone(),
        pod_template: pod_template.clone(),
    })
}

/// The source as its pods reach it.
fn source_of(policy: &BackupPolicy, refusal: &mut Refusal) -> SourceSpec {
    let source = &policy.spec.source;
    let SourceSpec { flavor, host, hosts, service_ref, selector, port, credentials_secret_ref, tls, prefer_replica } =
        source;
    let named = [host.is_some(), hosts.is_some(), service_ref.is_some(), selector.is_some()];
    if named.iter().filter(|named| **named).count() != 1 {
        refusal.invalid("spec.source", "name the server by exactly one of host, hosts, serviceRef and selector");
    }
    if selector.as_ref().is_some_and(|selector| selector.match_labels.is_empty()) {
        refusal.invalid("spec.source.selector", "name at least one label of the pods: without one every pod is meant");
    }
    if hosts.as_ref().is_some_and(Vec::is_empty) {
        refusal.invalid("spec.source.hosts", "name at least one server");
    }
    for host in host.iter().chain(hosts.iter().flatten()) {
        if host.trim().is_empty() || host.contains(['/', '@', ' ']) {
            let message = format!("{host:?} is not a name or address: write db.example or 192.0.2.7");
            refusal.invalid("spec.source.host", &message);
        } else if host.matches(':').count() == 1 {
            refusal.invalid("spec.source.host", &format!("{host:?} holds a port: write it as spec.source.port"));
        }
    }
    if *port == 0 {
        refusal.invalid("spec.source.port", "0 is not a port: write 1 to 65535");
    }
    let own_namespace = policy.namespace().unwrap_or_default();
    let service = service_ref
        .as_ref()
        .map(|service| format!("{}.{}.svc", service.name, service.namespace.as_ref().unwrap_or(&own_namespace)));
    // A list, though of one name: each of its addresses is a server of the group.
    let pods = selector.as_ref().map(|_| vec![format!("{}.{own_namespace}.svc", source_name(&policy.name_any()))]);
    SourceSpec {
        flavor: *flavor,
        host: service.or_else(|| host.clone()),
        hosts: pods.or_else(|| hosts.clone()),
        service_ref: None,
        selector: None,
        port: *port,
        credentials_secret_ref: credentials_secret_ref.clone(),
        tls: tls.clone(),
        prefer_replica: *prefer_replica,
    }
}

fn check_copies(storage: &StorageSpec, copies: &[CopySpec], refusal: &mut Refusal) {
    let mut folders: Vec<&str> = storage.fs.iter().map(|fs| fs.path.trim_end_matches('/')).collect();
    for (i, copy) in copies.iter().enumerate() {
        let CopySpec { name, storage, retention, immutability, bytes_per_second } = copy;
        let field = format!("spec.copies[{i}]");
        if copies.iter().take(i).any(|other| other.name == *name) {
            refusal.invalid(&format!("{field}.name"), &format!("{name:?} is there twice"));
        }
        storage::check(&format!("{field}.storage"), storage, |field, message| refusal.invalid(field, message));
        check_immutability(&field, immutability.as_ref(), storage, refusal);
        for folder in storage.fs.iter().map(|fs| fs.path.trim_end_matches('/')) {
            if folders.contains(&folder) {
                let message =
                    format!("{folder:?} is the folder of another store: one pod mounts both, so write another");
                refusal.invalid(&format!("{field}.storage.fs.path"), &message);
            }
            folders.push(folder);
        }
        if let Some(message) = rate_problem(*bytes_per_second) {
            refusal.invalid(&format!("{field}.bytesPerSecond"), message);
        }
        for (at, message) in retention.as_ref().map(RetentionSpec::problems).unwrap_or_default() {
            refusal.invalid(&at.replacen("spec", &field, 1), message);
        }
    }
}

fn check_immutability(
    field: &str,
    immutability: Option<&ImmutabilitySpec>,
    storage: &StorageSpec,
    refusal: &mut Refusal,
) {
    if let Some((at, message)) = immutability.and_then(|spec| spec.problem(storage)) {
        refusal.invalid(&format!("{field}.immutability{at}"), &message);
    }
}

fn check_binlog(binlog: &BinlogSpec, refusal: &mut Refusal) {
    let BinlogSpec { enabled, flush_interval, segment_size, acknowledge: _, spool, purge_protection: _ } = binlog;
    if *enabled && !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&flush_interval.0) {
        let message = format!("{flush_interval} is out of bounds: write 10ms to 1h");
        refusal.invalid("spec.binlog.flushInterval", &message);
    }
    if *enabled && !(64 << 10..=64 << 20).contains(&segment_size.0) {
        let message = format!("{segment_size} is out of bounds: write 64Ki to 64Mi");
        refusal.invalid("spec.binlog.segmentSize", &message);
    }
    if let Some((field, message)) = spool.as_ref().and_then(SpoolSpec::problem) {
        refusal.invalid(field, &message);
    }
}

#[cfg(test)]
mod tests;
