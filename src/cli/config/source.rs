//! The servers that a policy protects.

use std::time::Duration;

use super::Resolver;
use crate::api::SourceSpec;
use crate::mysql::endpoint::Endpoint;

/// Bound on reaching a server and logging in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The source's servers, best first.
pub fn sources_of<T>(resolver: &mut Resolver<'_, T>, spec: &SourceSpec) -> Option<Vec<Endpoint>> {
    let named = [spec.host.is_some(), spec.hosts.is_some(), spec.service_ref.is_some(), spec.selector.is_some()];
    let named = named.iter().filter(|x| **x).count();
    if named != 1 {
        resolver.refuse("spec.source", "name the server by exactly one of host, hosts, serviceRef and selector");
    }
    if spec.selector.is_some() {
        resolver.refuse("spec.source.selector", "pods have a meaning in a cluster only: write host or hosts here");
    }
    if spec.service_ref.is_some() {
        resolver
            .refuse("spec.source.serviceRef", "a Service has a meaning in a cluster only: write host or hosts here");
    }
    let hosts: Vec<&String> = spec.host.iter().chain(spec.hosts.iter().flatten()).collect();
    if named == 1 && spec.hosts.is_some() && hosts.is_empty() {
        resolver.refuse("spec.source.hosts", "name at least one server");
    }
    for host in &hosts {
        if host.trim().is_empty() || host.contains(['/', '@', ' ']) {
            resolver.refuse(
                "spec.source.host",
                &format!("{host:?} is not a name or address: write db.example or 192.0.2.7"),
            );
        } else if host.matches(':').count() == 1 {
            let message = format!("{host:?} holds a port: write it as spec.source.port");
            resolver.refuse("spec.source.host", &message);
        }
    }
    if spec.port == 0 {
        resolver.refuse("spec.source.port", "0 is not a port: write 1 to 65535");
    }
    let login = resolver.login("spec.source.credentialsSecretRef", &spec.credentials_secret_ref.name);
    let tls = resolver.tls("spec.source.tls", &spec.tls);
    let (user, password) = login?;
    let tls = tls?;
    let endpoint = |host: &&String| Endpoint {
        host: (*host).clone(),
        at: None,
        port: spec.port,
        user: user.clone(),
        password: password.clone(),
        tls: tls.clone(),
        connect_timeout: CONNECT_TIMEOUT,
    };
    Some(hosts.iter().map(endpoint).collect())
}
