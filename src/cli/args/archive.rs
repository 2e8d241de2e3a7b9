//! Verbs of an archive alone.

use std::net::SocketAddr;

use clap::Args;
use jiff::Timestamp;

use super::{OutcomeArgs, Output, PolicyArgs, ReportArgs};
use crate::api::Size;

/// An archive: a policy's, or a copy of it.
#[derive(Debug, Args)]
pub struct ArchiveArgs {
    /// Manifests and policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Use this one of the policy's copies (spec.copies) instead of its first store.
    #[arg(long, value_name = "NAME")]
    pub copy: Option<String>,
}

/// An archive as it was.
#[derive(Debug, Args)]
pub struct AsOfArgs {
    /// Read the archive as its S3 bucket held it at this moment (RFC 3339 with a zone, by the store's clock): behind what was deleted and overwritten
    /// since. The bucket must have had versioning then.
    #[arg(long = "as-of", value_name = "RFC3339")]
    pub at: Option<Timestamp>,
}

/// `tidemark prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Delete this full alone. Refused when it is the last good one, or moments of the retention's window need it.
    #[arg(long, value_name = "ID")]
    pub full: Option<String>,
    /// Print the plan and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Format of the result on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
    /// What it says of itself.
    #[command(flatten)]
    pub report: ReportArgs,
    /// How it says how it ended.
    #[command(flatten)]
    pub outcome: OutcomeArgs,
}

/// `tidemark copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The archive; all copies where none is named.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Format of the result on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
}

/// `tidemark repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Manifests and policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The copy to read, to fill the first store from it.
    #[arg(long, value_name = "NAME", conflicts_with = "at", required_unless_present = "at")]
    pub copy: Option<String>,
    /// The moment to go back to, instead of reading a copy.
    #[command(flatten)]
    pub as_of: AsOfArgs,
    /// Of the policy's copies (spec.copies) the one to take back to that moment, instead of its first store.
    #[arg(long, value_name = "NAME", requires = "at")]
    pub into_copy: Option<String>,
    /// Say how much would be brought back and change nothing.
    #[arg(long, requires = "at")]
    pub dry_run: bool,
    /// Format of the result on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
}

/// `tidemark verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Read every byte of every object, too.
    #[arg(long)]
    pub deep: bool,
    /// Secret in FILE or DIR that opens an encrypted archive: its key `identity`, or KEY. Without it encrypted bytes are compared with their
    /// checksums, and not decoded.
    #[arg(long, value_name = "NAME[/KEY]", requires = "deep")]
    pub identity_secret: Option<String>,
    /// Read no more than this in a second, for example 50Mi.
    #[arg(long, value_name = "SIZE", requires = "deep", value_parser = rate)]
    pub limit_bytes_per_second: Option<Size>,
    /// Format of the result on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
    /// What it says of itself.
    #[command(flatten)]
    pub report: ReportArgs,
    /// How it says how it ended.
    #[command(flatten)]
    pub outcome: OutcomeArgs,
}

/// `tidemark rekey`.
#[derive(Debug, Args)]
pub struct RekeyArgs {
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Secret in FILE or DIR that opens what is old, and what is new: its key `identity`, or KEY, one identity a line.
    #[arg(long, value_name = "NAME[/KEY]")]
    pub identity_secret: String,
    /// Read no more than this in a second, for example 50Mi.
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    pub limit_bytes_per_second: Option<Size>,
    /// Say what would be written anew and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Format of the result on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
}

/// `tidemark serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3310")]
    pub listen: SocketAddr,
    /// Go on with what the stream archives from now on, instead of ending with what is there.
    #[arg(long)]
    pub follow: bool,
    /// Secret in FILE or DIR that opens an encrypted archive: its key `identity`, or KEY.
    #[arg(long, value_name = "NAME[/KEY]")]
    pub identity_secret: Option<String>,
    /// User that replicas log in as; the password comes from TIDEMARK_SERVE_PASSWORD.
    #[arg(long, value_name = "NAME", default_value = "tidemark")]
    pub user: String,
}

fn rate(text: &str) -> Result<Size, String> {
    match text.parse::<Size>() {
        Ok(Size(0)) => Err("0 would never end: write for example 50Mi, or leave it out".to_owned()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}
