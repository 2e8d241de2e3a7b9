//! `kubectl tidemark verify`.

use jiff::Timestamp;

use super::args::VerifyArgs;
use super::cluster::Cluster;
use super::error::Error;
use super::follow::{follow_by, verify_standing};
use crate::api::{BackupPolicy, VERIFY_NOW, VerificationStatus};

/// Asks for a verify, follows it, and shows what it found.
pub async fn run(cluster: &Cluster, args: VerifyArgs) -> Result<(), Error> {
    let VerifyArgs { policy: name, deep } = args;
    // A mistyped name is told with those there are.
    cluster.get::<BackupPolicy>(&name).await?;
    let request = request(deep, Timestamp::now());
    let asked = cluster.annotate::<BackupPolicy>(&name, VERIFY_NOW, &request).await?;
    let ended = follow_by(cluster, &asked, |policy| verify_standing(policy, &request)).await?;
    let found = ended.status.and_then(|status| status.verification).unwrap_or_default();
    report(&name, &found)
}

/// The annotation: another one for each request.
fn request(deep: bool, now: Timestamp) -> String {
    format!("{}@{now}", if deep { "Deep" } else { "Quick" })
}

/// Shows what the last verify found.
fn report(policy: &str, found: &VerificationStatus) -> Result<(), Error> {
    let at = found.last_run.clone().unwrap_or_else(|| "?".to_owned());
    let depth = found.depth.unwrap_or_default();
    match found.findings {
        Some(0) => {
            println!("intact: {at}, {depth:?}");
            Ok(())
        }
        findings => {
            found.shown.iter().for_each(|line| println!("{line}"));
            let affected = found.affected.clone().unwrap_or_else(|| "not known".to_owned());
            Err(Error::Damaged { policy: policy.to_owned(), findings: findings.unwrap_or_default(), affected })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_another_one_and_what_was_found_is_an_error() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(request(true, at("2026-11-29T10:00:00Z")), "Deep@2026-11-29T10:00:00Z");
        assert_ne!(request(false, at("2026-11-29T10:00:00Z")), request(false, at("2026-11-29T10:00:00.5Z")));
        let intact = VerificationStatus { findings: Some(0), ..VerificationStatus::default() };
        assert!(report("orders", &intact).is_ok());
        let damaged = VerificationStatus {
            findings: Some(2),
            affected: Some("full f".to_owned()),
            ..VerificationStatus::default()
        };
        let said = report("orders", &damaged).unwrap_err().to_string();
        assert_eq!(said, "the archive of orders is not what was stored: 2 findings; affected: full f");
        assert!(
            report("orders", &VerificationStatus::default()).is_err(),
            "who does not know does not say that it is intact"
        );
    }
}
