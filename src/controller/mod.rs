//! The operator: makes a cluster look as BackupPolicy, FullBackup and RestoreRequest say. Pods do the work, with this same binary; the
//! operator holds no credential of a store or a database, and losing it loses nothing but new schedules.
//!
//! Each controller is a folder whose `mod.rs` is its table of contents: dereference → validate → build → apply → status. A client is
//! held only by the first step and the last two.
//!
//! ```text
//! watches ─▶ Seen (stores) ─▶ reconcile one object ─▶ Applier ─▶ StatefulSets, Jobs, ConfigMaps, Services
//!                                     ▲ Reports: HTTP /status of pods, termination messages
//! ```

mod apply;
mod backup_policy;
mod conditions;
mod context;
mod engine_pod;
mod error;
mod figures;
mod full_backup;
mod leader;
mod metrics;
mod names;
mod prune;
mod readers;
mod reports;
mod restore_request;
mod secrets;
mod server;
mod standing;
mod storage;
mod watches;

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use snafu::ResultExt;
use tokio_util::sync::CancellationToken;

pub use error::Error;

use apply::Applier;
use context::{Context, Seen, Settings};
use error::{ApiSnafu, text};
use leader::Leadership;
use metrics::Metrics;
use watches::{Watch, Watched};

use crate::api::{BackupPolicy, FullBackup, RestoreRequest};

/// How the operator is run.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// Image of the pods it makes: its own.
    pub image: String,
    /// The one namespace it looks after; none: all of them.
    pub namespace: Option<String>,
    /// Where its own HTTP server listens.
    pub listen: SocketAddr,
    /// Namespace of its Lease: its own.
    pub lease_namespace: String,
    /// Its name as a holder of the Lease: its pod's name.
    pub identity: String,
    /// Objects of a kind that are reconciled at a time.
    pub concurrency: u16,
}

/// Works until `shutdown`, or until another operator leads.
pub async fn run(config: OperatorConfig, shutdown: CancellationToken) -> Result<(), Error> {
    let client =
        Client::try_default().await.context(ApiSnafu { doing: "find the cluster (KUBECONFIG, or a pod's account)" })?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let health = server::Health::default();
    server::serve(config.listen, health.clone(), Arc::new(registry), shutdown.clone()).await?;
    // Standing by is being ready: a rollout waits for the new pod, which waits for the old one's lease.
    health.ready.store(true, Ordering::Relaxed);
    let leadership = Leadership::new(client.clone(), &config.lease_namespace, config.identity.clone());
    if leadership.acquire(&shutdown).await.is_none() {
        return Ok(());
    }
    tracing::info!(identity = config.identity, "leading");
    // Work ends before the lease is given up.
    let work = shutdown.child_token();
    let ended = CancellationToken::new();
    let keeping = {
        let (work, ended) = (work.clone(), ended.clone());
        async move {
            let kept = leadership.keep(&ended).await;
            work.cancel();
            kept
        }
    };
    let working = async {
        let done = control(client, &config, metrics, &work).await;
        ended.cancel();
        done
    };
    let (kept, done) = tokio::join!(keeping, working);
    done.and(kept)
}

/// Watches and reconciles until `work` ends.
async fn control(
    client: Client,
    config: &OperatorConfig,
    metrics: Metrics,
    work: &CancellationToken,
) -> Result<(), Error> {
    let reporter = Reporter { controller: "tidemark".to_owned(), instance: Some(config.identity.clone()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let watch = Watch::new(client.clone(), config.namespace.as_deref(), recorder.clone());
    let mut policies: Watched<BackupPolicy> = watch.all();
    let mut full_backups: Watched<FullBackup> = watch.all();
    let mut restore_requests: Watched<RestoreRequest> = watch.all();
    let (mut stateful_sets, mut jobs, mut config_maps) = (watch.ours(), watch.ours(), watch.ours());
    let (mut services, mut pods) = (watch.ours(), watch.ours());
    let seen = Seen {
        policies: policies.store(),
        full_backups: full_backups.store(),
        restore_requests: restore_requests.store(),
        stateful_sets: stateful_sets.store(),
        jobs: jobs.store(),
        config_maps: config_maps.store(),
        services: services.store(),
        pods: pods.store(),
        gone_pods: pods.gone(),
    };
    metrics.show(policies.store());
    let settings = Settings { image: config.image.clone(), concurrency: config.concurrency };
    let context = Arc::new(Context {
        applier: Applier::new(client.clone()),
        reports: reports::Reports::new().map_err(|e| Error::Report { source: e })?,
        recorder,
        seen,
        settings,
        client,
    });
    // A restore that begins or ends holds prunes back, or lets them go on.
    let held = {
        let context = Arc::clone(&context);
        move |request: Arc<RestoreRequest>| {
            let mut policies = context.seen.policies.state();
            policies.retain(|policy| readers::may_read(&context.seen, &request, policy));
            policies.into_iter().map(|policy| ObjectRef::from_obj(&*policy)).collect::<Vec<_>>()
        }
    };
    let held_fulls = {
        let context = Arc::clone(&context);
        move |_: Arc<RestoreRequest>| {
            let mut fulls = context.seen.full_backups.state();
            fulls.retain(|full| full.metadata.deletion_timestamp.is_some());
            fulls.into_iter().map(|full| ObjectRef::from_obj(&*full)).collect::<Vec<_>>()
        }
    };
    let policy_controller = Controller::for_shared_stream(policies.events(), policies.store())
        .owns_shared_stream(stateful_sets.events())
        .owns_shared_stream(config_maps.events())
        .owns_shared_stream(jobs.events())
        .owns_shared_stream(services.events())
        .watches_shared_stream(full_backups.events(), |full| full_backup::policy_of(&full))
        .watches_shared_stream(restore_requests.events(), held)
        .watches_shared_stream(pods.events(), |pod| watches::by_label(&*pod, names::POLICY));
    let full_controller = Controller::for_shared_stream(full_backups.events(), full_backups.store())
        .owns_shared_stream(jobs.events())
        .watches_shared_stream(restore_requests.events(), held_fulls)
        .watches_shared_stream(pods.events(), |pod| watches::by_label(&*pod, names::FULL_BACKUP));
    let restore_controller = Controller::for_shared_stream(restore_requests.events(), restore_requests.store())
        .owns_shared_stream(jobs.events())
        .owns_shared_stream(stateful_sets.events())
        .owns_shared_stream(services.events())
        .watches_shared_stream(pods.events(), |pod| watches::by_label(&*pod, names::RESTORE_REQUEST));
    let watching = futures::future::select_all([
        policies.drive(),
        full_backups.drive(),
        restore_requests.drive(),
        stateful_sets.drive(),
        jobs.drive(),
        config_maps.drive(),
        services.drive(),
        pods.drive(),
    ]);
    let controllers = async {
        // What is not listed yet must not look as if it were not there.
        let Some(listed) = work.run_until_cancelled(context.seen.complete()).await else { return Ok(()) };
        listed?;
        tokio::join!(
            reconcile(policy_controller, backup_policy::reconcile, &context, &metrics, work),
            reconcile(full_controller, full_backup::reconcile, &context, &metrics, work),
            reconcile(restore_controller, restore_request::reconcile, &context, &metrics, work),
        );
        Ok(())
    };
    tokio::select! {
        done = controllers => done,
        _ = watching => Err(Error::WatchEnded),
    }
}

/// Runs one controller until `work` ends; what is under way is finished.
async fn reconcile<K, F, R>(
    controller: Controller<K>,
    look: F,
    context: &Arc<Context>,
    metrics: &Metrics,
    work: &CancellationToken,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + Unpin
        + 'static,
    K::DynamicType: Eq + Hash,
    F: Fn(Arc<K>, Arc<Context>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let look = Arc::new(look);
    let metrics = metrics.clone();
    let once = move |object: Arc<K>, context: Arc<Context>| {
        let (look, metrics) = (Arc::clone(&look), metrics.clone());
        async move {
            let begun = Instant::now();
            let done = look(object, context).await;
            metrics.looked(&K::kind(&()), begun.elapsed(), done.is_err());
            done
        }
    };
    let failed = |object: Arc<K>, error: &Error, _: Arc<Context>| {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let kind = K::kind(&());
        if error.is_conflict() {
            tracing::debug!(%kind, namespace, name, error = text(error), "changed meanwhile; looking again");
            return Action::requeue(std::time::Duration::from_secs(1));
        }
        tracing::error!(%kind, namespace, name, error = text(error), "cannot reconcile; trying again");
        Action::requeue(context::RETRY)
    };
    let work = work.clone();
    controller
        .with_config(Config::default().concurrency(context.settings.concurrency))
        .graceful_shutdown_on(async move { work.cancelled().await })
        .run(once, failed, Arc::clone(context))
        .for_each(|_| std::future::ready(()))
        .await;
}
