//! Which of a policy's servers is the source: the first that takes the login and can be written to, and another one of
//! that kind once it is lost.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::config::Policy;
use super::manifests::ManifestError;
use crate::binlog::StreamStatus;
use crate::mysql::endpoint::Endpoint;
use crate::mysql::sql::{self, ServerInfo, Session};

/// A lost source may be back at once: a failover takes longer than this.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(1);

/// The first of a policy's servers that takes the login and is not read-only, and who it is; a read-only one where all that can be
/// reached are. A server of another flavor than stated is refused.
pub async fn choose(policy: &Policy) -> anyhow::Result<(Endpoint, ServerInfo)> {
    let several = policy.sources.len() > 1;
    let (mut replica, mut failed) = (None, None);
    for endpoint in &policy.sources {
        match ask(endpoint).await {
            Ok((info, read_only)) => {
                check_flavor(policy, endpoint, &info)?;
                if !several || !read_only {
                    return Ok((endpoint.clone(), info));
                }
                replica = replica.or(Some((endpoint.clone(), info)));
            }
            Err(error) => {
                if several {
                    tracing::warn!(policy = policy.name, server = endpoint.address(), %error, "cannot be used; trying the next");
                }
                failed = Some(error);
            }
        }
    }
    if let Some((endpoint, info)) = replica {
        let server = endpoint.address();
        tracing::warn!(policy = policy.name, server, "every host that can be reached is read-only: using this one");
        return Ok((endpoint, info));
    }
    match failed {
        Some(error) => Err(error).with_context(|| format!("cannot use the source of policy {}", policy.name)),
        None => anyhow::bail!("policy {} names no server", policy.name),
    }
}

/// Waits until the stream has lost `current` and another host has become the primary. Never returns where there is one host.
pub async fn successor(policy: &Policy, current: &Endpoint, status: &StreamStatus) -> Endpoint {
    if policy.sources.len() < 2 {
        std::future::pending::<()>().await;
    }
    let mut lost_at: Option<Instant> = None;
    loop {
        sleep(LOOK).await;
        if status.read().connected {
            lost_at = None;
            continue;
        }
        if lost_at.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            continue;
        }
        // What disturbs the stream may be the store: a primary is not left while it is one.
        if is_primary(policy, current).await {
            continue;
        }
        for other in policy.sources.iter().filter(|other| other.address() != current.address()) {
            if is_primary(policy, other).await {
                return other.clone();
            }
        }
    }
}

async fn is_primary(policy: &Policy, endpoint: &Endpoint) -> bool {
    match ask(endpoint).await {
        Ok((info, read_only)) => !read_only && check_flavor(policy, endpoint, &info).is_ok(),
        Err(error) => {
            tracing::debug!(policy = policy.name, server = endpoint.address(), %error, "cannot be used");
            false
        }
    }
}

/// Who a server is, and whether it is read-only.
async fn ask(endpoint: &Endpoint) -> Result<(ServerInfo, bool), sql::Error> {
    let mut session = Session::connect(endpoint).await?;
    let read_only = session.variable("read_only").await?;
    let info = session.info().clone();
    session.close().await;
    Ok((info, read_only.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("OFF"))))
}

fn check_flavor(policy: &Policy, endpoint: &Endpoint, info: &ServerInfo) -> Result<(), ManifestError> {
    match policy.flavor.filter(|flavor| *flavor != info.flavor()) {
        None => Ok(()),
        Some(stated) => {
            let message = format!(
                "{} is {} {}, but spec.source.flavor of policy {} says {stated}: correct one of them",
                endpoint.address(),
                info.flavor(),
                info.version_text,
                policy.name
            );
            Err(ManifestError::Choice { message })
        }
    }
}
