//! Server-side apply, without a request where nothing changed: an operator at rest asks the API server for nothing.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snafu::ResultExt;

use super::Error;
use super::error::{ApiSnafu, DescribeSnafu};

/// Field manager of everything the operator applies.
pub const MANAGER: &str = "tidemark";

/// Applies objects, and remembers what it applied.
pub struct Applier {
    client: Client,
    applied: Mutex<HashMap<String, Applied>>,
    statuses: Mutex<HashMap<String, Written>>,
}

/// The last status that was written of an object.
#[derive(Clone, Debug)]
struct Written {
    /// Figures that never rest are written now and then.
    at: Timestamp,
    /// From which version of the object, and what: as long as the watch still shows that version, it is late.
    from: Option<String>,
    hash: u64,
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What was applied, and what the API server made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    hash: u64,
    version: Version,
}

/// Tells whether somebody changed an object since: the generation where it has one (a status does not raise it), else the resource version.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    Generation(i64),
    Resource(String),
}

fn version<K: Resource>(object: &K) -> Option<Version> {
    let meta = object.meta();
    match meta.generation {
        Some(generation) => Some(Version::Generation(generation)),
        None => meta.resource_version.clone().map(Version::Resource),
    }
}

impl Applier {
    /// Applies through `client`.
    pub fn new(client: Client) -> Self {
        Self { client, applied: Mutex::default(), statuses: Mutex::default() }
    }

    /// Makes `object` what it says, unless that is what `seen` (the object as the watch shows it) is already. What somebody else
    /// wrote into a field of ours is written over; one operator leads.
    pub async fn apply<K>(&self, object: &K, seen: Option<&K>) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
    {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let what = format!("{} {namespace}/{name}", K::kind(&()));
        let text = serde_json::to_string(object).context(DescribeSnafu { what: &what })?;
        let hash = hash_of(&text);
        let known = self.applied().get(&what).cloned();
        if let (Some(known), Some(seen)) = (known, seen)
            && known.hash == hash
            && version(seen).is_some_and(|version| version == known.version)
        {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let parameters = PatchParams::apply(MANAGER).force();
        let made = api.patch(&name, &parameters, &Patch::Apply(object)).await;
        let made = made.context(ApiSnafu { doing: format!("apply {what}") })?;
        if let Some(version) = version(&made) {
            self.applied().insert(what, Applied { hash, version });
        }
        Ok(())
    }

    /// Writes an object's status (its whole `status` field). Whether it was written: not again while the watch has not shown the last time yet.
    pub async fn status<K, S>(&self, object: &K, status: &S) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        S: Serialize,
    {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let patch = serde_json::json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        });
        let what = format!("{} {namespace}/{name}", K::kind(&()));
        let (from, hash) = (object.resource_version(), hash_of(&patch.to_string()));
        if self.statuses().get(&what).is_some_and(|last| last.from == from && last.hash == hash) {
            return Ok(false);
        }
        let parameters = PatchParams::apply(MANAGER).force();
        let written = api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await;
        written.with_context(|_| ApiSnafu { doing: format!("write the status of {what}") })?;
        self.statuses().insert(what, Written { at: Timestamp::now(), from, hash });
        Ok(true)
    }

    /// How long ago this process last wrote the object's status; none: never, or the clock was set back since.
    pub fn status_age<K>(&self, object: &K, now: Timestamp) -> Option<Duration>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any());
        let written = self.statuses().get(&what)?.at;
        Duration::try_from(now.duration_since(written)).ok()
    }

    /// Deletes an object that is no longer wanted; one that is gone already is fine. What it owns goes after it.
    pub async fn delete<K>(&self, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        // Not another one that has the name by now.
        let preconditions = Preconditions { uid: object.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let deleted = api.delete(&name, &parameters).await;
        self.forget(&K::kind(&()), &namespace, &name);
        match deleted {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error).context(ApiSnafu { doing: format!("delete {} {namespace}/{name}", K::kind(&())) }),
        }
    }

    /// Lets a Job make no further pod: what failed will fail again until somebody changes something. Its log stays.
    pub async fn stop_retrying(&self, job: &Job) -> Result<(), Error> {
        if job.spec.as_ref().and_then(|spec| spec.backoff_limit) == Some(0) {
            return Ok(());
        }
        let (namespace, name) = (job.namespace().unwrap_or_default(), job.name_any());
        let api: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
        let patch = Patch::Merge(serde_json::json!({"metadata": {"uid": job.uid()}, "spec": {"backoffLimit": 0}}));
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            patched => patched.map(drop).context(ApiSnafu { doing: format!("stop Job {namespace}/{name}") }),
        }
    }

    /// Changes an annotation of a pod, if it is still there.
    pub async fn annotate(&self, pod: &Pod, key: &str, value: &str) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let metadata = serde_json::json!({"uid": pod.uid(), "annotations": {key: value}});
        let patch = Patch::Merge(serde_json::json!({ "metadata": metadata }));
        match api.patch_metadata(&name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            patched => patched.map(drop).context(ApiSnafu { doing: format!("annotate Pod {namespace}/{name}") }),
        }
    }

    /// Sets an object's finalizers, if it is still as it was seen; one that is gone is fine.
    pub async fn finalizers<K>(&self, object: &K, finalizers: &[String]) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let metadata = serde_json::json!({
            "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": finalizers,
        });
        let patch = Patch::Merge(serde_json::json!({ "metadata": metadata }));
        match api.patch(&name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            patched => {
                let doing = format!("set the finalizers of {} {namespace}/{name}", K::kind(&()));
                patched.map(drop).context(ApiSnafu { doing })
            }
        }
    }

    /// Creates an object unless one of that name is there. Whether it was created.
    pub async fn create<K>(&self, object: &K) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + Debug,
    {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&parameters, object).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(error).context(ApiSnafu { doing: format!("create {} {namespace}/{name}", K::kind(&())) }),
        }
    }

    /// Forgets what was applied for an object that is gone.
    pub fn forget(&self, kind: &str, namespace: &str, name: &str) {
        let what = format!("{kind} {namespace}/{name}");
        self.applied().remove(&what);
        self.statuses().remove(&what);
    }

    fn statuses(&self) -> std::sync::MutexGuard<'_, HashMap<String, Written>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied(&self) -> std::sync::MutexGuard<'_, HashMap<String, Applied>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A status, parts of which move all the time.
pub trait Status: PartialEq + Sized {
    /// Those alone are written this often at most.
    const WRITE_INTERVAL: Duration;

    /// The status without them.
    fn material(&self) -> Self;
}

/// Whether a status should be written: at once when something happened, now and then when only figures moved. `age` is that of what is
/// written ([`Applier::status_age`]).
pub fn worth_writing<S: Status>(old: &S, new: &S, age: Option<Duration>) -> bool {
    old.material() != new.material() || (old != new && age.is_none_or(|age| age >= S::WRITE_INTERVAL))
}
