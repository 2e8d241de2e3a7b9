//! Random histories (rotations, fail-overs that lose a tail or are taken back, fulls anywhere, lost files, clocks that jump): whatever could be
//! restored of the window can be restored after the plan, and after any part of it. The planner of restores is the judge.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::archive::binlog_index::{Ending, FileSummary};
use crate::archive::catalog::{Closed, FileEncryption};
use crate::archive::identity::ArchiveInfo;
use crate::archive::timeline::fold_all;
use crate::model::{BinlogPosition, Flavor, GtidSet};
use crate::restore::plan::tests::{Name, World, history, set, to};
use crate::restore::plan::{self as restoring, Request, Target};

fn rules() -> Rules {
    Rules { window: None, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, zone: TimeZone::UTC }
}

/// No restore is under way.
fn nothing() -> BTreeSet<String> {
    BTreeSet::new()
}

fn window(seconds: u64) -> Rules {
    Rules { window: Some(Duration::from_secs(seconds)), ..rules() }
}

fn catalog(flavor: Flavor, fulls: Vec<FullHead>, files: Vec<ArchivedFile>) -> Catalog {
    let info = ArchiveInfo {
        format: 1,
        encrypted: false,
        created_at: Timestamp::UNIX_EPOCH,
        flavor,
        first_server: String::new(),
        tidemark_version: String::new(),
    };
    Catalog { info, fulls, files, unknown: Vec::new(), problems: Vec::new() }
}

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap()
}

fn kept(plan: &Plan) -> Vec<&str> {
    plan.fulls.iter().filter(|full| full.keep).map(|full| full.id.as_str()).collect()
}

fn kept_files(plan: &Plan) -> Vec<String> {
    plan.files.iter().filter(|file| file.keep).map(|file| file.file.name.clone()).collect()
}

/// The world as an archive; the newest commit of a file is its highest.
fn archive(world: &World, dropped: &BTreeSet<usize>, skews: &[(prop::sample::Index, i64)]) -> Catalog {
    let mut facts = world.facts(dropped);
    let all: Vec<usize> = (0..world.files.len()).filter(|i| !dropped.contains(i)).collect();
    for (file, i) in facts.files.iter_mut().zip(all) {
        file.summary.last_commit = world.files[i].2.iter().map(|name| CommitTime(world.commits[name])).max();
    }
    for (index, by) in skews.iter().filter(|_| !world.fulls.is_empty()) {
        let full = &mut facts.fulls[index.index(world.fulls.len())];
        full.consistent_at = second((full.consistent_at.as_second() + by).max(0));
        full.finished_at = full.consistent_at;
    }
    catalog(Flavor::Mysql, facts.fulls, facts.files)
}

/// What of `catalog` is there when the first `count` deletions of `plan` are done; of a file that comes next the index is gone.
fn after(catalog: &Catalog, plan: &Plan, count: usize) -> Catalog {
    let mut left = catalog.clone();
    let fulls: Vec<&str> = plan.fulls.iter().filter(|full| !full.keep).map(|full| full.id.as_str()).collect();
    let files: Vec<&FileId> = plan.files.iter().filter(|file| !file.keep).map(|file| &file.file).collect();
    let gone = &fulls[..count.min(fulls.len())];
    left.fulls.retain(|full| !gone.contains(&full.id.as_str()));
    if let Some(count) = count.checked_sub(fulls.len()) {
        let gone = &files[..count.min(files.len())];
        left.files.retain(|file| !gone.contains(&&file.id));
        for file in left.files.iter_mut().filter(|file| files.get(count) == Some(&&file.id)) {
            file.closed = None;
        }
    }
    left
}

fn deletions(plan: &Plan) -> usize {
    plan.fulls.iter().filter(|full| !full.keep).count() + plan.files.iter().filter(|file| !file.keep).count()
}

fn facts_of(catalog: &Catalog) -> restoring::Facts {
    restoring::Facts::of(catalog.clone())
}

fn restored(world: &World, facts: &restoring::Facts, request: &Request) -> Result<GtidSet, String> {
    world.plan(facts, request).map(|plan| plan.expected_gtids)
}

/// The log up to a time.
fn truth(world: &World, request: &Request) -> Option<GtidSet> {
    let Target::Time(time) = &request.target else { return None };
    let later = world.lineage.iter().position(|name| world.commits[name] > time.as_microsecond());
    Some(set(&world.lineage[..later.unwrap_or(world.lineage.len())]))
}

/// Every target of the window, and of the fulls that stay.
fn targets(world: &World, catalog: &Catalog, plan: &Plan) -> Vec<Request> {
    let mut targets = vec![to(Target::Latest)];
    for (name, commit) in &world.commits {
        if plan.window_from.is_none_or(|from| *commit > from.as_microsecond()) {
            let time = |us: i64| to(Target::Time(Timestamp::from_microsecond(us).unwrap()));
            targets.push(time(*commit));
            targets.push(time(*commit + 500_000));
            targets.push(to(Target::Gtid(set(&[*name]))));
            targets.push(Request { exclusive: true, ..to(Target::Gtid(set(&[*name]))) });
        }
    }
    // Without a window the log stays behind the fulls that stay, and what only an older one leads to goes.
    if plan.window_from.is_none() {
        targets.truncate(1);
    }
    let of_full = |full: &FullVerdict| {
        let head = catalog.fulls.iter().find(|head| head.id == full.id)?;
        (full.keep && !head.gtids.is_empty()).then(|| to(Target::Gtid(head.gtids.clone())))
    };
    targets.extend(plan.fulls.iter().filter_map(of_full));
    targets
}

fn any_rules() -> impl Strategy<Value = Rules> {
    (prop::option::weighted(0.8, 0u64..25), 0u32..3, 0u32..2).prop_map(|(window, last, daily)| Rules {
        window: window.map(Duration::from_secs),
        last,
        daily,
        ..rules()
    })
}

type Jumps = Vec<(prop::sample::Index, i64)>;

fn jumps() -> impl Strategy<Value = Jumps> {
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec((any::<prop::sample::Index>(), -20i64..20), 0..3)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn what_could_be_restored_of_the_window_still_can_be_at_every_step_of_a_prune(
        world in history(),
        dropped in prop::collection::btree_set(0usize..12, 0..2),
        back in (0u8..3, any::<bool>()),
        (clocks, skews) in (jumps(), jumps()),
        rules in any_rules(),
        (ahead, step, read) in (-20i64..40, any::<prop::sample::Index>(), prop::option::of(any::<prop::sample::Index>())),
    ) {
        let mut world = world;
        let last = world.files.len() - 1;
        let mut dropped: BTreeSet<usize> = dropped.into_iter().filter(|&i| i < last).collect();
        if back.0 > 0 {
            dropped.clear();
            world.take_back(back.0, back.1);
        }
        let names: Vec<Name> = world.commits.keys().copied().collect();
        for (index, by) in clocks.iter().filter(|_| !names.is_empty()) {
            *world.commits.get_mut(&names[index.index(names.len())]).unwrap() += by * 1_000_000;
        }
        let all = archive(&world, &dropped, &skews);
        let read = read.filter(|_| !all.fulls.is_empty()).map(|which| all.fulls[which.index(all.fulls.len())].id.clone());
        let held: BTreeSet<String> = read.into_iter().collect();
        let plan = plan(&all, &[], &held, &rules, second((30 + ahead).max(0))).unwrap();

        if rules.is_empty() {
            prop_assert_eq!(deletions(&plan), 0);
        }
        // Where files are told as one, too: they stay or go as one.
        let folded = Catalog { files: fold_all(all.files.clone(), &all.fulls), ..all.clone() };
        let mut by_spans = super::plan(&folded, &[], &held, &rules, second((30 + ahead).max(0))).unwrap();
        let single = |verdict: FileVerdict| {
            let file = |id: FileId| all.files.iter().find(|file| file.id == id).unwrap();
            let ids = verdict.ids.iter().map(move |id| FileVerdict::new(file(id), verdict.keep, verdict.reason.clone()));
            ids.collect::<Vec<_>>()
        };
        by_spans.files = std::mem::take(&mut by_spans.files).into_iter().flat_map(single).collect();
        let whole = facts_of(&all);
        let steps = |plan: &Plan| [deletions(plan), step.index(deletions(plan) + 1)];
        for (plan, count) in steps(&plan).map(|count| (&plan, count)).into_iter().chain(steps(&by_spans).map(|count| (&by_spans, count))) {
            let left = after(&all, plan, count);
            for id in &held {
                let chain = |of: &Catalog| Timeline::new(Flavor::Mysql, &of.fulls, &of.files).chain(id).cloned();
                prop_assert_eq!(chain(&left), chain(&all), "a restore that reads {} after {} deletions of {:#?}", id, count, plan);
            }
            let left = facts_of(&left);
            for request in targets(&world, &all, plan) {
                if let Ok(before) = restored(&world, &whole, &request) {
                    let now = restored(&world, &left, &request);
                    // A full that is dated earlier than what it holds answers for a time before that.
                    let exact = Some(now.clone()) == truth(&world, &request).map(Ok);
                    let before = if exact { now.clone().unwrap_or(before) } else { before };
                    prop_assert_eq!(now, Ok(before), "{} after {} deletions of {:#?}", request, count, plan);
                }
            }
        }

        // The rules, and what holds without any.
        let staying: BTreeSet<&str> = kept(&plan).into_iter().collect();
        let newest = all.fulls.iter().max_by_key(|full| (full.consistent_at, &full.id));
        prop_assert!(newest.is_none_or(|full| staying.contains(full.id.as_str())));
        let timeline = Timeline::new(Flavor::Mysql, &all.fulls, &all.files);
        let goes_on = |full: &&FullHead| timeline.chain(&full.id).unwrap().end == crate::archive::timeline::ChainEnd::Newest;
        let growing = all.fulls.iter().filter(goes_on).max_by_key(|full| (full.consistent_at, &full.id));
        prop_assert!(growing.is_none_or(|full| staying.contains(full.id.as_str())));
        let mut present: Vec<&FullHead> = all.fulls.iter().filter(|full| full.consistent_at <= second((30 + ahead).max(0)) && goes_on(full)).collect();
        present.sort_by_key(|full| (full.consistent_at, &full.id));
        let expected = present.iter().rev().take(rules.last as usize);
        prop_assert!(expected.clone().all(|full| staying.contains(full.id.as_str())));

        // Done once, there is nothing more to do.
        let again = super::plan(&after(&all, &plan, deletions(&plan)), &[], &held, &rules, second((30 + ahead).max(0))).unwrap();
        prop_assert!(again.fulls.iter().all(|full| full.keep), "{:#?}", again);
    }

    #[test]
    fn a_full_that_is_deleted_by_name_takes_no_moment_of_the_window_that_others_led_to(
        world in history(), seconds in 0u64..25, which: prop::sample::Index
    ) {
        let all = archive(&world, &BTreeSet::new(), &[]);
        if all.fulls.is_empty() {
            return Ok(());
        }
        let id = all.fulls[which.index(all.fulls.len())].id.clone();
        let Ok(plan) = one(&all, &nothing(), &window(seconds), second(40), &id) else { return Ok(()) };
        prop_assert_eq!(kept(&plan).len(), all.fulls.len() - 1);
        let (whole, left) = (facts_of(&all), facts_of(&after(&all, &plan, 1)));
        for request in targets(&world, &all, &plan) {
            if let Ok(before) = restored(&world, &whole, &request) {
                prop_assert_eq!(restored(&world, &left, &request), Ok(before), "{}", request);
            }
        }
    }
}

const DAY: i64 = 86_400;

/// A server with a binlog file every 6 hours and a full a day, taken at 06:00 UTC, for `days` days.
fn steady(flavor: Flavor, days: i64) -> Catalog {
    let gtids = |from: i64, to: i64| match (flavor, to >= from) {
        (_, false) => GtidSet::empty(flavor),
        (Flavor::Mysql, _) => {
            GtidSet::parse(flavor, &format!("aaaaaaaa-0000-0000-0000-000000000000:{from}-{to}")).unwrap()
        }
        (Flavor::Mariadb, _) => GtidSet::parse(flavor, &format!("0-1-{from}..{to}")).unwrap(),
    };
    let position = |at: i64| match flavor {
        Flavor::Mariadb if at > 0 => GtidSet::parse(flavor, &format!("0-1-{at}")).unwrap(),
        _ => gtids(1, at),
    };
    let server = match flavor {
        Flavor::Mysql => "aaaaaaaa-0000-0000-0000-000000000000",
        Flavor::Mariadb => "mariadb-1",
    };
    let file = |nth: i64| ArchivedFile {
        id: FileId {
            server: server.into(),
            name: format!("binlog.{:06}", nth + 1),
            created_unix: u32::try_from(nth * DAY / 4).unwrap(),
        },
        flavor,
        server_version: String::new(),
        size: 1000,
        summary: FileSummary {
            previous_gtids: position(nth * 10),
            gtids: gtids(nth * 10 + 1, nth * 10 + 10),
            boundary: 1000,
            transactions: 10,
            first_commit: Some(CommitTime((nth * DAY / 4 + 60) * 1_000_000)),
            last_commit: Some(CommitTime(((nth + 1) * DAY / 4 - 100) * 1_000_000)),
            last_gtid: None,
            crc32: true,
            statements: 0,
        },
        objects: 1,
        object_bytes: 100,
        open_transaction: None,
        closed: Some(Closed { ending: Ending::Rotate, next_file: None }),
        hole_until: None,
        encryption: FileEncryption::default(),
        further: None,
    };
    let full = |day: i64| {
        let at = second(day * DAY + DAY / 4);
        FullHead {
            id: format!("day-{day:04}"),
            flavor,
            server_version: String::new(),
            server: server.into(),
            started_at: at,
            consistent_at: at,
            finished_at: at,
            gtids: position(day * 40 + 10),
            position: Some(BinlogPosition { file: format!("binlog.{:06}", day * 4 + 2), offset: 4 }),
            position_created_unix: Some(u32::try_from(day * DAY + DAY / 4).unwrap()),
            prepared_xa: None,
            log_slave_updates: None,
            recipients: Vec::new(),
            method: "logical".into(),
            objects: 1,
            bytes: 1000,
            raw_bytes: 1000,
            trace_id: String::new(),
        }
    };
    catalog(flavor, (0..days).map(full).collect(), (0..days * 4).map(file).collect())
}

fn days(plan: &Plan) -> Vec<i64> {
    let mut days: Vec<i64> = kept(plan).iter().map(|id| id.trim_start_matches("day-").parse().unwrap()).collect();
    days.sort();
    days
}

#[test]
fn a_window_keeps_the_full_before_it_and_the_log_since() {
    for (flavor, count) in [(Flavor::Mysql, 30), (Flavor::Mariadb, 12)] {
        let all = steady(flavor, count);
        // The log ends shortly before now: the window begins a little more than 7 days earlier.
        let plan = plan(&all, &[], &nothing(), &window(7 * 86_400), second(count * DAY)).unwrap();
        let base = count - 8;
        assert_eq!(days(&plan), (base..count).collect::<Vec<_>>(), "{flavor}");
        let files = kept_files(&plan);
        assert_eq!(files.first(), Some(&format!("binlog.{:06}", base * 4 + 2)), "{flavor}");
        assert_eq!(files.len() as i64, (count - base) * 4 - 1, "{flavor}");
        assert_eq!(plan.freed_bytes() as i64, base * 1000 + (base * 4 + 1) * 100, "{flavor}");
        assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    }
}

#[test]
fn counts_keep_single_moments_beyond_the_window_and_without_one_the_log_too() {
    let all = steady(Flavor::Mysql, 100);
    let of = |rules: &Rules| plan(&all, &[], &nothing(), rules, second(100 * DAY)).unwrap();
    // 1970-01-01 was a Thursday: day 99 is a Friday.
    let plan = of(&Rules { daily: 9, weekly: 4, monthly: 3, yearly: 1, ..window(7 * 86_400) });
    assert_eq!(days(&plan), [58, 80, 87, 89, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
    assert_eq!(kept_files(&plan).len(), 400 - 369);
    let plan = of(&Rules { last: 3, ..rules() });
    assert_eq!((days(&plan), kept_files(&plan).len()), (vec![97, 98, 99], 400 - 97 * 4 - 1));
    assert!(deletions(&of(&rules())) == 0 && of(&rules()).freed_bytes() == 0);
}

#[test]
fn days_and_weeks_are_those_of_the_policys_time_zone() {
    let all = steady(Flavor::Mysql, 60);
    // At 06:00 UTC it is the day before in Honolulu, where fulls of March 1 UTC are still of February.
    let zone = TimeZone::get("Pacific/Honolulu").unwrap();
    let of = |rules: Rules| days(&plan(&all, &[], &nothing(), &rules, second(60 * DAY)).unwrap());
    assert_eq!(of(Rules { monthly: 2, ..rules() }), [58, 59]);
    assert_eq!(of(Rules { monthly: 2, zone, ..rules() }), [31, 59]);
}

#[test]
fn nothing_is_deleted_of_a_damaged_archive_nor_without_a_full() {
    let mut all = steady(Flavor::Mysql, 10);
    all.problems.push("the object full/x is damaged".to_owned());
    let refused = plan(&all, &[], &nothing(), &window(60), second(10 * DAY)).unwrap_err();
    assert!(refused.to_string().contains("full/x is damaged"), "{refused}");
    assert!(one(&all, &nothing(), &window(60), second(10 * DAY), "day-0001").is_err());
    all.problems.clear();
    all.fulls.clear();
    assert_eq!(deletions(&plan(&all, &[], &nothing(), &window(60), second(10 * DAY)).unwrap()), 0);
}

#[test]
fn a_clock_that_jumps_deletes_nothing_that_a_right_one_would_keep() {
    let all = steady(Flavor::Mysql, 30);
    let rules = Rules { last: 2, daily: 5, ..window(3 * 86_400) };
    let right = plan(&all, &[], &nothing(), &rules, second(30 * DAY)).unwrap();
    assert_eq!(days(&right), [25, 26, 27, 28, 29]);
    let staying: BTreeSet<&str> = kept(&right).into_iter().collect();
    for (now, note) in [(10, "behind"), (29, "behind"), (5000, "ahead")] {
        let wrong = plan(&all, &[], &nothing(), &rules, second(now * DAY)).unwrap();
        assert!(staying.is_subset(&kept(&wrong).into_iter().collect()), "{note}: {:?}", days(&wrong));
        assert!(kept_files(&right).iter().all(|file| kept_files(&wrong).contains(file)), "{note}");
    }
    // Fulls of a clock that was ahead take no other full's place, and stay themselves.
    let mut future = all.clone();
    for day in [27, 28] {
        future.fulls[day].consistent_at = second(900 * DAY);
        future.fulls[day].finished_at = second(900 * DAY);
    }
    future.fulls.sort_by_key(|full| full.consistent_at);
    let plan = plan(&future, &[], &nothing(), &rules, second(30 * DAY)).unwrap();
    assert_eq!(days(&plan), [23, 24, 25, 26, 27, 28, 29]);
    let last = plan.fulls.last().unwrap();
    assert!(last.id == "day-0028" && last.reasons[0].contains("still to come"), "{last:?}");
}

#[test]
fn when_backups_stop_nothing_grows_old() {
    let all = steady(Flavor::Mysql, 30);
    let rules = window(3 * 86_400);
    let then = plan(&all, &[], &nothing(), &rules, second(30 * DAY)).unwrap();
    assert_eq!(plan(&all, &[], &nothing(), &rules, second(400 * DAY)).unwrap(), then);
}

#[test]
fn what_prepared_xa_transactions_stays_with_the_full_that_needs_it() {
    let mut all = steady(Flavor::Mysql, 30);
    all.fulls.iter_mut().for_each(|full| full.prepared_xa = Some(Vec::new()));
    // Prepared on day 6, and still so on day 8, which keepMonthly … keeps by its name here.
    for day in [7, 8] {
        all.fulls[day].prepared_xa = Some(vec!["X'78',X'',1".to_owned()]);
    }
    let rules = Rules { last: 22, ..window(2 * 86_400) };
    let plan = plan(&all, &[], &nothing(), &rules, second(30 * DAY)).unwrap();
    assert_eq!(days(&plan), std::iter::once(6).chain(8..30).collect::<Vec<_>>());
    assert!(plan.fulls[6].reasons[0].contains("full day-0008 needs it"), "{:?}", plan.fulls[6]);
    let files: BTreeSet<String> = kept_files(&plan).into_iter().collect();
    let of_day = |day: i64| (day * 4 + 2..(day + 1) * 4 + 2).all(|n| files.contains(&format!("binlog.{n:06}")));
    assert_eq!((0..29).filter(|day| of_day(*day)).collect::<Vec<_>>(), [6, 7, 27, 28]);
    let why = one(&all, &nothing(), &rules, second(30 * DAY), "day-0006").unwrap_err().to_string();
    assert!(why.contains("full day-0008 needs it") || why.contains("full day-0007 needs it"), "{why}");
}

#[test]
fn a_full_is_deleted_by_name_unless_it_is_the_last_or_the_window_needs_it() {
    let all = steady(Flavor::Mysql, 10);
    let of = |rules: &Rules, day: i64| one(&all, &nothing(), rules, second(10 * DAY), &format!("day-{day:04}"));
    let rules = window(3 * 86_400);
    assert!(of(&rules, 9).unwrap_err().to_string().contains("last good full"));
    // Day 6 is the base of the window, but everything since is reached from day 5, too.
    let plan = of(&rules, 6).unwrap();
    assert_eq!((days(&plan), kept_files(&plan).len()), (vec![0, 1, 2, 3, 4, 5, 7, 8, 9], 40));
    let mut young = all.clone();
    young.fulls.drain(..6);
    let refused = one(&young, &nothing(), &rules, second(10 * DAY), "day-0006").unwrap_err().to_string();
    assert!(refused.contains("window") && refused.contains("spec.retention.window"), "{refused}");
    assert_eq!(days(&one(&young, &nothing(), &rules, second(10 * DAY), "day-0007").unwrap()), [6, 8, 9]);
    // Without a window nothing is promised but the last one.
    assert_eq!(
        days(&one(&young, &nothing(), &super::tests::rules(), second(10 * DAY), "day-0006").unwrap()),
        [7, 8, 9]
    );
    assert_eq!(deletions(&of(&rules, 4711).unwrap()), 0);
}

#[test]
fn strays_are_swept_a_day_after_the_last_object_came() {
    let all = steady(Flavor::Mysql, 10);
    let stray = |dir: &str, modified: Option<i64>| Stray {
        dir: dir.to_owned(),
        keys: vec![format!("{dir}x")],
        bytes: 7,
        modified: modified.map(second),
    };
    let strays = [stray("old/", Some(8 * DAY)), stray("new/", Some(9 * DAY + 3600)), stray("odd/", None)];
    let swept = |rules: &Rules, now: i64| {
        let plan = plan(&all, &strays, &nothing(), rules, second(now)).unwrap();
        plan.strays.into_iter().filter(|stray| !stray.keep).map(|stray| stray.dir).collect::<Vec<_>>()
    };
    assert_eq!(swept(&window(60), 10 * DAY), ["old/"]);
    // A clock ahead makes nothing old.
    assert_eq!(swept(&window(60), 500 * DAY), ["old/"]);
    assert_eq!(swept(&window(60), 8 * DAY), Vec::<String>::new());
    assert_eq!(swept(&rules(), 10 * DAY), Vec::<String>::new());
}
