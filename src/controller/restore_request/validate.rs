//! Raw spec and archive → what can be done, or why it cannot (yet).

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;

use super::dereference::Facts;
use crate::api::{
    BackupPolicy, DecryptionSpec, IntoExistingSpec, IntoSpec, RestoreRequest, RestoreRequestSpec, StorageSpec,
    TargetSpec, unsupported,
};
use crate::controller::storage;
use crate::model::{BinlogPosition, parse_rfc3339};

/// A StatefulSet's name is in a label of its pods, with a hash behind it.
const NAME_MAX: usize = 50;

/// A restore that can be planned.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The request's name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// What is restored.
    pub archive: Archive,
    /// As its bucket held it at which moment; none: as it is.
    pub as_of: Option<String>,
    /// To which moment.
    pub target: TargetSpec,
    /// What opens the archive, where it is encrypted.
    pub decryption: Option<DecryptionSpec>,
    /// Where to.
    pub into: Into,
    /// Whether only the plan is asked for.
    pub dry_run: bool,
}

/// An archive, and how pods that read it are to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Archive {
    /// The policy's name, or the request's.
    pub name: String,
    /// Where it is.
    pub storage: StorageSpec,
    /// What the policy's Jobs are to be like: they may need an account to read it.
    pub job_template: Option<PodTemplateSpec>,
}

/// The server to restore into.
#[derive(Clone, Debug)]
pub enum Into {
    /// One that is made.
    Fresh(Box<IntoSpec>),
    /// One that exists.
    Existing(Box<IntoExistingSpec>),
}

/// Why it cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether it never will: the request itself asks for what cannot be done, and cannot be changed.
    pub forever: bool,
    /// A condition's reason.
    pub reason: &'static str,
    /// In words, with the way out.
    pub message: String,
}

impl Refusal {
    /// What is to be planned from is being deleted from.
    pub fn pruning(job: &str) -> Self {
        let message =
            format!("it begins when Job {job} deletes nothing from the archive any more, which is told to stop");
        Self { forever: false, reason: "PruneUnderWay", message }
    }
}

/// Everything that is wrong, while it is gathered.
#[derive(Default)]
struct Problems {
    invalid: Vec<String>,
    unsupported: Vec<String>,
}

impl Problems {
    fn invalid(&mut self, field: &str, message: &str) {
        self.invalid.push(format!("{field}: {message}"));
    }

    fn finish(self) -> Result<(), Refusal> {
        let Self { invalid, unsupported } = self;
        let reason = match (invalid.is_empty(), unsupported.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => "Unsupported",
            (false, _) => "InvalidSpec",
        };
        let message = invalid.into_iter().chain(unsupported).collect::<Vec<_>>().join("; ");
        let message = format!("{message}. A RestoreRequest cannot be changed: make another one");
        Err(Refusal { forever: true, reason, message })
    }
}

/// Checks everything that needs no look into the archive.
pub fn validate(request: &RestoreRequest, seen: &Facts) -> Result<Validated, Refusal> {
    check(request, seen.planned_from.as_ref(), seen.policy.as_deref())
}

fn check(
    request: &RestoreRequest,
    planned_from: Option<&Archive>,
    policy: Option<&BackupPolicy>,
) -> Result<Validated, Refusal> {
    let RestoreRequestSpec {
        policy_ref,
        storage,
        as_of,
        target,
        tables: _,
        databases: _,
        into,
        into_existing,
        decryption,
        checks: _,
        dry_run,
    } = &request.spec;
    let mut problems = Problems::default();
    for (field, message) in unsupported::of_restore(&request.spec) {
        problems.unsupported.push(format!("{field}: {message}"));
    }
    check_target(target, &mut problems);
    if let Some(Err(error)) = as_of.as_deref().map(parse_rfc3339) {
        problems.invalid("spec.asOf", &error.to_string());
    }
    let into = match (into, into_existing) {
        (Some(into), None) => {
            check_fresh(&request.name_any(), into, &mut problems);
            Some(Into::Fresh(Box::new(into.clone())))
        }
        (None, Some(into)) => {
            check_existing(into, &mut problems);
            Some(Into::Existing(Box::new(into.clone())))
        }
        _ => {
            problems.invalid("spec", "name the target by exactly one of into and intoExisting");
            None
        }
    };
    if policy_ref.is_some() == storage.is_some() {
        problems.invalid("spec", "name the archive by exactly one of policyRef and storage");
    }
    if let Some(storage) = storage {
        storage::check("spec.storage", storage, |field, message| problems.invalid(field, message));
    }
    problems.finish()?;
    // What was planned is what is restored, whatever becomes of the policy.
    let archive = match (planned_from, storage, policy_ref) {
        (Some(archive), ..) => archive.clone(),
        (None, Some(storage), _) => Archive { name: request.name_any(), storage: storage.clone(), job_template: None },
        (None, None, reference) => {
            let name = reference.as_ref().map(|reference| reference.name.as_str()).unwrap_or_default();
            of_policy(name, policy)?
        }
    };
    let waits = || Refusal { forever: false, reason: "Pending", message: "it is not there yet".to_owned() };
    Ok(Validated {
        name: request.name_any(),
        uid: request.uid().ok_or_else(waits)?,
        archive,
        as_of: as_of.clone(),
        target: target.clone(),
        decryption: decryption.clone(),
        into: into.ok_or_else(waits)?,
        dry_run: *dry_run,
    })
}

fn of_policy(name: &str, policy: Option<&BackupPolicy>) -> Result<Archive, Refusal> {
    let Some(policy) = policy else {
        let message = format!(
            "spec.policyRef: there is no BackupPolicy {name:?} in this namespace: it begins as soon as there is one. If it is gone for \
             good, make a RestoreRequest that names the archive by storage"
        );
        return Err(Refusal { forever: false, reason: "PolicyMissing", message });
    };
    let mut problems = Problems::default();
    storage::check("spec.storage", &policy.spec.storage, |field, message| problems.invalid(field, message));
    if let Err(Refusal { message, .. }) = problems.finish() {
        let message = format!("BackupPolicy {name:?} must be mended first: {message}");
        return Err(Refusal { forever: false, reason: "PolicyInvalid", message });
    }
    let (storage, job_template) = (policy.spec.storage.clone(), policy.spec.job_template.clone());
    Ok(Archive { name: name.to_owned(), storage, job_template })
}

fn check_target(target: &TargetSpec, problems: &mut Problems) {
    let TargetSpec { time, gtid, position, latest, exclusive, skip_gtids: _, allow_nearest: _ } = target;
    let named = [time.is_some(), gtid.is_some(), position.is_some(), *latest];
    if named.iter().filter(|named| **named).count() != 1 {
        problems.invalid("spec.target", "name exactly one target: time, gtid, position or latest: true");
    }
    if *latest && *exclusive {
        problems.invalid("spec.target.exclusive", "there is nothing to stop before with latest");
    }
    if let Some(Err(error)) = time.as_deref().map(parse_rfc3339) {
        problems.invalid("spec.target.time", &error.to_string());
    }
    if let Some(Err(error)) = position.as_deref().map(str::parse::<BinlogPosition>) {
        problems.invalid("spec.target.position", &error.to_string());
    }
}

fn check_fresh(name: &str, into: &IntoSpec, problems: &mut Problems) {
    let IntoSpec { image, storage, resources: _, service: _, pod_template: _ } = into;
    let letters =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if name.len() > NAME_MAX || !letters(name) || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        let message = "the server gets this name: at most 50 lower-case letters, digits and dashes, a letter first";
        problems.invalid("metadata.name", message);
    }
    if image.trim().is_empty() {
        problems.invalid("spec.into.image", "name the server's image, for example mysql:9.7 or mariadb:10.11");
    }
    if storage.size.0 == 0 {
        problems.invalid("spec.into.storage.size", "write the size of the server's disk, for example 50Gi");
    }
}

fn check_existing(into: &IntoExistingSpec, problems: &mut Problems) {
    let listen = into.serve_listen.as_deref().map(str::parse::<SocketAddr>);
    if let Some(Err(_)) = listen {
        let message = "write an address and a port, for example 0.0.0.0:3310";
        problems.invalid("spec.intoExisting.serveListen", message);
    }
    if into.port == 0 {
        problems.invalid("spec.intoExisting.port", "0 is not a port: write 1 to 65535");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str =
        "target: {latest: true}, policyRef: {name: orders}, into: {image: 'mysql:9.7', storage: {size: 1Gi}}";

    fn request(spec: &str) -> RestoreRequest {
        serde_yaml::from_str(&format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: RestoreRequest, metadata: {{name: rescue, uid: u1}}, spec: {{{spec}}}}}"
        ))
        .unwrap()
    }

    fn policy(spec: &str) -> BackupPolicy {
        serde_yaml::from_str(&format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {{name: orders}}, spec: {{source: {{host: db, \
             credentialsSecretRef: {{name: l}}}}, {spec}}}}}"
        ))
        .unwrap()
    }

    fn refused(spec: &str, policy: Option<&BackupPolicy>) -> (bool, &'static str, String) {
        let Refusal { forever, reason, message } = check(&request(spec), None, policy).unwrap_err();
        (forever, reason, message)
    }

    #[test]
    fn what_this_version_cannot_do_is_refused_for_good_by_the_names_of_its_fields() {
        let asked = "tables: [a.b], databases: [a], checks: {queries: ['SELECT 1']}";
        let (forever, reason, message) = refused(&format!("{asked}, {REST}"), None);
        assert_eq!((forever, reason), (true, "Unsupported"));
        for field in ["spec.tables", "spec.databases", "spec.checks"] {
            assert!(message.contains(field), "{field} in {message}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_for_good_and_named() {
        let into = "into: {image: 'mysql:9.7', storage: {size: 1Gi}}";
        let existing = "intoExisting: {host: h, credentialsSecretRef: {name: s}";
        for (spec, field) in [
            (format!("policyRef: {{name: p}}, {into}, target: {{time: '2026-11-21T03:04:05'}}"), "spec.target.time"),
            (format!("policyRef: {{name: p}}, {into}, target: {{position: 'no'}}"), "spec.target.position"),
            (format!("policyRef: {{name: p}}, {into}, target: {{latest: true}}, asOf: '2026-11-21'"), "spec.asOf"),
            (
                format!("policyRef: {{name: p}}, {into}, target: {{latest: true, exclusive: true}}"),
                "spec.target.exclusive",
            ),
            (format!("policyRef: {{name: p}}, {into}, target: {{latest: true, gtid: x}}"), "spec.target"),
            (format!("{into}, target: {{latest: true}}"), "policyRef"),
            ("policyRef: {name: p}, target: {latest: true}".to_owned(), "intoExisting"),
            (
                format!("policyRef: {{name: p}}, {existing}, serveListen: 'x:1'}}, target: {{latest: true}}"),
                "serveListen",
            ),
            (format!("policyRef: {{name: p}}, {existing}, port: 0}}, target: {{latest: true}}"), "intoExisting.port"),
            (format!("storage: {{fs: {{path: /archive}}}}, {into}, target: {{latest: true}}"), "claimName"),
            (format!("storage: {{fs: {{path: /var, claimName: c}}}}, {into}, target: {{latest: true}}"), "fs.path"),
            (
                format!("storage: {{fs: {{path: /var/lib/mysql/a, claimName: c}}}}, {into}, target: {{latest: true}}"),
                "fs.path",
            ),
        ] {
            let (forever, reason, message) = refused(&spec, Some(&policy("storage: {s3: {bucket: abc}}")));
            assert_eq!((forever, reason), (true, "InvalidSpec"), "{spec}: {message}");
            assert!(message.contains(field), "{field} in {message}");
        }
    }

    #[test]
    fn a_fresh_server_gets_a_name_that_a_service_can_have() {
        for name in ["Rescue", "1st", "a.b", &"a".repeat(51)] {
            let mut request = request(REST);
            request.metadata.name = Some(name.to_owned());
            let refusal = check(&request, None, Some(&policy("storage: {s3: {bucket: abc}}"))).unwrap_err();
            assert!(refusal.forever && refusal.message.contains("metadata.name"), "{name}: {}", refusal.message);
        }
    }

    #[test]
    fn it_waits_for_its_policy_unless_it_was_planned_already_or_names_the_archive_itself() {
        let s3 = policy("storage: {s3: {bucket: abc}}");
        let archive = check(&request(REST), None, Some(&s3)).unwrap().archive;
        assert_eq!((archive.name.as_str(), &archive.storage), ("orders", &s3.spec.storage));
        assert_eq!(refused(REST, None).1, "PolicyMissing");
        assert!(!refused(REST, None).0);
        let folder = policy("storage: {fs: {path: /archive}}");
        assert_eq!((refused(REST, Some(&folder)).0, refused(REST, Some(&folder)).1), (false, "PolicyInvalid"));
        let encrypted = policy(
            "storage: {s3: {bucket: abc}}, encryption: {recipients: [age13pej588wz8rlqc835hykw8qpfkutjekppg6wlc9tmhvt464w8cvsejfqqt]}",
        );
        let opened = format!("decryption: {{identitySecretRef: {{name: i}}}}, {REST}");
        let decryption = check(&request(&opened), None, Some(&encrypted)).unwrap().decryption.unwrap();
        assert_eq!(decryption.identity_secret_ref.name, "i");
        // The policy is gone, or another one: what was planned stays.
        for policy in [None, Some(&folder)] {
            assert_eq!(check(&request(REST), Some(&archive), policy).unwrap().archive, archive);
        }
        let own = REST.replace("policyRef: {name: orders}", "storage: {s3: {bucket: own}}");
        assert_eq!(check(&request(&own), None, None).unwrap().archive.name, "rescue");
    }
}
