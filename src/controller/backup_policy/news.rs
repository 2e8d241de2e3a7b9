//! What is worth an event: a condition that turned. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::EventType;

use super::purge_risk::PURGE_RISK;
use super::retention::HELD;
use super::status::{COPIED, GAP_DETECTED, INTACT, PRUNED, READY, RECOVERABLE, STREAMING};
use crate::api::BackupPolicyStatus;
use crate::controller::conditions;

/// One event.
#[derive(Clone, Debug)]
pub struct News {
    /// Good or bad.
    pub type_: EventType,
    /// A word.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

/// What happened between two statuses.
pub fn between(old: &BackupPolicyStatus, new: &BackupPolicyStatus) -> Vec<News> {
    let turned = |type_: &str| -> Option<(&str, &Condition)> {
        let after = conditions::find(&new.conditions, type_)?;
        let before = conditions::find(&old.conditions, type_).map_or("Unknown", |condition| condition.status.as_str());
        (before != after.status).then_some((before, after))
    };
    let mut news = Vec::new();
    let mut tell = |type_, reason, condition: &Condition| {
        let note = format!("{}: {}", condition.reason, condition.message);
        news.push(News { type_, reason, note });
    };
    match turned(STREAMING) {
        Some((_, condition)) if condition.status == "False" && condition.reason != "Disabled" => {
            tell(EventType::Warning, "StreamingLost", condition);
        }
        Some(("False", condition)) if condition.status == "True" => {
            tell(EventType::Normal, "StreamingRecovered", condition)
        }
        _ => {}
    }
    match turned(RECOVERABLE) {
        Some((_, condition)) if condition.status == "True" => tell(EventType::Normal, "Recoverable", condition),
        Some(("True", condition)) if condition.status == "False" => {
            tell(EventType::Warning, "NotRecoverable", condition)
        }
        _ => {}
    }
    if let Some((_, condition)) = turned(GAP_DETECTED).filter(|(_, condition)| condition.status == "True") {
        tell(EventType::Warning, "GapDetected", condition);
    }
    match turned(COPIED) {
        Some((_, condition)) if condition.status == "False" => tell(EventType::Warning, "CopyFailed", condition),
        Some(("False", condition)) if condition.status == "True" => tell(EventType::Normal, "CopyRecovered", condition),
        _ => {}
    }
    match turned(INTACT) {
        Some((_, condition)) if condition.status == "False" => tell(EventType::Warning, "ArchiveDamaged", condition),
        Some(("False", condition)) if condition.status == "True" => {
            tell(EventType::Normal, "ArchiveIntact", condition);
        }
        _ => {}
    }
    match turned(PURGE_RISK) {
        Some((_, condition)) if condition.status == "True" => tell(EventType::Warning, "PurgeRisk", condition),
        Some(("True", condition)) if condition.status == "False" => {
            tell(EventType::Normal, "PurgeRiskPassed", condition)
        }
        _ => {}
    }
    match turned(PRUNED) {
        Some((_, condition)) if condition.status == "True" => tell(EventType::Normal, "Pruned", condition),
        Some((_, condition)) if condition.status == "False" => tell(EventType::Warning, "PruneFailed", condition),
        Some((_, condition)) if condition.reason == HELD => tell(EventType::Normal, "PruneHeld", condition),
        _ => {}
    }
    // Of a spec that is refused only this condition speaks.
    if let Some(ready) = conditions::find(&new.conditions, READY)
        && matches!(ready.reason.as_str(), "InvalidSpec" | "Unsupported" | "Forbidden" | "ApplyFailed")
        && conditions::find(&old.conditions, READY).is_none_or(|before| before.reason != ready.reason)
    {
        tell(EventType::Warning, "Refused", ready);
    }
    news
}
