//! `kubectl tidemark status`.

use std::io::{Write, stdout};

use jiff::Timestamp;
use serde::Serialize;
use snafu::ResultExt;

use super::args::{Output, StatusArgs};
use super::cluster::Cluster;
use super::error::{Error, PrintSnafu};
use super::paint::Paint;
use super::report::PolicyReport;
use crate::api::{BackupPolicy, FullBackup};

/// What `-o json` prints.
#[derive(Serialize)]
struct Report {
    policies: Vec<PolicyReport>,
}

/// Shows what can be restored.
pub async fn run(cluster: &Cluster, args: StatusArgs) -> Result<(), Error> {
    let StatusArgs { policy, all_namespaces, output } = args;
    let policies: Vec<BackupPolicy> = match &policy {
        Some(name) => vec![cluster.get(name).await?],
        None if all_namespaces => cluster.list(cluster.everywhere()).await?,
        None => cluster.list(cluster.api()).await?,
    };
    let fulls = if all_namespaces { cluster.everywhere() } else { cluster.api::<FullBackup>() };
    let fulls = cluster.list(fulls).await?;
    let report = Report { policies: policies.iter().map(|policy| PolicyReport::new(policy, &fulls)).collect() };
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report).context(PrintSnafu)?),
        Output::Human if report.policies.is_empty() => {
            let place =
                if all_namespaces { "this cluster".to_owned() } else { format!("namespace {}", cluster.namespace) };
            eprintln!("No BackupPolicy in {place}: nothing is protected.");
        }
        Output::Human => {
            let (now, paint) = (Timestamp::now(), Paint::of_stdout());
            let drawn: Vec<String> = report.policies.iter().map(|policy| policy.draw(now, paint)).collect();
            // A reader that has seen enough (head, a pager) is no failure.
            let _ = stdout().lock().write_all(drawn.join("\n").as_bytes());
        }
    }
    Ok(())
}
