use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cli::args::{CopyArgs, Output, RepairArgs};
use crate::cli::config::{self, Copy};
use crate::cli::manifests::ManifestError;
use crate::cli::output::say;
use crate::cli::progress::{Display, bytes};
use crate::cli::{copies, engine, output};
use crate::copies::{Copied, Copier};
use crate::model::Progress;

/// What `-o json` prints: one of these a copy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    from: String,
    to: String,
    /// Everything that the one held at this moment is in the other.
    as_of: String,
    objects: u64,
    bytes: u64,
    dry_run: bool,
}

/// Fills copies once.
pub async fn fill(args: CopyArgs, cancel: CancellationToken) -> anyhow::Result<()> {
    let (archive, all) = config::one_with_copies(&args.archive.policy)?;
    let chosen: Vec<&Copy> = match &args.archive.copy {
        Some(name) => vec![named(&all, name)?],
        None => all.iter().collect(),
    };
    if chosen.is_empty() {
        let message = format!("policy {} has no copies: name them in spec.copies", archive.name);
        return Err(ManifestError::Choice { message }.into());
    }
    let mut reports = Vec::new();
    for copy in chosen {
        let copier = copies::copier(&archive.store, copy).await?;
        reports.push(round(copier, args.output, &cancel).await?);
    }
    show(&reports, args.output)
}

/// Fills the first store from a copy, or takes it (or a copy) back to what it held at a moment.
pub async fn repair(args: RepairArgs, cancel: CancellationToken) -> anyhow::Result<()> {
    let (archive, copies) = config::one_with_copies(&args.policy)?;
    let first = engine::store(&archive.store)?;
    let copier = match (&args.copy, args.as_of.at) {
        (Some(name), _) => Copier::new(engine::store_to_read(&named(&copies, name)?.store)?, first, None),
        (None, Some(at)) => {
            let store = match &args.into_copy {
                Some(name) => engine::store(&named(&copies, name)?.store)?,
                None => first,
            };
            Copier::take_back(store, at, args.dry_run)?
        }
        (None, None) => {
            let message = "say from what: --copy NAME, or --as-of TIME".to_owned();
            return Err(ManifestError::Choice { message }.into());
        }
    };
    let report = Report { dry_run: args.dry_run, ..round(copier, args.output, &cancel).await? };
    match (args.output, args.as_of.at) {
        (Output::Human, Some(at)) => {
            let Report { to, objects, bytes: size, .. } = &report;
            let done =
                if args.dry_run { "would be brought back (--dry-run: nothing was changed)" } else { "brought back" };
            say!("{to} as it was at {at}: {objects} objects, {}, {done}", bytes(*size));
            Ok(())
        }
        _ => show(&[report], args.output),
    }
}

fn named<'a>(copies: &'a [Copy], name: &str) -> Result<&'a Copy, ManifestError> {
    copies.iter().find(|copy| copy.name == name).ok_or_else(|| {
        let names: Vec<&str> = copies.iter().map(|copy| copy.name.as_str()).collect();
        ManifestError::Choice { message: format!("spec.copies has no {name:?}; there are: {}", names.join(", ")) }
    })
}

async fn round(mut copier: Copier, output: Output, cancel: &CancellationToken) -> anyhow::Result<Report> {
    let progress = Progress::default();
    let display = Display::start(progress.clone(), output == Output::Human);
    let copied = copier.round(&progress, cancel).await;
    drop(display);
    let Copied { as_of, objects, bytes, fulls: _ } = copied?;
    let (from, to) = copier.stores();
    let (from, to) = (from.url().to_owned(), to.url().to_owned());
    Ok(Report { from, to, as_of: as_of.to_string(), objects, bytes, dry_run: false })
}

fn show(reports: &[Report], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&reports);
    }
    for Report { from, to, as_of, objects, bytes: size, dry_run: _ } in reports {
        say!("{to} holds what {from} held at {as_of}: {objects} objects copied, {}", bytes(*size));
    }
    Ok(())
}
