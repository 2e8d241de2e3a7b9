//! The kubectl plugin: what a person asks of Tidemark in a cluster. It reads, makes and annotates objects and shows pods' logs; the work is the
//! operator's.
//!
//! ```text
//! args ──▶ cluster (who, where) ──▶ status │ backup │ verify │ restore │ logs
//! ```

mod args;
mod backup;
mod cluster;
mod error;
mod figures;
mod follow;
mod logs;
mod paint;
mod report;
mod restore;
mod status;
mod timeline;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use snafu::ResultExt;

use args::{Cli, Verb};
use cluster::Cluster;
use error::{Error, RuntimeSnafu};

/// Runs the verb that the process's arguments ask for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context(RuntimeSnafu)?;
    runtime.block_on(async {
        let cluster = Cluster::connect(&cli.cluster).await?;
        match cli.verb {
            Verb::Status(args) => status::run(&cluster, args).await,
            Verb::Backup(args) => backup::run(&cluster, args).await,
            Verb::Verify(args) => verify::run(&cluster, args).await,
            Verb::Restore(args) => restore::run(&cluster, *args).await,
            Verb::Logs(args) => logs::run(&cluster, args).await,
        }
    })
}
