//! Which fulls and moments a damage takes from restores. Pure.

use jiff::Timestamp;

use super::finding::{Affected, Place, Stretch};
use crate::archive::timeline::{Chain, ChainEnd, Link, Timeline};
use crate::model::CommitTime;

/// Moments, both ends included, in microseconds.
type Span = (i64, i64);

/// What a full still leads to.
enum Reach {
    /// All it led to.
    Whole,
    /// No further than to this moment.
    UpTo(CommitTime),
    /// Nothing.
    None,
}

/// What all of `places` together take from restores.
pub fn affected(timeline: &Timeline, places: &[&Place]) -> Affected {
    let mut fulls = Vec::new();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for chain in &timeline.chains {
        before.push((chain.first.0, chain.latest.0));
        match reach(chain, places) {
            Reach::Whole => after.push((chain.first.0, chain.latest.0)),
            Reach::UpTo(moment) => {
                fulls.push(chain.full.clone());
                after.push((chain.first.0, moment.0));
            }
            Reach::None => fulls.push(chain.full.clone()),
        }
    }
    let mut gone = minus(&before, &after);
    for place in places {
        let more = match place {
            Place::Gap { fulls, from, to } => {
                // Neither end is missing, but the newest commit is, where nothing begins behind it.
                let end = to.map(|to| to.0.saturating_sub(1)).or(timeline.live_commit.map(|newest| newest.0));
                gone.extend(end.map(|end| (from.0.saturating_add(1), end)));
                fulls.clone()
            }
            Place::Hole { file, after, until, .. } => {
                let is_live = timeline.live_server.as_ref() == Some(&file.server);
                // Where nothing but the file's head is left, no full has a use for it, and would go on in it.
                let reaches = |chain: &&Chain| {
                    chain.links.iter().any(|link| link.file == *file) || is_live && chain.end == ChainEnd::Newest
                };
                let short: Vec<&Chain> = timeline.chains.iter().filter(reaches).collect();
                let from = after.or(short.iter().map(|chain| chain.latest).max());
                gone.extend(from.zip(*until).map(|(from, until)| (from.0.saturating_add(1), until.0)));
                short.iter().map(|chain| chain.full.clone()).collect()
            }
            Place::Full { id } if timeline.chain(id).is_none() => {
                gone.extend(unknown_full(timeline, id));
                vec![id.clone()]
            }
            Place::Archive | Place::Full { .. } | Place::Log { .. } | Place::Nothing => Vec::new(),
        };
        fulls.extend(more.into_iter().filter(|full| !fulls.contains(full)).collect::<Vec<_>>());
    }
    let moment = |us: i64| -> Timestamp { CommitTime(us).timestamp() };
    let moments = joined(gone).into_iter().map(|(from, to)| Stretch { from: moment(from), to: moment(to) });
    Affected { fulls, moments: moments.collect() }
}

/// The moments of a full of which nothing is known but its name, which says when it began: up to the next full, unless an older one leads there.
fn unknown_full(timeline: &Timeline, id: &str) -> Option<Span> {
    let began = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", id.get(..16)?).ok()?;
    let began = began.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond();
    let covers = |chain: &&Chain| chain.first.0 <= began && began <= chain.latest.0;
    if timeline.chains.iter().any(|chain| covers(&chain)) {
        return None;
    }
    let next = timeline.chains.iter().map(|chain| chain.first.0).filter(|first| *first > began).min();
    let end = next.map(|next| next - 1).or(timeline.live_commit.map(|newest| newest.0))?;
    (began <= end).then_some((began, end))
}

fn reach(chain: &Chain, places: &[&Place]) -> Reach {
    let mut reach = Reach::Whole;
    for place in places {
        let cut = match place {
            Place::Archive => return Reach::None,
            Place::Full { id } if *id == chain.full => return Reach::None,
            Place::Log { file, from, to, after } => {
                let needed = |link: &Link| link.file == *file && link.from < *to && *from < link.to;
                let Some(index) = chain.links.iter().position(needed) else { continue };
                let earlier = chain.links.iter().take(index).filter_map(|link| link.last_commit);
                let known = earlier.chain(*after).fold(chain.first, CommitTime::max);
                known.min(chain.latest)
            }
            Place::Full { .. } | Place::Hole { .. } | Place::Gap { .. } | Place::Nothing => continue,
        };
        reach = match reach {
            Reach::UpTo(known) => Reach::UpTo(known.min(cut)),
            _ => Reach::UpTo(cut),
        };
    }
    reach
}

/// What of `all` is in none of `taken`.
fn minus(all: &[Span], taken: &[Span]) -> Vec<Span> {
    let taken = joined(taken.to_vec());
    let mut left = Vec::new();
    for (from, to) in joined(all.to_vec()) {
        let mut at = from;
        for (first, last) in taken.iter().filter(|(first, last)| *last >= from && *first <= to) {
            if *first > at {
                left.push((at, first - 1));
            }
            at = at.max(last.saturating_add(1));
        }
        if at <= to {
            left.push((at, to));
        }
    }
    left
}

/// The same moments, by time, each once.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|(from, to)| from <= to);
    spans.sort_unstable();
    let mut all: Vec<Span> = Vec::new();
    for (from, to) in spans {
        match all.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => all.push((from, to)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::testing::{file, full, set};
    use super::*;
    use crate::archive::timeline::Timeline;
    use crate::model::Flavor;

    proptest! {
        #[test]
        fn moments_are_taken_away_exactly(
            all in prop::collection::vec((0i64..40, 0i64..8), 0..6), taken in prop::collection::vec((0i64..40, 0i64..8), 0..6)
        ) {
            let spans = |spans: &[(i64, i64)]| spans.iter().map(|(from, len)| (*from, from + len)).collect::<Vec<Span>>();
            let (all, taken) = (spans(&all), spans(&taken));
            let moments = |spans: &[Span]| spans.iter().flat_map(|(from, to)| *from..=*to).collect::<BTreeSet<i64>>();
            let left = minus(&all, &taken);
            prop_assert_eq!(moments(&left), &moments(&all) - &moments(&taken));
            prop_assert!(left.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", left);
        }
    }

    /// Two fulls, and three files of one server.
    fn timeline() -> Timeline {
        let files = [
            file("A", 1, 10, set(""), set("A:1-5")),
            file("A", 2, 20, set("A:1-5"), set("A:6-9")),
            file("A", 3, 30, set("A:1-9"), set("A:10-12")),
        ];
        let fulls = [full("one", "A", 11, set("A:1-2")), full("two", "A", 25, set("A:1-7"))];
        Timeline::new(Flavor::Mysql, &fulls, &files)
    }

    fn told(places: &[Place]) -> (Vec<String>, Vec<(i64, i64)>) {
        let Affected { fulls, moments } = affected(&timeline(), &places.iter().collect::<Vec<_>>());
        let us = |moment: Timestamp| moment.as_microsecond();
        (fulls, moments.iter().map(|s| (us(s.from), us(s.to))).collect())
    }

    fn log(number: u32, created: u32, after: Option<i64>) -> Place {
        let file = file("A", number, created, set(""), set("")).id;
        Place::Log { file, from: 500, to: 600, after: after.map(CommitTime) }
    }

    #[test]
    fn a_full_takes_only_the_moments_that_no_older_one_leads_to() {
        let of = |id: &str| Place::Full { id: id.to_owned() };
        assert_eq!(told(&[of("two")]), (vec!["two".into()], vec![]));
        // From the first full's moment up to the second's.
        assert_eq!(told(&[of("one")]), (vec!["one".into()], vec![(11_000_000, 24_999_999)]));
        assert_eq!(told(&[of("one"), of("two")]).1, [(11_000_000, 30_500_000)]);
        assert_eq!(told(&[Place::Archive]).1, [(11_000_000, 30_500_000)]);
        // Of one whose manifest cannot be read its name tells when it began.
        let before_all = of("19700101T000003Z-3f2a");
        assert_eq!(told(&[before_all]), (vec!["19700101T000003Z-3f2a".into()], vec![(3_000_000, 10_999_999)]));
        assert_eq!(told(&[of("19700101T000012Z-3f2a")]).1, []);
    }

    #[test]
    fn a_hole_in_the_log_takes_what_follows_it_up_to_the_next_full() {
        // The first file: only the first full needs it; behind the second one all is well.
        assert_eq!(told(&[log(1, 10, Some(11_500_000))]), (vec!["one".into()], vec![(11_500_001, 24_999_999)]));
        // The second: both need it. Nothing committed before the damage in it, so the file before tells.
        assert_eq!(told(&[log(2, 20, None)]).0, ["one", "two"]);
        assert_eq!(told(&[log(2, 20, None)]).1, [(11_000_001, 24_999_999), (25_000_001, 30_500_000)]);
        assert_eq!(told(&[log(3, 30, Some(30_100_000))]).1, [(30_100_001, 30_500_000)]);
        // A file that no full needs.
        assert_eq!(told(&[log(7, 70, None)]), (vec![], vec![]));
        assert_eq!(told(&[Place::Nothing]), (vec![], vec![]));
        // An open file whose archived part ends sooner than it did.
        let open = file("A", 3, 30, set(""), set("")).id;
        let hole = Place::Hole {
            file: open,
            from: 9,
            after: Some(CommitTime(30_500_000)),
            until: Some(CommitTime(31_000_000)),
        };
        assert_eq!(told(&[hole]), (vec!["one".into(), "two".into()], vec![(30_500_001, 31_000_000)]));
        // Of which nothing is left that a full would use.
        let next = file("A", 4, 40, set(""), set("")).id;
        let hole = Place::Hole { file: next, from: 0, after: None, until: Some(CommitTime(41_000_000)) };
        assert_eq!(told(&[hole]), (vec!["one".into(), "two".into()], vec![(30_500_001, 41_000_000)]));
    }
}
