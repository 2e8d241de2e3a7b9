//! One operator works at a time: it holds a Lease (coordination.k8s.io) and renews it; the others wait for it to lapse.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use snafu::ResultExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::error::{ApiSnafu, text};

/// Name of the Lease.
pub const LEASE: &str = "tidemark-operator";
/// How long a holder that died keeps others waiting.
const LASTS: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);

/// The lease of one operator.
pub struct Leadership {
    api: Api<Lease>,
    /// Who we are: the pod's name.
    holder: String,
}

/// What a look at the lease tells us to do. Pure.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Move {
    /// Nobody holds it, or we do, or who did has not renewed it for too long.
    Take,
    /// Look again later.
    Wait,
}

/// What somebody else's lease looked like, and since when by *our* clock: clocks of two nodes need not agree.
#[derive(Clone, Debug)]
struct Seen {
    renewed: Option<Timestamp>,
    transitions: Option<i32>,
    since: Instant,
}

impl Leadership {
    /// For an operator called `holder`, in `namespace`.
    pub fn new(client: Client, namespace: &str, holder: String) -> Self {
        Self { api: Api::namespaced(client, namespace), holder }
    }

    /// Waits until the lease is ours. None: told to stop.
    pub async fn acquire(&self, shutdown: &CancellationToken) -> Option<()> {
        let mut seen: Option<Seen> = None;
        let mut told = false;
        loop {
            match self.look(&mut seen).await {
                Ok(true) => return Some(()),
                Ok(false) if !told => {
                    told = true;
                    tracing::info!(lease = LEASE, "another operator leads; standing by");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(error = text(&error), "cannot take the lease; trying again"),
            }
            shutdown.run_until_cancelled(sleep(RETRY)).await?;
        }
    }

    /// Renews the lease until `shutdown`, then gives it up. An error: it was lost, and whoever leads now must not be disturbed.
    pub async fn keep(&self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut renewed = Instant::now();
        while shutdown.run_until_cancelled(sleep(RENEW)).await.is_some() {
            match self.look(&mut None).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return Err(Error::LostLease { lease: LEASE.to_owned() }),
                // Before it lapses there is time to try again; afterwards somebody else may hold it.
                Err(error) if renewed.elapsed() + RENEW < LASTS => {
                    tracing::warn!(error = text(&error), "cannot renew the lease; trying again");
                }
                Err(_) => return Err(Error::LostLease { lease: LEASE.to_owned() }),
            }
        }
        if let Err(error) = self.give_up().await {
            tracing::warn!(error = text(&error), "cannot give the lease up; it lapses by itself");
        }
        Ok(())
    }

    /// One look; takes or renews the lease where it may. True: it is ours.
    async fn look(&self, seen: &mut Option<Seen>) -> Result<bool, Error> {
        let doing = "read the lease";
        let Some(mut lease) = self.api.get_opt(LEASE).await.context(ApiSnafu { doing })? else {
            let meta = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata: meta, spec: Some(self.held(None)) };
            return settle(self.api.create(&PostParams::default(), &lease).await, "make the lease");
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if decide(&spec, &self.holder, seen, Instant::now()) == Move::Wait {
            return Ok(false);
        }
        // The resource version goes along: of two who take it at once, one gets a conflict.
        lease.spec = Some(self.held(Some(&spec)));
        settle(self.api.replace(LEASE, &PostParams::default(), &lease).await, "take the lease")
    }

    fn held(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.holder));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
            acquire_time: match before {
                Some(spec) if ours => spec.acquire_time.clone(),
                _ => Some(now.clone()),
            },
            renew_time: Some(now),
            lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    async fn give_up(&self) -> Result<(), Error> {
        let Some(mut lease) = self.api.get_opt(LEASE).await.context(ApiSnafu { doing: "read the lease" })? else {
            return Ok(());
        };
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.holder)) {
            spec.holder_identity = None;
            spec.renew_time = None;
            settle(self.api.replace(LEASE, &PostParams::default(), &lease).await, "give the lease up")?;
        }
        Ok(())
    }
}

fn settle(done: Result<Lease, kube::Error>, doing: &str) -> Result<bool, Error> {
    match done {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(source) => Err(Error::Api { doing: doing.to_owned(), source }),
    }
}

fn decide(spec: &LeaseSpec, us: &str, seen: &mut Option<Seen>, now: Instant) -> Move {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() || holder == us {
        return Move::Take;
    }
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    match seen {
        Some(old) if old.renewed == renewed && old.transitions == spec.lease_transitions => {
            let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let lasts = lasts.map_or(LASTS, Duration::from_secs);
            if now.duration_since(old.since) > lasts { Move::Take } else { Move::Wait }
        }
        _ => {
            *seen = Some(Seen { renewed, transitions: spec.lease_transitions, since: now });
            Move::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_once_its_holder_has_not_renewed_it_for_as_long_as_it_lasts() {
        let at = |text: &str| Some(MicroTime(text.parse().unwrap()));
        let held = |by: &str, renewed: &str| LeaseSpec {
            holder_identity: Some(by.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: at(renewed),
            ..LeaseSpec::default()
        };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut seen = None;
        assert_eq!(decide(&LeaseSpec::default(), "b", &mut seen, start), Move::Take);
        assert_eq!(decide(&held("b", "2026-11-25T00:00:00Z"), "b", &mut seen, start), Move::Take);
        // Its time stamp may be years old by our clock: what counts is that it changes.
        let old = held("a", "2020-01-01T00:00:00Z");
        assert_eq!(decide(&old, "b", &mut seen, after(0)), Move::Wait);
        assert_eq!(decide(&old, "b", &mut seen, after(14)), Move::Wait);
        assert_eq!(decide(&held("a", "2020-01-01T00:00:05Z"), "b", &mut seen, after(15)), Move::Wait);
        assert_eq!(decide(&held("a", "2020-01-01T00:00:05Z"), "b", &mut seen, after(29)), Move::Wait);
        assert_eq!(decide(&held("a", "2020-01-01T00:00:05Z"), "b", &mut seen, after(31)), Move::Take);
    }
}
