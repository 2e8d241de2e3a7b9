//! Which fulls stay.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Zoned;

use super::{Facts, FullVerdict, NO_RULES, Rules};
use crate::archive::catalog::{ArchivedFile, FullHead};
use crate::archive::timeline::{Addressing, Chain, ChainEnd, Link, OffLineage, Window};
use crate::model::CommitTime;

/// A full and what is decided of it.
pub(super) struct Decided<'a> {
    pub(super) full: &'a FullHead,
    pub(super) verdict: FullVerdict,
    /// Whether the log after it stays too; without, it restores to its own moment only.
    pub(super) with_log: bool,
}

type Reasons = BTreeMap<String, Vec<String>>;

/// Why a full stays that an XA transaction of another one needs, and the newest full that knows nothing of these transactions.
pub(super) struct XaNeed<'a> {
    pub(super) of: &'a FullHead,
    pub(super) since: Option<&'a FullHead>,
}

pub(super) fn decide<'a>(facts: &Facts<'a>, rules: &Rules) -> Vec<Decided<'a>> {
    let mut reasons = Reasons::new();
    let mut with_log: BTreeSet<String> = BTreeSet::new();
    if rules.is_empty() {
        facts.fulls().iter().for_each(|full| keep(&mut reasons, &full.id, NO_RULES.to_owned()));
    }
    newest(facts, &mut reasons, &mut with_log);
    if let Some(since) = facts.since {
        for needed in facts.timeline.windows.iter().flat_map(|window| of_window(facts, window, since)) {
            keep(&mut reasons, &needed.id, needed.why);
            with_log.insert(needed.id);
        }
    }
    by_count(facts, rules, &mut reasons);
    for full in facts.fulls().iter().filter(|full| facts.held.contains(&full.id)) {
        keep(&mut reasons, &full.id, "a restore under way reads it".to_owned());
        with_log.insert(full.id.clone());
    }
    // A full that is kept for this may need another one itself.
    loop {
        let kept = |full: &&FullHead| reasons.contains_key(&full.id);
        let needs: Vec<(String, String)> = facts
            .fulls()
            .iter()
            .filter(kept)
            .filter_map(|full| {
                let since = xa_need(facts, full)?.since?;
                Some((since.id.clone(), format!("full {} needs it to find what prepared its XA transactions", full.id)))
            })
            .filter(|(id, why)| !reasons.get(id).is_some_and(|known| known.contains(why)))
            .collect();
        if needs.is_empty() {
            break;
        }
        needs.into_iter().for_each(|(id, why)| keep(&mut reasons, &id, why));
    }
    let decided = |full: &'a FullHead| {
        let why = reasons.remove(&full.id);
        let keep = why.is_some();
        let verdict = FullVerdict {
            id: full.id.clone(),
            consistent_at: full.consistent_at,
            bytes: full.bytes,
            keep,
            reasons: why.unwrap_or_else(|| vec!["no rule keeps it".to_owned()]),
        };
        // Without a window nothing says how far back the log is wanted: all of it stays that a kept full can use.
        Decided { full, verdict, with_log: keep && (facts.since.is_none() || with_log.contains(&full.id)) }
    };
    facts.fulls().iter().map(decided).collect()
}

fn keep(reasons: &mut Reasons, id: &str, why: String) {
    reasons.entry(id.to_owned()).or_default().push(why);
}

/// Whatever the rules say: the newest full, the newest one that the log goes on from, and those that a clock put into the future.
fn newest(facts: &Facts<'_>, reasons: &mut Reasons, with_log: &mut BTreeSet<String>) {
    for full in facts.fulls().iter().filter(|full| facts.is_of_the_future(full)) {
        let why =
            format!("it shows {}, which is still to come: the clock of then or of now is wrong", full.consistent_at);
        keep(reasons, &full.id, why);
        with_log.insert(full.id.clone());
    }
    for id in last_good(facts) {
        keep(reasons, &id, "it is the newest full".to_owned());
        with_log.insert(id);
    }
}

/// The newest full, and the newest one of those that the log goes on from; of those in the future and of the others.
pub(super) fn last_good(facts: &Facts<'_>) -> BTreeSet<String> {
    let grows = |full: &&&FullHead| facts.timeline.chain(&full.id).is_some_and(|chain| chain.end == ChainEnd::Newest);
    let by_moment = |full: &&FullHead| (full.consistent_at, full.id.clone());
    let mut found = BTreeSet::new();
    for future in [true, false] {
        let of = || facts.fulls().iter().filter(move |full| facts.is_of_the_future(full) == future);
        found.extend(of().max_by_key(by_moment).map(|full| full.id.clone()));
        found.extend(of().filter(|full| grows(&full)).max_by_key(by_moment).map(|full| full.id.clone()));
    }
    found
}

/// A full that moments of the window need.
pub(super) struct Needed {
    pub(super) id: String,
    pub(super) why: String,
    /// Whether no older full can stand in for it.
    pub(super) alone: bool,
}

/// What of the fulls that lead to one end the moments after `since` need.
pub(super) fn of_window(facts: &Facts<'_>, window: &Window, since: CommitTime) -> Vec<Needed> {
    let chains: Vec<&Chain> = window.fulls.iter().filter_map(|id| facts.timeline.chain(id)).collect();
    let reach = |chain: &&Chain| chain.links.iter().filter_map(|link| link.last_commit).max().max(Some(chain.latest));
    if window.end != ChainEnd::Newest && chains.iter().filter_map(reach).max() <= Some(since) {
        return Vec::new();
    }
    let (before, within): (Vec<&Chain>, Vec<&Chain>) = chains.into_iter().partition(|chain| chain.first <= since);
    let at = since.timestamp();
    let mut needed = Vec::new();
    let mut add = |chain: &Chain, why: String, alone| needed.push(Needed { id: chain.full.clone(), why, alone });
    // Fulls of a window are ordered by their moments.
    let surely = before.iter().rev().find(|chain| surely_by(facts, chain, since));
    // Of files that are told as one nobody can say here which of them goes beyond.
    let is_coarse = surely.is_none() && facts.files().iter().any(ArchivedFile::is_span);
    if is_coarse {
        let why = format!(
            "window: moments since {at} may need it, as no full is known to hold only what was committed by then"
        );
        before.iter().for_each(|chain| add(chain, why.clone(), false));
    }
    let base = surely.or(before.first()).filter(|_| !is_coarse);
    if let Some(base) = base {
        let why =
            format!("window: every moment since {at} is reached from it, as all that it holds was committed by then");
        add(base, why, before.first().is_some_and(|oldest| oldest.full == base.full));
    }
    if let Some(newest) = before.last().filter(|newest| !is_coarse && base.is_none_or(|base| base.full != newest.full))
    {
        add(newest, format!("window: it is the newest full at or before {at}"), false);
    }
    for (i, chain) in within.iter().enumerate() {
        add(chain, format!("window: it was taken after {at}"), before.is_empty() && i == 0);
    }
    needed
}

/// Whether everything that a full holds was surely committed by `moment`: no file that it holds anything of, or may, is known to go beyond.
/// A clock that was ahead for a while must not hide what only an older full leads to.
fn surely_by(facts: &Facts<'_>, chain: &Chain, moment: CommitTime) -> bool {
    let links: BTreeMap<_, &Link> = chain.links.iter().map(|link| (&link.file, link)).collect();
    facts.files().iter().filter(|file| file.summary.last_commit > Some(moment)).all(|file| {
        links.get(&file.id).is_some_and(|link| match chain.addressing {
            Addressing::Gtid => link.take == file.summary.gtids,
            Addressing::Position => link.from == 0,
        })
    })
}

/// keepLast and its kin. What only a dead primary had counts for itself: it takes no place away.
fn by_count(facts: &Facts<'_>, rules: &Rules, reasons: &mut Reasons) {
    let is_fork = |full: &&FullHead| {
        let end = facts.timeline.chain(&full.id).map(|chain| &chain.end);
        matches!(end, Some(ChainEnd::OffLineage { cause: OffLineage::Fork, .. }))
    };
    let present = facts.fulls().iter().filter(|full| !facts.is_of_the_future(full));
    let (forks, others): (Vec<&FullHead>, Vec<&FullHead>) = present.partition(is_fork);
    for mut fulls in [others, forks] {
        fulls.sort_by(|a, b| (b.consistent_at, &b.id).cmp(&(a.consistent_at, &a.id)));
        for (i, full) in fulls.iter().enumerate().take(count(rules.last)) {
            keep(reasons, &full.id, format!("keepLast {}: number {} from the newest", rules.last, i + 1));
        }
        let mut each = |name: &str, limit: u32, period: &dyn Fn(&Zoned) -> String| {
            let mut seen: BTreeSet<String> = BTreeSet::new();
            for full in &fulls {
                let period = period(&full.consistent_at.to_zoned(rules.zone.clone()));
                if seen.len() < count(limit) && seen.insert(period.clone()) {
                    keep(reasons, &full.id, format!("{name} {limit}: the last full of {period}"));
                }
            }
        };
        each("keepDaily", rules.daily, &|at| at.date().to_string());
        each("keepWeekly", rules.weekly, &|at| {
            let week = at.date().iso_week_date();
            format!("{}-W{:02}", week.year(), week.week())
        });
        each("keepMonthly", rules.monthly, &|at| format!("{:04}-{:02}", at.year(), at.month()));
        each("keepYearly", rules.yearly, &|at| format!("{:04}", at.year()));
    }
}

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// What of the log before it a full needs, because XA transactions were prepared when it was taken: the log since the newest full at
/// which none of them was (all of it without one). Without GTIDs a restore does not look for them.
pub(super) fn xa_need<'a>(facts: &Facts<'a>, full: &'a FullHead) -> Option<XaNeed<'a>> {
    let ids = full.prepared_xa.as_ref().filter(|ids| !ids.is_empty() && !full.gtids.is_empty())?;
    let without = |older: &&FullHead| {
        older.server == full.server
            && older.consistent_at < full.consistent_at
            && older.prepared_xa.as_ref().is_some_and(|known| !ids.iter().any(|id| known.contains(id)))
    };
    Some(XaNeed { of: full, since: facts.fulls().iter().filter(without).max_by_key(|older| older.consistent_at) })
}
