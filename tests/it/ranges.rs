//! Tables that are cut into ranges of keys of every kind: no row is lost, none doubled.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tidemark::archive::codec::Decoder;
use tidemark::archive::logical::{Record, Table};
use tidemark::archive::manifest::{Content, FullManifest};
use tidemark::archive::store::Store;
use tidemark::backup::logical::{self, LogicalConfig};
use tidemark::model::{Flavor, Progress};
use tokio_util::sync::CancellationToken;

use crate::fidelity::{endpoint, folder, restore};
use crate::support::ServerOptions;

/// Characters that collations disagree about: case, accents, width, expansions, ignorables, spaces at the end.
const LETTERS: &[&str] = &[
    "a", "A", "á", "Á", "ä", "b", "B", "ß", "s", "S", "ss", " ", "  ", "z", "Z", "é", "e\u{301}", "😀", "\u{ffff}",
    "ﬃ", "1", "Ⅷ", "ı", "I", "i", "\t", "-", "_", "%", "'", "\\", "\"", "`", "\u{1}", "か", "ガ", "カ", "Æ", "ae",
    "ch", "\u{200d}", "𠮷", "0", "9",
];

const COLLATIONS: &[(&str, &str)] = &[
    ("utf8mb4", "utf8mb4_bin"),
    ("utf8mb4", "utf8mb4_general_ci"),
    ("utf8mb4", "utf8mb4_unicode_ci"),
    ("utf8mb4", "utf8mb4_unicode_520_ci"),
    ("utf8mb4", "utf8mb4_czech_ci"),
    ("utf8mb3", "utf8mb3_general_ci"),
    ("latin1", "latin1_swedish_ci"),
    ("latin1", "latin1_german2_ci"),
    ("latin1", "latin1_general_cs"),
    ("latin2", "latin2_czech_cs"),
    ("ucs2", "ucs2_general_ci"),
    ("utf16", "utf16_unicode_ci"),
    ("utf32", "utf32_bin"),
    ("sjis", "sjis_japanese_ci"),
    ("gbk", "gbk_chinese_ci"),
];
const MYSQL_COLLATIONS: &[(&str, &str)] = &[
    ("utf8mb4", "utf8mb4_0900_ai_ci"),
    ("utf8mb4", "utf8mb4_0900_as_cs"),
    ("utf8mb4", "utf8mb4_0900_bin"),
    ("utf8mb4", "utf8mb4_de_pb_0900_ai_ci"),
    ("utf8mb4", "utf8mb4_ja_0900_as_cs_ks"),
    ("gb18030", "gb18030_chinese_ci"),
];
const MARIADB_COLLATIONS: &[(&str, &str)] =
    &[("utf8mb4", "utf8mb4_nopad_bin"), ("utf8mb4", "utf8mb4_uca1400_ai_ci"), ("latin1", "latin1_swedish_nopad_ci")];

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_any_key_hold_every_row_of_mysql_once() {
    once(Flavor::Mysql, MYSQL_COLLATIONS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_any_key_hold_every_row_of_mariadb_once() {
    once(Flavor::Mariadb, MARIADB_COLLATIONS).await;
}

async fn once(flavor: Flavor, collations: &[(&str, &str)]) {
    let (source, target) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).start());
    let mut random = StdRng::seed_from_u64(7);
    let word = |random: &mut StdRng| -> String {
        (0..random.random_range(0..4)).map(|_| *LETTERS.choose(random).unwrap()).collect()
    };
    let mut sql = String::from("SET NAMES utf8mb4; SET sql_mode = ''; CREATE DATABASE r; USE r;\n");
    let mut tables = Vec::new();
    let mut insert = |sql: &mut String, name: &str, keys: String, values: &dyn Fn(&mut StdRng) -> String| {
        sql.push_str(&format!("CREATE TABLE {name} ({keys});\n"));
        for _ in 0..4 {
            let rows: Vec<_> = (0..150).map(|_| format!("({})", values(&mut random))).collect();
            sql.push_str(&format!("INSERT IGNORE INTO {name} VALUES {};\n", rows.join(",")));
        }
        sql.push_str(&format!("ANALYZE TABLE {name};\n"));
        tables.push(name.to_owned());
    };
    let text = |random: &mut StdRng| format!("CONVERT(x'{}' USING utf8mb4)", hex::encode(word(random)));
    for (charset, collation) in COLLATIONS.iter().chain(collations) {
        for data_type in ["VARCHAR", "CHAR"] {
            let name = format!("{data_type}_{collation}").to_lowercase();
            let keys = format!("k {data_type}(12) CHARACTER SET {charset} COLLATE {collation} PRIMARY KEY, n INT");
            insert(&mut sql, &name, keys, &|random| format!("{}, {}", text(random), random.random::<u16>()));
        }
    }
    let number = |random: &mut StdRng, of: i64| random.random_range(-of..of);
    insert(&mut sql, "bytes", "k VARBINARY(20) PRIMARY KEY".into(), &|r| format!("x'{}'", hex::encode(word(r))));
    insert(&mut sql, "ids", "k BINARY(16) PRIMARY KEY".into(), &|r| format!("x'{:032x}'", r.random::<u128>()));
    insert(&mut sql, "decimals", "k DECIMAL(30,10) PRIMARY KEY".into(), &|r| {
        format!("{}.{}", number(r, 99), r.random_range(0..9))
    });
    insert(&mut sql, "moments", "k DATETIME(6) PRIMARY KEY".into(), &|r| {
        format!("'2024-0{}-{} 02:03:04.{}'", r.random_range(0..3), r.random_range(10..33), r.random_range(0..9))
    });
    insert(&mut sql, "stamps", "k TIMESTAMP(3) NOT NULL PRIMARY KEY".into(), &|r| {
        format!("FROM_UNIXTIME({}.25)", 1_700_000_000 + number(r, 20_000_000))
    });
    insert(&mut sql, "spans", "k TIME(2) PRIMARY KEY".into(), &|r| {
        format!("'{}:{}:01.5'", number(r, 838), r.random_range(10..59))
    });
    insert(&mut sql, "days", "k DATE PRIMARY KEY, n INT".into(), &|r| {
        format!("DATE'2024-01-01' + INTERVAL {} DAY, 1", number(r, 900))
    });
    insert(&mut sql, "numbers", "k BIGINT PRIMARY KEY, v VARCHAR(99)".into(), &|r| {
        format!("{}, REPEAT('x', 99)", number(r, 1 << 60))
    });
    // One value of an integer that leads the key holds all rows.
    insert(&mut sql, "tenants", "t INT, k VARCHAR(30), m DATETIME, v TEXT, PRIMARY KEY (t, k, m)".into(), &|r| {
        format!("7, {}, NOW() + INTERVAL {} DAY, 'x'", text(r), r.random_range(0..3))
    });
    insert(
        &mut sql,
        "pairs",
        "a VARCHAR(4) COLLATE utf8mb4_general_ci, b BIGINT UNSIGNED, c BINARY(3), PRIMARY KEY (a, b, c)".into(),
        &|r| {
            format!(
                "'{}', 18446744073709551{}, 'x'",
                ["a", "A ", "ä", "b", ""].choose(r).unwrap(),
                r.random_range(400..615)
            )
        },
    );
    insert(
        &mut sql,
        "no_primary",
        "a INT, k VARCHAR(30) NOT NULL, u INT UNIQUE, UNIQUE KEY (a, k), UNIQUE KEY good (k)".into(),
        &|r| format!("NULL, {}, NULL", text(r)),
    );
    insert(&mut sql, "by_enum", "k VARCHAR(20), e ENUM('b','a','1'), PRIMARY KEY (k, e)".into(), &|r| {
        format!("{}, {}", text(r), r.random_range(1..4))
    });
    insert(&mut sql, "spaced `odd", "`k, ``x` VARCHAR(20) NOT NULL, UNIQUE KEY `i ``x` (`k, ``x`)".into(), &|r| {
        text(r)
    });
    let whole = ["nothing", "enums", "floats", "prefixed"];
    insert(&mut sql, "nothing", "k VARCHAR(20), n INT".into(), &|r| format!("{}, 1", text(r)));
    insert(&mut sql, "enums", "e ENUM('b','a','1'), n INT, PRIMARY KEY (e, n)".into(), &|r| {
        format!("{}, {}", r.random_range(1..4), number(r, 9999))
    });
    insert(&mut sql, "floats", "k DOUBLE PRIMARY KEY".into(), &|r| format!("{}e-3", number(r, 9999)));
    insert(&mut sql, "prefixed", "k VARCHAR(200), PRIMARY KEY (k(5))".into(), &|r| text(r));
    if flavor == Flavor::Mysql {
        insert(&mut sql, "falling", "k VARCHAR(20), n INT, PRIMARY KEY (k DESC, n DESC)".into(), &|r| {
            format!("{}, {}", text(r), number(r, 5))
        });
        insert(&mut sql, "mixed", "k VARCHAR(20), n INT, PRIMARY KEY (k, n DESC)".into(), &|r| {
            format!("{}, {}", text(r), number(r, 5))
        });
    } else {
        insert(&mut sql, "uuids", "k UUID PRIMARY KEY".into(), &|r| format!("'{}'", uuid::Uuid::from_u128(r.random())));
        insert(&mut sql, "addresses", "k INET6 PRIMARY KEY".into(), &|r| {
            format!("'{}'", std::net::Ipv6Addr::from_bits(r.random::<u128>() >> r.random_range(0..100)))
        });
    }
    let sql = sql.replace("spaced `odd", "`spaced ``odd`");
    source.sql(&sql);
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let config = LogicalConfig { range_bytes: 4096, connections: 3, ..LogicalConfig::default() };
    let at = endpoint(&source);
    let manifest = logical::run(&config, &at, &store, Progress::default(), CancellationToken::new()).await.unwrap();
    let copied = copied(&store, &manifest).await;
    let mut ranges = 0;
    let explain = if flavor == Flavor::Mysql { "EXPLAIN FORMAT=TRADITIONAL" } else { "EXPLAIN" };
    for name in &tables {
        let quoted = format!("r.`{}`", name.replace('`', "``"));
        let table = copied.iter().find(|table| table.name == *name).unwrap();
        let count: u64 = source.sql(&format!("SELECT COUNT(*) FROM {quoted}")).parse().unwrap();
        assert!(count > 20, "{flavor} {name}: {count}");
        assert_eq!(table.rows, count, "{flavor} {name}: {:#?}", table.chunks);
        let wanted = if whole.contains(&name.as_str()) { 1..=1 } else { 3..=60 };
        assert!(wanted.contains(&table.chunks.len()), "{flavor} {name}: {} ranges", table.chunks.len());
        ranges += table.chunks.len();
        // A range is read by its index, not by a look at every row.
        if let Some(condition) = table.chunks.get(1).and_then(|chunk| chunk.condition.as_ref()) {
            let plan = source.rows(
                &format!("{explain} SELECT * FROM {quoted} FORCE INDEX (PRIMARY, good) WHERE {condition}").replace(
                    "(PRIMARY, good)",
                    if name == "no_primary" {
                        "(good)"
                    } else if name.contains('`') {
                        "(`i ``x`)"
                    } else {
                        "(PRIMARY)"
                    },
                ),
            );
            assert!(plan[0].iter().any(|field| field == "range"), "{flavor} {name}: {plan:?}\n{condition}");
        }
    }
    eprintln!("{flavor}: {ranges} ranges of {} tables", tables.len());
    restore(&store, &manifest, &target).await;
    for name in &tables {
        let sum = format!("CHECKSUM TABLE r.`{}`", name.replace('`', "``"));
        assert_eq!(source.sql(&sum), target.sql(&sum), "{flavor} {name}");
    }
}

/// The tables a full describes.
async fn copied(store: &Store, manifest: &FullManifest) -> Vec<Table> {
    let Content::Logical(content) = &manifest.content;
    let stored = store.get(&manifest.objects[content.description].key).await.unwrap();
    let (mut decoder, mut input, mut text) = (Decoder::new().unwrap(), &stored[..], Vec::new());
    loop {
        let piece = decoder.decode(&mut input).unwrap();
        if piece.is_empty() && input.is_empty() {
            break;
        }
        text.extend(piece);
    }
    let records = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let tables = records.filter_map(|line| match serde_json::from_slice(line).unwrap() {
        Record::Table(table) => Some(table),
        _ => None,
    });
    tables.collect()
}
