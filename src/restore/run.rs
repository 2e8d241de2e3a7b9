//! A restore, phase by phase. What is done is kept in the target, so that the same restore goes on after a crash.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::base::{self, BaseConfig};
use super::error::RestoreError;
use super::plan::{self, Coordinates, Plan, Request, shown};
use super::preflight::TargetFacts;
use super::readable::check_readable;
use super::state::{Phase, State};
use super::{RestoreOptions, RestoreReport, events, prove, replay, restart, settings, xa};
use crate::archive::catalog::load_manifest;
use crate::archive::store::Store;
use crate::model::{Flavor, GtidSet, Progress};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::flavor::quote;
use crate::mysql::sql::Session;

/// The plan of an unfinished restore on `target` that was asked for by the same `request`: to go on with it, run it instead of a
/// new plan (which may differ, as the archive grows).
pub async fn unfinished(target: &Endpoint, request: &Request) -> Result<Option<Plan>, RestoreError> {
    let mut session = Session::connect(target).await?;
    let state = State::read(&mut session, &target.address()).await?;
    Ok(state.map(|s| s.plan).filter(|plan| plan.request == *request))
}

/// Looks whether `target` can take `plan`, and changes nothing there.
///
/// # Errors
/// Those that [`run`] would begin with.
pub async fn check_target(
    plan: &Plan,
    store: &Store,
    target: &Endpoint,
    options: &RestoreOptions,
) -> Result<(), RestoreError> {
    check_readable(plan, store).await?;
    let mut session = connect(target).await?;
    match begun(&mut session, plan, target).await? {
        Some(_) => Ok(()),
        None => admit(&mut session, plan, store, target, options).await,
    }
}

/// Carries out `plan`, or goes on with it where an earlier run ended.
pub async fn run(
    plan: &Plan,
    store: &Store,
    target: &Endpoint,
    options: &RestoreOptions,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RestoreReport, RestoreError> {
    check_readable(plan, store).await?;
    let mut session = connect(target).await?;
    let address = target.address();
    let (mut state, resumed) = match begun(&mut session, plan, target).await? {
        Some(state) => (state, true),
        None => (begin(&mut session, plan, store, target, options).await?, false),
    };
    fail::fail_point!("restore::begun");
    let began = Instant::now();
    settings::shut_admins(&mut session, false).await?;
    settings::shut(&mut session).await?;
    let failed = |e: base::BaseError| RestoreError::Base { full: plan.base.id.clone(), source: e };
    if state.phase == Phase::Base {
        let manifest = load_manifest(store, &plan.base.id).await?;
        let config = base_config(options);
        let loaded =
            base::load(store, &manifest, target, &config, progress.clone(), cancel.clone()).await.map_err(failed)?;
        state.warnings = loaded.warnings;
        state.source_globals = loaded.source_globals;
        fail::fail_point!("restore::base::loaded");
        base::verify(store, &manifest, target, &config, progress.clone(), cancel.clone()).await.map_err(failed)?;
        state.server_started = Some(restart::started(&mut session).await?);
        next(&mut session, &mut state, Phase::Gtids, began).await?;
    } else {
        restart::check(&mut session, &mut state, &address).await?;
    }
    fail::fail_point!("restore::base::proved");
    if state.phase == Phase::Gtids {
        let began = Instant::now();
        set_gtids(&mut session, plan).await?;
        state.events = events::list(&mut session).await?;
        fail::fail_point!("restore::gtids::set");
        next(&mut session, &mut state, Phase::Replay, began).await?;
    }
    if state.phase == Phase::Replay {
        let began = Instant::now();
        if !plan.files.is_empty() {
            settings::be_like_the_source(&mut session, &state.source_globals).await?;
            let replayed = replay::replay(&mut session, plan, store, options, progress, cancel).await;
            replayed.map_err(|e| restart::explain(e, &state))?;
        }
        fail::fail_point!("restore::replay::done");
        progress.begin("proof", 0);
        prove::count_base(&mut session, plan).await?;
        restart::check(&mut session, &mut state, &address).await?;
        prove::prove(&mut session, plan).await.map_err(|e| restart::explain(e, &state))?;
        settings::shut_admins(&mut session, false).await?;
        state.warnings.extend(xa::left_prepared(&mut session).await?);
        state.warnings.extend(events::switch_on(&mut session, plan, store, &state.events).await?);
        next(&mut session, &mut state, Phase::Cleanup, began).await?;
    }
    fail::fail_point!("restore::proved");
    progress.begin("cleanup", 0);
    clean_up(&mut session, plan, &state, target).await?;
    Ok(RestoreReport {
        id: state.id,
        target: address,
        base: plan.base.id.clone(),
        executed: shown(&plan.expected_gtids),
        end: plan.end.clone(),
        restored_to: plan.restored_to,
        resumed,
        rto_seconds: state.seconds.iter().map(|(_, s)| s).sum(),
        seconds: state.seconds,
        warnings: plan.forks.iter().cloned().chain(state.warnings).collect(),
    })
}

async fn connect(target: &Endpoint) -> Result<Session, RestoreError> {
    let mut session = Session::connect(target).await?;
    // What a restore notes for itself is no part of the restored history.
    session.exec("SET SESSION sql_log_bin = 0").await?;
    Ok(session)
}

fn base_config(options: &RestoreOptions) -> BaseConfig {
    BaseConfig { allow_non_empty: options.allow_non_empty, ..options.base.clone() }
}

/// What an earlier run of the same plan noted on the target.
async fn begun(session: &mut Session, plan: &Plan, target: &Endpoint) -> Result<Option<State>, RestoreError> {
    let address = target.address();
    match State::read(session, &address).await? {
        Some(other) if other.plan.digest() != plan.digest() => {
            let (begun, base) = (other.plan.request.to_string(), other.plan.base.id);
            Err(RestoreError::OtherRestore { address, begun, base })
        }
        state => Ok(state),
    }
}

/// Whether a target that holds no restore yet can take this one.
async fn admit(
    session: &mut Session,
    plan: &Plan,
    store: &Store,
    target: &Endpoint,
    options: &RestoreOptions,
) -> Result<(), RestoreError> {
    let facts = TargetFacts::read(session).await?;
    let problems = facts.problems(plan, options.allow_non_empty);
    if !problems.is_empty() {
        let same_flavor = facts.version.is_none_or(|version| version.flavor == plan.flavor);
        let occupied = same_flavor && !options.allow_non_empty && !facts.schemas.is_empty();
        return Err(RestoreError::Preflight { address: target.address(), problems, occupied });
    }
    let manifest = load_manifest(store, &plan.base.id).await?;
    let failed = |e: base::BaseError| RestoreError::Base { full: plan.base.id.clone(), source: e };
    base::check(store, &manifest, target, &base_config(options)).await.map_err(failed)
}

/// Notes what is to be done. A target that is refused stays as it was found.
async fn begin(
    session: &mut Session,
    plan: &Plan,
    store: &Store,
    target: &Endpoint,
    options: &RestoreOptions,
) -> Result<State, RestoreError> {
    admit(session, plan, store, target, options).await?;
    let saved = settings::save(session).await?;
    let state = State {
        id: uuid::Uuid::new_v4(),
        plan: plan.clone(),
        phase: Phase::Base,
        saved,
        seconds: Vec::new(),
        events: Vec::new(),
        warnings: Vec::new(),
        source_globals: Vec::new(),
        server_started: None,
        restarted: false,
    };
    state.write(session).await?;
    Ok(state)
}

/// Notes that the current phase is over.
async fn next(session: &mut Session, state: &mut State, phase: Phase, began: Instant) -> Result<(), RestoreError> {
    state.seconds.push((state.phase, began.elapsed().as_secs_f64()));
    state.phase = phase;
    state.write(session).await
}

/// Tells the target that it has executed what the base holds, and nothing else.
async fn set_gtids(session: &mut Session, plan: &Plan) -> Result<(), RestoreError> {
    let dialect = session.dialect();
    let log_bin = session.variable("log_bin").await?.is_some_and(|v| v.eq_ignore_ascii_case("ON") || v == "1");
    if plan.flavor == Flavor::Mysql || log_bin {
        session.exec(dialect.reset_binary_logs()).await?;
    }
    fail::fail_point!("restore::gtids::reset");
    if plan.coordinates == Coordinates::Position {
        return Ok(());
    }
    match &plan::before_replay(&plan.base.gtids, &plan.prepared) {
        // MariaDB keeps a position from before unless it is told another.
        GtidSet::Mariadb(set) => {
            session.exec(&format!("SET GLOBAL gtid_slave_pos = {}", quote(&set.position()))).await?;
        }
        set if !set.is_empty() => session.exec(&dialect.set_gtid_executed(&set.to_string())).await?,
        _ => {}
    }
    Ok(())
}

/// Gives the target to its users. The state goes last, so that a killed clean-up is done again.
async fn clean_up(session: &mut Session, plan: &Plan, state: &State, target: &Endpoint) -> Result<(), RestoreError> {
    settings::shut_admins(session, false).await?;
    let dialect = session.dialect();
    if !session.named_rows(dialect.show_replica_status()).await?.is_empty() {
        session.exec(dialect.stop_replica()).await?;
        session.exec(dialect.reset_replica_all()).await?;
    }
    fail::fail_point!("restore::cleanup::detached");
    settings::give_back(session, &state.saved).await?;
    fail::fail_point!("restore::cleanup::opened");
    let failed = |e: base::BaseError| RestoreError::Base { full: plan.base.id.clone(), source: e };
    base::finish(target).await.map_err(failed)?;
    State::forget(session).await
}
