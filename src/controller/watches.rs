//! One watch a kind, shared by all who need it: it fills a store that costs nothing to read, and wakes controllers.
//!
//! (kube's own shared streams are not used: they sleep for ever once an object is gone before a listener hears of it, and tell nobody of
//! what was deleted.)

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event as Told, EventType, Recorder};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::text;
use super::names::MANAGED_BY;

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
    events: Events<K>,
    store: Store<K>,
    writer: Writer<K>,
    listeners: Vec<UnboundedSender<Arc<K>>>,
    gone: Gone<K>,
}

/// For how long what is gone is remembered: longer than any look at an object takes.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Objects as they were when they went, for a while: a pod may go as soon as its Job has counted it, while somebody still looks at what was
/// there before.
#[derive(Debug)]
pub struct Gone<K>(Arc<Mutex<Vec<Went<K>>>>);

/// An object, and when it was seen to go.
type Went<K> = (Instant, Arc<K>);

impl<K> Clone for Gone<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Gone<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Gone<K> {
    /// Notes an object as it was when it went.
    pub fn remember(&self, object: Arc<K>, now: Instant) {
        let mut gone = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|(at, _)| now.saturating_duration_since(*at) < REMEMBERED);
        gone.push((now, object));
    }

    /// Those that went within the last minute, newest first.
    pub fn state(&self, now: Instant) -> Vec<Arc<K>> {
        let gone = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = gone.iter().rev().filter(|(at, _)| now.saturating_duration_since(*at) < REMEMBERED);
        fresh.map(|(_, object)| Arc::clone(object)).collect()
    }
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
    let (store, writer) = reflector::store();
    Watched { events, store, writer, listeners: Vec::new(), gone: Gone::default() }
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

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// What it has shown so far.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// What is gone since, and was there a moment ago.
    pub fn gone(&self) -> Gone<K> {
        self.gone.clone()
    }

    /// Another listener: it hears of everything that is there, changes or goes.
    pub fn events(&mut self) -> UnboundedReceiver<Arc<K>> {
        let (sender, receiver) = mpsc::unbounded();
        self.listeners.push(sender);
        receiver
    }

    /// Does the watching, as long as it is polled.
    pub fn drive(self) -> BoxFuture<'static, ()> {
        let Self { events, store, writer, listeners, gone } = self;
        let tell = move |object: Arc<K>| {
            for listener in &listeners {
                // One that ended is told nothing.
                let _ = listener.unbounded_send(Arc::clone(&object));
            }
        };
        events
            .modify(|object| {
                // Large, and nobody reads it.
                object.managed_fields_mut().clear();
            })
            .reflect(writer)
            .for_each(move |event| {
                match event {
                    Ok(Event::Apply(object)) => tell(Arc::new(object)),
                    Ok(Event::Delete(object)) => {
                        let object = Arc::new(object);
                        gone.remember(Arc::clone(&object), Instant::now());
                        tell(object);
                    }
                    Ok(Event::InitDone) => store.state().into_iter().for_each(&tell),
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    Err(error) => {
                        tracing::warn!(kind = %K::kind(&()), error = text(&error), "a watch failed; beginning it anew");
                    }
                }
                std::future::ready(())
            })
            .boxed()
    }
}

/// The object that `child` works for, by its label. (Of a name too long for a label nothing: its requeue finds the news.)
pub fn by_label<C: ResourceExt, K: Resource<DynamicType = ()>>(child: &C, label: &str) -> Option<ObjectRef<K>> {
    let name = child.labels().get(label)?;
    Some(ObjectRef::new(name).within(&child.namespace()?))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::ObjectMeta;

    use super::*;

    #[tokio::test]
    async fn every_listener_hears_of_everything_also_of_what_is_gone_before_it_listens() {
        let pod = |name: &str| Pod {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..Pod::default()
        };
        let events = [
            Event::Init,
            Event::InitApply(pod("there")),
            Event::InitDone,
            Event::Apply(pod("short")),
            Event::Delete(pod("short")),
            Event::Apply(pod("last")),
        ];
        let mut watched = begin(futures::stream::iter(events.map(Ok)).boxed());
        let (store, gone, one, two) = (watched.store(), watched.gone(), watched.events(), watched.events());
        watched.drive().await;
        store.wait_until_ready().await.unwrap();
        assert_eq!(store.len(), 2);
        // What is gone is remembered, but not for ever.
        let names = |at| gone.state(at).iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
        assert_eq!(names(Instant::now()), ["short"]);
        assert_eq!(names(Instant::now() + REMEMBERED), Vec::<String>::new());
        for listener in [one, two] {
            let heard: Vec<String> = listener.map(|pod| pod.name_any()).collect().await;
            assert_eq!(heard, ["there", "short", "short", "last"]);
        }
    }
}
