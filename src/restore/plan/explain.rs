//! A plan's reasons, in words.

use super::{Facts, Plan, Request, Target};
use crate::archive::binlog_index::FileId;
use crate::archive::catalog::FullHead;
use crate::model::{CommitTime, Flavor};

/// Why this base and this end.
pub(super) fn explain(facts: &Facts, request: &Request, full: &FullHead, plan: &Plan) -> Vec<String> {
    let newer = facts.fulls.iter().filter(|f| f.id > full.id).count();
    let mut lines = vec![format!("target: {request}")];
    lines.push(match newer {
        0 => format!("base: {} is the newest full", full.id),
        n => format!(
            "base: {} is the newest full that the target contains and whose log reaches it ({n} newer ones do not)",
            full.id
        ),
    });
    lines.push(match &plan.end {
        None => "nothing to replay: the full is the target".to_owned(),
        Some(end) => format!("replay: the log up to {end}"),
    });
    lines.extend(cut_second(facts.flavor, request));
    if plan.has_domains() {
        lines.push("several gtid_domain_ids: replayed by one thread, in the order of the log".to_owned());
    }
    if !plan.prepared.is_empty() {
        lines.push(format!(
            "{} prepared XA transactions that were not ended when the base was taken: replayed first, as the base lacks what they did",
            plan.prepared
        ));
    }
    if !plan.skipped.is_empty() {
        lines.push(format!(
            "skipped: {} become empty transactions of the same GTID, so the result's GTID set is the same; later transactions that \
             build on what they did fail to replay",
            plan.skipped
        ));
    }
    lines
}

/// What a time within a second means where the log knows whole seconds only.
fn cut_second(flavor: Flavor, request: &Request) -> Option<String> {
    let Target::Time(time) = request.target else { return None };
    let begin = time.as_second();
    if flavor != Flavor::Mariadb || time.subsec_microsecond() == 999_999 {
        return None;
    }
    let [begin, end] = [begin * 1_000_000, begin * 1_000_000 + 999_999].map(|micros| CommitTime(micros).timestamp());
    Some(format!(
        "MariaDB logs whole seconds, which count at their end: nothing of the second that begins at {begin} is restored. A GTID is exact; {end} \
         takes the whole second"
    ))
}

/// The forks that are not in the result. (On MariaDB the live lineage may have other transactions of the same numbers.)
pub(super) fn left_out(facts: &Facts, plan: &Plan) -> Vec<String> {
    let taken = |id: &FileId| plan.files.iter().find(|part| part.file == *id).map(|part| &part.take);
    let forks = facts.timeline.forks.iter().filter(|fork| {
        let replayed = fork.files.iter().filter_map(taken).any(|take| !take.intersection(&fork.gtids).is_empty());
        let in_base = facts.flavor == Flavor::Mysql && !fork.gtids.intersection(&plan.base.gtids).is_empty();
        !replayed && !in_base
    });
    forks
        .map(|fork| {
            let warning =
                if fork.contested { ", though nothing tells that they are not the ones that are wanted" } else { "" };
            format!(
                "{} of server {} are not restored: the live lineage went on without them{warning}",
                fork.gtids, fork.server
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_within_a_second_is_explained_where_the_log_knows_whole_seconds() {
        let at = |time: &str| Request {
            target: Target::Time(time.parse().unwrap()),
            exclusive: false,
            skip_gtids: None,
            allow_nearest: false,
        };
        let within = at("2026-11-25T12:00:05.3Z");
        let told = cut_second(Flavor::Mariadb, &within).unwrap();
        assert!(told.contains("2026-11-25T12:00:05Z") && told.contains("2026-11-25T12:00:05.999999Z"), "{told}");
        assert_eq!(cut_second(Flavor::Mysql, &within), None);
        assert_eq!(cut_second(Flavor::Mariadb, &at("2026-11-25T12:00:05.999999Z")), None);
    }
}
