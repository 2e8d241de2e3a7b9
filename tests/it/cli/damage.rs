//! A damaged archive: found and named, by `status` and by `restore`.

use super::*;

#[test]
fn a_full_and_a_stream_make_a_window_and_damage_is_found_and_named() {
    let desk = Desk::new();
    let server = ServerOptions::mysql().start();
    account(&server, "u", &format!("{FULL_GRANTS} u@'%';"));
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)");
    let policy = desk.policy(&server, ("u", "secret"), "", "");
    let empty = done(&["status", "-f", &policy, "-o", "json"]);
    assert_eq!(empty["policies"][0]["fulls"], serde_json::json!([]));
    assert!(desk.contents().is_empty(), "status wrote {:?}", desk.contents());

    let full = done(&["backup", "-f", &policy, "-o", "json"]);
    assert_eq!(full["traceId"].as_str().map(str::len), Some(16), "{full}");
    let mut stream = Process::spawn(tidemark_command(["stream", "-f", &policy, "--log-format", "json"]));
    server.sql("INSERT INTO d.t VALUES (3)");
    let now = || done(&["status", "-f", &policy, "-o", "json"])["policies"][0].take();
    let status = wait_for("the insert in the archive", Duration::from_secs(20), || {
        let status = now();
        (status["source"]["notArchived"] == "").then_some(status)
    });
    stream.signal(Signal::Terminate);
    assert!(stream.wait(Duration::from_secs(10)).success(), "{}", stream.output());
    assert_eq!(status["windows"][0]["gtids"], server.gtids());
    assert_eq!(status["windows"][0]["fulls"][0], full["id"]);
    assert_eq!(status["source"]["lagSeconds"], 0.0);
    assert!(!stream.output().contains("secret"), "a password was logged");

    let archive = desk.contents();
    let damage = |name: &str, change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let (path, bytes) = archive.iter().find(|(path, _)| path.ends_with(name)).unwrap();
        std::fs::write(path, change(bytes)).unwrap();
        path.clone()
    };
    damage("archive.json", &|bytes| String::from_utf8_lossy(bytes).replace("\"format\": 1", "\"format\": 99").into());
    refused(&["status", "-f", &policy], DAMAGED, &["format 99", "newer tidemark"]);
    damage("archive.json", &|bytes| bytes[..bytes.len() / 2].to_vec());
    refused(&["status", "-f", &policy], DAMAGED, &["archive.json is damaged"]);
    damage("archive.json", &<[u8]>::to_vec);
    damage("manifest.json", &|bytes| bytes[..bytes.len() / 2].to_vec());
    let status = now();
    assert!(status["problems"][0].as_str().is_some_and(|text| text.contains("manifest.json")), "{status:#}");
    assert_eq!(status["windows"], serde_json::json!([]), "a damaged full is counted");
    damage("manifest.json", &<[u8]>::to_vec);
    assert_eq!(desk.contents(), archive, "the archive was changed");
}

#[test]
fn a_corrupt_truncated_or_swapped_object_stops_the_restore_by_name_and_once_mended_it_goes_on() {
    let desk = Desk::new();
    let server = shop();
    server.sql("CREATE TABLE d.u LIKE d.t; INSERT INTO d.t VALUES (10, REPEAT('t', 5000)); INSERT INTO d.u VALUES (1, REPEAT('u', 9000))");
    let policy = desk.policy(&server, ("u", "secret"), "", "binlog: {flushInterval: 10ms}");
    done(&["backup", "-f", &policy, "-o", "json"]);
    let stream = stream_of(&policy);
    for id in 20..23 {
        server.sql(&format!("INSERT INTO d.t VALUES ({id}, REPEAT('x', 3000 + {id}))"));
        desk.archived();
    }
    server.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES (30, 'behind the closed file')");
    desk.archived();
    stop(stream);
    let archive = desk.contents();
    let named = |part: &str, end: &str| -> Vec<&(PathBuf, Vec<u8>)> {
        archive.iter().filter(|(path, _)| path.to_str().is_some_and(|p| p.contains(part) && p.ends_with(end))).collect()
    };
    // The rows of both tables, and the last two segments of the closed file: those hold what only replay brings.
    let rows: Vec<_> =
        named("/full/", ".zst").into_iter().filter(|(path, _)| !path.ends_with("description.jsonl.zst")).collect();
    let index = named("/binlog/", "index.json").first().unwrap().0.parent().unwrap().to_str().unwrap().to_owned();
    let segments = named(&index, ".zst");
    assert!(rows.len() >= 2 && segments.len() >= 4, "{} objects of rows, {} segments", rows.len(), segments.len());
    let target = ServerOptions::mysql().start();
    let restore = || outcome(restore_command(&policy, &target, &["--latest"]));
    for objects in [[rows[0], rows[1]], [segments[segments.len() - 2], segments[segments.len() - 1]]] {
        let [(first, bytes), (second, others)] = objects;
        let mut flipped = bytes.clone();
        let middle = bytes.len() / 2;
        flipped[middle] ^= 0x20;
        let half = bytes[..middle].to_vec();
        for (how, damaged) in [("corrupt", &flipped), ("truncated", &half), ("swapped", others)] {
            std::fs::write(first, damaged).unwrap();
            if how == "swapped" {
                std::fs::write(second, bytes).unwrap();
            }
            let before = desk.contents();
            let (code, _, error) = restore();
            let name = first.file_name().unwrap().to_str().unwrap();
            let other = second.file_name().unwrap().to_str().unwrap();
            let says = error.lines().any(|line| line.contains(name) || how == "swapped" && line.contains(other));
            assert!(code == Some(DAMAGED) && says, "{how} {}: {code:?}\n{error}", first.display());
            assert_eq!(desk.contents(), before, "the archive was changed");
            std::fs::write(first, bytes).unwrap();
            std::fs::write(second, others).unwrap();
        }
    }
    let (code, report, error) = restore();
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["result"]["resumed"], target.gtids()), (&Value::Bool(true), server.gtids()));
    let checksums = "CHECKSUM TABLE d.t, d.u";
    assert_eq!(target.sql(checksums), server.sql(checksums));
}
