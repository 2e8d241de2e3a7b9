use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "f0000000-0000-0000-0000-000000000001";

fn mysql(text: &str) -> MysqlGtidSet {
    text.parse().unwrap()
}

fn mariadb(text: &str) -> MariadbGtidSet {
    text.parse().unwrap()
}

/// Few sources and small numbers, so that sets meet.
fn mysql_gtid() -> impl Strategy<Value = MysqlGtid> {
    (0..2_u128, prop::option::of("[a-b]"), 1..40_u64).prop_map(|(uuid, tag, gno)| MysqlGtid {
        uuid: Uuid::from_u128(uuid),
        tag: tag.and_then(|tag| Tag::new(&tag)),
        gno,
    })
}

/// A number may be two servers': then it is two transactions.
fn mariadb_gtid() -> impl Strategy<Value = MariadbGtid> {
    (0..2_u32, 1..3_u32, 1..30_u64).prop_map(|(domain, server, seq)| MariadbGtid { domain, server, seq })
}

fn mysql_set(gtids: &HashSet<MysqlGtid>) -> MysqlGtidSet {
    let mut set = MysqlGtidSet::default();
    gtids.iter().for_each(|gtid| assert!(set.insert(gtid)));
    set
}

fn mariadb_set(gtids: &HashSet<MariadbGtid>) -> MariadbGtidSet {
    let mut set = MariadbGtidSet::default();
    gtids.iter().for_each(|gtid| assert!(set.insert(gtid)));
    set
}

fn members(set: &MysqlGtidSet) -> HashSet<MysqlGtid> {
    let of = |(uuid, tag, numbers): (Uuid, Option<&Tag>, &IntervalSet)| {
        let tag = tag.cloned();
        let ranges: Vec<_> = numbers.ranges().collect();
        ranges.into_iter().flat_map(|(first, last)| first..=last).map(move |gno| MysqlGtid {
            uuid,
            tag: tag.clone(),
            gno,
        })
    };
    set.sources().flat_map(of).collect()
}

fn mariadb_members(set: &MariadbGtidSet) -> HashSet<MariadbGtid> {
    let of = |(domain, server, numbers): (u32, u32, &IntervalSet)| {
        let ranges: Vec<_> = numbers.ranges().collect();
        ranges.into_iter().flat_map(|(first, last)| first..=last).map(move |seq| MariadbGtid { domain, server, seq })
    };
    set.writers().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mysql_algebra_is_that_of_plain_sets(
        a in prop::collection::hash_set(mysql_gtid(), 0..60),
        b in prop::collection::hash_set(mysql_gtid(), 0..60),
        probe in mysql_gtid(),
    ) {
        let (set_a, set_b) = (mysql_set(&a), mysql_set(&b));
        prop_assert_eq!(&members(&set_a), &a);
        prop_assert_eq!(set_a.count(), a.len() as u64);
        prop_assert_eq!(set_a.contains(&probe), a.contains(&probe));
        prop_assert_eq!(set_a.clone().insert(&probe), !a.contains(&probe));
        prop_assert_eq!(members(&set_a.union(&set_b)), &a | &b);
        prop_assert_eq!(members(&set_a.difference(&set_b)), &a - &b);
        prop_assert_eq!(members(&set_a.intersection(&set_b)), &a & &b);
        prop_assert_eq!(set_a.is_subset(&set_b), a.is_subset(&b));
        // However a set came about, equal members are equal sets.
        prop_assert_eq!(set_a.union(&set_b), mysql_set(&(&a | &b)));
        prop_assert_eq!(set_a.difference(&set_b), mysql_set(&(&a - &b)));
        prop_assert_eq!(set_a.intersection(&set_b), mysql_set(&(&a & &b)));
    }

    #[test]
    fn mariadb_algebra_is_that_of_plain_sets(
        a in prop::collection::hash_set(mariadb_gtid(), 0..60),
        b in prop::collection::hash_set(mariadb_gtid(), 0..60),
        probe in mariadb_gtid(),
    ) {
        let (set_a, set_b) = (mariadb_set(&a), mariadb_set(&b));
        prop_assert_eq!(mariadb_members(&set_a), a.clone());
        prop_assert_eq!(set_a.count(), a.len() as u64);
        prop_assert_eq!(set_a.contains(&probe), a.contains(&probe));
        prop_assert_eq!(set_a.clone().insert(&probe), !a.contains(&probe));
        prop_assert_eq!(set_a.difference(&set_b), mariadb_set(&(&a - &b)));
        prop_assert_eq!(set_a.intersection(&set_b), mariadb_set(&(&a & &b)));
        prop_assert_eq!(set_a.is_subset(&set_b), a.is_subset(&b));
        prop_assert_eq!(set_a.union(&set_b), mariadb_set(&(&a | &b)));
        for domain in 0..2 {
            let last = a.iter().filter(|gtid| gtid.domain == domain).max_by_key(|gtid| (gtid.seq, gtid.server));
            prop_assert_eq!(set_a.last(domain), last.copied());
        }
    }

    #[test]
    fn a_number_without_a_writer_is_any_of_that_number(
        a in prop::collection::hash_set(mariadb_gtid(), 0..40),
        b in prop::collection::hash_set(mariadb_gtid(), 0..40),
        unknown_a in prop::collection::hash_set((0..2_u32, 1..30_u64), 0..20),
        unknown_b in prop::collection::hash_set((0..2_u32, 1..30_u64), 0..20),
    ) {
        let with = |known: &HashSet<MariadbGtid>, unknown: &HashSet<(u32, u64)>| {
            let mut set = mariadb_set(known);
            unknown.iter().for_each(|(domain, seq)| set.insert_unknown(*domain, *seq, *seq));
            set
        };
        let (set_a, set_b) = (with(&a, &unknown_a), with(&b, &unknown_b));
        let (less, both) = (set_a.difference(&set_b), set_a.intersection(&set_b));
        prop_assert_eq!(mariadb(&set_a.to_string()), set_a.clone());
        prop_assert_eq!(less.union(&both).numbers(0), set_a.numbers(0));
        prop_assert!(less.difference(&set_b) == less && both.is_subset(&set_b) && both.is_subset(&set_a));
        prop_assert_eq!(set_a.is_subset(&set_b), less.is_empty());
        for gtid in &a {
            let there = set_b.contains(gtid);
            prop_assert_eq!(there, b.contains(gtid) || set_b.unknown(gtid.domain).contains(gtid.seq));
            prop_assert_eq!(less.contains(gtid), !there);
            prop_assert_eq!(both.contains(gtid), there);
        }
        for domain in 0..2 {
            // What one knows, what both have of it knows.
            let told = set_a.unknown(domain).intersection(&set_b.known().numbers(domain));
            prop_assert!(both.unknown(domain).intersection(&told).is_empty());
        }
    }

    #[test]
    fn text_binary_form_and_serde_give_the_set_back(
        a in prop::collection::hash_set(mysql_gtid(), 0..60),
        b in prop::collection::hash_set(mariadb_gtid(), 0..60),
    ) {
        let (a, b) = (mysql_set(&a), mariadb_set(&b));
        prop_assert_eq!(&mysql(&a.to_string()), &a);
        prop_assert_eq!(&MysqlGtidSet::decode_wire(&a.encode_wire()).unwrap(), &a);
        prop_assert_eq!(&mariadb(&b.to_string()), &b);
        for set in [GtidSet::Mysql(a), GtidSet::Mariadb(b)] {
            let json = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<GtidSet>(&json).unwrap(), set);
        }
    }

    #[test]
    fn no_text_and_no_bytes_panic(text in "[ 0-9a-f:,.{}-]{0,80}|\\PC{0,40}", bytes in vec(any::<u8>(), 0..120)) {
        _ = text.parse::<Gtid>();
        if let Ok(set) = text.parse::<MysqlGtidSet>() {
            prop_assert_eq!(mysql(&set.to_string()), set);
        }
        if let Ok(set) = text.parse::<MariadbGtidSet>() {
            prop_assert_eq!(mariadb(&set.to_string()), set);
        }
        if let Ok(set) = MysqlGtidSet::decode_wire(&bytes) {
            prop_assert_eq!(MysqlGtidSet::decode_wire(&set.encode_wire()).unwrap(), set);
        }
    }
}

#[test]
fn mysql_text_is_the_servers() {
    // Each left side was given to a MySQL 9.7 server's GTID_SUBTRACT(…, ''), which answered the right side.
    for (given, printed) in [
        (
            "3E11FA47-71CA-11E1-9E33-C80AA9429562:Tag_1:1-3:7:1-5 , 3E11FA47-71CA-11E1-9E33-C80AA9429562:9-9:10,\n\
             00000000-71CA-11E1-9E33-C80AA9429562:1:aa:4",
            "00000000-71ca-11e1-9e33-c80aa9429562:1:aa:4,3e11fa47-71ca-11e1-9e33-c80aa9429562:9-10:tag_1:1-5:7",
        ),
        ("3E11FA4771CA11E19E33C80AA9429562: 1 - 5 ,,\n", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"),
        ("{3E11FA47-71CA-11E1-9E33-C80AA9429562}:1", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1"),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:a:1:b:2:a:4", "3e11fa47-71ca-11e1-9e33-c80aa9429562:a:1:4:b:2"),
        ("3e11fa47-71ca-11e1-9e33-c80aa9429562:01", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1"),
        ("", ""),
    ] {
        assert_eq!(mysql(given).to_string(), printed);
    }
}

#[test]
fn malformed_text_is_refused_and_quoted() {
    let texts = [
        ":0",
        ":9223372036854775807",
        ":",
        ":1::2",
        ":1:1a:2",
        ":+1",
        ":0-3",
        "",
        ":5-3",
        ":a",
        ":1:a",
        ":a:b:1",
        ":1-",
    ];
    for rest in texts {
        let text = format!("{A}{rest}");
        let error = text.parse::<MysqlGtidSet>().unwrap_err().to_string();
        assert!(error.contains(&text), "{error}");
    }
    for text in ["+3e11fa47-71ca-11e1-9e33-c80aa9429562:1", "binlog.000001:4", "0-1-5", "urn:uuid:1"] {
        assert!(text.parse::<MysqlGtidSet>().is_err(), "{text}");
    }
    for text in ["0-1", "0-1-0", "0-1-2-3", "-1-2", "0-1-5..3", "0-1-5..", "0-4294967296-1", "0-1-18446744073709551616"]
    {
        let error = text.parse::<MariadbGtidSet>().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    for text in ["0-1", A, &format!("{A}:1-5"), &format!("{A}:a"), &format!("{A}:a:0"), "0-1-2,0-1-3"] {
        assert!(text.parse::<Gtid>().is_err(), "{text}");
    }
}

#[test]
fn the_highest_numbers_neither_wrap_nor_take_memory() {
    let all = mysql(&format!("{A}:1-{MAX_GNO}"));
    assert_eq!(all.count(), MAX_GNO);
    assert_eq!(MysqlGtidSet::decode_wire(&all.encode_wire()).unwrap(), all);
    assert_eq!(all.difference(&mysql(&format!("{A}:{MAX_GNO}"))).to_string(), format!("{A}:1-{}", MAX_GNO - 1));
    let all = mariadb(&format!("0-1-{},1-1-{}", u64::MAX, u64::MAX));
    assert_eq!(all.count(), u64::MAX, "saturates");
    assert!(!all.clone().insert(&MariadbGtid { domain: 0, server: 1, seq: u64::MAX }));
    assert_eq!(
        all.difference(&mariadb("0-1-5")).to_string(),
        format!("0-?-6..{1},0-1-{0}..{0},1-1-{0}", u64::MAX, u64::MAX - 1)
    );
    // A count of 2^55 servers, and of 2^64 - 1 intervals, in a few bytes.
    assert!(MysqlGtidSet::decode_wire(&[0, 0, 0, 0, 0, 0, 128, 0]).is_err());
    assert!(MysqlGtidSet::decode_wire(&[[1, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[7; 16], &[255; 8]].concat()).is_err());
}

#[test]
fn appending_numbers_keeps_one_range() {
    let mut set = MysqlGtidSet::default();
    let uuid = A.parse().unwrap();
    for gno in 1..=100_000 {
        assert!(set.insert(&MysqlGtid { uuid, tag: None, gno }));
    }
    assert_eq!(set.to_string(), format!("{A}:1-100000"));
}

#[test]
fn binary_form_is_the_servers() {
    // Built by hand from the format; the integration test `events` decodes what real servers wrote.
    let untagged = hex::decode(concat!(
        "0100000000000000",
        "3e11fa4771ca11e19e33c80aa9429562",
        "0200000000000000",
        "0100000000000000",
        "0600000000000000",
        "0700000000000000",
        "0800000000000000"
    ));
    let set = mysql(&format!("{A}:1-5:7"));
    assert_eq!(MysqlGtidSet::decode_wire(&untagged.unwrap()).unwrap(), set);
    let tagged = mysql(&format!("{A}:1-5:7:tag:1-3,{B}:x:9"));
    assert_eq!(&tagged.encode_wire()[..8], [1, 3, 0, 0, 0, 0, 0, 1]);
    assert_eq!(MysqlGtidSet::decode_wire(&tagged.encode_wire()).unwrap(), tagged);
    assert!(MysqlGtidSet::decode_wire(&[0, 0, 0, 0, 0, 0, 0, 2]).is_err(), "a format of the future");
    assert!(MysqlGtidSet::decode_wire(&[&set.encode_wire()[..], &[0]].concat()).is_err(), "bytes behind the end");
}

#[test]
fn one_number_by_two_servers_is_two_transactions() {
    let (ours, fork) = (mariadb("0-1-100"), mariadb("0-2-100"));
    assert_ne!(ours, fork);
    assert!(!ours.is_subset(&fork));
    assert!(!ours.contains(&"0-2-100".parse().unwrap()));
    assert_eq!(ours.difference(&fork).to_string(), "0-1-100..100");
    assert_eq!(ours.intersection(&fork).to_string(), "0-?-1..99");
    assert!(mariadb("0-1-50").is_subset(&fork), "who wrote 50 of the longer history is not known");
    let (dead, new) = (mariadb("0-1-1..103"), mariadb("0-1-1..100,0-2-101..110"));
    assert_eq!(dead.difference(&new).to_string(), "0-1-101..103");
    assert_eq!(new.intersection(&dead).to_string(), "0-1-1..100");
    assert_eq!(dead.union(&new).count(), 113);
    assert_eq!(mariadb("0-2-105").intersection(&dead).to_string(), "0-1-1..103", "the position tells of 105 only");
}

#[test]
fn a_mariadb_position_is_a_prefix_and_prints_back() {
    let set = mariadb(" 0-1-100,\n1-2-5 ");
    assert_eq!(set.count(), 105);
    assert_eq!(set.to_string(), "0-1-100,1-2-5");
    let later = mariadb("0-3-120,1-2-5").difference(&set);
    assert_eq!((later.to_string(), later.position()), ("0-?-101..119,0-3-120..120".to_owned(), "0-3-120".to_owned()));
    let holes = mariadb("0-1-1..3,0-1-7..9");
    assert_eq!(holes.to_string(), "0-1-1..3,0-1-7..9");
    assert_eq!(holes.position(), "0-1-9");
    assert_eq!(holes.filled().to_string(), "0-1-1..3,0-?-4..6,0-1-7..9");
    let onward = mariadb("0-1-100,0-1-101..120");
    assert_eq!((onward.to_string(), onward.position()), ("0-1-100,0-1-101..120".to_owned(), "0-1-120".to_owned()));
}

#[test]
fn a_mariadb_servers_state_tells_the_writers_of_the_newest() {
    let state: Vec<MariadbGtid> = ["0-1-100", "1-3-7", "0-3-60", "0-2-105"].map(|gtid| gtid.parse().unwrap()).to_vec();
    let set = MariadbGtidSet::of_state(&state);
    assert_eq!(set.to_string(), "0-3-60,0-?-61..99,0-1-100..100,0-2-101..105,1-3-7");
    assert_eq!(set.position(), "0-2-105,1-3-7");
}

#[test]
fn flavors_do_not_mix() {
    let (a, b) = (GtidSet::Mysql(mysql(&format!("{A}:1"))), GtidSet::Mariadb(mariadb("0-1-5")));
    assert!(a.union(&b).is_err());
    assert!(a.clone().insert(&"0-1-5".parse().unwrap()).is_err());
    assert_eq!((a.difference(&b), a.intersection(&b)), (a.clone(), GtidSet::empty(Flavor::Mysql)));
    assert!(!a.is_subset(&b));
}

#[test]
fn serialised_forms_are_text() {
    let set = GtidSet::Mysql(mysql(&format!("{A}:1-5:tag:2")));
    assert_eq!(serde_json::to_string(&set).unwrap(), format!(r#"{{"mysql":"{A}:1-5:tag:2"}}"#));
    assert_eq!(serde_json::to_string(&GtidSet::empty(Flavor::Mariadb)).unwrap(), r#"{"mariadb":""}"#);
    for text in [format!("{A}:5"), format!("{A}:tag:5"), "0-1-5".to_owned()] {
        let gtid: Gtid = text.parse().unwrap();
        assert_eq!(serde_json::to_string(&gtid).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Gtid>(&format!("\"{text}\"")).unwrap(), gtid);
    }
}
