//! One watch a kind, shared by all who need it: it fills a store that costs nothing to read, and wakes controllers.

use std::fmt::Debug;
use std::hash::Hash;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, ReflectHandle, Store, store_shared};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::text;
use super::names::MANAGED_BY;

/// Events that wait for the slowest controller.
const BUFFER: usize = 1024;

/// Begins watches, in one namespace or all.
pub struct Watch {
    client: Client,
    namespace: Option<String>,
}

/// One watch.
pub struct Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    events: ReflectHandle<K>,
    drive: BoxFuture<'static, ()>,
}

impl Watch {
    /// In `namespace`, or in all.
    pub fn new(client: Client, namespace: Option<&str>) -> Self {
        Self { client, namespace: namespace.map(str::to_owned) }
    }

    /// Every object of a kind of ours.
    pub fn all<K>(&self) -> Watched<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        self.begin(watcher::Config::default())
    }

    /// Those that we made, of a kind that others make too.
    pub fn ours<K>(&self) -> Watched<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        self.begin(watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)))
    }

    fn begin<K>(&self, config: watcher::Config) -> Watched<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let (_, writer): (Store<K>, Writer<K>) = store_shared(BUFFER);
        let events = subscribed(&writer);
        let drive = watcher(api, config)
            .default_backoff()
            .modify(|object| {
                // Large, and nobody reads it.
                object.managed_fields_mut().clear();
            })
            .reflect_shared(writer)
            .for_each(|event| {
                if let Err(error) = event {
                    tracing::warn!(kind = %K::kind(&()), error = text(&error), "a watch failed; beginning it anew");
                }
                std::future::ready(())
            })
            .boxed();
        Watched { events, drive }
    }
}

/// A shared writer always has room for a subscriber.
fn subscribed<K>(writer: &Writer<K>) -> ReflectHandle<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    #[expect(clippy::expect_used, reason = "store_shared makes a writer that can be subscribed to")]
    writer.subscribe().expect("a shared writer")
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// What it has shown so far.
    pub fn store(&self) -> Store<K> {
        self.events.reader()
    }

    /// Another listener.
    pub fn events(&self) -> ReflectHandle<K> {
        self.events.clone()
    }

    /// Does the watching, as long as it is polled.
    pub fn drive(self) -> BoxFuture<'static, ()> {
        self.drive
    }
}

/// The object that `child` works for, by its label. (Of a name too long for a label nothing: its requeue finds the news.)
pub fn by_label<C: ResourceExt, K: Resource<DynamicType = ()>>(child: &C, label: &str) -> Option<ObjectRef<K>> {
    let name = child.labels().get(label)?;
    Some(ObjectRef::new(name).within(&child.namespace()?))
}
