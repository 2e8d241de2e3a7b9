//! What can be typed. No argument carries a secret: those come from Secret documents or the environment.

mod archive;
mod operator;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::api::TlsMode;
pub use archive::{ArchiveArgs, AsOfArgs, CopyArgs, PruneArgs, RekeyArgs, RepairArgs, ServeArgs, VerifyArgs};
pub use operator::OperatorArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0  done (`stream`, `run` and `serve`: stopped by a signal after finishing what was under way)
  1  failed
  2  usage, or an invalid manifest
  3  restore refused: the target is outside what can be restored, or the server to restore into is not fit; or a full that must
     not be deleted
  4  the archive is damaged, or was written by a newer version
  5  a server or a store cannot be reached or refuses the login

Manifests: FILE holds BackupPolicy, RestoreRequest (tidemark.dev/v1alpha1) and Secret (v1) documents, as one would
`kubectl apply` them. `-f` may be given several times; `-f -` reads standard input. `--secrets DIR` adds Secrets from a folder:
DIR/orders-login/username and DIR/orders-login/password are the Secret orders-login.";

/// Backups, binlog streaming and point-in-time restores with proof, for MySQL and MariaDB.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, after_help = EXIT_CODES, propagate_version = true, max_term_width = 120)]
pub struct Cli {
    /// Log format; `auto` is human on a terminal and JSON otherwise.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Auto, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log more (-v debug, -vv trace); RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Schedule fulls and verifies and stream the binary log, for every policy in FILE, until stopped.
    #[command(after_help = "\
Examples:
  tidemark run -f policy.yaml
  tidemark run -f policies/orders.yaml -f policies/users.yaml -f secrets.yaml

Takes a full at once where the archive holds none, then by schedule; makes up for a missed run within
startingDeadlineSeconds; restarts a stream that fails, with growing pauses. SIGTERM and SIGINT end it gracefully.")]
    Run(RunArgs),
    /// Take one full backup now.
    #[command(after_help = "\
Examples:
  tidemark backup -f policy.yaml
  tidemark backup -f policies.yaml --policy orders -o json
  tidemark backup -f policy.yaml --secrets secrets/ --report-listen 0.0.0.0:8080 --outcome /dev/termination-log")]
    Backup(BackupArgs),
    /// Archive the binary log until stopped.
    #[command(after_help = "\
Examples:
  tidemark stream -f policy.yaml
  tidemark stream -f policy.yaml --secrets secrets/ --report-listen 0.0.0.0:8080

Resumes where the archive ends; SIGTERM and SIGINT store what was read and end it. One source may be streamed by
two processes: they can only agree.

With --report-listen it does not end when something fails, as in a pod that should say what is wrong: it reports the
error (/status, /metrics; /readyz turns 503), tries again with growing pauses, and at once when FILE or DIR change, so
that rotated credentials need no restart.")]
    Stream(StreamArgs),
    /// Show what can be restored: windows, fulls, gaps, lag.
    #[command(after_help = "\
Examples:
  tidemark status -f policy.yaml
  tidemark status -f policy.yaml -o json | jq '.policies[0].windows'

Reads the archive, and asks the source how far that is behind: without it, it says all the rest.")]
    Status(StatusArgs),
    /// Delete from the archive what the policy's retention lets go, or one full.
    #[command(after_help = "\
Examples:
  tidemark prune -f policy.yaml --dry-run
  tidemark prune -f policies.yaml --policy orders -o json
  tidemark prune -f policy.yaml --full 20261121T023000Z-3f2a

Says of every full and binlog file whether it stays, and why. Without spec.retention nothing is deleted; nothing is either while the archive
is damaged. What only an interrupted prune or backup left behind goes after a day. It may be stopped and run again at any time. What a restore
under way reads stays.

Of binlog files that stay, many small objects become few large ones (packs), unless the bucket keeps versions, where nothing would be freed. Every
verb reads on meanwhile; a tidemark older than packs refuses the archive from then on.")]
    Prune(PruneArgs),
    /// Fill the policy's copies (spec.copies) once.
    #[command(after_help = "\
Examples:
  tidemark copy -f policy.yaml
  tidemark copy -f policy.yaml --copy offsite

`run` and `stream` do this by themselves, all the time: this is for a job of your own, or to see what is wrong. What is damaged in the first
store is not copied; what is deleted there stays in a copy until the copy's own retention lets it go. It may be stopped and run again.")]
    Copy(CopyArgs),
    /// Make the policy's first store whole again from a copy.
    #[command(after_help = "\
Examples:
  tidemark repair -f policy.yaml --copy offsite

Brings back what the first store lacks: of a lost store all there is. What is there already stays as it is: delete what is damaged first, then
it is brought back. Afterwards `tidemark stream` goes on where the archive ends.")]
    Repair(RepairArgs),
    /// Encrypt what the archive holds anew, to the recipients that the policy names now.
    #[command(after_help = "\
Examples:
  tidemark rekey -f policy.yaml --secrets secrets/ --identity-secret backup-keys --dry-run
  tidemark rekey -f policy.yaml --secrets secrets/ --identity-secret backup-keys
  tidemark rekey -f policy.yaml --secrets secrets/ --identity-secret backup-keys --copy offsite

For when an identity may be known to somebody, or somebody leaves: name the new recipients in spec.encryption.recipients, then run this for the
first store and for each copy. What is encrypted to others, or in clear, is read, checked, written again, read back and only then deleted, so the
Secret must hold an identity of the new recipients beside the old ones. Names, times and GTIDs stay; so does every moment that can be restored.

It may be stopped and run again at any time, and goes on where it was. Restores under way keep what they read: run it again for that afterwards.
Nobody can take back what was read before, nor versions that a bucket keeps: who has the old identity and those can go on reading them.")]
    Rekey(RekeyArgs),
    /// Find what is lost, damaged or foreign in the archive, and say which restores that affects.
    #[command(after_help = "\
Examples:
  tidemark verify -f policy.yaml                                names, sizes and GTIDs: a few requests a full and a binlog file
  tidemark verify -f policy.yaml --deep                         every byte: checksums, decompression, events, rows
  tidemark verify -f policy.yaml --deep --limit-bytes-per-second 50Mi
  tidemark verify -f policy.yaml -o json | jq '.findings[]'

Finds objects that are lost, truncated, changed, swapped, copied or foreign, and missing GTIDs; exits with 4 if there are any. It reads the
archive alone, changes nothing of it, and may run beside everything else: what seems wrong is looked at twice.

A deep verify that was stopped, however hard, goes on where it was when it is run again within 7 days. For that it keeps the object
verify/state.json in the store; with credentials that may only read it keeps nothing, and begins anew.")]
    Verify(VerifyArgs),
    /// Restore an empty server to a chosen time, transaction or position, and prove it.
    #[command(
        group(ArgGroup::new("target").args(["to_time", "to_gtid", "to_position", "latest"])),
        after_help = "\
Examples:
  tidemark restore -f policy.yaml --latest --into 127.0.0.1:3307
  tidemark restore -f policy.yaml --to-time 2026-11-21T03:04:05.678901Z --into db2.example:3306 --dry-run
  tidemark restore -f policy.yaml --to-gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:23 --exclusive --into 127.0.0.1:3307
  tidemark restore -f policy.yaml --latest --into db2.example:3306 --serve-listen 0.0.0.0:3310 --serve-advertise backup.example
  tidemark restore -f policy.yaml --secrets secrets/ --identity-secret backup-key --latest --into 127.0.0.1:3307
  tidemark restore -f policy.yaml -f restore.yaml          (a RestoreRequest with intoExisting)

A GTID set means everything up to and with the last of its transactions; with --exclusive everything before the first.
The login of the server to restore into comes from --into-secret NAME (a Secret in FILE with the keys username and
password) or from TIDEMARK_TARGET_USERNAME (root when unset) and TIDEMARK_TARGET_PASSWORD. Never from an argument.

An encrypted archive is read with an age identity, which only a restore needs: the key `identity` of the Secret that
--identity-secret (or the RestoreRequest's decryption.identitySecretRef) names, one identity a line.

The base is sent to the server; the log it fetches itself, as a replica, from this process: on loopback unless --serve-listen
says where. A restore that was interrupted goes on where it stopped when it is started again.")]
    Restore(Box<RestoreArgs>),
    /// Offer the archive as a replication source: any replica can follow it.
    #[command(after_help = "\
Examples:
  TIDEMARK_SERVE_PASSWORD=… tidemark serve -f policy.yaml --listen 127.0.0.1:3310 --follow

then, on a MySQL replica:
  CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=3310, SOURCE_USER='tidemark',
    SOURCE_PASSWORD='…', SOURCE_AUTO_POSITION=1, SOURCE_SSL=0; START REPLICA;")]
    Serve(ServeArgs),
    /// Print the CustomResourceDefinitions.
    #[command(after_help = "\
Examples:
  tidemark crd | kubectl apply --server-side -f -")]
    Crd,
    /// Run the operator: make a cluster do what BackupPolicy, FullBackup and RestoreRequest objects say.
    #[command(after_help = "\
Examples:
  tidemark operator --image registry.example/tidemark:1.0 --lease-namespace tidemark-system
  tidemark operator --image tidemark:dev --namespace team-a --lease-namespace team-a --identity laptop

The cluster comes from KUBECONFIG, or from the pod's own account. The chart in charts/tidemark runs it with exactly the
permissions it needs. It holds no credential of a store or a database: the pods it makes do.")]
    Operator(OperatorArgs),
}

/// Where manifests come from.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// Manifests; `-` is standard input.
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder of Secrets as Kubernetes mounts them: DIR/<name of the Secret>/<key>. They count like Secret documents; the same name
    /// in FILE and in DIR is refused, as it is twice in FILE.
    #[arg(long, value_name = "DIR")]
    pub secrets: Option<PathBuf>,
}

/// Manifests and one policy of them.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Where manifests come from.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// The policy meant, when FILE holds several.
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
}

/// What a verb says of itself while it runs.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Report over HTTP: /healthz (the process lives), /readyz (it works), /status (JSON), /metrics (OpenMetrics). Not encrypted, no
    /// login: for a cluster's network. No credential and no row is in it.
    #[arg(long = "report-listen", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// How a verb says how it ended.
#[derive(Debug, Args)]
pub struct OutcomeArgs {
    /// Write how it ended, well or badly, as JSON of at most 4096 bytes: for /dev/termination-log.
    #[arg(long = "outcome", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `tidemark run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where manifests come from.
    #[command(flatten)]
    pub manifests: ManifestArgs,
}

/// `tidemark backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Manifests and policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Tables (or parts of large ones) read at the same time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
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

/// `tidemark stream`.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Manifests and policy.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// What it says of itself.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// `tidemark status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// As it was.
    #[command(flatten)]
    pub as_of: AsOfArgs,
    /// Format of the result on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
}

/// `tidemark restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The archive.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// As it was.
    #[command(flatten)]
    pub as_of: AsOfArgs,
    /// The RestoreRequest meant, when FILE holds several and no target is given here.
    #[arg(long, value_name = "NAME", conflicts_with = "target")]
    pub request: Option<String>,
    /// To the last transaction committed at or before this moment: RFC 3339 with a zone, down to microseconds.
    #[arg(long, value_name = "RFC3339")]
    pub to_time: Option<String>,
    /// Up to and with this transaction, or the last of this set.
    #[arg(long, value_name = "SET")]
    pub to_gtid: Option<String>,
    /// Up to this place in the source's binary log.
    #[arg(long, value_name = "FILE:POS")]
    pub to_position: Option<String>,
    /// Everything the archive holds.
    #[arg(long)]
    pub latest: bool,
    /// Stop before the target's transaction instead of after it.
    #[arg(long, requires = "target")]
    pub exclusive: bool,
    /// Leave these transactions out.
    #[arg(long, value_name = "SET", requires = "target")]
    pub skip_gtid: Option<String>,
    /// Restore the nearest earlier moment when the archive cannot reach the target.
    #[arg(long, requires = "target")]
    pub allow_nearest: bool,
    /// The empty server to restore into.
    #[arg(long, value_name = "HOST:PORT", requires = "target")]
    pub into: Option<String>,
    /// Secret in FILE with the login of the server to restore into.
    #[arg(long, value_name = "NAME", requires = "into")]
    pub into_secret: Option<String>,
    /// TLS of the connection to the server to restore into: VerifyIdentity, VerifyCA (--into-ca signed it, for whatever host), Required
    /// (any certificate) or Disabled.
    #[arg(long, value_name = "MODE", value_parser = tls_mode, default_value = "VerifyIdentity")]
    pub into_tls: TlsMode,
    /// PEM file with the certificate authority of the server to restore into.
    #[arg(long, value_name = "FILE", requires = "into")]
    pub into_ca: Option<PathBuf>,
    /// Secret in FILE or DIR that opens an encrypted archive: its key `identity`, or KEY.
    #[arg(long, value_name = "NAME[/KEY]", requires = "target")]
    pub identity_secret: Option<String>,
    /// Where this process offers the log that the server to restore into replays; loopback and a free port when absent, which
    /// suffices on that server's own host. For another host: an address it reaches. That connection is not encrypted.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub serve_listen: Option<SocketAddr>,
    /// Name or address by which the server to restore into reaches --serve-listen, when that is not the address itself.
    #[arg(long, value_name = "HOST")]
    pub serve_advertise: Option<String>,
    /// Tables loaded and transactions replayed at the same time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
    /// Print the plan and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Write FILE once the restore is proved, and do nothing where FILE is there: for a process that is started again whenever it ends.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub once: Option<PathBuf>,
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

/// Format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Human,
    /// One JSON document.
    Json,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

fn tls_mode(text: &str) -> Result<TlsMode, String> {
    match text {
        "Disabled" => Ok(TlsMode::Disabled),
        "Required" => Ok(TlsMode::Required),
        "VerifyCA" => Ok(TlsMode::VerifyCA),
        "VerifyIdentity" => Ok(TlsMode::VerifyIdentity),
        _ => Err("write Disabled, Required, VerifyCA or VerifyIdentity".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_argument_takes_a_password() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                assert!(!arg.get_id().as_str().contains("password"), "{}: {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
