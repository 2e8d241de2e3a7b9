//! Arguments of the operator.

use std::net::SocketAddr;

use clap::Args;

/// Arguments of `operator`.
#[derive(Debug, Args)]
pub struct OperatorArgs {
    /// Image of the pods it makes: its own.
    #[arg(long, value_name = "IMAGE", env = "TIDEMARK_IMAGE")]
    pub image: String,
    /// Look after this namespace only, instead of all of them.
    #[arg(long, value_name = "NAMESPACE", env = "TIDEMARK_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where liveness, readiness and metrics are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Namespace of the Lease by which one operator leads: its own.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub lease_namespace: String,
    /// Name of this operator as a holder of the Lease; the host's name when absent.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// Objects of a kind that are looked at at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
}
