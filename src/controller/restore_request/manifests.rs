//! The documents that a request's pods read. Pure.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use snafu::ResultExt;

use super::names;
use super::validate::{Archive, Into, Validated};
use crate::api::{
    BackupPolicy, BackupPolicySpec, BinlogSpec, CompressionSpec, FlavorChoice, IntoExistingSpec, Method, ObjectRef,
    RestoreRequest, RestoreRequestSpec, SourceSpec, TlsMode, TlsSpec,
};
use crate::controller::Error;
use crate::controller::engine_pod::MANIFEST;
use crate::controller::error::ManifestSnafu;

/// What the Job that plans reads: the archive as a policy.
pub fn plan(validated: &Validated) -> Result<String, Error> {
    let Archive { name, storage, job_template } = &validated.archive;
    // The source is not asked, and may be gone.
    let nobody = || "nobody".to_owned();
    let document = BackupPolicy {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: BackupPolicySpec {
            source: SourceSpec {
                flavor: FlavorChoice::Auto,
                host: Some(nobody()),
                hosts: None,
                service_ref: None,
                selector: None,
                port: 3306,
                credentials_secret_ref: ObjectRef { name: nobody() },
                tls: TlsSpec::default(),
                prefer_replica: false,
            },
            schedule: None,
            method: Method::Logical,
            binlog: BinlogSpec::default(),
            storage: storage.clone(),
            // It writes nothing but its lease.
            immutability: None,
            copies: Vec::new(),
            retention: None,
            // It writes nothing.
            encryption: None,
            limits: None,
            compression: CompressionSpec::default(),
            drill: None,
            verify: None,
            job_template: job_template.clone(),
            pod_template: None,
        },
        status: None,
    };
    yaml(&document, name)
}

/// The archive in what [`plan`] wrote: the policy may have changed since, or be gone.
pub fn archive(config_map: &ConfigMap) -> Option<Archive> {
    let text = config_map.data.as_ref()?.get(MANIFEST)?;
    let policy = BackupPolicy::deserialize(serde_yaml::Deserializer::from_str(text)).ok()?;
    let (storage, job_template) = (policy.spec.storage, policy.spec.job_template);
    Some(Archive { name: policy.metadata.name?, storage, job_template })
}

/// What the pod that restores reads: the request, with the archive and the server in words that need no cluster.
pub fn restore(validated: &Validated) -> Result<String, Error> {
    let Validated { name, uid: _, archive, as_of, target, decryption, into, dry_run: _ } = validated;
    let into = match into {
        Into::Existing(into) => IntoExistingSpec::clone(into),
        Into::Fresh(_) => IntoExistingSpec {
            host: "127.0.0.1".to_owned(),
            port: 3306,
            credentials_secret_ref: ObjectRef { name: names::restore(name) },
            // Loopback, within one pod.
            tls: TlsSpec { mode: TlsMode::Disabled, ca_secret_ref: None },
            serve_listen: None,
            serve_advertise: None,
        },
    };
    let document = RestoreRequest {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: RestoreRequestSpec {
            policy_ref: None,
            storage: Some(archive.storage.clone()),
            as_of: as_of.clone(),
            target: target.clone(),
            tables: Vec::new(),
            databases: Vec::new(),
            into: None,
            into_existing: Some(into),
            decryption: decryption.clone(),
            checks: None,
            dry_run: false,
        },
        status: None,
    };
    yaml(&document, name)
}

fn yaml<T: Serialize>(document: &T, name: &str) -> Result<String, Error> {
    serde_yaml::to_string(document).context(ManifestSnafu { policy: name })
}
