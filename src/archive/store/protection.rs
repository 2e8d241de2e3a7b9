//! What a bucket does against the loss of what it holds, and what a policy asks of it. Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const DAY: u64 = 24 * 3600;

/// Who may undo a lock before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum LockMode {
    /// Who has a permission of its own for that (`s3:BypassGovernanceRetention`).
    Governance,
    /// Nobody, not even the account's root.
    Compliance,
}

/// How long each version of an object can neither be deleted nor changed, from when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who may undo it.
    pub mode: LockMode,
    /// How long.
    pub lasts: Duration,
}

/// Whether a bucket keeps what is deleted and overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Versioning {
    /// It does: a delete hides an object, an overwrite adds a version.
    Enabled,
    /// It did, and keeps what it has kept.
    Suspended,
    /// It never did: what is deleted is gone.
    Off,
    /// These credentials may not ask, or the store does not say.
    Unknown,
}

/// Whether a bucket can lock what it holds (Object Lock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// It can; this is what it does by itself with every object, if anything.
    On(Option<Lock>),
    /// It cannot.
    Off,
    /// These credentials may not ask, or the store does not say.
    Unknown,
}

/// What a bucket says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// Whether it locks them.
    pub locks: Locks,
}

/// How what a policy asks for comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The bucket does at least that by itself.
    ByBucket,
    /// Each object is written with its lock.
    EachObject,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.lasts.as_secs();
        match seconds.is_multiple_of(DAY) {
            true => write!(f, "{:?} for {} day(s)", self.mode, seconds / DAY),
            false => write!(f, "{:?} for {} hour(s)", self.mode, seconds.div_ceil(3600)),
        }
    }
}

/// How `asked` comes about in a bucket, or what stands in the way, with the way out.
pub(super) fn how(asked: Lock, locks: Locks, bucket: &str) -> Result<How, String> {
    match locks {
        Locks::On(None) => Ok(How::EachObject),
        Locks::On(Some(default)) if default.mode >= asked.mode && default.lasts >= asked.lasts => Ok(How::ByBucket),
        Locks::On(Some(default)) if asked.mode >= default.mode && asked.lasts >= default.lasts => Ok(How::EachObject),
        Locks::On(Some(default)) => Err(format!(
            "the policy asks for {asked}, and the bucket's own default is {default}: each is weaker than the other in one way, and what objects \
             are written with replaces the default; ask for at least the default in both, or change it"
        )),
        Locks::Off => Err(format!(
            "the policy asks for immutability, and Object Lock is off in the bucket: switch it on (`aws s3api put-bucket-versioning --bucket {bucket} \
             --versioning-configuration Status=Enabled`, then `aws s3api put-object-lock-configuration --bucket {bucket} \
             --object-lock-configuration ObjectLockEnabled=Enabled`; some stores can do so only when a bucket is made), or remove \
             spec.immutability"
        )),
        Locks::Unknown => Err(
            "the policy asks for immutability, and the store does not say whether the bucket has Object Lock: allow these credentials \
             s3:GetBucketObjectLockConfiguration, or remove spec.immutability"
                .to_owned(),
        ),
    }
}

/// What a store answers to `GET ?versioning`.
pub(super) fn parse_versioning(xml: &[u8]) -> Result<Versioning, String> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct VersioningConfiguration {
        status: Option<String>,
    }
    let parsed: VersioningConfiguration = quick_xml::de::from_reader(xml).map_err(|e| e.to_string())?;
    match parsed.status.as_deref() {
        Some("Enabled") => Ok(Versioning::Enabled),
        Some("Suspended") => Ok(Versioning::Suspended),
        None | Some("") => Ok(Versioning::Off),
        Some(other) => Err(format!("a versioning status {other:?} is not known")),
    }
}

/// What a store answers to `GET ?object-lock`.
pub(super) fn parse_locks(xml: &[u8]) -> Result<Locks, String> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct ObjectLockConfiguration {
        object_lock_enabled: Option<String>,
        rule: Option<Rule>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Rule {
        default_retention: Option<DefaultRetention>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct DefaultRetention {
        mode: Option<String>,
        days: Option<u32>,
        years: Option<u32>,
    }
    let parsed: ObjectLockConfiguration = quick_xml::de::from_reader(xml).map_err(|e| e.to_string())?;
    if parsed.object_lock_enabled.as_deref() != Some("Enabled") {
        return Ok(Locks::Off);
    }
    let Some(retention) = parsed.rule.and_then(|rule| rule.default_retention) else { return Ok(Locks::On(None)) };
    let mode = match retention.mode.as_deref() {
        Some("GOVERNANCE") => LockMode::Governance,
        Some("COMPLIANCE") => LockMode::Compliance,
        None | Some("") => return Ok(Locks::On(None)),
        Some(other) => return Err(format!("a lock mode {other:?} is not known")),
    };
    let days = u64::from(retention.days.unwrap_or(0)) + 365 * u64::from(retention.years.unwrap_or(0));
    let lock = Lock { mode, lasts: Duration::from_secs(days * DAY) };
    Ok(Locks::On((days > 0).then_some(lock)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock(mode: LockMode, days: u64) -> Lock {
        Lock { mode, lasts: Duration::from_secs(days * DAY) }
    }

    #[test]
    fn what_a_bucket_says_of_itself_is_read() {
        let named = |inner: &str| {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 {inner}</ObjectLockConfiguration>"
            )
        };
        let rule = |inner: &str| {
            named(&format!(
                "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"
            ))
        };
        for (xml, locks) in [
            (named("<ObjectLockEnabled>Enabled</ObjectLockEnabled>"), Locks::On(None)),
            (named("<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule></Rule>"), Locks::On(None)),
            (named(""), Locks::Off),
            (rule("<Mode>COMPLIANCE</Mode><Days>30</Days>"), Locks::On(Some(lock(LockMode::Compliance, 30)))),
            (rule("<Mode>GOVERNANCE</Mode><Years>2</Years>"), Locks::On(Some(lock(LockMode::Governance, 730)))),
        ] {
            assert_eq!(parse_locks(xml.as_bytes()).unwrap(), locks, "{xml}");
        }
        assert!(parse_locks(rule("<Mode>ODD</Mode><Days>30</Days>").as_bytes()).is_err());
        assert!(parse_locks(rule("<Mode>COMPLIANCE</Mode><Days>-1</Days>").as_bytes()).is_err());
        for (status, versioning) in [
            ("<Status>Enabled</Status>", Versioning::Enabled),
            ("<Status>Suspended</Status>", Versioning::Suspended),
            ("", Versioning::Off),
        ] {
            let xml = format!("<VersioningConfiguration>{status}</VersioningConfiguration>");
            assert_eq!(parse_versioning(xml.as_bytes()).unwrap(), versioning);
        }
        assert_eq!(parse_versioning(b"<VersioningConfiguration/>").unwrap(), Versioning::Off);
    }

    #[test]
    fn what_a_policy_asks_for_never_weakens_what_the_bucket_does_and_is_refused_where_it_cannot_be_had() {
        use LockMode::{Compliance, Governance};
        let how = |asked: Lock, default: Lock| super::how(asked, Locks::On(Some(default)), "b");
        assert_eq!(how(lock(Governance, 14), lock(Compliance, 30)), Ok(How::ByBucket));
        assert_eq!(how(lock(Governance, 14), lock(Governance, 14)), Ok(How::ByBucket));
        assert_eq!(how(lock(Compliance, 14), lock(Governance, 14)), Ok(How::EachObject));
        assert_eq!(how(lock(Governance, 15), lock(Governance, 14)), Ok(How::EachObject));
        assert!(how(lock(Governance, 30), lock(Compliance, 10)).unwrap_err().contains("weaker"));
        assert!(how(lock(Compliance, 10), lock(Governance, 30)).is_err());
        assert_eq!(super::how(lock(Governance, 1), Locks::On(None), "b"), Ok(How::EachObject));
        let off = super::how(lock(Governance, 1), Locks::Off, "backups").unwrap_err();
        assert!(off.contains("put-object-lock-configuration --bucket backups"), "{off}");
        let unknown = super::how(lock(Governance, 1), Locks::Unknown, "b").unwrap_err();
        assert!(unknown.contains("s3:GetBucketObjectLockConfiguration"), "{unknown}");
        assert_eq!(lock(Compliance, 30).to_string(), "Compliance for 30 day(s)");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_fail_otherwise_than_by_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(<[A-Z][a-z]{0,9}/?>|</[A-Z][a-z]{0,9}>|&[a-z]*;|[0-9]{0,12}|\\PC){0,30}"
        ) {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _ = (parse_versioning(bytes), parse_locks(bytes));
            }
        }
    }
}
