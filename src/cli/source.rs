//! Which of a policy's servers is the source: the first that takes the login and can be written to, and another one of
//! that kind once it is lost.

use std::collections::BTreeSet;
use std::net::IpAddr;
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
    let candidates = candidates(policy).await;
    let several = candidates.len() > 1;
    let (mut replica, mut failed) = (None, None);
    for endpoint in &candidates {
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

/// The servers of a policy, best first: of a group's names every address now, in an order of its own. (One that stays the same while they
/// do: names' servers turn them round.)
async fn candidates(policy: &Policy) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for endpoint in &policy.sources {
        match addresses(policy, endpoint).await {
            found if found.is_empty() => all.push(endpoint.clone()),
            found => all.extend(found.into_iter().map(|at| Endpoint { at: Some(at), ..endpoint.clone() })),
        }
    }
    all
}

/// None where the host is an address itself, alone, or cannot be found: connecting says why.
async fn addresses(policy: &Policy, endpoint: &Endpoint) -> BTreeSet<IpAddr> {
    let host = endpoint.host.trim_matches(['[', ']']);
    if !policy.group || host.parse::<IpAddr>().is_ok() {
        return BTreeSet::new();
    }
    let found = tokio::time::timeout(endpoint.connect_timeout, tokio::net::lookup_host((host, endpoint.port))).await;
    found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip()).collect()
}

/// Waits until the stream has lost `current` and another server has become the primary. Never returns where there can be no other.
pub async fn successor(policy: &Policy, current: &Endpoint, status: &StreamStatus) -> Endpoint {
    if !policy.group {
        std::future::pending::<()>().await;
    }
    let alone = candidates(policy).await.len() == 1;
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
        if is_source(policy, current, false).await {
            continue;
        }
        let others = candidates(policy).await;
        // The only server of a group, at another address by now, is what it was.
        let moved = alone && others.len() == 1;
        for other in others.iter().filter(|other| (&other.host, other.at) != (&current.host, current.at)) {
            if is_source(policy, other, moved).await {
                return other.clone();
            }
        }
    }
}

/// Whether a server is a primary, or may be read-only, and is of the right flavor.
async fn is_source(policy: &Policy, endpoint: &Endpoint, may_be_read_only: bool) -> bool {
    match ask(endpoint).await {
        Ok((info, read_only)) => (may_be_read_only || !read_only) && check_flavor(policy, endpoint, &info).is_ok(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{config, manifests};

    fn policy(source: &str) -> Policy {
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: orders}}\nspec:\n  source: {{{source}, \
             credentialsSecretRef: {{name: login}}}}\n  storage: {{fs: {{path: /archive}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: \
             {{name: login}}\nstringData: {{username: u, password: p}}\n"
        );
        let documents = manifests::parse(std::path::Path::new("p"), &text).unwrap();
        config::policies(&documents).unwrap().remove(0)
    }

    #[tokio::test]
    async fn a_name_in_a_list_is_a_server_at_each_of_its_addresses() {
        let found = |source: &'static str| async move {
            let found = candidates(&policy(source)).await;
            found.into_iter().map(|endpoint| (endpoint.host.clone(), endpoint.at)).collect::<Vec<_>>()
        };
        let group = found("hosts: [localhost, 192.0.2.7, '2001:db8::1', no-such-name.invalid]").await;
        let local: Vec<_> = group.iter().filter(|(host, _)| host == "localhost").collect();
        assert!(!local.is_empty() && local.iter().all(|(_, at)| at.is_some_and(|at| at.is_loopback())), "{group:?}");
        let rest: Vec<_> = group.into_iter().filter(|(host, _)| host != "localhost").collect();
        let alone = |host: &str| (host.to_owned(), None);
        assert_eq!(rest, [alone("192.0.2.7"), alone("2001:db8::1"), alone("no-such-name.invalid")]);
        assert_eq!(found("host: localhost").await, [alone("localhost")], "one server, whichever address answers");
    }

    #[test]
    fn a_server_that_is_meant_by_its_address_is_shown_by_both() {
        let mut endpoint = policy("host: db.example").sources.remove(0);
        assert_eq!((endpoint.address().as_str(), endpoint.target().as_str()), ("db.example:3306", "db.example"));
        endpoint.at = Some("192.0.2.7".parse().unwrap());
        assert_eq!(
            (endpoint.address().as_str(), endpoint.target().as_str()),
            ("db.example:3306 (192.0.2.7)", "192.0.2.7")
        );
    }
}
