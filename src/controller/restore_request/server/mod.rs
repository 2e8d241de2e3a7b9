//! A fresh server: shut while it is restored, then open. Pure.
//!
//! ```text
//! /var/lib/mysql          the claim
//!   request               whose it is
//!   data/                 the data directory, whole once it has this name
//!   tmp/
//!   restored.json         how the restore ended well
//! ```

mod login;
mod pod;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, Secret, Service, ServicePort,
    ServiceSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

pub use login::Passwords;

use super::build::config_map;
use super::manifests;
use super::names::{self, RESTORE, SERVER, labels};
use super::validate::Validated;
use crate::api::{IntoSpec, IntoStorageSpec, RestoreRequest};
use crate::controller::Error;
use crate::controller::names::{OPEN, child_of};

/// The server's port.
const PORT: i32 = 3306;

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Flavor {
    fn word(self) -> &'static str {
        match self {
            Flavor::Mysql => "mysql",
            Flavor::Mariadb => "mariadb",
        }
    }
}

/// Everything a fresh server needs.
pub struct FreshServer {
    /// What the restore reads.
    pub config_map: ConfigMap,
    /// The restore's login at it.
    pub login: Secret,
    /// The server, with its disk.
    pub stateful_set: StatefulSet,
    /// The way to it; the StatefulSet's.
    pub service: Service,
    /// Its user's login at it; the StatefulSet's.
    pub root: Secret,
}

/// The flavor that the plan found.
pub fn flavor(request: &RestoreRequest) -> Flavor {
    let plan = request.status.as_ref().and_then(|status| status.plan.as_ref());
    match plan.and_then(|plan| plan.flavor.as_deref()) {
        Some("mariadb") => Flavor::Mariadb,
        _ => Flavor::Mysql,
    }
}

/// Name of the Service.
pub fn service_name(validated: &Validated, into: &IntoSpec) -> String {
    into.service.clone().unwrap_or_else(|| validated.name.clone())
}

/// Whether its pods are to be open.
pub fn is_open(stateful_set: &StatefulSet) -> bool {
    let labels = stateful_set.spec.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    labels.is_some_and(|labels| labels.contains_key(OPEN))
}

/// The pod of an open server.
pub fn open(validated: &Validated, into: &IntoSpec, flavor: Flavor) -> PodTemplateSpec {
    pod::open(validated, into, flavor)
}

/// The owner of what goes with the server.
pub fn owner(stateful_set: &StatefulSet) -> Option<Vec<OwnerReference>> {
    Some(vec![stateful_set.owner_ref(&())?])
}

/// Builds it, shut.
pub fn build(
    request: &RestoreRequest,
    validated: &Validated,
    into: &IntoSpec,
    flavor: Flavor,
    image: &str,
    passwords: &Passwords,
) -> Result<FreshServer, Error> {
    let labels = labels(SERVER, &validated.name, &validated.uid);
    let config_map =
        config_map(request, validated, RESTORE, names::restore(&validated.name), manifests::restore(validated)?);
    let service = service(request, validated, into);
    let host = format!("{}.{}.svc", service.name_any(), request.namespace().unwrap_or_default());
    // Not the request's but the server's: what the StatefulSet owns stays with it.
    let with_server = |name: String| ObjectMeta {
        name: Some(name),
        namespace: request.namespace(),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    let login = child_of(request, names::restore(&validated.name), labels.clone());
    let stateful_set = StatefulSet {
        metadata: child_of(request, validated.name.clone(), labels.clone()),
        spec: StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(service.name_any()),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() },
            // The default waits for a pod to be ready before it replaces it: one whose restore has ended never is again.
            pod_management_policy: Some("Parallel".to_owned()),
            // A restore that is given up leaves nothing behind.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Delete".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            template: pod::shut(validated, into, flavor, image, &config_map),
            volume_claim_templates: Some(vec![claim(&into.storage)]),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    };
    Ok(FreshServer {
        config_map,
        login: passwords.login(login, flavor),
        stateful_set,
        service,
        root: passwords.root(with_server(names::root(&validated.name)), &host),
    })
}

fn claim(storage: &IntoStorageSpec) -> PersistentVolumeClaim {
    let IntoStorageSpec { size, storage_class_name, labels } = storage;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(pod::DATA.to_owned()),
            labels: (!labels.is_empty()).then(|| labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.to_string()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

fn service(request: &RestoreRequest, validated: &Validated, into: &IntoSpec) -> Service {
    let labels = labels(SERVER, &validated.name, &validated.uid);
    let mut selector = labels.clone();
    selector.insert(OPEN.to_owned(), "true".to_owned());
    Service {
        metadata: ObjectMeta {
            name: Some(service_name(validated, into)),
            namespace: request.namespace(),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("mysql".to_owned()),
                port: PORT,
                target_port: Some(IntOrString::Int(PORT)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

#[cfg(test)]
mod tests;
