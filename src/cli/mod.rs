//! Arguments → validated config → one verb a file; exit codes.
//!
//! ```text
//! args ──▶ manifests (files → documents) ──▶ config (documents → what was meant) ──▶ verbs ──▶ exit
//! ```

pub mod args;
pub(crate) mod config;
mod copies;
mod engine;
mod exit;
mod inspect;
mod logging;
pub mod manifests;
mod output;
mod progress;
mod protection;
mod reason;
mod report;
mod shutdown;
mod source;
mod supervise;
mod verbs;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use args::{Cli, Verb};

/// Runs the verb that the process's arguments ask for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let trace_id = logging::trace_id();
    logging::init(cli.log_format, cli.verbose, &trace_id);
    match run(cli.verb, &trace_id) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = exit::of(&error);
            tracing::debug!(?error, exit = exit as u8, "failed");
            eprintln!("error: {}", exit::text(&error));
            exit.into()
        }
    }
}

fn run(verb: Verb, trace_id: &str) -> anyhow::Result<()> {
    if let Verb::Crd = verb {
        return verbs::crd::run();
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _failpoints = fail::FailScenario::setup();
    // Two workers move bytes as fast as one source and one store can; more only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(verb_of(verb, trace_id));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    done
}

async fn verb_of(verb: Verb, trace_id: &str) -> anyhow::Result<()> {
    let shutdown = shutdown::token().context("cannot listen for signals")?;
    match verb {
        Verb::Run(args) => verbs::run::run(args, trace_id, shutdown).await,
        Verb::Backup(args) => verbs::backup::run(args, trace_id, shutdown).await,
        Verb::Stream(args) => verbs::stream::run(args, trace_id, shutdown).await,
        Verb::Serve(args) => verbs::serve::run(args, shutdown).await,
        Verb::Operator(args) => verbs::operator::run(args, shutdown).await,
        Verb::Crd => verbs::crd::run(),
        Verb::Status(args) => verbs::status::run(args).await,
        Verb::Copy(args) => verbs::copy::fill(args, shutdown).await,
        Verb::Repair(args) => verbs::copy::repair(args, shutdown).await,
        Verb::Prune(args) => verbs::prune::run(args, shutdown).await,
        Verb::Rekey(args) => verbs::rekey::run(args, trace_id, shutdown).await,
        Verb::Verify(args) => verbs::verify::run(args, shutdown).await,
        Verb::Restore(args) => verbs::restore::run(*args, trace_id, shutdown).await,
    }
}
