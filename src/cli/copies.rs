//! Copies that are filled in the background, each for itself: one that fails, or is slow, holds up nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::config::Copy;
use super::reason::{self, Reason};
use super::supervise::{StreamWatch, Supply};
use super::verbs::prune;
use super::{engine, exit};
use crate::archive::store::StoreConfig;
use crate::copies::Copier;
use crate::model::Progress;

/// How often what is new is looked for.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Fills the copies of a policy until `shutdown`, whatever fails on the way. Which there are is looked at once, how they are reached after each
/// failure.
pub async fn keep(supply: Arc<Supply>, shutdown: CancellationToken, watch: StreamWatch) {
    let policy = loop {
        match supply.policy() {
            Ok(policy) => break policy,
            // The stream tells it.
            Err(_) if shutdown.run_until_cancelled(sleep(PAUSE)).await.is_none() => return,
            Err(_) => {}
        }
    };
    let mut tasks = JoinSet::new();
    for copy in &policy.copies {
        tasks.spawn(one(copy.name.clone(), supply.clone(), shutdown.clone(), watch.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

async fn one(name: String, supply: Arc<Supply>, shutdown: CancellationToken, watch: StreamWatch) {
    let mut pause = PAUSE;
    let mut awaits_archive = true;
    while !shutdown.is_cancelled() {
        let Err(error) = attempt(&name, &supply, &shutdown, &watch).await else { return };
        let before = pause;
        // The stream makes a new one, at about this moment.
        if std::mem::take(&mut awaits_archive) && reason::of(&error).reason == Reason::ArchiveMissing {
            tracing::info!(copy = name, "there is no archive to copy yet; again in {} s", before.as_secs());
        } else {
            watch.copy_failed(&name, &error);
            tracing::error!(
                copy = name,
                error = exit::text(&error),
                "the copy failed; again in {} s",
                before.as_secs()
            );
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if shutdown.run_until_cancelled(sleep(before)).await.is_none() {
            return;
        }
    }
}

/// Round after round, until one fails.
async fn attempt(name: &str, supply: &Supply, shutdown: &CancellationToken, watch: &StreamWatch) -> anyhow::Result<()> {
    let policy = supply.policy()?;
    let Some(copy) = policy.copies.iter().find(|copy| copy.name == name) else { return Ok(()) };
    let mut copier = copier(&policy.store, copy).await?;
    loop {
        let copied = copier.round(&Progress::default(), shutdown).await?;
        watch.copied(name, &copied);
        if copied.fulls > 0 {
            tracing::info!(
                policy = policy.name,
                copy = name,
                fulls = copied.fulls,
                bytes = copied.bytes,
                "copied fulls"
            );
            prune::by_rules(name, &copy.store, &copy.retention, shutdown).await?;
            copier.leave_out(prune::let_go(&engine::store_to_read(&policy.store)?, &copy.retention).await?);
        }
        if shutdown.run_until_cancelled(sleep(PAUSE)).await.is_none() {
            return Ok(());
        }
    }
}

/// What fills a copy with all that its retention keeps of the policy's archive.
pub async fn copier(from: &StoreConfig, copy: &Copy) -> anyhow::Result<Copier> {
    let from = engine::store_to_read(from)?;
    let left_out = prune::let_go(&from, &copy.retention).await?;
    let mut copier = Copier::new(from, engine::store(&copy.store)?, copy.bytes_per_second);
    copier.leave_out(left_out);
    Ok(copier)
}
