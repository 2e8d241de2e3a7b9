//! Whether the copies of an archive hold what the first store holds, as the stream's pod says. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::Validated;
use crate::api::CopyStatus;
use crate::api::report::{CopyReport, StreamReport};
use crate::controller::conditions::{Verdict, word};
use crate::controller::figures::shortened;

/// A copy that was last up to the first store longer ago than this is behind.
const BEHIND: Duration = Duration::from_secs(900);
const ERROR_CHARS: usize = 300;

/// What is said of them; none where a policy has none.
pub fn verdict(validated: &Validated, stream: Option<&StreamReport>, now: Timestamp) -> Option<Verdict> {
    if validated.copies.is_empty() {
        return None;
    }
    let Some(stream) = stream else {
        return Some(Verdict::unknown("NotReporting", "the stream's pod fills the copies, and does not report"));
    };
    let mut waits = None;
    for name in validated.copies.iter().map(|copy| &copy.name) {
        let copy = find(stream, name);
        if let Some(error) = copy.and_then(|copy| copy.error.as_ref()) {
            let since = copy.and_then(|copy| copy.as_of.as_deref()).unwrap_or("its beginning");
            let message =
                format!("copy {name} is not filled since {since}: {}", shortened(&error.message, ERROR_CHARS));
            return Some(Verdict::no(&word(&error.reason), message));
        }
        match copy.and_then(|copy| copy.as_of.as_ref()?.parse::<Timestamp>().ok()) {
            None => waits = Some(format!("copy {name} is being filled")),
            Some(as_of) if Duration::try_from(now.duration_since(as_of)).unwrap_or_default() > BEHIND => {
                let message =
                    format!("copy {name} holds what the first store held at {as_of}: it takes longer than it should");
                return Some(Verdict::no("CopyBehind", message));
            }
            Some(_) => {}
        }
    }
    Some(match waits {
        Some(message) => Verdict::unknown("Filling", message),
        None => Verdict::yes("UpToDate", "the copies hold what the first store holds"),
    })
}

/// Each of them, in the spec's order. What is not reported now is as it was.
pub fn statuses(validated: &Validated, stream: Option<&StreamReport>, old: &[CopyStatus]) -> Vec<CopyStatus> {
    let of = |name: &String| {
        let before = old.iter().find(|copy| copy.name == *name).cloned();
        let before = before.unwrap_or_else(|| CopyStatus { name: name.clone(), ..CopyStatus::default() });
        match stream.and_then(|stream| find(stream, name)) {
            Some(CopyReport { name, as_of, bytes: _, error }) => CopyStatus {
                name: name.clone(),
                as_of: as_of.clone().or(before.as_of),
                error: error.as_ref().map(|error| shortened(&error.message, ERROR_CHARS)),
            },
            None => before,
        }
    };
    validated.copies.iter().map(|copy| of(&copy.name)).collect()
}

fn find<'a>(stream: &'a StreamReport, name: &str) -> Option<&'a CopyReport> {
    stream.copies.iter().find(|copy| copy.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::BackupPolicy;
    use crate::api::report::PodError;
    use crate::controller::backup_policy::validate;

    fn policy(copies: &str) -> Validated {
        let text = format!(
            "{{apiVersion: tidemark.dev/v1alpha1, kind: BackupPolicy, metadata: {{name: orders, namespace: shop}}, spec: {{source: {{host: db, \
             credentialsSecretRef: {{name: l}}}}, storage: {{s3: {{bucket: abc}}}}, copies: {copies}}}}}"
        );
        let policy: BackupPolicy = serde_yaml::from_str(&text).unwrap();
        validate(&policy).unwrap()
    }

    #[test]
    fn copies_are_up_to_date_only_when_each_of_them_is() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let two =
            policy("[{name: a, storage: {s3: {bucket: bcd}}}, {name: b, storage: {fs: {path: /b, claimName: c}}}]");
        let copy = |name: &str, as_of: Option<&str>, error: Option<&str>| CopyReport {
            name: name.to_owned(),
            as_of: as_of.map(str::to_owned),
            bytes: 1,
            error: error.map(|reason| PodError { reason: reason.to_owned(), message: "m".to_owned(), transient: true }),
        };
        let told = |copies: &[CopyReport]| {
            let stream = StreamReport { copies: copies.to_vec(), ..StreamReport::default() };
            let verdict = verdict(&two, Some(&stream), now).unwrap();
            (verdict.holds, verdict.reason)
        };
        let (fresh, old) = (Some("2026-11-28T11:59:55Z"), Some("2026-11-28T11:40:00Z"));
        assert_eq!(told(&[copy("a", fresh, None), copy("b", fresh, None)]), (Some(true), "UpToDate".to_owned()));
        assert_eq!(told(&[copy("a", fresh, None)]), (None, "Filling".to_owned()));
        assert_eq!(told(&[copy("a", fresh, None), copy("b", old, None)]), (Some(false), "CopyBehind".to_owned()));
        let failing = [copy("a", fresh, Some("StoreDenied")), copy("b", fresh, None)];
        assert_eq!(told(&failing), (Some(false), "StoreDenied".to_owned()));
        assert_eq!(verdict(&two, None, now).unwrap().holds, None);
        assert!(verdict(&policy("[]"), None, now).is_none());

        // What was known stays, as long as the copy is there.
        let stream = StreamReport { copies: vec![copy("a", fresh, None)], ..StreamReport::default() };
        let known = |name: &str| CopyStatus { name: name.to_owned(), as_of: old.map(str::to_owned), error: None };
        let statuses = statuses(&two, Some(&stream), &[known("b"), known("gone")]);
        let seen: Vec<_> = statuses.iter().map(|copy| (copy.name.as_str(), copy.as_of.as_deref())).collect();
        assert_eq!(seen, [("a", fresh), ("b", old)]);
    }
}
