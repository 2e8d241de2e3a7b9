//! `tidemark rekey`: what old identities opened, and what was in clear, the new ones alone open.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tidemark::model::Flavor;

use crate::encryption::{Desk, Key, done, encryption, files, fill, json, more, text, tidemark, verified};
use crate::lab::checksums;
use crate::support::{Process, ROOT_PASSWORD, S3Server, ServerOptions, Signal, tidemark_command, wait_for};

const REFUSED: i32 = 3;
const LOCKED: &str = "  immutability: {mode: Compliance, lockFor: 2d}\n";

/// Where it is stopped, to be killed there.
const STEPS: &[&str] = &[
    "rekey::after_object_of_full",
    "rekey::before_manifest",
    "rekey::after_manifest",
    "rekey::after_object",
    "rekey::after_segment",
    "rekey::before_index",
    "rekey::after_index",
    "rekey::before_delete",
];

/// An archive of two fulls and closed binlog files, which begins in clear and goes on for the holder of `old`; its retention packs one of the files.
fn begun(desk: &Desk, old: &Key) {
    fill(&desk.source);
    let clear = desk.policy("");
    done(&["backup", "-f", &clear]);
    desk.stream(&clear, &format!("{}; FLUSH BINARY LOGS", more(20)));
    let encrypted = desk.policy(&encryption(&[old]));
    desk.stream(&encrypted, &format!("{}; FLUSH BINARY LOGS", more(20)));
    done(&["backup", "-f", &encrypted]);
    desk.stream(&encrypted, &format!("{}; FLUSH BINARY LOGS; {}", more(20), more(5)));
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What nothing names of closed files and of fulls.
fn unnamed(desk: &Desk) -> BTreeSet<String> {
    let objects = files(&desk.objects());
    let mut named = BTreeSet::new();
    for (name, path) in &objects {
        let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
        if name.ends_with("manifest.json") {
            named.insert(name.clone());
            let objects = document(path)["objects"].as_array().unwrap().clone();
            named.extend(objects.iter().map(|object| object["key"].as_str().unwrap().to_owned()));
        } else if name.ends_with("index.json") {
            let index = document(path);
            let edition = index["edition"].as_str().map_or(String::new(), |edition| format!(".{edition}"));
            let of_edition = |name: &String| {
                let own = name.strip_prefix(dir).is_some_and(|rest| rest.matches('/').count() == 1);
                own && if edition.is_empty() { name.matches('.').count() < 6 } else { name.contains(&edition) }
            };
            named.insert(name.clone());
            named.extend(objects.iter().map(|(name, _)| name.clone()).filter(of_edition));
        } else if !name.starts_with("full/") && !objects.iter().any(|(other, _)| *other == format!("{dir}/index.json"))
        {
            named.insert(name.clone());
        }
    }
    objects.into_iter().map(|(name, _)| name).filter(|name| !named.contains(name)).collect()
}

fn rekey_of(desk: &Desk, flavor: Flavor) {
    let (old, new) = (Key::new(), Key::new());
    begun(desk, &old);
    let before = desk.source.gtids();
    let checksums_before = checksums(&desk.source);
    let policy = desk.policy(&encryption(&[&new]));
    done(&["prune", "-f", &policy]);
    let packs = || files(&desk.objects()).into_iter().filter(|(name, _)| name.contains(".pack.")).count();
    assert!(packs() > 0, "nothing was packed");

    // Nothing is touched by who cannot read what is old, or has not shown that what is new can be read.
    let stored = files(&desk.objects());
    for (keys, reason) in
        [(vec![&old], "no identity of the recipients"), (vec![&new], "give that of one of the former")]
    {
        let identity = desk.identity(&keys);
        let output = tidemark(&["rekey", "-f", &policy, "-f", &identity, "--identity-secret", "backup-key"]);
        let said = text(&output);
        assert_eq!((output.status.code(), said.contains(reason)), (Some(REFUSED), true), "{said}");
    }
    let identity = desk.identity(&[&old, &new]);
    let rekey = |more: &[&str]| {
        let arguments = ["rekey", "-o", "json", "-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
        json(&done(&[&arguments, more].concat()))
    };
    let plan = rekey(&["--dry-run"]);
    assert_eq!((plan["due"]["fulls"].as_array().unwrap().len(), &plan["rekeyed"]), (2, &Value::Null), "{plan:#}");
    assert!(plan["due"]["files"].as_array().unwrap().len() >= 3, "{plan:#}");
    assert!(files(&desk.objects()) == stored, "a dry run, and refusals, change nothing");

    let report = rekey(&[]);
    assert_eq!(report["rekeyed"]["fulls"], 2, "{report:#}");
    assert!(report["rekeyed"]["failed"].as_array().unwrap().is_empty(), "{report:#}");
    assert!(report["rekeyed"]["notes"].to_string().contains("FLUSH BINARY LOGS"), "{report:#}");
    assert_eq!(unnamed(desk), BTreeSet::new());
    // The file that was open is closed by now.
    desk.stream(&policy, &format!("FLUSH BINARY LOGS; {}", more(5)));
    let report = rekey(&[]);
    assert_eq!((&report["rekeyed"]["fulls"], &report["rekeyed"]["files"]), (&0.into(), &1.into()), "{report:#}");
    assert_eq!(rekey(&[])["due"]["objects"], 0);
    assert_eq!(unnamed(desk), BTreeSet::new());

    // Nothing is left that the old identity, or nobody, opens.
    let clear = files(&desk.objects()).into_iter().filter(|(name, _)| name.ends_with(".zst")).count();
    let identity = desk.identity(&[&new]);
    let arguments = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    let report = verified(&arguments, 0);
    assert_eq!(
        (clear, report["undecodedObjects"].as_u64(), report["leftovers"].as_u64()),
        (0, Some(0), Some(0)),
        "{report:#}"
    );
    let told = text(&done(&["status", "-f", &policy]));
    assert!(!told.contains("IN CLEAR") && !told.contains(&old.public) && told.contains(&new.public), "{told}");
    let with_old = desk.identity(&[&old]);
    let refused = ["-f", &policy, "-f", &with_old, "--identity-secret", "backup-key"];
    desk.refused(&refused, REFUSED, "IdentityWrong", &[&new.public]);

    // Every moment can be restored, also once what was written anew is packed.
    let identity = desk.identity(&[&new]);
    let arguments = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    done(&["prune", "-f", &policy]);
    assert!(packs() > 0, "what a rekey wrote is packed, too");
    verified(&arguments, 0);
    let target = ServerOptions::of(flavor).start();
    let restored = desk.restore(&target, &arguments);
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(checksums(&target), checksums(&desk.source), "{flavor}");
    let target = ServerOptions::of(flavor).start();
    let into = target.addr().to_string();
    let mut command = tidemark_command(["restore", "--to-gtid", &before, "--into", &into, "--into-tls", "Disabled"]);
    let restored = command.args(arguments).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD).output().unwrap();
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(checksums(&target), checksums_before, "{flavor}");
}

#[test]
fn after_a_rekey_the_new_identity_alone_opens_all_of_a_mysql_archive_in_a_folder() {
    rekey_of(&Desk::new(Flavor::Mysql, None), Flavor::Mysql);
}

#[test]
fn after_a_rekey_the_new_identity_alone_opens_all_of_a_mariadb_archive_in_s3() {
    rekey_of(&Desk::new(Flavor::Mariadb, Some(S3Server::start())), Flavor::Mariadb);
}

/// Every object's version that counts.
fn current(s3: &S3Server) -> BTreeSet<(String, String)> {
    let mut seen = BTreeSet::new();
    let newest = s3.versions().into_iter().filter(|(key, ..)| seen.insert(key.clone()));
    newest.filter(|(_, _, is_there)| *is_there).map(|(key, id, _)| (key, id)).collect()
}

#[test]
fn a_rekey_in_a_bucket_that_locks_hides_what_was_old_says_so_and_is_done_once() {
    let mut s3 = S3Server::start();
    s3.lock();
    let (desk, old, new) = (Desk::new(Flavor::Mysql, Some(s3)), Key::new(), Key::new());
    let locked = |key: &Key| desk.policy(&format!("{}{LOCKED}", encryption(&[key])));
    let policy = locked(&old);
    fill(&desk.source);
    done(&["backup", "-f", &policy]);
    desk.stream(&policy, &format!("{}; FLUSH BINARY LOGS", more(20)));
    desk.stream(&policy, "FLUSH BINARY LOGS");
    let before = desk.s3().versions();
    let policy = locked(&new);
    let identity = desk.identity(&[&old, &new]);
    let arguments = ["-o", "json", "-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    let report = json(&done(&[&["rekey"], &arguments[..]].concat()));
    let rekeyed = &report["rekeyed"];
    assert_eq!(
        (&rekeyed["fulls"], &rekeyed["left"], &rekeyed["failed"]),
        (&1.into(), &0.into(), &Value::Array(vec![]))
    );
    assert!(rekeyed["files"].as_u64() >= Some(1) && rekeyed["deleted"].as_u64() > Some(3), "{report:#}");
    assert!(rekeyed["notes"].to_string().contains("NoncurrentVersionExpiration"), "{report:#}");
    // Nothing is gone: who took the writer's credentials can destroy as little as before, and the new objects are locked like the old ones.
    let after = desk.s3().versions();
    assert!(before.iter().filter(|version| version.2).all(|version| after.contains(version)));
    let is_of_archive = |key: &str| key.starts_with("full/") || key.starts_with("binlog/");
    let current = current(desk.s3());
    let of_archive: Vec<_> = current.iter().filter(|(key, _)| is_of_archive(key)).collect();
    assert!(of_archive.len() > 4, "{current:?}");
    for (key, id) in of_archive {
        let path = format!("/{}/{}?retention=&versionId={id}", desk.s3().bucket(), key.replace('@', "%40"));
        let (status, told) = desk.s3().request("GET", &path, &[]);
        assert!(status == 200 && told.contains("COMPLIANCE"), "{key}: {told}");
    }

    let again = json(&done(&[&["rekey"], &arguments[..]].concat()));
    assert_eq!((&again["due"]["objects"], &again["rekeyed"]["deleted"]), (&0.into(), &0.into()), "{again:#}");
    let marks = |versions: &[(String, String, bool)]| {
        versions.iter().filter(|(key, _, is_there)| !is_there && is_of_archive(key)).count()
    };
    assert_eq!(marks(&desk.s3().versions()), marks(&after), "it was all done again");
    // The file that is open was left to the old identity.
    let arguments = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    verified(&arguments, 0);
    let target = ServerOptions::mysql().start();
    let restored = desk.restore(&target, &arguments);
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(checksums(&target), checksums(&desk.source));
}

#[test]
fn a_rekey_in_a_store_that_lets_nothing_be_replaced_is_refused_before_anything_is_written() {
    let mut s3 = S3Server::start();
    s3.keep_no_versions();
    s3.lock();
    s3.lock_by_default("<Mode>COMPLIANCE</Mode><Days>2</Days>");
    let (desk, new) = (Desk::new(Flavor::Mysql, Some(s3)), Key::new());
    fill(&desk.source);
    done(&["backup", "-f", &desk.policy(LOCKED)]);
    let archived = || {
        let objects = files(&desk.objects()).into_iter();
        objects.map(|(name, _)| name).filter(|name| !name.starts_with("lease/")).collect::<Vec<_>>()
    };
    let before = archived();
    let policy = desk.policy(&format!("{}{LOCKED}", encryption(&[&new])));
    let identity = desk.identity(&[&new]);
    let arguments = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    let output = tidemark(&[&["rekey"], &arguments[..]].concat());
    let said = text(&output);
    assert!(!output.status.success() && said.contains("nothing but time changes that"), "{said}");
    assert_eq!(archived(), before);
    let target = ServerOptions::mysql().start();
    let restored = desk.restore(&target, &arguments);
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(checksums(&target), checksums(&desk.source));
}

#[test]
fn two_rekeys_at_a_time_leave_one_whole_archive_and_a_prune_waits_for_them() {
    let (desk, old, new) = (Desk::new(Flavor::Mariadb, None), Key::new(), Key::new());
    begun(&desk, &old);
    let policy = desk.policy(&format!("{}  retention: {{keepLast: 1}}\n", encryption(&[&new])));
    let identity = desk.identity(&[&old, &new]);
    let arguments = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    let mut command = tidemark_command(["rekey"].iter().chain(&arguments));
    command.env("FAILPOINTS", "rekey::before_manifest=1*sleep(30000)");
    let of_fulls = || files(&desk.objects()).iter().filter(|(name, _)| name.starts_with("full/")).count();
    // Two fulls of as many objects: the first is there twice, but for its manifest.
    let half = of_fulls() / 2;
    let mut first = Process::spawn(command);
    first.wait_to_pause_at("rekey::before_manifest", || of_fulls() >= 3 * half - 1);
    first.signal(Signal::Stop);
    let before = files(&desk.objects());
    let waits = text(&tidemark(&["prune", "-f", &policy]));
    assert!(waits.contains("or a rekey runs"), "{waits}");
    assert!(before.iter().all(|object| object.0.starts_with("lease/") || files(&desk.objects()).contains(object)));
    let second = json(&done(&[&["rekey", "-o", "json"], &arguments[..]].concat()));
    assert_eq!(second["rekeyed"]["fulls"], 2, "{second:#}");
    first.signal(Signal::Continue);
    assert!(
        !first.wait(Duration::from_secs(90)).success() && first.output().contains("another rekey runs"),
        "{}",
        first.output()
    );
    assert_eq!(unnamed(&desk), BTreeSet::new());
    verified(&arguments, 0);
    let target = ServerOptions::mariadb().start();
    let restored = desk.restore(&target, &arguments);
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(checksums(&target), checksums(&desk.source));
}

#[test]
fn a_rekey_that_is_killed_at_every_step_loses_nothing_and_the_next_ones_end_it() {
    let desk = Desk::new(Flavor::Mysql, None);
    let (old, new) = (Key::new(), Key::new());
    begun(&desk, &old);
    let policy = desk.policy(&encryption(&[&new]));
    let identity = desk.identity(&[&old, &new]);
    let arguments = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    for step in STEPS {
        let mut command = tidemark_command(["rekey"].iter().chain(&arguments));
        command.env("FAILPOINTS", format!("{step}=pause"));
        let mut child = Process::spawn(command);
        child.wait_to_pause_at(step, || true);
        child.kill9();
        verified(&arguments, 0);
    }
    // A restore under way keeps what it may read.
    let target = ServerOptions::mysql().start();
    let into = target.addr().to_string();
    let mut command = tidemark_command(["restore", "--latest", "--into", &into, "--into-tls", "Disabled"]);
    command.args(arguments).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
    command.env("FAILPOINTS", "restore::base::before_programs=pause");
    let mut restoring = Process::spawn(command);
    wait_for("the restore to hold a full", Duration::from_secs(60), || {
        assert!(restoring.try_wait().is_none(), "{}", restoring.output());
        let leases = files(&desk.objects()).into_iter().filter(|(name, _)| name.starts_with("lease/"));
        let held = leases.filter(|(_, path)| document(path)["full"].is_string()).count();
        (held > 0).then_some(())
    });
    let report = json(&done(&[&["rekey", "-o", "json"], &arguments[..]].concat()));
    assert!(report["rekeyed"]["left"].as_u64().unwrap() > 0, "{report:#}");
    restoring.kill9();
    // A day later, with the restore's lease gone, what is left goes.
    fs::remove_dir_all(desk.objects().join("lease")).unwrap();
    let all: Vec<_> = files(&desk.objects()).into_iter().map(|(_, path)| path).collect();
    assert!(Command::new("touch").args(["-d", "2 days ago"]).args(&all).status().unwrap().success());
    assert!(!unnamed(&desk).is_empty());
    let report = json(&done(&[&["rekey", "-o", "json"], &arguments[..]].concat()));
    assert_eq!((unnamed(&desk), &report["rekeyed"]["left"]), (BTreeSet::new(), &0.into()), "{report:#}");
    // The file that is open was left to the old identity.
    let target = ServerOptions::mysql().start();
    let restored = desk.restore(&target, &arguments);
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(checksums(&target), checksums(&desk.source));
}
