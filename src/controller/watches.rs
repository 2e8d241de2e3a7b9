//! One watch a kind, shared by all who need it: it fills a store that costs nothing to read, and wakes controllers.

use std::fmt::Debug;
use std::hash::Hash;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event as Told, EventType, Recorder};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, ReflectHandle, Store, store_shared};
use kube::runtime::watcher::Event;
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
    recorder: Recorder,
}

/// What a watch shows next.
type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

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
    pub fn new(client: Client, namespace: Option<&str>, recorder: Recorder) -> Self {
        Self { client, namespace: namespace.map(str::to_owned), recorder }
    }

    /// Every object of a kind of ours. One that cannot be read (a pod template of the wrong shape, say, which the schema lets pass) is told
    /// so by an event and left out: it must not keep the operator from all others.
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
        let guarded = watcher(self.api::<DeserializeGuard<K>>(), watcher::Config::default()).default_backoff();
        let recorder = self.recorder.clone();
        let readable = guarded.filter_map(move |event| {
            let recorder = recorder.clone();
            async move {
                match event {
                    Ok(event) => readable::<K>(event, &recorder).await.map(Ok),
                    Err(error) => Some(Err(error)),
                }
            }
        });
        begin(readable.boxed())
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
        let config = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        begin(watcher(self.api::<K>(), config).default_backoff().boxed())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

fn begin<K>(events: Events<K>) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (_, writer): (Store<K>, Writer<K>) = store_shared(BUFFER);
    let subscriber = subscribed(&writer);
    let drive = events
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
    Watched { events: subscriber, drive }
}

/// The event, if it shows an object that can be read.
async fn readable<K: Resource<DynamicType = ()>>(
    event: Event<DeserializeGuard<K>>,
    recorder: &Recorder,
) -> Option<Event<K>> {
    let (object, event): (_, fn(K) -> Event<K>) = match event {
        Event::Init => return Some(Event::Init),
        Event::InitDone => return Some(Event::InitDone),
        Event::InitApply(object) => (object, Event::InitApply),
        Event::Apply(object) => (object, Event::Apply),
        Event::Delete(object) => (object, Event::Delete),
    };
    let invalid = match object.0 {
        Ok(object) => return Some(event(object)),
        Err(invalid) => invalid,
    };
    let (kind, name) = (K::kind(&()), invalid.metadata.name.clone().unwrap_or_default());
    let namespace = invalid.metadata.namespace.clone();
    tracing::error!(%kind, namespace, name, error = invalid.error, "an object cannot be read; it is left alone until it is changed");
    let reference = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(kind.into_owned()),
        name: Some(name),
        namespace,
        uid: invalid.metadata.uid,
        ..ObjectReference::default()
    };
    let told = Told {
        type_: EventType::Warning,
        reason: "InvalidSpec".to_owned(),
        note: Some(format!("cannot be read: {}", invalid.error).chars().take(250).collect()),
        action: "Read".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&told, &reference).await {
        tracing::warn!(error = text(&error), "cannot publish an event");
    }
    None
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
