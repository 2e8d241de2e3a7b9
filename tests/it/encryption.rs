//! Encrypted archives: who holds public keys writes them, who holds none learns no name and no row from them, and who holds an identity restores
//! them, or reads them with the stock `age`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tidemark::archive::digest::Digest;
use tidemark::model::Flavor;

use crate::lab::checksums;
use crate::support::{
    Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, Signal, tidemark_command, tool, wait_for,
};

const BOTH: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];
const LONG: Duration = Duration::from_secs(60);
const REFUSED: i32 = 3;
const DAMAGED: i32 = 4;
/// In every name and every row that must not be read.
const MARKER: &str = "xq7zvk";

/// An identity that the stock `age-keygen` made.
pub struct Key {
    pub secret: String,
    pub public: String,
}

impl Key {
    pub fn new() -> Key {
        let made = Command::new(tool("age", &["age-keygen"])).output().unwrap();
        let secret = String::from_utf8(made.stdout).unwrap();
        let public = secret.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
        Key { secret, public }
    }
}

/// A source and its archive, which is read and written by the real binary.
pub struct Desk {
    pub source: Server,
    s3: Option<S3Server>,
    dir: tempfile::TempDir,
}

impl Desk {
    pub fn new(flavor: Flavor, s3: Option<S3Server>) -> Desk {
        Desk { source: ServerOptions::of(flavor).start(), s3, dir: tempfile::tempdir().unwrap() }
    }

    /// Where the store's objects are as files.
    pub fn objects(&self) -> PathBuf {
        self.s3.as_ref().map_or_else(|| self.dir.path().join("archive"), S3Server::objects)
    }

    /// The server that its bucket is on.
    pub fn s3(&self) -> &S3Server {
        self.s3.as_ref().unwrap()
    }

    fn storage(&self) -> String {
        match &self.s3 {
            None => format!("{{fs: {{path: {}}}}}", self.objects().display()),
            Some(s3) => format!(
                "{{s3: {{bucket: {}, region: {}, endpoint: '{}', credentialsSecretRef: {{name: store}}}}}}",
                s3.bucket(),
                s3.region(),
                s3.endpoint()
            ),
        }
    }

    /// What a pod that writes has: no identity is in it.
    pub fn policy(&self, spec: &str) -> String {
        let keys = self.s3.as_ref().map_or(("", ""), |s3| (s3.access_key(), s3.secret_key()));
        let text = format!(
            "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: shop}}\nspec:\n  \
             source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
             binlog: {{flushInterval: 50ms, segmentSize: 256Ki}}\n  storage: {}\n{spec}---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: store}}, stringData: {{AWS_ACCESS_KEY_ID: '{}', AWS_SECRET_ACCESS_KEY: '{}'}}}}\n",
            self.source.port(),
            self.storage(),
            keys.0,
            keys.1
        );
        self.file("policy.yaml", &text)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A Secret in a file of its own, as only a restore has it.
    pub fn identity(&self, keys: &[&Key]) -> String {
        let text: String = keys.iter().flat_map(|key| key.secret.lines()).map(|line| format!("    {line}\n")).collect();
        let secret =
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: backup-key}}\nstringData:\n  identity: |\n{text}");
        self.file("identity.yaml", &secret)
    }

    fn streamer(&self, policy: &str) -> Process {
        let mut streamer = Process::spawn(tidemark_command(["stream", "-f", policy]));
        // Where a store goes away before, the spool is not bound to its archive, and takes nothing.
        streamer.wait_for_line("connected to the source", LONG);
        streamer
    }

    /// Waits until all that was committed is archived.
    fn archived(&self, policy: &str) {
        let all = self.source.gtids();
        wait_for("the archive to hold everything", LONG, || {
            let status = json(&tidemark(&["status", "-f", policy, "-o", "json"]));
            let window = status["policies"][0]["windows"].as_array()?.last()?.clone();
            window["gtids"].as_str()?.contains(&all).then_some(())
        });
    }

    pub fn stream(&self, policy: &str, sql: &str) {
        let mut streamer = self.streamer(policy);
        self.source.sql(sql);
        self.archived(policy);
        streamer.signal(Signal::Terminate);
        assert!(streamer.wait(LONG).success(), "{}", streamer.output());
    }

    pub fn restore(&self, target: &Server, arguments: &[&str]) -> Output {
        let address = target.addr().to_string();
        let into = ["restore", "--latest", "--into", &address, "--into-tls", "Disabled"];
        let mut command = tidemark_command(into.iter().chain(arguments));
        command.env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD).output().unwrap()
    }

    /// A restore that must end like that, for that reason, with nothing done to the target.
    pub fn refused(&self, arguments: &[&str], code: i32, reason: &str, words: &[&str]) {
        let target = ServerOptions::of(self.source.flavor()).start();
        let (before, stored) = (state(&target), files(&self.objects()));
        let outcome = self.dir.path().join("outcome");
        let outcome_argument = ["--outcome", outcome.to_str().unwrap()];
        let output = self.restore(&target, &[arguments, &outcome_argument].concat());
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        let outcome: Value = serde_json::from_slice(&fs::read(&outcome).unwrap()).unwrap();
        assert_eq!(outcome["error"]["reason"], reason, "{outcome}");
        assert!(!said.contains("AGE-SECRET-KEY") && !outcome.to_string().contains("AGE-SECRET-KEY"), "{said}");
        assert_eq!(state(&target), before, "{said}");
        assert!(files(&self.objects()) == stored, "the store is as it was: {said}");
    }
}

/// What a restore would have left its marks on.
fn state(server: &Server) -> Vec<Vec<String>> {
    let own = "SELECT 'schema', HEX(schema_name) FROM information_schema.schemata UNION ALL SELECT 'account', HEX(user) FROM mysql.user \
               UNION ALL SELECT 'setting', HEX(CONCAT(@@GLOBAL.read_only, @@GLOBAL.local_infile, @@GLOBAL.event_scheduler)) ORDER BY 1, 2";
    server.rows(own)
}

pub fn tidemark(arguments: &[&str]) -> Output {
    tidemark_command(arguments).output().unwrap()
}

pub fn done(arguments: &[&str]) -> Output {
    let output = tidemark(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    output
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(output)))
}

/// Every object: its name and its file.
pub fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, PathBuf)>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => walk(root, &path, found),
                path => found.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), path)),
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.retain(|(name, _)| !name.starts_with(".tmp/"));
    found.sort();
    found
}

/// Schemas, tables, columns, routines, accounts and warnings, all of names that must not be told.
pub fn fill(source: &Server) {
    source.sql(&format!(
        "CREATE DATABASE s_{MARKER}; USE s_{MARKER}; CREATE TABLE t_{MARKER} (a INT AUTO_INCREMENT PRIMARY KEY, c_{MARKER} TEXT, k LONGBLOB); \
         INSERT INTO t_{MARKER} (c_{MARKER}) VALUES ('row {MARKER}'), ('{MARKER} again'); \
         CREATE TABLE gone (a INT); CREATE VIEW v_{MARKER} AS SELECT a FROM gone; DROP TABLE gone; \
         CREATE USER 'u_{MARKER}'@'%' IDENTIFIED BY 'p'; GRANT SELECT ON s_{MARKER}.* TO 'u_{MARKER}'@'%'; \
         CREATE PROCEDURE r_{MARKER}() SELECT '{MARKER}'"
    ));
}

/// Rows for the log; the last is one event that is larger than a segment.
pub fn more(rows: usize) -> String {
    let row = format!("INSERT INTO s_{MARKER}.t_{MARKER} (c_{MARKER}) VALUES ('{MARKER}');");
    row.repeat(rows) + &format!("INSERT INTO s_{MARKER}.t_{MARKER} (k) VALUES (REPEAT('{MARKER}', 600000))")
}

pub fn encryption(keys: &[&Key]) -> String {
    format!(
        "  encryption: {{recipients: [{}]}}\n",
        keys.iter().map(|key| key.public.as_str()).collect::<Vec<_>>().join(", ")
    )
}

#[test]
fn an_archive_tells_its_holder_no_name_and_no_row_and_each_recipient_everything_on_mysql_in_a_folder() {
    nothing_is_told(Desk::new(Flavor::Mysql, None));
}

#[test]
fn an_archive_tells_its_holder_no_name_and_no_row_and_each_recipient_everything_on_mariadb_in_s3() {
    nothing_is_told(Desk::new(Flavor::Mariadb, Some(S3Server::start())));
}

fn nothing_is_told(desk: Desk) {
    let (one, two, other) = (Key::new(), Key::new(), Key::new());
    // Without compression: what is not encrypted would be there to be read.
    let policy = desk
        .policy(&format!("{}  compression: {{level: 0}}\n  retention: {{window: 30d}}\n", encryption(&[&one, &two])));
    fill(&desk.source);
    let full = json(&done(&["backup", "-f", &policy, "-o", "json"]));
    assert!(full["warnings"].to_string().contains(MARKER), "whoever takes a full is told what it lacks: {full}");

    // Killed at work: what is in the store, and the public keys, are enough to go on.
    let mut streamer = desk.streamer(&policy);
    desk.source.sql(&more(50));
    desk.archived(&policy);
    desk.source.sql(&more(50));
    streamer.kill9();
    desk.stream(&policy, &format!("{}; FLUSH BINARY LOGS; {}", more(20), more(5)));

    let objects = files(&desk.objects());
    for (name, path) in &objects {
        let bytes = fs::read(path).unwrap();
        let told = |text: &[u8]| memchr::memmem::find(&text.to_ascii_lowercase(), MARKER.as_bytes()).is_some();
        assert!(!told(name.as_bytes()) && !told(&bytes), "{name} tells");
        let in_clear = ["archive.json", "manifest.json", "index.json"].iter().any(|end| name.ends_with(end));
        assert_eq!(name.ends_with(".age"), !in_clear, "{name}");
        assert_eq!(bytes.starts_with(b"age-encryption.org/v1\n"), !in_clear, "{name}");
    }
    assert!(objects.iter().any(|(name, _)| name.ends_with("index.json")), "a closed file is among them: {objects:?}");

    // What needs no rows needs no identity.
    let status = text(&done(&["status", "-f", &policy]));
    assert!(status.contains(&one.public) && status.contains(&two.public) && !status.contains("IN CLEAR"), "{status}");
    done(&["prune", "-f", &policy, "--dry-run"]);

    let both = [one.public.as_str(), two.public.as_str()];
    desk.refused(&["-f", &policy], REFUSED, "IdentityMissing", &both);
    let wrong = desk.identity(&[&other]);
    let arguments = ["-f", &policy, "-f", &wrong, "--identity-secret", "backup-key"];
    desk.refused(&arguments, REFUSED, "IdentityWrong", &[both[0], both[1], &other.public]);
    let serve = tidemark_command([
        "serve",
        "-f",
        &policy,
        "-f",
        &wrong,
        "--identity-secret",
        "backup-key",
        "--listen",
        "127.0.0.1:0",
    ])
    .env("TIDEMARK_SERVE_PASSWORD", "p")
    .output()
    .unwrap();
    assert_eq!(serve.status.code(), Some(REFUSED), "{}", text(&serve));
    let plan = tidemark(&[&["restore", "--latest", "--dry-run"], &arguments[..]].concat());
    assert_eq!(plan.status.code(), Some(REFUSED), "{}", text(&plan));

    for key in [&one, &two] {
        let identity = desk.identity(&[&other, key]);
        let target = ServerOptions::of(desk.source.flavor()).start();
        let restored = desk.restore(&target, &["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"]);
        assert!(restored.status.success(), "{}", text(&restored));
        assert!(!text(&restored).contains("AGE-SECRET-KEY"));
        assert_eq!(checksums(&target), checksums(&desk.source));
        assert_eq!(target.sql(&format!("SELECT COUNT(*) FROM mysql.user WHERE user = 'u_{MARKER}'")), "1");
        assert_eq!(
            target.sql(&format!("SELECT COUNT(*) FROM s_{MARKER}.t_{MARKER} WHERE c_{MARKER} = 'row {MARKER}'")),
            "1"
        );
    }
}

#[test]
fn stock_age_and_zstd_turn_an_encrypted_archive_back_into_binlog_files_and_rows() {
    for flavor in BOTH {
        let desk = Desk::new(flavor, None);
        let key = Key::new();
        let policy = desk.policy(&encryption(&[&key]));
        fill(&desk.source);
        done(&["backup", "-f", &policy]);
        desk.stream(&policy, &format!("{}; FLUSH BINARY LOGS; {}", more(50), more(1)));
        desk.file("key.txt", &key.secret);
        let tools = tool("age", &["age"]).parent().unwrap().to_owned();
        let run = |folder: &Path, script: &str| {
            let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
            let mut shell = Command::new("sh");
            shell.args(["-ec", script]).current_dir(folder).env("PATH", path);
            let output = shell.env("KEY", desk.dir.path().join("key.txt")).output().unwrap();
            assert!(output.status.success(), "{script}: {}", text(&output));
            output.stdout
        };

        let (index, _) = files(&desk.objects()).into_iter().find(|(name, _)| name.ends_with("index.json")).unwrap();
        let folder = desk.objects().join(Path::new(&index).parent().unwrap());
        let name = folder.file_name().unwrap().to_str().unwrap().split('@').next().unwrap().to_owned();
        // As docs/archive-format.md has it.
        let recipe = recipe("cat_binlog");
        let file = run(&folder, &recipe.replace("key.txt", "$KEY"));
        let own = desk.source.binlogs().into_iter().find(|path| path.ends_with(&name)).unwrap();
        assert!(file == fs::read(own).unwrap(), "{flavor}: {name}");

        let rows = files(&desk.objects()).into_iter().filter(|(name, _)| name.contains("/rows/"));
        let rows: Vec<u8> = rows
            .flat_map(|(_, path)| run(&desk.objects(), &format!("age -d -i $KEY '{}' | zstd -dc", path.display())))
            .collect();
        assert!(memchr::memmem::find(&rows, format!("\trow {MARKER}\t").as_bytes()).is_some(), "{flavor}");
    }
}

/// The shell function of that name in the format's documentation, and its call.
fn recipe(function: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/archive-format.md")).unwrap();
    let from = page.find(&format!("{function}() {{")).expect("the page has it");
    let to = page[from..].find("\n}\n").unwrap();
    format!("{}\n{function}", &page[from..from + to + 3])
}

#[test]
fn encryption_is_switched_on_and_off_midway_and_all_of_it_is_restored() {
    for flavor in BOTH {
        let desk = Desk::new(flavor, None);
        let (old, new) = (Key::new(), Key::new());
        fill(&desk.source);
        let clear = desk.policy("");
        done(&["backup", "-f", &clear]);
        desk.stream(&clear, &more(10));
        let format = |desk: &Desk| {
            let info: Value = serde_json::from_slice(&fs::read(desk.objects().join("archive.json")).unwrap()).unwrap();
            info["format"].as_u64().unwrap()
        };
        assert_eq!(format(&desk), 1, "what is in clear can be read by older binaries");

        let encrypted = desk.policy(&encryption(&[&old]));
        desk.stream(&encrypted, &more(10));
        assert_eq!(format(&desk), 2, "older binaries refuse all of it");
        let count = |ends: &str| files(&desk.objects()).iter().filter(|(name, _)| name.ends_with(ends)).count();
        let in_clear = count(".zst");
        let rotated = desk.policy(&encryption(&[&new]));
        desk.stream(&rotated, &format!("{}; FLUSH BINARY LOGS; {}", more(10), more(5)));
        assert_eq!(count(".zst"), in_clear, "nothing is written in clear any more");
        assert!(count(".zst.age") > 2);
        let status = text(&done(&["status", "-f", &rotated]));
        assert!(
            status.contains("IN CLEAR") && status.contains(&old.public) && status.contains(&new.public),
            "{status}"
        );

        let identity = desk.identity(&[&new]);
        let arguments = ["-f", &rotated, "-f", &identity, "--identity-secret", "backup-key"];
        desk.refused(&arguments, REFUSED, "IdentityWrong", &[&old.public]);
        let identity = desk.identity(&[&old, &new]);
        let off = desk.policy("");
        let mut streamer = desk.streamer(&off);
        desk.source.sql(&more(5));
        desk.archived(&off);
        assert!(streamer.output().contains("names no recipients"), "{}", streamer.output());
        streamer.signal(Signal::Terminate);
        assert!(streamer.wait(LONG).success(), "{}", streamer.output());
        let request = "apiVersion: tidemark.dev/v1alpha1\nkind: RestoreRequest\nmetadata: {name: rescue}\nspec:\n  policyRef: {name: shop}\n  \
             target: {latest: true}\n  decryption: {identitySecretRef: {name: backup-key}}\n  \
             intoExisting: {host: 127.0.0.1, port: PORT, credentialsSecretRef: {name: source}, tls: {mode: Disabled}}\n";
        let target = ServerOptions::of(flavor).start();
        let request = desk.file("request.yaml", &request.replace("PORT", &target.port().to_string()));
        done(&["restore", "-f", &off, "-f", &identity, "-f", &request]);
        assert_eq!(checksums(&target), checksums(&desk.source), "{flavor}");
        let full = json(&done(&["backup", "-f", &off, "-o", "json"]));
        assert!(full["warnings"].to_string().contains("names no recipients"), "{full}");
    }
}

#[test]
fn a_damaged_encrypted_object_is_named() {
    let desk = Desk::new(Flavor::Mysql, None);
    let key = Key::new();
    let policy = desk.policy(&encryption(&[&key]));
    fill(&desk.source);
    done(&["backup", "-f", &policy]);
    desk.stream(&policy, &format!("{}; FLUSH BINARY LOGS; {}", more(50), more(5)));
    let identity = desk.identity(&[&key]);
    let arguments = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    let objects = files(&desk.objects());
    for part in ["/rows/", "/description", "/00000000000000000000-"] {
        let (name, path) = objects.iter().find(|(name, _)| name.contains(part)).unwrap();
        let good = fs::read(path).unwrap();
        let middle = good.len() / 2;
        let mut flipped = good.clone();
        flipped[middle] ^= 4;
        let mut header = good.clone();
        header[60] ^= 1;
        for bad in [&good[..middle], &flipped, &header] {
            fs::write(path, bad).unwrap();
            let target = ServerOptions::mysql().start();
            let failed = desk.restore(&target, &arguments);
            assert_eq!(failed.status.code(), Some(DAMAGED), "{name}: {}", text(&failed));
            assert!(text(&failed).contains(name.as_str()), "{name}: {}", text(&failed));
        }
        fs::write(path, good).unwrap();
    }
}

/// What verifies an archive says as data, and the exit code that it must have.
pub fn verified(arguments: &[&str], code: i32) -> Value {
    let output = tidemark(&[&["verify", "-o", "json", "--deep"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
    if output.stdout.is_empty() { Value::Null } else { json(&output) }
}

#[test]
fn who_holds_no_identity_copies_repairs_and_verifies_and_who_holds_one_verifies_what_is_in_it() {
    let desk = Desk::new(Flavor::Mysql, None);
    let (key, other) = (Key::new(), Key::new());
    let far = desk.dir.path().join("far");
    let copies = format!("  copies: [{{name: far, storage: {{fs: {{path: {}}}}}}}]\n", far.display());
    fill(&desk.source);
    // The copy begins in clear.
    let in_clear = desk.policy(&copies);
    done(&["backup", "-f", &in_clear]);
    done(&["copy", "-f", &in_clear]);
    let policy = desk.policy(&(encryption(&[&key]) + &copies));
    done(&["backup", "-f", &policy]);
    desk.stream(&policy, &format!("{}; FLUSH BINARY LOGS; {}", more(50), more(5)));
    done(&["copy", "-f", &policy]);
    let objects = files(&desk.objects());
    for (name, path) in &objects {
        assert!(fs::read(path).unwrap() == fs::read(far.join(name)).unwrap(), "{name} is copied as it is stored");
    }

    let encrypted = objects.iter().filter(|(name, _)| name.ends_with(".age")).count();
    let said = text(&done(&["verify", "--deep", "-f", &policy]));
    assert!(said.contains(&format!("{encrypted} objects")) && said.contains("NOT decoded"), "{said}");
    let report = verified(&["-f", &policy], 0);
    assert_eq!(
        (report["undecodedObjects"].as_u64(), report["findings"].as_array().unwrap().len()),
        (Some(encrypted as u64), 0)
    );
    let wrong = desk.identity(&[&other]);
    let refused = tidemark(&["verify", "--deep", "-f", &policy, "-f", &wrong, "--identity-secret", "backup-key"]);
    assert_eq!(refused.status.code(), Some(REFUSED), "{}", text(&refused));
    assert!(text(&refused).contains(&key.public) && text(&refused).contains(&other.public), "{}", text(&refused));
    let identity = desk.identity(&[&key]);
    let opened = ["-f", &policy, "-f", &identity, "--identity-secret", "backup-key"];
    for copy in [&[][..], &["--copy", "far"]] {
        let report = verified(&[&opened[..], copy].concat(), 0);
        assert_eq!((report["undecodedObjects"].as_u64(), report["findings"].as_array().unwrap().len()), (Some(0), 0));
    }

    // One bit of each kind of object, a segment of the open file among them.
    let last = objects.iter().rev().find(|(name, _)| name.starts_with("binlog/")).unwrap();
    let parts = ["/rows/", "/description", "/00000000000000000000-"];
    let kinds =
        parts.map(|part| objects.iter().find(|(name, _)| name.contains(part) && name.ends_with(".age")).unwrap());
    for (name, path) in kinds.into_iter().chain([last]) {
        let good = fs::read(path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 3] ^= 16;
        fs::write(path, flipped).unwrap();
        for arguments in [&opened[..2], &opened] {
            let report = verified(arguments, DAMAGED);
            let found: Vec<&str> =
                report["findings"].as_array().unwrap().iter().map(|f| f["key"].as_str().unwrap()).collect();
            assert_eq!(found, [name.as_str()], "{arguments:?}");
        }
        fs::write(path, good).unwrap();
    }

    // What somebody put there who knows the public key and mends every checksum: only who decodes it sees it.
    let (name, path) = kinds[0];
    let good = fs::read(path).unwrap();
    let mut age = Command::new(tool("age", &["age"]));
    age.args(["-r", &key.public, "-o"]).arg(path).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    assert!(age.status().unwrap().success());
    let (folder, _) = name.split_once("rows/").unwrap();
    let manifest = desk.objects().join(folder).join("manifest.json");
    let as_it_was = fs::read_to_string(&manifest).unwrap();
    let (before, entry) = as_it_was[..as_it_was.len() - 77].split_once(name.as_str()).unwrap();
    let forged = fs::read(path).unwrap();
    let entry = entry.replacen(&format!("\"bytes\":{},", good.len()), &format!("\"bytes\":{},", forged.len()), 1);
    let entry = entry.replacen(&Digest::of(&good), &Digest::of(&forged), 1);
    let body = format!("{before}{name}{entry}");
    fs::write(&manifest, format!("{body},\"blake3\":\"{}\"}}", Digest::of(body.as_bytes()))).unwrap();
    verified(&opened[..2], 0);
    let report = verified(&opened, DAMAGED);
    assert_eq!(report["findings"][0]["key"].as_str(), Some(name.as_str()), "{report}");
    assert!(report["findings"][0]["problem"].as_str().unwrap().contains("does not decompress"), "{report}");

    // All of the store is lost; the copy makes it anew, and still only an identity opens it.
    fs::remove_dir_all(desk.objects()).unwrap();
    done(&["repair", "-f", &policy, "--copy", "far"]);
    assert_eq!(verified(&opened, 0)["undecodedObjects"].as_u64(), Some(0));
    desk.refused(&["-f", &policy, "--copy", "far"], REFUSED, "IdentityMissing", &[&key.public]);
    for copy in [&[][..], &["--copy", "far"]] {
        let target = ServerOptions::mysql().start();
        let restored = desk.restore(&target, &[&opened[..], copy].concat());
        assert!(restored.status.success(), "{}", text(&restored));
        assert_eq!(checksums(&target), checksums(&desk.source));
    }
}

#[test]
fn what_waits_on_the_disk_of_a_spool_is_encrypted_also_where_that_was_switched_on_while_the_store_was_down() {
    let mut desk = Desk::new(Flavor::Mysql, Some(S3Server::start()));
    let key = Key::new();
    let spool = desk.dir.path().join("spool");
    let objects = || files(&spool).into_iter().filter(|(name, _)| name.ends_with(".object")).collect::<Vec<_>>();
    let policy = |desk: &Desk, encryption: &str| {
        let path = desk.policy(&format!("{encryption}  compression: {{level: 0}}\n"));
        let binlog = format!("segmentSize: 256Ki, spool: {{maxSize: 64Mi, path: {}}}}}", spool.display());
        desk.file("policy.yaml", &fs::read_to_string(path).unwrap().replace("segmentSize: 256Ki}", &binlog))
    };
    let in_clear = policy(&desk, "");
    fill(&desk.source);
    done(&["backup", "-f", &in_clear]);
    let mut streamer = desk.streamer(&in_clear);
    desk.archived(&in_clear);
    desk.s3.as_mut().unwrap().kill9();
    desk.source.sql(&more(20));
    wait_for("the spool to hold the large event", LONG, || {
        objects().iter().any(|(_, path)| fs::metadata(path).is_ok_and(|meta| meta.len() > 3_000_000)).then_some(())
    });
    streamer.kill9();

    let before = objects();
    let encrypted = policy(&desk, &encryption(&[&key]));
    let mut streamer = desk.streamer(&encrypted);
    desk.source.sql(&more(20));
    let since = || objects().into_iter().filter(|object| !before.contains(object)).collect::<Vec<_>>();
    wait_for("the spool to hold the next one", LONG, || {
        since().iter().any(|(_, path)| fs::metadata(path).is_ok_and(|meta| meta.len() > 3_000_000)).then_some(())
    });
    for (name, path) in since() {
        let bytes = fs::read(path).unwrap();
        assert!(memchr::memmem::find(&bytes, MARKER.as_bytes()).is_none(), "{name} tells");
        assert!(bytes.starts_with(b"age-encryption.org/v1\n"), "{name}");
    }
    desk.s3.as_mut().unwrap().restart();
    desk.archived(&encrypted);
    streamer.signal(Signal::Terminate);
    assert!(streamer.wait(LONG).success(), "{}", streamer.output());
    let info: Value = serde_json::from_slice(&fs::read(desk.objects().join("archive.json")).unwrap()).unwrap();
    assert_eq!(info["format"], 2, "older binaries refuse it");
    let identity = desk.identity(&[&key]);
    let target = ServerOptions::mysql().start();
    let restored = desk.restore(&target, &["-f", &encrypted, "-f", &identity, "--identity-secret", "backup-key"]);
    assert!(restored.status.success(), "{}", text(&restored));
    assert_eq!(checksums(&target), checksums(&desk.source));
}

#[test]
fn a_key_that_is_none_is_refused_by_its_field_and_never_told() {
    let desk = Desk::new(Flavor::Mysql, None);
    let key = Key::new();
    let secret = key.secret.lines().last().unwrap();
    for (recipients, word) in
        [("[]", "at least one"), ("[age1x]", "age1x"), (&format!("[{secret}]"), "is a secret key")]
    {
        let policy = desk.policy(&format!("  encryption: {{recipients: {recipients}}}\n"));
        let refused = tidemark(&["backup", "-f", &policy]);
        let said = text(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("spec.encryption.recipients") && said.contains(word), "{said}");
        assert!(!said.contains(&secret[20..]), "{said}");
    }
    let policy = desk.policy("");
    let broken = desk.file(
        "broken.yaml",
        &format!("{{apiVersion: v1, kind: Secret, metadata: {{name: k}}, stringData: {{identity: '{secret}x', empty: '# no'}}}}"),
    );
    for (argument, word) in
        [("k", "line 1"), ("k/empty", "no age identity"), ("k/none", "no key \"none\""), ("x", "no Secret \"x\"")]
    {
        let refused = tidemark(&[
            "restore",
            "-f",
            &policy,
            "-f",
            &broken,
            "--latest",
            "--dry-run",
            "--identity-secret",
            argument,
        ]);
        let said = text(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("--identity-secret") && said.contains(word) && !said.contains(&secret[20..]), "{said}");
    }
}
