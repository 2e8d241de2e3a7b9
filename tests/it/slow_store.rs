//! A store that takes a megabyte a second: what comes faster is caught up with later, in bounded memory, and the lag is told meanwhile.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Faults, Process, ROOT_PASSWORD, S3Server, ServerOptions, Signal, tidemark_command, wait_for};

const LONG: Duration = Duration::from_secs(180);
const STORE_BYTES_PER_SECOND: u64 = 1_000_000;
const STREAM_MIB: u64 = 64;

#[test]
fn a_store_that_takes_a_megabyte_a_second_is_caught_up_with_in_bounded_memory_while_the_lag_is_told() {
    let s3 = S3Server::start();
    let slow = Faults::slow(s3.endpoint(), STORE_BYTES_PER_SECOND);
    let source = ServerOptions::mysql().start();
    source.sql("CREATE DATABASE d; CREATE TABLE d.t (a BIGINT PRIMARY KEY AUTO_INCREMENT, b BLOB)");
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    let text = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: slow}}\nspec:\n  \
         source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
         storage: {{s3: {{bucket: {}, region: {}, endpoint: '{}', credentialsSecretRef: {{name: store}}}}}}\n---\n\
         {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n---\n\
         {{apiVersion: v1, kind: Secret, metadata: {{name: store}}, stringData: {{AWS_ACCESS_KEY_ID: '{}', AWS_SECRET_ACCESS_KEY: '{}'}}}}\n",
        source.port(),
        s3.bucket(),
        s3.region(),
        slow.endpoint(),
        s3.access_key(),
        s3.secret_key()
    );
    fs::write(&policy, text).unwrap();
    let tidemark = |verb: &str, args: &[&str]| {
        let mut command = tidemark_command([verb, "-f"]);
        command.arg(&policy).args(args).env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
        command
    };
    let must = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    must(tidemark("backup", &[]));
    let mut streamer = Process::spawn(tidemark("stream", &[]));
    streamer.wait_for_line("connected to the source", LONG);

    // Random bytes, which no compression makes fewer.
    let started = Instant::now();
    let thousand = "INSERT INTO d.t (b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        SELECT RANDOM_BYTES(1000) FROM n;";
    source.sql(&thousand.repeat(24));
    let (written, all) = (started.elapsed(), source.gtids());
    let mut most = 0.0_f64;
    let caught_up = wait_for("the archive to hold everything", LONG, || {
        assert!(streamer.try_wait().is_none(), "the streamer gave up\n{}", streamer.output());
        let status: serde_json::Value = serde_json::from_slice(&must(tidemark("status", &["-o", "json"]))).unwrap();
        let source = &status["policies"][0]["source"];
        most = most.max(source["lagSeconds"].as_f64().unwrap());
        (source["notArchived"] == "").then(|| started.elapsed())
    });
    streamer.signal(Signal::Terminate);
    assert!(streamer.wait(LONG).success(), "{}", streamer.output());
    let mib = streamer.peak_anon_bytes() >> 20;
    let bytes: u64 = source.binlogs().iter().map(|path| path.metadata().unwrap().len()).sum();
    println!(
        "a store of 1 MB/s: {} MB written in {:.1} s, archived {:.1} s after the first; lag told: up to {most:.1} s; stream: {mib} MiB",
        bytes / 1_000_000,
        written.as_secs_f64(),
        caught_up.as_secs_f64(),
    );
    assert!(most > 5.0, "a lag of {most} s was told");
    assert!(mib <= STREAM_MIB, "{mib} MiB");
    let output = streamer.output();
    assert!(!output.contains("the store failed"), "slow is not broken: {output}");

    let target = ServerOptions::mysql().start();
    let into = target.addr().to_string();
    must(tidemark("restore", &["--latest", "--into", &into, "--into-tls", "Disabled"]));
    assert_eq!(target.gtids(), all);
    let sum = "CHECKSUM TABLE d.t";
    assert_eq!(target.sql(sum), source.sql(sum));
}
