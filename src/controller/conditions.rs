//! Conditions: a transition time changes only when the status does.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::figures::shortened;

/// The API server refuses longer messages.
const MESSAGE_CHARS: usize = 32_768;

/// What a condition says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// True, False, or none for Unknown.
    pub holds: Option<bool>,
    /// One word in CamelCase.
    pub reason: String,
    /// A sentence with the way out.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: Some(true), reason: reason.to_owned(), message: message.into() }
    }

    /// It does not.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: Some(false), reason: reason.to_owned(), message: message.into() }
    }

    /// Nobody knows yet.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self { holds: None, reason: reason.to_owned(), message: message.into() }
    }
}

/// `before` with these conditions as they are now; others stay as they are.
pub fn updated<const N: usize>(
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
    verdicts: [(&str, Verdict); N],
) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    for (type_, Verdict { holds, reason, message }) in verdicts {
        let status = match holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let old = conditions.iter().position(|condition| condition.type_ == type_);
        let since =
            old.and_then(|i| conditions.get(i)).filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason,
            message: shortened(&message, MESSAGE_CHARS),
            last_transition_time: since.unwrap_or(Time(now)),
            observed_generation: generation,
        };
        match old.and_then(|i| conditions.get_mut(i)) {
            Some(place) => *place = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// A condition's reason must be a word.
pub fn word(reason: &str) -> String {
    let word: String = reason.chars().filter(char::is_ascii_alphanumeric).collect();
    if word.starts_with(|first: char| first.is_ascii_alphabetic()) { word } else { "Failed".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let (first, later): (Timestamp, Timestamp) =
            ("2026-11-25T00:00:00Z".parse().unwrap(), "2026-11-25T01:00:00Z".parse().unwrap());
        let one = updated(&[], Some(1), first, [("Ready", Verdict::no("Starting", "soon"))]);
        let two = updated(&one, Some(2), later, [("Ready", Verdict::no("StoreDenied", "mend it"))]);
        assert_eq!((two.len(), &two[0].last_transition_time, two[0].reason.as_str()), (1, &Time(first), "StoreDenied"));
        assert_eq!(two[0].observed_generation, Some(2));
        let three = updated(&two, Some(2), later, [("Ready", Verdict::yes("Protected", "all is well"))]);
        assert_eq!((three[0].status.as_str(), &three[0].last_transition_time), ("True", &Time(later)));
        let four = updated(&three, Some(2), later, [("Streaming", Verdict::unknown("Starting", ""))]);
        assert_eq!(four.len(), 2);
        assert_eq!(four[0], three[0]);
    }

    #[test]
    fn a_reason_is_a_word_that_the_api_server_takes() {
        for (reason, expected) in
            [("SourceDenied", "SourceDenied"), ("", "Failed"), ("no such thing!", "nosuchthing"), ("1x", "Failed")]
        {
            assert_eq!(word(reason), expected);
        }
    }
}
