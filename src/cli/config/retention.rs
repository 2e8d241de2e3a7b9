//! How long archives are kept: the first store's, and each copy's.

use jiff::tz::TimeZone;

use super::immutability::locked;
use super::storage_of;
use crate::api::{BackupPolicy, CopySpec, RetentionSpec, StorageSpec, rate_problem};
use crate::archive::store::StoreConfig;
use crate::cli::manifests::{Document, Documents, Problem};
use crate::retention::plan::Rules;

/// A further store.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Its name.
    pub name: String,
    /// The store.
    pub store: StoreConfig,
    /// What of it may go.
    pub retention: Rules,
    /// Most bytes that are copied in a second.
    pub bytes_per_second: Option<u64>,
}

/// A policy's copies.
pub fn copies_of(document: &Document<BackupPolicy>, documents: &Documents, problems: &mut Vec<Problem>) -> Vec<Copy> {
    let spec = &document.object.spec;
    let copy = |(i, copy): (usize, &CopySpec)| {
        let field = format!("spec.copies[{i}]");
        if spec.copies.iter().take(i).any(|other| other.name == copy.name) {
            problems.push(document.problem(&format!("{field}.name"), format!("{:?} is there twice", copy.name)));
        }
        let folder = |storage: &StorageSpec| storage.fs.as_ref().map(|fs| fs.path.trim_end_matches('/').to_owned());
        let mut others = std::iter::once(&spec.storage).chain(spec.copies.iter().take(i).map(|copy| &copy.storage));
        if folder(&copy.storage).is_some() && others.any(|other| folder(other) == folder(&copy.storage)) {
            let message = "it is the folder of another store: write another";
            problems.push(document.problem(&format!("{field}.storage.fs.path"), message));
        }
        let store = storage_of(document, &format!("{field}.storage"), &copy.storage, documents, problems);
        let store = locked(document, &field, copy.immutability.as_ref(), &copy.storage, store, problems);
        let retention = rules_of(document, copy.retention.as_ref(), &format!("{field}.retention"), problems);
        if let Some(message) = rate_problem(copy.bytes_per_second) {
            problems.push(document.problem(&format!("{field}.bytesPerSecond"), message));
        }
        let bytes_per_second = copy.bytes_per_second.map(|size| size.0);
        Some(Copy { name: copy.name.clone(), store: store?, retention, bytes_per_second })
    };
    spec.copies.iter().enumerate().filter_map(copy).collect()
}

/// The retention of a policy's archive, or of the copy of that name, and its field.
pub fn retention_of<'a>(
    document: &'a Document<BackupPolicy>,
    copy: Option<&str>,
) -> (Option<&'a RetentionSpec>, &'static str) {
    let spec = &document.object.spec;
    match copy {
        None => (spec.retention.as_ref(), "spec.retention"),
        Some(name) => {
            let copy = spec.copies.iter().find(|copy| copy.name == name);
            (copy.and_then(|copy| copy.retention.as_ref()), "spec.copies.retention")
        }
    }
}

/// What of an archive may go, by the retention that is written in `field`; nothing without one.
pub fn rules_of(
    document: &Document<BackupPolicy>,
    written: Option<&RetentionSpec>,
    field: &str,
    problems: &mut Vec<Problem>,
) -> Rules {
    for (at, message) in written.map(RetentionSpec::problems).unwrap_or_default() {
        problems.push(document.problem(&at.replacen("spec.retention", field, 1), message));
    }
    let retention = written.cloned().unwrap_or_default();
    let RetentionSpec { window, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly } = retention;
    Rules {
        window: window.map(|window| window.0),
        last: keep_last.unwrap_or(0),
        daily: keep_daily.unwrap_or(0),
        weekly: keep_weekly.unwrap_or(0),
        monthly: keep_monthly.unwrap_or(0),
        yearly: keep_yearly.unwrap_or(0),
        zone: zone_of(document),
    }
}

/// The schedule's time zone. One that is not known is refused with the schedule it is in.
pub fn zone_of(document: &Document<BackupPolicy>) -> TimeZone {
    let zone = document.object.spec.schedule.as_ref().map_or("UTC", |schedule| &schedule.time_zone);
    TimeZone::get(zone).unwrap_or(TimeZone::UTC)
}
