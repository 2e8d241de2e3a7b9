//! Whether the source is about to purge what is not archived. Pure.

use super::Validated;
use super::dereference::StreamSeen;
use crate::api::report::PurgeReport;
use crate::controller::conditions::{Verdict, word};

/// The source may soon purge what is not archived yet.
pub const PURGE_RISK: &str = "PurgeRisk";

/// What the stream's pod saw of it.
pub fn verdict(validated: &Validated, stream: &StreamSeen) -> Verdict {
    if !validated.binlog.enabled {
        return Verdict::no("Disabled", "spec.binlog.enabled is false: no binary log is archived");
    }
    let not_known = || Verdict::unknown("NotLooked", "the stream's pod looks at what the source would purge");
    let Some(stream) = stream.report().and_then(|report| report.stream.as_ref()) else { return not_known() };
    let PurgeReport { risk, reason, message, seconds_left: _, bytes_left: _ } = &stream.purge;
    // A pod of an older version says nothing of it.
    if reason.is_empty() {
        return not_known();
    }
    Verdict { holds: *risk, reason: word(reason), message: message.clone() }
}
