//! Stores that turn a running stream away, each in its way: it is told by the reason of a condition and by what the alert watches, nothing is lost, and
//! the stream goes on by itself once somebody has put the store right.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemark::archive::store::{Store, StoreConfig};

use crate::lab::checksums;
use crate::pods::{Pod, Reporting, server};
use crate::stream::assert_identical;
use crate::support::{Faults, ROOT_PASSWORD, S3Server, Server, ServerOptions, tidemark_command, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// Lets the store fall ill under writes and recover; prints how soon either is told.
fn falls_ill(stream: &Reporting, server: &Server, reason: &str, illness: impl FnOnce(), cure: impl FnOnce()) -> Value {
    stream.works(SOON);
    stream.wait("the archive to be read", SOON, |status| !status["archive"].is_null());
    illness();
    server.sql("INSERT INTO d.t VALUES ()");
    let ill = Instant::now();
    let told = stream.fails(reason, SOON);
    let ill = ill.elapsed();
    assert_eq!(told["stream"]["storeFailing"], true, "{told:#}");
    assert_eq!(stream.metric("tidemark_store_failing", ""), Some(1.0));
    assert_eq!(stream.metric("tidemark_stream_error", &format!(",reason=\"{reason}\"")), Some(1.0));
    server.sql("INSERT INTO d.t VALUES ()");
    cure();
    let cured = Instant::now();
    let works = stream.works(SOON);
    println!(
        "{reason}: told {:.1} s after a commit, gone on {:.1} s after the cure",
        ill.as_secs_f64(),
        cured.elapsed().as_secs_f64()
    );
    assert_eq!(
        (&works["stream"]["losses"], &works["stream"]["storeFailing"]),
        (&json!([]), &false.into()),
        "{works:#}"
    );
    assert_eq!(stream.metric("tidemark_store_failing", ""), Some(0.0));
    told
}

fn is_restored(pod: &Pod, source: &Server) {
    let target = ServerOptions::mysql().start();
    let into = target.addr().to_string();
    let arguments = pod.arguments("restore", &["--latest", "--into", &into, "--into-tls", "Disabled"]);
    let output = tidemark_command(arguments).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(checksums(&target), checksums(source));
}

#[test]
fn a_folder_that_is_full_and_then_read_only_is_told_and_gone_on_with_once_it_is_put_right() {
    let source = server();
    let pod = Pod::new(&source, "first-password", None);
    let archive = pod.path("archive");
    std::fs::create_dir(&archive).unwrap();
    let mount = |arguments: &[&str]| {
        let mounted = Command::new(arguments[0]).args(&arguments[1..]).arg(&archive).output().unwrap();
        mounted.status.success().then_some(()).ok_or(String::from_utf8_lossy(&mounted.stderr).into_owned())
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=16m", "tidemark-test"]).unwrap();
    let (code, full) = pod.outcome("backup", &[]);
    assert_eq!(code, Some(0), "{full:#}");
    let stream = pod.stream();
    let filler = archive.join("of somebody else");
    let fill = || {
        let all = vec![0; 32 << 20];
        std::fs::write(&filler, all).unwrap_err();
    };
    let told = falls_ill(&stream, &source, "StoreFull", fill, || std::fs::remove_file(&filler).unwrap());
    assert!(told["stream"]["error"]["message"].as_str().unwrap().contains("free some space"), "{told:#}");
    let read_only =
        || wait_for("a moment at which nothing is written", SOON, || mount(&["mount", "-o", "remount,ro"]).ok());
    let told =
        falls_ill(&stream, &source, "StoreReadOnly", read_only, || mount(&["mount", "-o", "remount,rw"]).unwrap());
    assert!(told["stream"]["error"]["message"].as_str().unwrap().contains("mount it read-write"), "{told:#}");
    stream.stop();
    is_restored(&pod, &source);
    mount(&["umount"]).unwrap();
}

#[test]
fn a_folder_that_goes_away_and_comes_back_is_told_and_gone_on_with_and_what_is_in_its_place_meanwhile_stays_empty() {
    let source = server();
    let pod = Pod::new(&source, "first-password", None);
    let (archive, away) = (pod.path("archive"), pod.path("away"));
    let (code, full) = pod.outcome("backup", &[]);
    assert_eq!(code, Some(0), "{full:#}");
    let stream = pod.stream();
    let told = falls_ill(
        &stream,
        &source,
        "BucketMissing",
        || std::fs::rename(&archive, &away).unwrap(),
        || {
            source.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES ()");
            // Whoever opens the store anew makes none either.
            let policy = std::fs::read_to_string(pod.path("policy.yaml")).unwrap();
            std::fs::write(pod.path("policy.yaml"), policy + "# changed").unwrap();
            let begun = || (stream.said("streaming the binary log") == 2).then_some(());
            wait_for("the stream to begin again", SOON, begun);
            stream.fails("BucketMissing", SOON);
            assert!(!archive.exists());
            std::fs::rename(&away, &archive).unwrap();
        },
    );
    assert!(told["stream"]["error"]["message"].as_str().unwrap().contains("mounted"), "{told:#}");
    let replace = || {
        std::fs::rename(&archive, &away).unwrap();
        std::fs::create_dir(&archive).unwrap();
    };
    let told = falls_ill(&stream, &source, "BucketMissing", replace, || {
        source.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES ()");
        std::thread::sleep(Duration::from_secs(1)); // for whoever would write there
        std::fs::remove_dir(&archive).expect("nothing is in it");
        std::fs::rename(&away, &archive).unwrap();
    });
    assert!(told["stream"]["error"]["message"].as_str().unwrap().contains("another folder"), "{told:#}");
    source.sql("INSERT INTO d.t VALUES (); FLUSH BINARY LOGS; INSERT INTO d.t VALUES ()");
    stream.wait("the last file to be archived whole", SOON, |_| stream.said("binlog file archived whole") >= 3);
    stream.works(SOON);
    stream.stop();
    let files = assert_identical(&Store::open(&StoreConfig::Fs { root: archive }).unwrap(), &source);
    assert_eq!(files.iter().filter(|file| file.closed.is_some()).count(), files.len() - 1, "{files:?}");
    let (code, verified) = pod.outcome("verify", &["--deep"]);
    assert_eq!(code, Some(0), "{verified:#}");
    is_restored(&pod, &source);
}

#[test]
fn credentials_that_expire_or_may_only_read_are_told_and_their_rotation_is_taken_up_without_a_restart() {
    let mut s3 = S3Server::start();
    s3.add_user("short-lived", "secret-of-an-hour");
    let objects = ["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"];
    let allow = |objects: &[&str]| s3.allow("short-lived", &[(objects, "/*"), (&["ListBucket"], "")]);
    allow(&objects);
    let between = Faults::before(s3.endpoint(), 0.0, 0);
    let source = server();
    let storage = format!(
        "{{s3: {{bucket: {}, endpoint: '{}', region: {}, credentialsSecretRef: {{name: s3}}}}}}",
        s3.bucket(),
        between.endpoint(),
        s3.region()
    );
    let pod = Pod::new(&source, "first-password", Some(&storage));
    let mount =
        |key: &str, secret: &str| pod.mount("s3", &[("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)]);
    mount("short-lived", "secret-of-an-hour");
    let (code, full) = pod.outcome("backup", &[]);
    assert_eq!(code, Some(0), "{full:#}");
    let stream = pod.stream();
    let told = falls_ill(&stream, &source, "StoreDenied", || allow(&["GetObject"]), || allow(&objects));
    assert!(told["stream"]["error"]["message"].as_str().unwrap().contains("denied access"), "{told:#}");
    let rotate = || mount(s3.access_key(), s3.secret_key());
    let told = falls_ill(&stream, &source, "StoreDenied", || between.expire("short-lived"), rotate);
    assert!(told["stream"]["error"]["message"].as_str().unwrap().contains("have expired"), "{told:#}");
    stream.stop();
    is_restored(&pod, &source);
}
