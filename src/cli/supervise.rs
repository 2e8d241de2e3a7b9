//! A stream that outlives its failures: begun again with growing pauses, and at once when what it was configured by has changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::args::PolicyArgs;
use super::config::{self, Policy};
use super::manifests::{self, ManifestError};
use super::verbs::stream;
use super::{copies, exit, reason};
use crate::api::report::PodError;
use crate::binlog::{self, StreamReading, StreamStatus};
use crate::copies::Copied;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A stream that lasted this long was healthy: the next pause is the first again.
const HEALTHY: Duration = Duration::from_secs(120);
/// How often manifests and Secrets are looked at for changes while something fails.
const LOOK: Duration = Duration::from_secs(2);

/// Where a stream's policy comes from.
#[derive(Debug)]
pub enum Supply {
    /// The manifests were read once.
    Fixed(Arc<Policy>),
    /// Manifests and Secrets are read anew before each attempt, so that credentials may be rotated while the process runs.
    Files(PolicyArgs),
}

impl Supply {
    /// The policy, as it is written now.
    pub fn policy(&self) -> Result<Arc<Policy>, ManifestError> {
        match self {
            Self::Fixed(policy) => Ok(Arc::clone(policy)),
            Self::Files(args) => config::one_policy(args).map(Arc::new),
        }
    }

    fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::Fixed(_) => None,
            Self::Files(args) => manifests::fingerprint(&args.manifests),
        }
    }

    /// Waits until there is something else to read than what had the fingerprint `known`.
    async fn changed(&self, known: Option<u64>) {
        if let Self::Fixed(_) = self {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.fingerprint();
            if now.is_some() && now != known {
                return;
            }
        }
    }
}

/// What a stream says of itself over all its attempts; clones share it.
#[derive(Clone, Debug, Default)]
pub struct StreamWatch {
    /// The engine's part.
    pub status: StreamStatus,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    policy: Option<Arc<Policy>>,
    source: Option<String>,
    failure: Option<PodError>,
    failures: BTreeMap<&'static str, u64>,
    copies: BTreeMap<String, CopyReading>,
}

/// How a copy is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyReading {
    /// Everything that the first store held at this moment is in it; none before the first round.
    pub as_of: Option<Timestamp>,
    /// Bytes copied since the start.
    pub bytes: u64,
    /// Why it is not filled at the moment.
    pub error: Option<PodError>,
}

impl StreamWatch {
    /// The policy that is streamed, once it could be read.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.shared().policy.clone()
    }

    /// HOST:PORT of the server that is read.
    pub fn source(&self) -> Option<String> {
        self.shared().source.clone()
    }

    /// Errors met since the start, by a word for what they are about: the engine's, and those before it could begin.
    pub fn errors(&self, reading: &StreamReading) -> BTreeMap<&'static str, u64> {
        let mut errors = reading.errors.clone();
        for (code, count) in &self.shared().failures {
            *errors.entry(code).or_default() += count;
        }
        errors
    }

    /// Why it does not work at the moment; none when it does, or has only just begun.
    pub fn error(&self, reading: &StreamReading) -> Option<PodError> {
        if reading.connected && !reading.store_failing {
            return None;
        }
        let met = reading.last_error.as_deref().map(reason::stream_error);
        met.or_else(|| self.shared().failure.clone())
    }

    /// Notes which server is read.
    pub fn reads(&self, source: String) {
        self.shared().source = Some(source);
    }

    /// Notes that the stream works: what failed before has passed.
    pub fn works(&self) {
        self.shared().failure = None;
    }

    /// The copies, by name.
    pub fn copies(&self) -> BTreeMap<String, CopyReading> {
        self.shared().copies.clone()
    }

    /// Notes that a copy was brought up to the first store.
    pub fn copied(&self, name: &str, copied: &Copied) {
        let mut shared = self.shared();
        let copy = shared.copies.entry(name.to_owned()).or_default();
        copy.as_of = Some(copied.as_of);
        copy.bytes += copied.bytes;
        copy.error = None;
    }

    /// Notes that one could not be.
    pub fn copy_failed(&self, name: &str, error: &anyhow::Error) {
        self.shared().copies.entry(name.to_owned()).or_default().error = Some(reason::pod_error(error));
    }

    fn failed(&self, error: &anyhow::Error) {
        let mut shared = self.shared();
        // The engine counts its own.
        if !error.chain().any(|cause| cause.is::<binlog::Error>()) {
            *shared.failures.entry(reason::of(error).reason.code()).or_default() += 1;
        }
        shared.failure = Some(reason::pod_error(error));
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an attempt ended that did not fail.
enum Ended {
    /// As it was told to.
    Stopped,
    /// There are other manifests to begin again with.
    Changed,
}

/// Streams, and fills copies, until `shutdown`, whatever fails on the way.
pub async fn supervise(supply: Supply, trace_id: &str, shutdown: CancellationToken, watch: StreamWatch) {
    let supply = Arc::new(supply);
    let copies = copies::keep(supply.clone(), shutdown.clone(), watch.clone());
    tokio::join!(stream_on(&supply, trace_id, shutdown, watch), copies);
}

async fn stream_on(supply: &Supply, trace_id: &str, shutdown: CancellationToken, watch: StreamWatch) {
    let mut pause = FIRST_PAUSE;
    while !shutdown.is_cancelled() {
        let begun = Instant::now();
        let known = supply.fingerprint();
        let error = match attempt(supply, known, trace_id, &shutdown, &watch).await {
            Ok(Ended::Stopped) => return,
            Ok(Ended::Changed) => {
                pause = FIRST_PAUSE;
                continue;
            }
            Err(error) => error,
        };
        if begun.elapsed() > HEALTHY {
            pause = FIRST_PAUSE;
        }
        watch.failed(&error);
        let policy = watch.policy().map(|policy| policy.name.clone());
        let seconds = pause.as_secs();
        tracing::error!(policy, error = exit::text(&error), "the stream failed; again in {seconds} s");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = supply.changed(known) => pause = FIRST_PAUSE,
        }
    }
}

async fn attempt(
    supply: &Supply,
    known: Option<u64>,
    trace_id: &str,
    shutdown: &CancellationToken,
    watch: &StreamWatch,
) -> anyhow::Result<Ended> {
    let policy = supply.policy()?;
    stream::check_enabled(&policy)?;
    watch.shared().policy = Some(Arc::clone(&policy));
    let cancel = shutdown.child_token();
    let streaming = stream::stream(&policy, trace_id, cancel.clone(), watch);
    tokio::pin!(streaming);
    tokio::select! {
        done = &mut streaming => return done.map(|()| Ended::Stopped),
        () = outdated(supply, known, watch) => {}
    }
    tracing::info!(policy = policy.name, "the manifests or their Secrets have changed: beginning again with them");
    cancel.cancel();
    streaming.await?;
    Ok(Ended::Changed)
}

/// Waits until the stream fails and there is something new to try. One that works is left alone: what it uses is still good.
async fn outdated(supply: &Supply, known: Option<u64>, watch: &StreamWatch) {
    loop {
        supply.changed(known).await;
        let reading = watch.status.read();
        if !reading.connected || reading.store_failing {
            return;
        }
    }
}
