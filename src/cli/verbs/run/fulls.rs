//! Takes fulls when they are due.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::api::ConcurrencyPolicy;
use crate::archive::ArchiveError;
use crate::archive::catalog::Catalog;
use crate::archive::timeline::{Chain, ChainEnd, Gap, Timeline};
use crate::cli::config::Policy;
use crate::cli::verbs::{backup, prune};
use crate::cli::{engine, exit};
use crate::model::Progress;
use crate::schedule::{Due, due};

/// The clock is looked at this often at least: it may be set while a long sleep lasts.
const LOOK: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The fulls of one policy.
struct Keeper {
    policy: Arc<Policy>,
    trace_id: String,
    shutdown: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
    /// Stops the fulls that are under way.
    stop: CancellationToken,
    /// When the newest full began: from the archive, then from what this process began.
    last: Option<Timestamp>,
    /// Whether the log has a gap that no full stands behind.
    gap: bool,
    /// Whether the full under way was begun because of one: the reason lasts if it fails.
    for_gap: bool,
    /// What `last` was before a full that is under way, to go back to if it fails.
    before: Option<Timestamp>,
    pause: Duration,
    not_before: Timestamp,
}

/// Takes a policy's fulls by schedule, and one whenever `gap` says that the log has a hole, until `shutdown`.
pub async fn keep(policy: Arc<Policy>, trace_id: String, shutdown: CancellationToken, gap: Arc<Notify>) {
    let started = Timestamp::now();
    let mut keeper = Keeper {
        stop: shutdown.child_token(),
        policy,
        trace_id,
        shutdown: shutdown.clone(),
        running: JoinSet::new(),
        last: None,
        gap: false,
        for_gap: false,
        before: None,
        pause: FIRST_PAUSE,
        not_before: started,
    };
    if !keeper.find_newest().await {
        return;
    }
    loop {
        let now = Timestamp::now();
        let next = match due(keeper.policy.schedule.as_ref(), keeper.last, started, now) {
            _ if keeper.gap => Due::Now("the binary log has a gap"),
            next => next,
        };
        let sleep = match next {
            Due::Now(reason) if now >= keeper.not_before && keeper.may_start().await => {
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
            () = gap.notified() => keeper.gap = true,
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
                Ok((newest, gap)) => {
                    (self.last, self.gap) = (newest, gap);
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

    /// When the newest full began, and whether the log has a gap that no full stands behind.
    async fn newest(&self) -> anyhow::Result<(Option<Timestamp>, bool)> {
        let store = engine::store(&self.policy.store)?;
        match Catalog::load_folded(&store).await {
            Ok(catalog) => {
                let timeline = Timeline::new(catalog.info.flavor, &catalog.fulls, &catalog.files);
                let gap = |chain: &Chain| matches!(&chain.end, ChainEnd::Gap(Gap { before: Some(_), .. }));
                let gap = !timeline.chains.is_empty() && timeline.chains.iter().all(gap);
                Ok((catalog.fulls.iter().map(|full| full.started_at).max(), gap))
            }
            Err(ArchiveError::Missing { .. }) => Ok((None, false)),
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
        let span = tracing::info_span!("full", policy = self.policy.name);
        tracing::info!(parent: &span, reason, "taking a full");
        let (policy, trace_id, stop) = (Arc::clone(&self.policy), self.trace_id.clone(), self.stop.clone());
        let full = async move {
            backup::take(&policy, None, &trace_id, stop.clone(), Progress::default()).await?;
            // The full is taken, whatever becomes of the old ones.
            if let Err(error) = prune::by_rules(&policy.name, &policy.store, &policy.retention, &stop).await {
                tracing::error!(error = exit::text(&error), "cannot prune the archive; again after the next full");
            }
            Ok(())
        };
        self.running.spawn(full.instrument(span));
        self.for_gap = std::mem::take(&mut self.gap);
        self.before = self.last;
        self.last = Some(now);
    }

    fn ended(&mut self, done: anyhow::Result<()>) {
        match done {
            Ok(()) => self.pause = FIRST_PAUSE,
            Err(_) if self.shutdown.is_cancelled() => {}
            Err(error) => {
                let seconds = self.pause.as_secs();
                let error = exit::text(&error);
                tracing::error!(policy = self.policy.name, error, "the full failed; again in {seconds} s");
                self.last = self.before;
                self.gap |= self.for_gap;
                self.not_before = Timestamp::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
