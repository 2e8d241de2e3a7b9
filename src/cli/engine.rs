//! Validated config → what the engine's modules take.

use anyhow::Context;

use super::config::Policy;
use super::manifests::ManifestError;
use crate::archive::codec::Compression;
use crate::archive::store::{Store, StoreConfig};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::sql::{ServerInfo, Session};

/// A client of the archive's store.
pub fn store(config: &StoreConfig) -> anyhow::Result<Store> {
    if let StoreConfig::Fs { root } = config {
        // Only verbs that read come here first: a folder made for them would look like an archive.
        tracing::debug!(root = %root.display(), "opening");
    }
    Ok(Store::open(config)?)
}

/// How a policy's objects are compressed.
pub fn compression(policy: &Policy) -> Compression {
    match policy.compression_level {
        0 => Compression::None,
        level => Compression::Zstd { level },
    }
}

/// The first of a policy's servers that takes the login, and who it is. A server of another flavor than stated is refused.
pub async fn source(policy: &Policy) -> anyhow::Result<(Endpoint, ServerInfo)> {
    let mut last = None;
    for endpoint in &policy.sources {
        match Session::connect(endpoint).await {
            Ok(session) => {
                let info = session.info().clone();
                session.close().await;
                if let Some(stated) = policy.flavor.filter(|flavor| *flavor != info.flavor()) {
                    let message = format!(
                        "{} is {} {}, but spec.source.flavor of policy {} says {stated}: correct one of them",
                        endpoint.address(),
                        info.flavor(),
                        info.version_text,
                        policy.name
                    );
                    return Err(ManifestError::Choice { message }.into());
                }
                return Ok((endpoint.clone(), info));
            }
            Err(error) => {
                if policy.sources.len() > 1 {
                    tracing::warn!(server = endpoint.address(), %error, "cannot be used; trying the next");
                }
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) => Err(error).with_context(|| format!("cannot use the source of policy {}", policy.name)),
        None => anyhow::bail!("policy {} names no server", policy.name),
    }
}
