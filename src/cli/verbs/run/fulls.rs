//! Takes fulls when they are due.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::due::{Due, due};
use crate::api::ConcurrencyPolicy;
use crate::archive::ArchiveError;
use crate::archive::catalog::Catalog;
use crate::cli::config::Policy;
use crate::cli::verbs::backup;
use crate::cli::{engine, exit, logging};
use crate::model::Progress;

/// The clock is looked at this often at least: it may be set while a long sleep lasts.
const LOOK: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The fulls of one policy.
struct Keeper {
    policy: Arc<Policy>,
    shutdown: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
    /// Stops the fulls that are under way.
    stop: CancellationToken,
    /// When the newest full began: from the archive, then from what this process began.
    last: Option<Timestamp>,
    /// What `last` was before a full that is under way, to go back to if it fails.
    before: Option<Timestamp>,
    pause: Duration,
    not_before: Timestamp,
}

/// Takes a policy's fulls by schedule, and one whenever `gap` says that the log has a hole, until `shutdown`.
pub async fn keep(policy: Arc<Policy>, shutdown: CancellationToken, gap: Arc<Notify>) {
    let started = Timestamp::now();
    let mut keeper = Keeper {
        stop: shutdown.child_token(),
        policy,
        shutdown: shutdown.clone(),
        running: JoinSet::new(),
        last: None,
        before: None,
        pause: FIRST_PAUSE,
        not_before: started,
    };
    if !keeper.find_newest().await {
        return;
    }
    let mut gap_open = false;
    loop {
        let now = Timestamp::now();
        let next = match due(keeper.policy.schedule.as_ref(), keeper.last, started, now) {
            _ if gap_open => Due::Now("the binary log has a gap"),
            next => next,
        };
        let sleep = match next {
            Due::Now(reason) if now >= keeper.not_before && keeper.may_start().await => {
                gap_open = false;
                keeper.start(reason, now);
                Duration::ZERO
            }
            Due::Now(_) => Duration::from_secs(1),
            Due::At(moment) => Duration::try_from(moment.duration_since(now)).unwrap_or_default().min(LOOK),
            Due::Never => LOOK,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(sleep) => {}
            () = gap.notified() => gap_open = true,
            Some(ended) = keeper.running.join_next() => keeper.ended(ended.unwrap_or_else(|error| Err(error.into()))),
        }
    }
    while keeper.running.join_next().await.is_some() {}
}

impl Keeper {
    /// Learns when the newest full began. False: told to stop before the archive could be read.
    async fn find_newest(&mut self) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.newest().await {
                Ok(newest) => {
                    self.last = newest;
                    return true;
                }
                Err(error) => {
                    let seconds = pause.as_secs();
                    let error = exit::text(&error);
                    tracing::error!(policy = self.policy.name, error, "cannot read the archive; again in {seconds} s");
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn newest(&self) -> anyhow::Result<Option<Timestamp>> {
        let store = engine::store(&self.policy.store)?;
        match Catalog::load(&store).await {
            Ok(catalog) => Ok(catalog.fulls.iter().map(|full| full.started_at).max()),
            Err(ArchiveError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a full may begin beside those under way.
    async fn may_start(&mut self) -> bool {
        if self.running.is_empty() {
            return true;
        }
        match self.policy.schedule.as_ref().map(|schedule| schedule.concurrency).unwrap_or_default() {
            ConcurrencyPolicy::Allow => true,
            ConcurrencyPolicy::Forbid => false,
            ConcurrencyPolicy::Replace => {
                tracing::warn!(policy = self.policy.name, "a new full is due: stopping the one under way");
                self.stop.cancel();
                while self.running.join_next().await.is_some() {}
                self.stop = self.shutdown.child_token();
                true
            }
        }
    }

    fn start(&mut self, reason: &'static str, now: Timestamp) {
        let trace_id = logging::trace_id();
        let span = tracing::info_span!("full", trace_id, policy = self.policy.name);
        tracing::info!(parent: &span, reason, "taking a full");
        let (policy, stop) = (Arc::clone(&self.policy), self.stop.clone());
        let full = async move { backup::take(&policy, None, &trace_id, stop, Progress::default()).await.map(drop) };
        self.running.spawn(full.instrument(span));
        self.before = self.last;
        self.last = Some(now);
    }

    fn ended(&mut self, done: anyhow::Result<()>) {
        match done {
            Ok(()) => self.pause = FIRST_PAUSE,
            Err(error) => {
                let seconds = self.pause.as_secs();
                let error = exit::text(&error);
                tracing::error!(policy = self.policy.name, error, "the full failed; again in {seconds} s");
                self.last = self.before;
                self.not_before = Timestamp::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
