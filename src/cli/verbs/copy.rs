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

/// Fills the first store from a copy.
pub async fn repair(args: RepairArgs, cancel: CancellationToken) -> anyhow::Result<()> {
    let (archive, copies) = config::one_with_copies(&args.policy)?;
    let copy = named(&copies, &args.copy)?;
    let (from, to) = (engine::store_to_read(&copy.store)?, engine::store(&archive.store)?);
    let report = round(Copier::new(from, to, None), args.output, &cancel).await?;
    show(&[report], args.output)
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
    Ok(Report { from, to, as_of: as_of.to_string(), objects, bytes })
}

fn show(reports: &[Report], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return output::json(&reports);
    }
    for Report { from, to, as_of, objects, bytes: size } in reports {
        say!("{to} holds what {from} held at {as_of}: {objects} objects copied, {}", bytes(*size));
    }
    Ok(())
}
