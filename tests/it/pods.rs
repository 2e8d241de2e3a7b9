//! The verbs as they run in pods: Secrets from mounted folders, reports over HTTP, how they ended in a file.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, Signal, tidemark_command, wait_for};

const SOON: Duration = Duration::from_secs(20);
const GRANTS: &str = "GRANT SELECT, RELOAD, PROCESS, REPLICATION CLIENT, REPLICATION SLAVE, SHOW VIEW, EVENT, TRIGGER, BACKUP_ADMIN, XA_RECOVER_ADMIN, \
                      SHOW_ROUTINE ON *.* TO 'u'@'%'";

/// What is mounted into a pod: a policy and a folder of Secrets.
pub struct Pod {
    dir: TempDir,
}

impl Pod {
    /// A pod of a policy for `server` that keeps its archive in `storage`, and that logs in as `u` with this password.
    pub fn new(server: &Server, password: &str, storage: Option<&str>) -> Pod {
        let pod = Pod { dir: tempfile::tempdir().unwrap() };
        let folder = format!("{{fs: {{path: {}, claimName: archive}}}}", pod.path("archive").display());
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1
kind: BackupPolicy
metadata: {{name: shop}}
spec:
  source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: login}}, tls: {{mode: Required}}}}
  binlog: {{flushInterval: 100ms}}
  storage: {}
",
            server.port(),
            storage.unwrap_or(&folder)
        );
        std::fs::write(pod.path("policy.yaml"), text).unwrap();
        pod.mount("login", &[("username", "u"), ("password", password)]);
        pod.mount("target", &[("username", "root"), ("password", ROOT_PASSWORD)]);
        pod
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Mounts a Secret, or a new version of it, as the kubelet does: keys are links through `..data`, which is swapped.
    pub fn mount(&self, name: &str, keys: &[(&str, &str)]) {
        let folder = self.path("secrets").join(name);
        let version = format!("..{:x}", rand::random::<u64>());
        std::fs::create_dir_all(folder.join(&version)).unwrap();
        for (key, value) in keys {
            std::fs::write(folder.join(&version).join(key), value).unwrap();
            let _ = symlink(format!("..data/{key}"), folder.join(key));
        }
        symlink(&version, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    pub fn arguments(&self, verb: &str, rest: &[&str]) -> Vec<String> {
        let (policy, secrets) = (self.path("policy.yaml"), self.path("secrets"));
        let fixed = [verb, "-f", policy.to_str().unwrap(), "--secrets", secrets.to_str().unwrap()];
        fixed.iter().chain(rest).map(|text| (*text).to_owned()).collect()
    }

    pub fn run(&self, verb: &str, rest: &[&str]) -> Output {
        let output = tidemark_command(self.arguments(verb, rest)).output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains(ROOT_PASSWORD), "a password was logged");
        output
    }

    /// Runs a verb with `--outcome`; its exit code, and the outcome.
    pub fn outcome(&self, verb: &str, rest: &[&str]) -> (Option<i32>, Value) {
        let file = self.path("termination-log");
        std::fs::write(&file, "").unwrap();
        let mut arguments = rest.to_vec();
        arguments.extend(["--outcome", file.to_str().unwrap()]);
        let output = self.run(verb, &arguments);
        (output.status.code(), read_json(&file))
    }

    pub fn stream(&self) -> Reporting {
        let arguments = self.arguments("stream", &["--report-listen", "127.0.0.1:0", "--log-format", "json"]);
        Reporting::of(Process::spawn(tidemark_command(arguments)))
    }
}

fn read_json(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.len() <= 4096, "{} bytes", text.len());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// A process that reports, and where.
pub struct Reporting {
    process: Process,
    address: String,
}

impl Reporting {
    fn of(mut process: Process) -> Reporting {
        let line = process.wait_for_line("reporting at /status", SOON);
        let line: Value = serde_json::from_str(&line).unwrap();
        Reporting { process, address: line["address"].as_str().unwrap().to_owned() }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap_or_else(|e| panic!("{e}\n{}", self.process.output()));
        write!(stream, "GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn status(&self) -> Value {
        let (code, body) = self.get("/status");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub fn wait(&self, what: &str, timeout: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, timeout, || {
                last = self.status();
                std::thread::sleep(Duration::from_millis(50));
                wanted(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("{what}: {last:#}\n{}", self.process.output()))
    }

    /// Waits until the stream tells this reason.
    pub fn fails(&self, reason: &str, timeout: Duration) -> Value {
        let status = self.wait(reason, timeout, |status| status["stream"]["error"]["reason"] == reason);
        let (code, why) = self.get("/readyz");
        assert!(code == 503 && why.starts_with(reason), "{code} {why}");
        assert_eq!(self.get("/healthz").0, 200, "a pod that says what is wrong lives");
        status
    }

    pub fn works(&self, timeout: Duration) -> Value {
        let works = |status: &Value| status["stream"]["caughtUp"] == true && status["stream"].get("error").is_none();
        let status = self.wait("the stream to work", timeout, works);
        assert_eq!(self.get("/readyz").0, 200);
        status
    }

    /// The value of a metric with these labels beside the policy's.
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (code, text) = self.get("/metrics");
        assert!(code == 200 && text.ends_with("# EOF\n"), "{code} {text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (_, value) = line.rsplit_once(' ').unwrap();
            assert!(line.starts_with("tidemark_") && value.parse::<f64>().is_ok(), "{line}");
        }
        let start = format!("{name}{{policy=\"shop\"{labels}}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)).map(|value| value.parse().unwrap())
    }

    /// How often it has logged that.
    pub fn said(&self, text: &str) -> usize {
        self.process.output().matches(text).count()
    }

    pub fn stop(mut self) {
        self.process.signal(Signal::Terminate);
        assert!(self.process.wait(SOON).success(), "{}", self.process.output());
        for password in ["first-password", "second-password", ROOT_PASSWORD] {
            assert!(!self.process.output().contains(password), "a password was logged");
        }
    }
}

/// A source that knows the user `u`.
pub fn server() -> Server {
    let server = ServerOptions::mysql().start();
    server.sql(&format!("CREATE USER 'u'@'%' IDENTIFIED BY 'first-password'; {GRANTS}"));
    server
        .sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO d.t VALUES (), ()");
    server
}

#[test]
fn a_streaming_pod_reports_its_lag_a_window_that_grows_and_its_figures_and_outlives_its_source() {
    let mut server = server();
    let pod = Pod::new(&server, "first-password", None);
    let (code, backup) = pod.outcome("backup", &[]);
    assert_eq!(code, Some(0), "{backup:#}");
    assert_eq!(backup["full"]["gtidSet"], server.gtids());

    let stream = pod.stream();
    stream.works(SOON);
    let read = stream.wait("the archive to be read", SOON, |status| !status["archive"]["windows"][0].is_null());
    let window = &read["archive"]["windows"][0];
    assert_eq!(window["base"], backup["full"]["id"]);
    assert_eq!(read["stream"]["source"], format!("127.0.0.1:{}", server.port()));
    server.sql("INSERT INTO d.t VALUES ()");
    stream.wait("the window to grow with the stream", SOON, |status| {
        let to = &status["archive"]["windows"][0]["to"];
        to.as_str() > window["to"].as_str() && *to == status["stream"]["lastDurableCommit"]
    });
    assert_eq!(stream.works(SOON)["stream"]["lagSeconds"], 0.0);

    assert_eq!(stream.metric("tidemark_stream_connected", ""), Some(1.0));
    assert_eq!(stream.metric("tidemark_fulls", ""), Some(1.0));
    assert_eq!(stream.metric("tidemark_gaps", ""), Some(0.0));
    assert_eq!(stream.metric("tidemark_window_growing", ""), Some(1.0));
    let metric = |name: &str| stream.metric(name, "").unwrap_or_else(|| panic!("there is no {name}"));
    assert!(metric("tidemark_rpo_seconds_count") >= 1.0 && metric("tidemark_uploads_total") >= 1.0);
    let (start, end) =
        (metric("tidemark_window_start_timestamp_seconds"), metric("tidemark_window_end_timestamp_seconds"));
    assert!(start < end && end <= metric("tidemark_last_durable_commit_timestamp_seconds"));

    // A file that closes is a reason to look at the archive again soon.
    let second = pod.run("backup", &["-o", "json"]);
    assert!(second.status.success());
    server.sql("FLUSH BINARY LOGS; INSERT INTO d.t VALUES ()");
    stream.wait("the second full", SOON, |status| status["archive"]["fulls"] == 2);

    let mut taken = Process::spawn(tidemark_command(pod.arguments("stream", &["--report-listen", &stream.address])));
    assert_eq!(taken.wait(SOON).code(), Some(1));
    assert!(taken.stderr().contains("cannot listen on 127.0.0.1"), "{}", taken.output());

    server.kill9();
    let lost = stream.fails("SourceUnreachable", SOON);
    assert_eq!(lost["stream"]["error"]["transient"], true);
    assert_eq!(
        lost["archive"]["windows"][0]["base"], backup["full"]["id"],
        "what can be restored is told all the same"
    );
    assert_eq!(stream.metric("tidemark_stream_error", ",reason=\"SourceUnreachable\""), Some(1.0));
    assert!(stream.metric("tidemark_stream_errors_total", ",code=\"source\"").is_some_and(|count| count >= 1.0));
    server.restart();
    stream.works(Duration::from_secs(60));
    stream.stop();
}

#[test]
fn a_wrong_password_is_told_within_seconds_and_a_rotated_one_is_taken_up_without_a_restart() {
    let server = server();
    let pod = Pod::new(&server, "wrong", None);
    std::fs::remove_dir_all(pod.path("secrets/login")).unwrap();
    let stream = pod.stream();
    let invalid = stream.fails("InvalidManifest", SOON);
    assert!(invalid["stream"]["error"]["message"].as_str().unwrap().contains("no Secret \"login\""), "{invalid:#}");
    pod.mount("login", &[("username", "u"), ("password", "wrong")]);
    let denied = stream.fails("SourceDenied", SOON);
    assert!(denied["archive"]["windows"][0].is_null(), "nobody has made an archive: {denied:#}");
    assert_eq!(denied["stream"]["error"]["transient"], false);
    pod.mount("login", &[("username", "u"), ("password", "first-password")]);
    stream.works(SOON);

    // While it runs: the old password serves until the connection is lost.
    server.sql("ALTER USER 'u'@'%' IDENTIFIED BY 'second-password'");
    let dump =
        server.sql("SELECT id FROM performance_schema.processlist WHERE user = 'u' AND command LIKE 'Binlog Dump%'");
    server.sql(&format!("KILL {dump}"));
    stream.fails("SourceDenied", SOON);
    server.sql("INSERT INTO d.t VALUES ()");
    pod.mount("login", &[("username", "u"), ("password", "second-password")]);
    stream.works(SOON);

    server.sql("REVOKE REPLICATION SLAVE ON *.* FROM 'u'@'%'");
    let dump =
        server.sql("SELECT id FROM performance_schema.processlist WHERE user = 'u' AND command LIKE 'Binlog Dump%'");
    server.sql(&format!("KILL {dump}"));
    let poor = stream.fails("MissingGrant", SOON);
    assert!(poor["stream"]["error"]["message"].as_str().unwrap().contains("GRANT REPLICATION SLAVE"), "{poor:#}");
    stream.stop();
}

#[test]
fn rotated_credentials_of_a_store_are_taken_up_by_a_stream_that_is_turned_away() {
    let mut s3 = S3Server::start();
    let server = server();
    let storage = format!(
        "{{s3: {{bucket: {}, endpoint: '{}', region: {}, credentialsSecretRef: {{name: s3}}}}}}",
        s3.bucket(),
        s3.endpoint(),
        s3.region()
    );
    let pod = Pod::new(&server, "first-password", Some(&storage));
    let id = s3.access_key().to_owned();
    let mount = |secret: &str| pod.mount("s3", &[("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", secret)]);
    mount(s3.secret_key());
    let stream = pod.stream();
    stream.works(SOON);
    stream.wait("the archive to be read", SOON, |status| !status["archive"].is_null());
    s3.restart_with_secret("another-secret");
    server.sql("INSERT INTO d.t VALUES ()");
    let denied = stream.fails("StoreDenied", Duration::from_secs(30));
    assert_eq!(denied["stream"]["storeFailing"], true);
    mount("another-secret");
    let works = stream.works(Duration::from_secs(30));
    assert_eq!(works["stream"]["losses"], serde_json::json!([]), "{works:#}");
    stream.stop();
}

#[test]
fn a_backup_and_a_restore_say_how_they_ended_and_what_they_do_meanwhile() {
    let server = server();
    let pod = Pod::new(&server, "wrong", None);
    let (code, denied) = pod.outcome("backup", &[]);
    assert_eq!((code, &denied["error"]["reason"]), (Some(5), &Value::from("SourceDenied")), "{denied:#}");
    pod.mount("login", &[("username", "u"), ("password", "first-password")]);
    let (_, none) = pod.outcome("restore", &["--latest", "--dry-run"]);
    assert_eq!(none["error"]["reason"], "ArchiveMissing", "{none:#}");

    let unwritable = pod.run("backup", &["--outcome", "/nowhere/termination-log", "-o", "json"]);
    assert!(unwritable.status.success(), "an outcome that cannot be written fails nothing");
    assert!(String::from_utf8_lossy(&unwritable.stderr).contains("/nowhere/termination-log"));
    let full: Value = serde_json::from_slice(&unwritable.stdout).unwrap();

    let (code, plan) = pod.outcome("restore", &["--latest", "--dry-run"]);
    assert_eq!((code, &plan["plan"]["base"]), (Some(0), &full["id"]), "{plan:#}");
    assert_eq!(plan["plan"]["flavor"], "mysql");
    assert!(plan.get("error").is_none() && plan.get("restore").is_none(), "{plan:#}");
    let (code, early) = pod.outcome("restore", &["--to-time", "2020-01-01T00:00:00Z", "--dry-run"]);
    assert_eq!((code, &early["error"]["reason"]), (Some(3), &Value::from("OutsideWindow")), "{early:#}");

    let (occupied, fresh) = (ServerOptions::mysql().start(), ServerOptions::mysql().start());
    occupied.sql("CREATE DATABASE somebodys");
    let into = |server: &Server| format!("127.0.0.1:{}", server.port());
    let restore = |into: &str| {
        pod.outcome("restore", &["--latest", "--into", into, "--into-secret", "target", "--into-tls", "Required"])
    };
    let (code, refused) = restore(&into(&occupied));
    assert_eq!((code, &refused["error"]["reason"]), (Some(3), &Value::from("TargetNotEmpty")), "{refused:#}");
    assert_eq!(refused["plan"]["base"], full["id"], "what was planned is told all the same");
    let (code, nowhere) = restore("127.0.0.1:9");
    assert_eq!((code, &nowhere["error"]["reason"]), (Some(5), &Value::from("TargetUnreachable")), "{nowhere:#}");

    let file = pod.path("termination-log");
    let (target, outcome) = (into(&fresh), file.to_str().unwrap());
    let mut rest = vec!["--latest", "--into", &target, "--into-secret", "target", "--into-tls", "Required"];
    rest.extend(["--outcome", outcome, "--report-listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut command = tidemark_command(pod.arguments("restore", &rest));
    command.env("FAILPOINTS", "restore::base::loaded=sleep(8000)");
    let mut restoring = Reporting::of(Process::spawn(command));
    let under_way = restoring.wait("the base to be loaded", SOON, |status| status["progress"]["step"] == "programs");
    assert_eq!((&under_way["verb"], &under_way["plan"]["base"]), (&Value::from("restore"), &full["id"]));
    assert_eq!(restoring.get("/readyz").0, 200);
    assert_eq!(restoring.metric("tidemark_phase", ",phase=\"programs\""), Some(1.0));
    assert!(restoring.process.wait(Duration::from_secs(60)).success(), "{}", restoring.process.output());
    let done = read_json(&file);
    assert_eq!(done["restore"]["executed"], full["gtids"], "{done:#}");
    assert!(done["restore"]["rtoSeconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{done:#}");
    assert_eq!(fresh.sql("SELECT COUNT(*) FROM d.t"), "2");
}

#[test]
fn a_restore_that_is_started_again_after_its_proof_says_the_same_and_touches_nothing() {
    let server = server();
    let pod = Pod::new(&server, "first-password", None);
    assert_eq!(pod.outcome("backup", &[]).0, Some(0));
    let fresh = ServerOptions::mysql().start();
    let (into, file) = (format!("127.0.0.1:{}", fresh.port()), pod.path("restored.json"));
    let into = ["--latest", "--into", &into, "--into-secret", "target", "--into-tls", "Required"];
    let once = ["--once", file.to_str().unwrap()];
    let restore = || pod.outcome("restore", &[&into[..], &once].concat());
    let (code, first) = restore();
    assert_eq!((code, &first["restore"]["executed"]), (Some(0), &Value::from(server.gtids())), "{first:#}");
    fresh.sql("INSERT INTO d.t VALUES ()");
    assert_eq!(restore(), (Some(0), first));
    assert_eq!(fresh.sql("SELECT COUNT(*) FROM d.t"), "3");

    // Without the note it is a restore into a server that is not empty.
    std::fs::remove_file(&file).unwrap();
    let (code, refused) = restore();
    assert_eq!((code, &refused["error"]["reason"]), (Some(3), &Value::from("TargetNotEmpty")), "{refused:#}");
    assert!(!file.exists(), "a failure is not noted");
    // What nobody wrote for us is not believed.
    std::fs::write(&file, "{").unwrap();
    let (code, odd) = restore();
    assert_eq!(code, Some(1), "{odd:#}");
    assert!(odd["error"]["message"].as_str().unwrap().contains("--once"), "{odd:#}");
}
