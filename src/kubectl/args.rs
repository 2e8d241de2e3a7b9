//! What can be typed.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::logs::Object;
use crate::api::Size;

/// Backups, binlog streaming and point-in-time restores of MySQL and MariaDB in this cluster: what is safe, a backup now, a restore.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-tidemark",
    bin_name = "kubectl tidemark",
    version,
    propagate_version = true,
    max_term_width = 120,
    after_help = "\
Exit codes: 0 done, 1 failed (also: --wait saw it fail), 2 usage.

It does with your own account what kubectl would: it reads and makes the objects of tidemark.dev, and the operator does the work.
Interrupting it stops nothing but itself."
)]
pub struct Cli {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Which cluster, and where in it: as kubectl takes them.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Namespace; that of the context when absent.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; its current one when absent.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig; else that of KUBECONFIG, ~/.kube/config, or the pod's own account.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Am I safe? What can be restored, drawn on a line of time; gaps, lag, the next full.
    #[command(after_help = "\
Examples:
  kubectl tidemark status                     every policy of the namespace
  kubectl tidemark status orders -n shop
  kubectl tidemark status -A                  of the whole cluster
  kubectl tidemark status orders -o json | jq '.policies[0].windows'

All moments are UTC, in the form that `restore --to-time` takes. A full whose
FullBackup is gone is drawn only where a window begins, or as the newest.")]
    Status(StatusArgs),
    /// Take one full backup now.
    #[command(after_help = "\
Examples:
  kubectl tidemark backup orders
  kubectl tidemark backup orders --name before-the-migration --wait

It makes a FullBackup. Deleting that object leaves the archive as it is.")]
    Backup(BackupArgs),
    /// Find what is lost, damaged or foreign in the archive now, and which restores that affects.
    #[command(after_help = "\
Examples:
  kubectl tidemark verify orders             names, sizes and GTIDs: seconds
  kubectl tidemark verify orders --deep      every byte; goes on without this command when it is interrupted

It sets the annotation tidemark.dev/verify-now of the BackupPolicy, which no manifest in Git needs to have, and follows
status.verification. Exits with 1 when something is found, or when it fails.")]
    Verify(VerifyArgs),
    /// Restore to a moment, a transaction or a position, into a fresh server. Nothing that exists is touched.
    #[command(
        group(ArgGroup::new("target").args(["to_time", "to_gtid", "to_position", "latest"]).required(true)),
        after_help = "\
Examples:
  kubectl tidemark restore orders --to-time 2026-11-21T03:04:05+01:00 --name orders-rescue --image mysql:9.7 --storage 50Gi --dry-run
  kubectl tidemark restore orders --to-time 2026-11-21T03:04:05+01:00 --name orders-rescue --image mysql:9.7 --storage 50Gi --wait
  kubectl tidemark restore orders --to-gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:23 --exclusive --name orders-rescue …
                                              everything before that transaction

It makes a RestoreRequest: a server of that image with a disk, a Service NAME and the Secret NAME-root, which nobody else can
connect to before it is proved. `kubectl explain restorerequest.spec` tells what a manifest can say beyond this, such as
intoExisting: a server that exists."
    )]
    Restore(Box<RestoreArgs>),
    /// Logs of the pods that work for a policy, a full or a restore.
    #[command(after_help = "\
Examples:
  kubectl tidemark logs policy/orders --tail 50       its stream, and the Jobs of its fulls
  kubectl tidemark logs full/orders-now-x7k2p -f
  kubectl tidemark logs restore/orders-rescue -f

Each line begins with POD/CONTAINER. -f follows the pods there are now. Jobs that ended keep their pods for a day.")]
    Logs(LogsArgs),
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One policy; all of them when absent.
    #[arg(value_name = "POLICY")]
    pub policy: Option<String>,
    /// In all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["policy", "namespace"])]
    pub all_namespaces: bool,
    /// Format.
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
}

/// `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The policy whose source is backed up.
    #[arg(value_name = "POLICY")]
    pub policy: String,
    /// Name of the FullBackup; POLICY-now-xxxxx when absent.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Show its progress until it has ended.
    #[arg(short, long)]
    pub wait: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The policy whose archive is verified.
    #[arg(value_name = "POLICY")]
    pub policy: String,
    /// Read every byte of every object, too.
    #[arg(long)]
    pub deep: bool,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The policy whose archive is restored.
    #[arg(value_name = "POLICY")]
    pub policy: String,
    /// To the last transaction committed at or before this moment: RFC 3339 with a zone, down to microseconds.
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
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
    #[arg(long, conflicts_with = "latest")]
    pub exclusive: bool,
    /// Leave these transactions out.
    #[arg(long, value_name = "SET")]
    pub skip_gtid: Option<String>,
    /// Restore the nearest earlier moment when the archive cannot reach the target.
    #[arg(long)]
    pub allow_nearest: bool,
    /// Read the archive as its S3 bucket held it at this moment (RFC 3339 with a zone, by the store's clock): behind what was deleted and
    /// overwritten since. The bucket must have had versioning then.
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    pub as_of: Option<String>,
    /// Secret of the namespace that opens an encrypted archive: its key `identity`, or KEY.
    #[arg(long, value_name = "NAME[/KEY]")]
    pub identity_secret: Option<String>,
    /// Name of the RestoreRequest, the server, and its Service.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Image of the server: of the source's flavor, no older than the source.
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// Size of its disk, such as 50Gi.
    #[arg(long, value_name = "SIZE")]
    pub storage: Size,
    /// Storage class of its disk; the cluster's default when absent.
    #[arg(long, value_name = "NAME")]
    pub storage_class: Option<String>,
    /// Show the plan and make nothing: which full, which binlogs, how many bytes, how long.
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Show its progress until the server is proved and open.
    #[arg(short, long)]
    pub wait: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// policy/NAME, full/NAME or restore/NAME; kubectl's names of the kinds do as well.
    #[arg(value_name = "KIND/NAME")]
    pub object: Object,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// The last lines only, of each container.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(i64).range(0..))]
    pub tail: Option<i64>,
    /// Of the containers that ran before those that run now.
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
}

/// Format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Human,
    /// One JSON document.
    Json,
}

fn moment(text: &str) -> Result<String, String> {
    match text.parse::<Timestamp>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("write a moment with its zone, such as 2026-11-21T03:04:05Z or 2026-11-21T04:04:05.678901+01:00"
                .to_owned())
        }
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
    fn a_moment_without_a_zone_is_refused_before_anything_is_made() {
        let parse = |target: &[&str]| {
            let rest = ["--name", "rescue", "--image", "mysql:9.7", "--storage", "1Gi"];
            Cli::try_parse_from([&["kubectl-tidemark", "restore", "orders"], target, &rest].concat())
        };
        assert!(parse(&["--to-time", "2026-11-21T03:04:05+01:00"]).is_ok());
        let refused = parse(&["--to-time", "2026-11-21 03:04:05"]).unwrap_err().to_string();
        assert!(refused.contains("write a moment with its zone"), "{refused}");
        // Exactly one target.
        assert!(parse(&[]).is_err());
        assert!(parse(&["--latest", "--to-gtid", "0-1-2"]).is_err());
    }
}
