use anyhow::Context;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::api::report::{Outcome, RestoreOutcome};
use crate::archive::identity;
use crate::archive::lease::Hold;
use crate::archive::store::Store;
use crate::cli::args::{Output, RestoreArgs};
use crate::cli::config::{self, Restore};
use crate::cli::manifests::ManifestError;
use crate::cli::output::say;
use crate::cli::progress::{Display, duration};
use crate::cli::report::{self, WorkSubject, outcome, plan_status};
use crate::cli::{engine, output};
use crate::model::{Flavor, GtidSet, Progress};
use crate::mysql::endpoint::Endpoint;
use crate::restore::plan::{Plan, Request, Target, Throughput, parse_gtids};
use crate::restore::{self, RestoreError, RestoreOptions, RestoreReport};

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    policy: &'a str,
    dry_run: bool,
    plan: &'a Plan,
    result: Option<&'a RestoreReport>,
    trace_id: &'a str,
}

/// Plans a restore, shows the plan, carries it out unless it is a dry run, and says how that ended.
pub async fn run(args: RestoreArgs, trace_id: &str, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Outcome::default();
    let done = once(&args, trace_id, shutdown, &mut outcome).await;
    if let Some(file) = &args.outcome.file {
        outcome::write(file, outcome, done.as_ref().err());
    }
    done
}

/// Restores, unless `--once` knows that this was done.
async fn once(
    args: &RestoreArgs,
    trace_id: &str,
    shutdown: CancellationToken,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Some(file) = &args.once else { return one(args, trace_id, shutdown, outcome).await };
    let kept = outcome::kept(file).with_context(|| {
        format!("--once {}: cannot read it; delete it only if the restore is to be done again", file.display())
    })?;
    if let Some(kept) = kept {
        tracing::info!(file = %file.display(), "the restore was done and proved before: nothing to do");
        *outcome = kept;
        return Ok(());
    }
    one(args, trace_id, shutdown, outcome).await?;
    // Of a request with dryRun there is nothing to keep.
    if outcome.restore.is_none() {
        return Ok(());
    }
    outcome::keep(file, outcome)
        .with_context(|| format!("--once {}: the restore is done and proved, but that cannot be noted", file.display()))
}

async fn one(
    args: &RestoreArgs,
    trace_id: &str,
    shutdown: CancellationToken,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let wanted = Restore::new(args, &|name| std::env::var(name).ok())?;
    let progress = Progress::default();
    progress.begin("planning", 0);
    let subject = WorkSubject::new("restore", &wanted.archive.name, progress.clone());
    let _server = match args.report.listen {
        Some(listen) => Some(report::serve(listen, subject.clone(), &shutdown).await?),
        None => None,
    };
    let store = engine::archive_to_read(&wanted.archive, wanted.as_of)?;
    let request = request(&wanted, &store).await?;
    let mut hold = match wanted.flags.dry_run {
        true => None,
        false => hold(&store, trace_id).await,
    };
    let unfinished = match (&wanted.into, wanted.flags.dry_run) {
        (Some(target), false) => restore::unfinished(target, &request).await,
        _ => Ok(None),
    };
    // A target that does not answer now may hold one.
    let resumes = unfinished.as_ref().map_or_else(RestoreError::is_transient, Option::is_some);
    let planned = async {
        let plan = match unfinished? {
            Some(plan) => plan,
            None => restore::plan(&store, &request, Throughput::default()).await?,
        };
        restore::check_readable(&plan, &store).await?;
        Ok::<_, RestoreError>(plan)
    };
    let plan = match planned.await {
        Ok(plan) => plan,
        Err(error) => {
            // Nothing was begun: no prune need wait.
            if let Some(hold) = hold.filter(|_| !resumes) {
                let_go(hold).await;
            }
            return Err(error.into());
        }
    };
    if let Some(hold) = &mut hold {
        hold.narrow(&plan.base.id).await?;
    }
    outcome.plan = Some(plan_status(&plan));
    subject.planned(plan_status(&plan));
    let report =
        |result| Report { policy: &wanted.archive.name, dry_run: wanted.flags.dry_run, plan: &plan, result, trace_id };
    let human = args.output == Output::Human;
    if human {
        print!("{plan}");
        if resumes {
            say!("  - an earlier run began this restore: it goes on where that stopped");
        }
    }
    let Some(target) = wanted.into.as_ref().filter(|_| !wanted.flags.dry_run) else {
        if !human {
            output::json(&report(None))?;
        }
        if let Some(target) = &wanted.into {
            restore::check_target(&plan, &store, target, &RestoreOptions::default()).await?;
            if human {
                say!("  - {} can take this restore; nothing was changed", target.address());
            }
        }
        return Ok(());
    };
    let mut options = RestoreOptions { advertise_host: wanted.serve.advertise.clone(), ..RestoreOptions::default() };
    if let Some(listen) = wanted.serve.listen {
        options.listen = listen;
    }
    if let Some(threads) = args.threads {
        options.base.connections = usize::from(threads);
        options.workers = threads.into();
    }
    let display = Display::start(progress.clone(), human);
    tracing::info!(
        policy = wanted.archive.name,
        target = target.address(),
        base = plan.base.id,
        replay_bytes = plan.replay_bytes,
        "restoring"
    );
    let done = restore::run(&plan, &store, target, &options, &progress, &shutdown).await;
    drop(display);
    let done = done.map_err(|error| explain(error, &wanted, target))?;
    if let Some(hold) = hold {
        let_go(hold).await;
    }
    outcome.restore = Some(RestoreOutcome {
        restored_to: done.restored_to.map(|time| time.timestamp().to_string()),
        executed: done.executed.clone(),
        rto_seconds: done.rto_seconds,
        warnings: done.warnings.clone(),
    });
    for warning in &done.warnings {
        tracing::warn!("{warning}");
    }
    if human {
        show(&done)
    } else {
        output::json(&report(Some(&done)))?
    }
    Ok(())
}

/// Keeps prunes away from what is read. Whoever may only read the archive restores all the same.
async fn hold(store: &Store, trace_id: &str) -> Option<Hold> {
    let held = Hold::begin(store, trace_id).await;
    held.inspect_err(|error| {
        tracing::warn!(%error, "prunes do not know of this restore, as its lease cannot be written: let none run until it has ended");
    })
    .ok()
}

async fn let_go(hold: Hold) {
    if let Err(error) = hold.end().await {
        tracing::warn!(%error, "the lease that held prunes back is not deleted: it counts for an hour");
    }
}

/// What the engine cannot know: whether the target was to fetch the log from a place it cannot reach.
fn explain(error: RestoreError, wanted: &Restore, target: &Endpoint) -> anyhow::Error {
    let unread = matches!(error, RestoreError::Stalled { .. } | RestoreError::Stream { .. });
    let context = format!("the restore into {} did not finish", target.address());
    if unread && wanted.serve.listen.is_none() {
        let way_out = "the server fetches the log from this process over loopback: unless both are on one host, say by \
                       --serve-listen (intoExisting.serveListen) where it can reach this process, and run the restore again";
        return anyhow::Error::new(error).context(format!("{context}; {way_out}"));
    }
    anyhow::Error::new(error).context(context)
}

fn show(report: &RestoreReport) {
    say!("restored {} and proved it", report.target);
    if !report.executed.is_empty() {
        say!("  executed  {}", report.executed);
    }
    if let Some(end) = &report.end {
        say!("  end       {end} of the source");
    }
    if let Some(time) = report.restored_to {
        say!("  newest    transaction committed {}", time.timestamp());
    }
    say!("  took      {}", duration(std::time::Duration::from_secs_f64(report.rto_seconds)));
}

/// The engine's request. GTIDs are read as the archive's flavor writes them.
async fn request(wanted: &Restore, store: &Store) -> anyhow::Result<Request> {
    let info = identity::must(store).await?;
    let target = match &wanted.target {
        config::Target::Latest => Target::Latest,
        config::Target::Time(time) => Target::Time(*time),
        config::Target::Position(position) => Target::Position(position.clone()),
        config::Target::Gtid(text) => Target::Gtid(set(info.flavor, "the target", text)?),
    };
    let skip_gtids = match &wanted.flags.skip_gtids {
        Some(text) => Some(set(info.flavor, "the GTIDs to skip", text)?),
        None => None,
    };
    let exclusive = wanted.flags.exclusive;
    Ok(Request { target, exclusive, skip_gtids, allow_nearest: wanted.flags.allow_nearest })
}

fn set(flavor: Flavor, what: &str, text: &str) -> Result<GtidSet, ManifestError> {
    let choice = |message| ManifestError::Choice { message };
    let set = parse_gtids(flavor, text).map_err(|error| choice(format!("{what}: {error}")))?;
    if set.is_empty() { Err(choice(format!("{what}: an empty GTID set names nothing"))) } else { Ok(set) }
}
