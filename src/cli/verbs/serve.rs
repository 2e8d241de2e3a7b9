use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::archive::ArchiveError;
use crate::archive::catalog::Catalog;
use crate::cli::args::ServeArgs;
use crate::cli::config;
use crate::cli::engine;
use crate::cli::manifests::ManifestError;
use crate::serve::{Identity, Scope, ServeConfig, Server};

/// How often a following server looks for what the stream has archived since.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// Serves one policy's archive to replicas until `shutdown`.
pub async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let archive = config::one_archive(&args.archive, args.identity_secret.as_deref())?;
    let password = std::env::var("TIDEMARK_SERVE_PASSWORD").ok().filter(|password| !password.is_empty());
    let Some(password) = password else {
        let message = "no password for replicas: set TIDEMARK_SERVE_PASSWORD".to_owned();
        return Err(ManifestError::Choice { message }.into());
    };
    let store = engine::archive_to_read(&archive, None)?;
    let catalog = Catalog::load(&store).await?;
    // Replicas parse it: the version of the newest server whose log is archived.
    let newest = catalog.files.iter().max_by_key(|file| (file.summary.last_commit, file.id.created_unix));
    for file in newest.into_iter().chain(&catalog.files) {
        for recipients in &file.encryption.recipients {
            let opened = store.identities().check(&format!("binlog file {}", file.id.name), recipients);
            match opened.map_err(ArchiveError::from) {
                // Older ones a replica may never ask for.
                Err(error) if newest.is_some_and(|newest| newest.id != file.id) => tracing::warn!("{error}"),
                opened => opened?,
            }
        }
    }
    let version = newest.map(|file| file.server_version.clone());
    let Some(version) = version else {
        anyhow::bail!("the archive {} holds no binary log yet: run `tidemark stream` first", store.url());
    };
    let gtids = newest.is_none_or(|file| file.summary.transactions <= file.summary.gtids.count());
    let identity = Identity {
        server_id: rand::random_range(1 << 31..u32::MAX),
        server_uuid: Uuid::new_v4(),
        flavor: catalog.info.flavor,
        version,
        gtids,
    };
    let serve = ServeConfig {
        listen: args.listen,
        user: args.user.clone(),
        password: SecretString::from(password),
        identity,
        scope: Scope::Everything { follow: args.follow.then_some(FOLLOW_INTERVAL) },
    };
    let server = Server::bind(serve, store.clone()).await?;
    tracing::info!(
        policy = archive.name,
        address = %server.local_addr()?,
        user = args.user,
        store = store.url(),
        follow = args.follow,
        "serving the archive to replicas"
    );
    if !args.listen.ip().is_loopback() {
        tracing::warn!("replicas' connections are not encrypted: listen on loopback, or use a tunnel");
    }
    let status = server.status();
    server.run(shutdown).await;
    let status = status.borrow().clone();
    tracing::info!(sent_bytes = status.sent_bytes, sent_transactions = status.sent_transactions, "stopped serving");
    Ok(())
}
