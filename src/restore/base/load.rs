use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::config::BaseConfig;
use super::description::{self, Description};
use super::error::BaseError;
use super::session::{Session, text};
use super::tables::{Loader, forget};
use super::target::{self, Steps, note};
use super::{accounts, broken_views, json, programs, takeover};
use crate::archive::logical::ServerRecord;
use crate::archive::manifest::FullManifest;
use crate::archive::store::Store;
use crate::model::{Progress, total};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::quote;

/// The last step: everything is there.
const DONE: &str = "base";

/// What a load brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tables.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// What could not be restored as it was, in words.
    pub warnings: Vec<String>,
    /// Global variables of the source that its log leans on, as far as the full tells them.
    pub source_globals: Vec<(String, String)>,
}

/// Fails where the target cannot take the full, with nothing done to it.
pub async fn check(
    store: &Store,
    manifest: &FullManifest,
    target: &Endpoint,
    config: &BaseConfig,
) -> Result<(), BaseError> {
    let mut session = Session::open(target).await?;
    target::check_server(&mut session, manifest).await?;
    if !config.allow_non_empty {
        target::check_empty(&mut session).await?;
    }
    target::check_settings(&mut session, &description::read(store, manifest).await?.server).await?;
    session.connection.close().await;
    Ok(())
}

/// Loads a full into an empty server, or goes on with a load of the same full that was cut off. Events stay off, and the load's own
/// schema stays, until [`finish`].
pub async fn load(
    store: &Store,
    manifest: &FullManifest,
    target: &Endpoint,
    config: &BaseConfig,
    progress: Progress,
    cancel: CancellationToken,
) -> Result<Loaded, BaseError> {
    progress.begin("definitions", 0);
    let mut session = Session::open(target).await?;
    target::check_server(&mut session, manifest).await?;
    let description = description::read(store, manifest).await?;
    takeover::take_over(&mut session).await?;
    takeover::mark(&mut session).await?;
    let steps = target::begin(&mut session, &manifest.id, config.allow_non_empty).await?;
    let mut loaded = Loaded {
        tables: description.tables.len() as u64,
        rows: total(description.tables.iter().map(|table| table.rows)),
        warnings: Vec::new(),
        source_globals: source_globals(&description.server),
    };
    if steps.done(DONE) {
        return Ok(loaded);
    }
    let fresh = !config.allow_non_empty;
    target::switch_on(&mut session, &description.server, fresh, config.disable_redo_log).await?;
    let Description { server, schemas, tables, programs: stored_programs, accounts: stored_accounts } = description;
    before_tables(&mut session, &server.before_schemas, &schemas, &steps).await?;
    broken_views::make(&mut session, &stored_programs, &schemas, &steps).await?;
    make_servers(&mut session, &server.foreign_servers).await?;
    json::prepare(&mut session, &tables).await?;
    let resumed = !steps.0.is_empty();
    let loader = Arc::new(Loader {
        store: store.clone(),
        manifest: Arc::new(manifest.clone()),
        config: config.clone(),
        progress: progress.clone(),
        cancel,
        steps,
    });
    loader.load(target, tables).await?;
    progress.begin("programs", 0);
    fail::fail_point!("restore::base::before_programs");
    loaded.warnings.extend(programs::restore(&mut session, stored_programs, resumed).await?);
    loaded.warnings.extend(accounts::restore(&mut session, &server, &stored_accounts).await?);
    loaded.warnings.extend(make_histograms(&mut session, &server.histograms).await?);
    for (name, library) in &server.loadable_functions {
        loaded
            .warnings
            .push(format!("loadable function {name} must be installed by hand: CREATE FUNCTION … SONAME '{library}'"));
    }
    target::remember_read_only(&mut session, &schemas).await?;
    target::switch_off(&mut session).await?;
    session.exec(&note(DONE)).await?;
    session.connection.close().await;
    Ok(loaded)
}

fn source_globals(server: &ServerRecord) -> Vec<(String, String)> {
    let told =
        [("default_storage_engine", &server.default_storage_engine), ("mandatory_roles", &server.mandatory_roles)];
    told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

/// Removes the load's state and lets events run again if the target let them. Doing it twice does no harm.
pub async fn finish(target: &Endpoint) -> Result<(), BaseError> {
    let mut session = Session::open(target).await?;
    let sql = format!("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", quote::text(target::STATE));
    if !session.query(&sql).await?.is_empty() {
        broken_views::drop_stand_ins(&mut session).await?;
        target::set_read_only(&mut session).await?;
        target::open(&mut session).await?;
        forget(&mut session).await?;
    }
    session.connection.close().await;
    Ok(())
}

async fn before_tables(
    session: &mut Session,
    tablespaces: &[crate::archive::logical::SqlText],
    schemas: &[crate::archive::logical::Schema],
    steps: &Steps,
) -> Result<(), BaseError> {
    for (i, sql) in tablespaces.iter().enumerate() {
        let step = format!("tablespace {i}");
        if !steps.done(&step) {
            session.define(sql.as_bytes(), "creating a tablespace").await?;
            session.exec(&note(&step)).await?;
        }
    }
    for schema in schemas {
        let name = quote::identifier(&schema.name);
        let step = format!("schema {name}");
        if steps.done(&step) {
            continue;
        }
        match session.define(schema.create.as_bytes(), &format!("creating schema {name}")).await {
            // Empty: the server was, or a load was cut off right here.
            Err(e) if e.code() == Some(1007) && is_empty(session, &schema.name).await? => {
                session.exec(&format!("DROP DATABASE {name}")).await?;
                session.define(schema.create.as_bytes(), &format!("creating schema {name}")).await?;
            }
            other => drop(other?),
        }
        session.exec(&note(&step)).await?;
    }
    Ok(())
}

async fn make_servers(session: &mut Session, servers: &[crate::archive::logical::SqlText]) -> Result<(), BaseError> {
    for create in servers {
        match session.define(create.as_bytes(), "creating a foreign server").await {
            // Made by a load that was cut off; or the target's own.
            Err(e) if e.code() == Some(1476) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// The optimizer does without one that cannot be brought back, if worse.
async fn make_histograms(
    session: &mut Session,
    histograms: &[crate::archive::logical::SqlText],
) -> Result<Vec<String>, BaseError> {
    let mut warnings = Vec::new();
    for sql in histograms {
        let sql = String::from_utf8_lossy(sql.as_bytes()).into_owned();
        let refused = match session.query(&sql).await {
            Err(e) if e.code().is_some() => Some(e.message().to_owned()),
            rows => rows?.iter().find(|row| text(row, 2).eq_ignore_ascii_case("error")).map(|row| text(row, 3)),
        };
        if let Some(why) = refused {
            let what = sql.split_once(" USING DATA ").map_or(sql.as_str(), |(what, _)| what);
            warnings.push(format!("a histogram was not restored ({what}): {why}"));
        }
    }
    Ok(warnings)
}

async fn is_empty(session: &mut Session, schema: &str) -> Result<bool, BaseError> {
    let schema = quote::text(schema);
    let sql = format!(
        "SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema}) \
         + (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {schema}) \
         + (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {schema})"
    );
    Ok(session.value(&sql).await? == "0")
}
