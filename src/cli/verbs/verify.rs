use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::api::VerifyDepth;
use crate::api::report::{Outcome, VerifyOutcome};
use crate::archive::ArchiveError;
use crate::archive::crypt::Identities;
use crate::archive::store::StoreConfig;
use crate::cli::args::{Output, VerifyArgs};
use crate::cli::config::{self, Policy};
use crate::cli::output::say;
use crate::cli::progress::{Display, bytes, duration};
use crate::cli::report::{self, WorkSubject, outcome};
use crate::cli::{engine, output};
use crate::model::Progress;
use crate::retention::plan::Rules;
use crate::verify::{Depth, Ended, Options, Report, VerifyError, ended, verify};

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    policy: &'a str,
    archive: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Verifies an archive, prints what was found, and says how that ended. Findings are an error at the end.
pub async fn run(args: VerifyArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Outcome::default();
    let done = one(&args, &shutdown, &mut outcome).await;
    if let Some(file) = &args.outcome.file {
        outcome::write(file, outcome, done.as_ref().err());
    }
    done
}

async fn one(args: &VerifyArgs, cancel: &CancellationToken, outcome: &mut Outcome) -> anyhow::Result<()> {
    let (archive, rules, verify) = config::one_verify(&args.archive, args.identity_secret.as_deref())?;
    let progress = Progress::default();
    let _server = match args.report.listen {
        Some(listen) => {
            let subject = WorkSubject::new("verify", &archive.name, progress.clone());
            Some(report::serve(listen, subject, cancel).await?)
        }
        None => None,
    };
    let depth = if args.deep { Depth::Deep } else { Depth::Quick };
    let limit = args.limit_bytes_per_second.map(|size| size.0);
    let limit = limit.or(verify.as_ref().and_then(|verify| verify.bytes_per_second));
    let identities = match &verify {
        Some(verify) if args.deep && args.identity_secret.is_none() => verify.identities()?,
        _ => archive.identities.clone(),
    };
    let display = Display::start(progress.clone(), args.output == Output::Human);
    let (url, report) = of_archive(&archive.store, identities, &rules, depth, limit, &progress, cancel).await?;
    drop(display);
    outcome.verify = Some(outcome_of(&report));
    match args.output {
        Output::Json => output::json(&Shown { policy: &archive.name, archive: &url, report: &report })?,
        Output::Human => show(&archive.name, &url, &report),
    }
    match report.found() {
        0 => Ok(()),
        count => Err(VerifyError::Found { count }.into()),
    }
}

/// Verifies a policy's archive as its schedule wants it: for whoever runs for long. What is found is logged.
pub async fn by_policy(policy: &Policy, spec: &config::Verify, cancel: &CancellationToken) -> anyhow::Result<()> {
    let depth = depth_of(spec.depth);
    let progress = Progress::default();
    let identities = spec.identities()?;
    let limit = spec.bytes_per_second;
    let (_, report) = of_archive(&policy.store, identities, &policy.retention, depth, limit, &progress, cancel).await?;
    for finding in &report.findings {
        tracing::error!(policy = policy.name, affected = %finding.affected, "{finding}");
    }
    let (objects, bytes, findings) = (report.objects, report.bytes, report.found());
    let undecoded = report.undecoded_objects;
    if findings == 0 {
        tracing::info!(policy = policy.name, ?depth, objects, bytes, undecoded, "the archive is intact");
    } else {
        let affected = report.affected.to_string();
        tracing::error!(
            policy = policy.name,
            ?depth,
            objects,
            bytes,
            undecoded,
            findings,
            affected,
            "the archive is not what was stored"
        );
    }
    Ok(())
}

/// When a verify of that depth last began that came to its end.
pub async fn last(policy: &Policy, depth: VerifyDepth) -> anyhow::Result<Option<Timestamp>> {
    let store = match engine::store_to_read(&policy.store) {
        Ok(store) => store,
        // Nothing was archived there yet.
        Err(error) if matches!(error.downcast_ref(), Some(ArchiveError::Missing { .. })) => return Ok(None),
        Err(error) => return Err(error),
    };
    let wanted = |ended: &Ended| depth == VerifyDepth::Quick || ended.depth == Depth::Deep;
    Ok(ended(&store).await?.into_iter().filter(wanted).map(|ended| ended.began).max())
}

fn depth_of(depth: VerifyDepth) -> Depth {
    match depth {
        VerifyDepth::Quick => Depth::Quick,
        VerifyDepth::Deep => Depth::Deep,
    }
}

/// Verifies the archive of a store, whose retention has these rules.
async fn of_archive(
    store: &StoreConfig,
    identities: Identities,
    rules: &Rules,
    depth: Depth,
    bytes_per_second: Option<u64>,
    progress: &Progress,
    cancel: &CancellationToken,
) -> anyhow::Result<(String, Report)> {
    let store = engine::store_to_read(store)?.with_identities(identities);
    let options = Options { depth, bytes_per_second, kept_since: kept_since(rules, Timestamp::now()) };
    let report = verify(&store, &options, progress, cancel).await?;
    Ok((store.url().to_owned(), report))
}

/// From when on retention keeps the log: with a window its beginning, else since the oldest full that it keeps.
fn kept_since(rules: &Rules, now: Timestamp) -> Option<Timestamp> {
    let window = SignedDuration::try_from(rules.window?).unwrap_or(SignedDuration::MAX);
    Some(now.checked_sub(window).unwrap_or(Timestamp::MIN))
}

fn outcome_of(report: &Report) -> VerifyOutcome {
    let shown = report.findings.iter().map(|finding| format!("{finding}; affected: {}", finding.affected));
    VerifyOutcome {
        at: report.finished_at.to_string(),
        depth: format!("{:?}", report.depth),
        objects: report.objects,
        bytes: report.bytes,
        undecoded: report.undecoded_objects,
        findings: report.found(),
        shown: shown.collect(),
        affected: if report.found() == 0 { String::new() } else { report.affected.to_string() },
    }
}

fn show(policy: &str, archive: &str, report: &Report) {
    say!("policy {policy}");
    say!("  archive   {archive}");
    let (objects, all) = (report.objects, bytes(report.bytes));
    let took = report.finished_at.duration_since(report.started_at).unsigned_abs();
    match report.depth {
        Depth::Quick => say!("  compared  {objects} objects of {all} with what names them, in {}", duration(took)),
        Depth::Deep => {
            say!("  compared  {objects} objects of {all} with what names them");
            let before = match report.resumed_objects {
                0 => String::new(),
                before => format!("; {before} were read before, since {}", report.started_at),
            };
            say!(
                "  read      {} objects, {}, in {}{before}",
                report.read_objects,
                bytes(report.read_bytes),
                duration(took)
            );
        }
    }
    for finding in &report.findings {
        say!("  DAMAGE    {finding}");
        say!("            affected: {}", finding.affected);
    }
    if report.more > 0 {
        say!("  DAMAGE    and {} more findings in the same folders", report.more);
    }
    if report.found() > 1 {
        say!("  AFFECTED  by all of it: {}", report.affected);
    }
    for note in &report.notes {
        say!("  note      {note}");
    }
    if report.leftovers > 0 {
        say!(
            "  leftover  {} objects that nothing refers to: of a full under way, or of what was interrupted",
            report.leftovers
        );
    }
    if report.undecoded_objects > 0 {
        say!(
            "  encrypted {} objects were compared with the checksums they were stored with, and NOT decoded: --identity-secret decodes them",
            report.undecoded_objects
        );
    }
    if report.found() == 0 {
        match report.depth {
            Depth::Quick => say!("  intact    as far as names, sizes and GTIDs tell; --deep reads every byte"),
            Depth::Deep => say!("  intact    every byte is what was stored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn only_a_window_lets_a_log_begin_later_than_a_full() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let rules = |window: Option<u64>, last: u32| Rules {
            window: window.map(Duration::from_secs),
            last,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            zone: TimeZone::UTC,
        };
        assert_eq!(kept_since(&rules(None, 0), now), None);
        assert_eq!(kept_since(&rules(None, 3), now), None, "the log since the oldest full that is kept stays");
        assert_eq!(kept_since(&rules(Some(3600), 3), now), Some("2026-11-28T11:00:00Z".parse().unwrap()));
        assert_eq!(kept_since(&rules(Some(u64::MAX), 0), now), Some(Timestamp::MIN));
    }
}
