use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::cli::args::OperatorArgs;
use crate::controller::{self, OperatorConfig};

/// Runs the operator until `shutdown`.
pub async fn run(args: OperatorArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let identity = match args.identity {
        Some(identity) => identity,
        None => {
            std::env::var("HOSTNAME").context("--identity: name this operator (HOSTNAME, a pod's name, is not set)")?
        }
    };
    let config = OperatorConfig {
        image: args.image,
        namespace: args.namespace,
        listen: args.listen,
        lease_namespace: args.lease_namespace,
        identity,
        concurrency: args.concurrency,
    };
    Ok(controller::run(config, shutdown).await?)
}
