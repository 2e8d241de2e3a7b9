use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::archive::store::Store;
use crate::cli::args::{Output, RekeyArgs};
use crate::cli::config;
use crate::cli::output::say;
use crate::cli::progress::{Display, bytes};
use crate::cli::{engine, output};
use crate::model::Progress;
use crate::rekey::{self, Due, Options, RekeyError, Rekeyed};
use crate::retention::Room;

/// What `-o json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    policy: String,
    archive: String,
    /// Public keys that everything is encrypted to.
    recipients: Vec<String>,
    dry_run: bool,
    due: Due,
    /// What was done; none in a dry run.
    rekeyed: Option<Rekeyed>,
}

/// Encrypts anew what is encrypted to others than the policy's recipients, or in clear, and prints what was done.
pub async fn run(args: RekeyArgs, trace_id: &str, cancel: CancellationToken) -> anyhow::Result<()> {
    let (archive, recipients, level) = config::one_rekey(&args.archive, &args.identity_secret)?;
    let store = engine::archive_to_read(&archive, None)?;
    let progress = Progress::default();
    progress.begin("looking", 0);
    let display = Display::start(progress.clone(), args.output == Output::Human);
    let due = rekey::due(&store, &recipients).await?;
    let compression = engine::compression(level);
    let bytes_per_second = args.limit_bytes_per_second.map(|size| size.0);
    let names = recipients.names();
    let options = Options { recipients, compression, bytes_per_second, trace_id: trace_id.to_owned() };
    let rekeyed = match args.dry_run {
        true => None,
        false => Some(noted(&store, rekey::run(&store, &due, &options, &progress, &cancel).await?).await?),
    };
    drop(display);
    let (policy, archive) = (archive.name, store.url().to_owned());
    let report = Report { policy, archive, recipients: names, dry_run: args.dry_run, due, rekeyed };
    match args.output {
        Output::Json => output::json(&report)?,
        Output::Human => show(&report),
    }
    match report.rekeyed.map_or(0, |rekeyed| rekeyed.failed.len()) {
        0 => Ok(()),
        count => Err(RekeyError::Incomplete { count }.into()),
    }
}

/// With a word on what can still be read by who has the old identity.
async fn noted(store: &Store, mut rekeyed: Rekeyed) -> anyhow::Result<Rekeyed> {
    if rekeyed.left > 0 {
        rekeyed.notes.push(format!(
            "{} old objects stay: a restore under way may read them, the store holds them until their lock ends, or they are not a day old and may \
             be another rekey's; run it again later, it deletes them",
            rekeyed.left
        ));
    }
    if rekeyed.deleted > 0 && Room::of(store).await? != Room::Freed {
        rekeyed.notes.push(
            "the bucket keeps versions, or does not say: who has the old identity can read the old objects' versions until a rule of the bucket deletes \
             those that are not current (NoncurrentVersionExpiration; not before their lock ends)"
                .to_owned(),
        );
    }
    Ok(rekeyed)
}

fn show(report: &Report) {
    let Report { policy, archive, recipients, dry_run: _, due, rekeyed } = report;
    say!("policy {policy}");
    say!("  archive  {archive}");
    for recipient in recipients {
        say!("  for      {recipient}");
    }
    let Due { fulls, files, bytes: size, objects, open_files: _, problems } = due;
    let what = format!("{} fulls and {} binlog files ({objects} objects, {})", fulls.len(), files.len(), bytes(*size));
    match rekeyed {
        None => {
            say!("  due      {what} (--dry-run: nothing was changed)");
            for problem in problems {
                say!("  DAMAGE   {problem}");
            }
        }
        Some(Rekeyed { fulls, files, objects, bytes: size, deleted, left: _, failed, notes }) => {
            say!("  due      {what}");
            say!(
                "  written  {fulls} fulls and {files} binlog files ({objects} objects, {}); {deleted} old objects deleted",
                bytes(*size)
            );
            for problem in failed {
                say!("  LEFT     {problem}");
            }
            for note in notes {
                say!("  note     {note}");
            }
        }
    }
}
