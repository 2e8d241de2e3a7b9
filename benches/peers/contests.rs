//! The contests: what each contender is asked to do.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::contest::{Contest, Goal};
use crate::data;
use crate::decade;
use crate::measure;
use crate::overhead;
use crate::requests;
use crate::rpo;
use crate::support::{Process, ROOT_PASSWORD, S3Server, Server, ServerOptions, find_tool, tidemark_command, tool};

/// Every contest by the name that `BENCH=` takes; each returns the goals it missed.
#[expect(clippy::type_complexity)]
pub const ALL: [(&str, fn() -> Vec<String>); 9] = [
    ("stream", stream),
    ("backup", backup),
    ("load", load),
    ("replay", replay),
    ("donor", donor),
    ("rpo", rpo::rpo),
    ("overhead", overhead::overhead),
    ("requests", requests::requests),
    ("decade", decade::decade),
];

const THREADS: u16 = 4;
/// zstd level of every contender that compresses: our default.
const LEVEL: i8 = 1;
/// Peak resident memory of `stream`, and of `backup` and `restore`.
const STREAM_RSS_BYTES: u64 = 64 << 20;
const FULL_RSS_BYTES: u64 = 256 << 20;
/// For every contender the same: loopback without TLS.
const LOGIN: &str =
    "--no-defaults --protocol=TCP --host=127.0.0.1 --user=root --ssl-mode=DISABLED --get-server-public-key";
const OURS: &str = concat!("tidemark ", env!("CARGO_PKG_VERSION"));

/// A server that is not held up by the disk's flushes: the contest is between the clients.
pub fn server() -> Server {
    let args = ["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=1G"];
    let more = ["--innodb-redo-log-capacity=1G", "--max-binlog-size=128M", "--max-allowed-packet=1G"];
    let server = args.iter().chain(&more).fold(ServerOptions::mysql(), |options, arg| options.arg(arg)).start();
    println!("\nMySQL {}", server.sql("SELECT VERSION()"));
    server.sql("SELECT 1"); // over TLS: afterwards the server knows the password and logs in without
    server
}

/// Catching up with the binary log from where a full was taken of the then empty server: on a RAM disk, where the clients and
/// not the disk decide; on disk, where both are asked to have everything durable (`mysqlbinlog` never is by itself); and into a
/// real S3 server on this machine, which has to share its cores.
fn stream() -> Vec<String> {
    let server = server();
    let on_ram = Path::new("/dev/shm");
    let s3 = S3Server::start();
    let mut places = Vec::new();
    if on_ram.is_dir() {
        places.push(Place { name: "RAM disk", sync: false, dir: scratch_in(on_ram), s3: None });
    }
    places.push(Place { name: "disk", sync: true, dir: scratch(), s3: None });
    places.push(Place { name: "S3 (versitygw)", sync: true, dir: scratch(), s3: Some(&s3) });
    let places: Vec<_> = places.into_iter().map(|place| (start_archives(&server, &place), place)).collect();
    data::write_binlog_in_large_transactions(&server, data::bytes());
    places.iter().flat_map(|(ours, place)| catch_up(&server, place, ours)).collect()
}

/// Where a stream goes to.
struct Place<'a> {
    name: &'static str,
    /// Whether the peer has to flush what it wrote.
    sync: bool,
    dir: tempfile::TempDir,
    s3: Option<&'a S3Server>,
}

/// A policy, the folder of its archive and a copy of how that begins.
struct Start {
    name: String,
    policy: PathBuf,
    archive: PathBuf,
    start: PathBuf,
}

fn start_archives(server: &Server, place: &Place<'_>) -> [Start; 3] {
    let dir = place.dir.path();
    [(0, "uncompressed"), (-1, "zstd -1"), (LEVEL, "zstd 1")].map(|(level, name)| {
        let archive = place.s3.map_or_else(|| dir.to_owned(), S3Server::objects).join(format!("archive-{level}"));
        let policy = match place.s3 {
            Some(s3) => policy_with_storage(dir, server, &bucket(s3, &format!("archive-{level}")), level, true),
            None => policy(dir, server, &archive, level, true),
        };
        empty(&archive);
        measure::run(&full(&policy));
        let start = dir.join(format!("start-{level}"));
        copy(&archive, &start);
        Start { name: format!("{OURS}, {name}"), policy, archive, start }
    })
}

/// With extended attributes, in which the S3 server keeps what it knows of an object.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    measure::pipeline(&format!("cp -a {} {}", from.display(), to.display()), &[]);
}

fn catch_up(server: &Server, place: &Place<'_>, ours: &[Start]) -> Vec<String> {
    let binlogs = server.binlogs();
    let bytes = binlogs.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let closed = binlogs.len() - 1;
    let raw = place.dir.path().join("raw");
    let first = binlogs[0].file_name().unwrap().to_str().unwrap();
    let script = format!(
        "{} {LOGIN} --port={} --raw --read-from-remote-server --to-last-log --result-file={}/ {first}{}",
        stock("mysqlbinlog"),
        server.port(),
        raw.display(),
        if place.sync { format!("; sync {}/*", raw.display()) } else { String::new() },
    );
    let peer = if place.sync { "mysqlbinlog --raw; sync" } else { "mysqlbinlog --raw" };
    let mut contest = Contest::new(format!("stream catch-up, {}", place.name), bytes);
    contest.contender(version(peer), || empty(&raw), || measure::pipeline(&script, &password()));
    for Start { name, policy, archive, start } in ours {
        contest.contender(
            name.clone(),
            move || copy(start, archive),
            move || {
                let mut command = tidemark_command(["stream", "-f"]);
                command.arg(policy);
                measure::run_until(command, "archiving every closed file", || count(archive, "index.json") >= closed)
            },
        );
    }
    contest.bounded("tidemark", STREAM_RSS_BYTES);
    if !place.sync {
        // Shown for what the clients cost, not judged: nothing is durable or uploaded here, by neither.
        return contest.run(&[]);
    }
    let goal = |ours, ratio| Goal { ours, peer: "mysqlbinlog", ratio };
    let uncompressed = goal(concat!("tidemark ", env!("CARGO_PKG_VERSION"), ", uncompressed"), 1.0);
    let compressed = [
        goal(concat!("tidemark ", env!("CARGO_PKG_VERSION"), ", zstd -1"), 0.7),
        goal(concat!("tidemark ", env!("CARGO_PKG_VERSION"), ", zstd 1"), 0.7),
    ];
    // The peer uploads nothing: whoever does so as well may take longer.
    let goals: Vec<_> = std::iter::once(uncompressed).filter(|_| place.s3.is_none()).chain(compressed).collect();
    contest.run(&goals)
}

/// A consistent full backup to disk.
fn backup() -> Vec<String> {
    let server = server();
    data::fill_tables(&server, data::bytes());
    let dir = scratch();
    let (sql, folder, archive) =
        (dir.path().join("dump.sql.zst"), dir.path().join("mydumper"), dir.path().join("archive"));
    let policy = policy(dir.path(), &server, &archive, LEVEL, false);
    let mut contest = Contest::new(format!("full backup, {THREADS} threads"), data::bytes());
    contest.contender(
        version("mysqldump | zstd"),
        || drop(fs::remove_file(&sql)),
        || measure::pipeline(&mysqldump(&server, &format!("| zstd -q -{LEVEL} -o {}", sql.display())), &password()),
    );
    if find_tool("mydumper", "mydumper").is_some() {
        for (name, option) in [("mydumper --compress", "--compress"), ("mydumper (not compressed)", "")] {
            contest.contender(
                with_version(name, "mydumper"),
                || empty(&folder),
                || measure::pipeline(&mydumper(&server, &folder, option), &[]),
            );
        }
    } else {
        contest.skipped("mydumper", "not installed (tests/tools/install mydumper)");
    }
    contest.contender(OURS, || empty(&archive), || measure::run(&full(&policy)));
    contest.bounded("tidemark", FULL_RSS_BYTES);
    contest.run(&[
        Goal { ours: "tidemark", peer: "mysqldump", ratio: 2.0 },
        Goal { ours: "tidemark", peer: "mydumper --compress", ratio: 1.5 },
    ])
}

/// Loading a full into an empty server.
fn load() -> Vec<String> {
    let source = server();
    data::fill_tables(&source, data::bytes());
    let dir = scratch();
    let (sql, folder, archive) = (dir.path().join("dump.sql"), dir.path().join("mydumper"), dir.path().join("archive"));
    measure::pipeline(&mysqldump(&source, &format!("> {}", sql.display())), &password());
    let policy = policy(dir.path(), &source, &archive, LEVEL, false);
    measure::run(&full(&policy));
    let target = RefCell::new(None);
    let fresh = || {
        target.borrow_mut().take(); // the old one goes before the new one comes
        target.borrow_mut().replace(server());
    };
    let port = || target.borrow().as_ref().map(Server::port).unwrap();
    let mut contest = Contest::new(format!("load, {THREADS} threads"), data::bytes());
    contest.contender(version("mysql < dump"), fresh, || {
        measure::pipeline(&format!("{} {LOGIN} --port={} < {}", stock("mysql"), port(), sql.display()), &password())
    });
    if let Some(myloader) = find_tool("mydumper", "myloader") {
        measure::pipeline(&mydumper(&source, &folder, ""), &[]);
        let (myloader, folder) = (myloader.display().to_string(), folder.display().to_string());
        contest.contender(with_version("myloader", "mydumper"), fresh, move || {
            let login = format!("-h 127.0.0.1 -P {} -u root -p {ROOT_PASSWORD}", port());
            measure::pipeline(&format!("{myloader} {login} -t {THREADS} -o -d {folder}"), &[])
        });
    } else {
        contest.skipped("myloader", "not installed (tests/tools/install mydumper)");
    }
    contest.contender(OURS, fresh, || measure::run(&restore(&policy, port())));
    contest.bounded("tidemark", FULL_RSS_BYTES);
    contest.run(&[
        Goal { ours: "tidemark", peer: "mysql < dump", ratio: 3.0 },
        Goal { ours: "tidemark", peer: "myloader", ratio: 1.3 },
    ])
}

/// Replaying many small transactions over an all but empty full.
fn replay() -> Vec<String> {
    let source = server();
    let dir = scratch();
    let archive = dir.path().join("archive");
    let policy = policy(dir.path(), &source, &archive, LEVEL, true);
    empty(&archive);
    measure::run(&full(&policy));
    data::write_small_transactions(&source, 50_000);
    let binlogs = source.binlogs();
    let bytes = binlogs.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let closed = binlogs.len() - 1;
    let mut command = tidemark_command(["stream", "-f"]);
    command.arg(&policy);
    measure::run_until(command, "archiving every closed file", || count(&archive, "index.json") >= closed);
    let files: Vec<String> = binlogs.iter().map(|path| path.display().to_string()).collect();
    let target = RefCell::new(None);
    let fresh = || {
        target.borrow_mut().take();
        target.borrow_mut().replace(server());
    };
    let port = || target.borrow().as_ref().map(Server::port).unwrap();
    let mut contest = Contest::new("replay of 50,000 transactions", bytes);
    contest.contender(version("mysqlbinlog | mysql"), fresh, || {
        let (read, apply) = (stock("mysqlbinlog"), stock("mysql"));
        let script = format!(
            "{read} --no-defaults {} | {apply} {LOGIN} --port={} --max-allowed-packet=1G",
            files.join(" "),
            port()
        );
        measure::pipeline(&script, &password())
    });
    contest.contender(OURS, fresh, || measure::run(&restore(&policy, port())));
    contest.light("tidemark", 0.05);
    contest.bounded("tidemark", FULL_RSS_BYTES);
    contest.run(&[Goal { ours: "tidemark", peer: "mysqlbinlog", ratio: 3.0 }])
}

/// What a backup costs the server that is backed up: commits a second of two sessions, alone and under each dump.
fn donor() -> Vec<String> {
    let server = server();
    data::fill_tables(&server, data::bytes());
    data::write_small_transactions(&server, 4);
    let dir = scratch();
    let (sql, archive) = (dir.path().join("dump.sql.zst"), dir.path().join("archive"));
    let policy = policy(dir.path(), &server, &archive, LEVEL, false);
    let sessions = (0..2).map(|session| {
        let mut client = server.client();
        client.arg(format!("--execute=CALL replay.work({session}, 2000000000)"));
        Process::spawn(client)
    });
    let _sessions: Vec<Process> = sessions.collect();
    let commits = || server.rows("SHOW GLOBAL STATUS LIKE 'Com_commit'")[0][1].parse::<f64>().unwrap();
    let rate = |work: &dyn Fn()| {
        let (before, start) = (commits(), Instant::now());
        work();
        ((commits() - before) / start.elapsed().as_secs_f64(), start.elapsed())
    };
    println!("\ndonor under a full backup ({} MiB): commits a second of two sessions", data::bytes() >> 20);
    for round in 0..3 {
        let (alone, _) = rate(&|| std::thread::sleep(Duration::from_secs(5)));
        let (dumped, dump) = rate(&|| {
            let _ = fs::remove_file(&sql);
            measure::pipeline(&mysqldump(&server, &format!("| zstd -q -{LEVEL} -o {}", sql.display())), &password());
        });
        let (ours, full_time) = rate(&|| {
            empty(&archive);
            measure::run(&full(&policy));
        });
        println!(
            "  round {}: alone {alone:.0}; under mysqldump {dumped:.0} ({:.0} % of alone, for {dump:.1?}); under {OURS} {ours:.0} ({:.0} %, for {full_time:.1?})",
            round + 1,
            100.0 * dumped / alone,
            100.0 * ours / alone,
        );
    }
    Vec::new()
}

// ---- what they are made of ----

pub fn full(policy: &Path) -> Command {
    let mut command = tidemark_command(["backup", "--threads", &THREADS.to_string(), "-f"]);
    command.arg(policy);
    command
}

fn restore(policy: &Path, port: u16) -> Command {
    let mut command =
        tidemark_command(["restore", "--latest", "--into-tls", "Disabled", "--threads", &THREADS.to_string()]);
    command.arg("--into").arg(format!("127.0.0.1:{port}")).arg("-f").arg(policy);
    command.env("TIDEMARK_TARGET_PASSWORD", ROOT_PASSWORD);
    command
}

pub fn mysqldump(server: &Server, rest: &str) -> String {
    let options = "--single-transaction --routines --events --triggers --set-gtid-purged=OFF --databases bench";
    format!("{} {LOGIN} --port={} {options} {rest}", stock("mysqldump"), server.port())
}

fn mydumper(server: &Server, folder: &Path, option: &str) -> String {
    let mydumper = tool("mydumper", &["mydumper"]);
    let login = format!("-h 127.0.0.1 -P {} -u root -p {ROOT_PASSWORD}", server.port());
    format!("{} {login} -t {THREADS} -r 100000 {option} -G -E -R -B bench -o {}", mydumper.display(), folder.display())
}

fn policy(dir: &Path, server: &Server, archive: &Path, level: i8, binlog: bool) -> PathBuf {
    policy_with_storage(dir, server, &format!("{{fs: {{path: {}}}}}", archive.display()), level, binlog)
}

/// The storage of a policy in `s3`, with the document of its credentials.
pub fn bucket(s3: &S3Server, prefix: &str) -> String {
    bucket_at(s3, s3.endpoint(), prefix)
}

/// The same, by way of something before it.
pub fn bucket_at(s3: &S3Server, endpoint: &str, prefix: &str) -> String {
    format!(
        "{{s3: {{endpoint: '{}', bucket: {}, prefix: {prefix}, region: {}, credentialsSecretRef: {{name: bucket}}}}}}\n---\n\
         {{apiVersion: v1, kind: Secret, metadata: {{name: bucket}}, stringData: {{AWS_ACCESS_KEY_ID: {}, AWS_SECRET_ACCESS_KEY: {}}}}}",
        endpoint,
        s3.bucket(),
        s3.region(),
        s3.access_key(),
        s3.secret_key()
    )
}

/// `storage` may go on with documents of its own.
pub fn policy_with_storage(dir: &Path, server: &Server, storage: &str, level: i8, binlog: bool) -> PathBuf {
    let path = dir.join(format!("policy-{level}.yaml"));
    let text = format!(
        "apiVersion: tidemark.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: bench}}\nspec:\n  \
         source: {{host: 127.0.0.1, port: {}, credentialsSecretRef: {{name: source}}, tls: {{mode: Disabled}}}}\n  \
         binlog: {{enabled: {binlog}}}\n  compression: {{level: {level}}}\n  storage: {storage}\n---\n\
         {{apiVersion: v1, kind: Secret, metadata: {{name: source}}, stringData: {{username: root, password: {ROOT_PASSWORD}}}}}\n",
        server.port()
    );
    fs::write(&path, text).unwrap();
    path
}

pub fn password() -> [(&'static str, &'static str); 1] {
    [("MYSQL_PWD", ROOT_PASSWORD)]
}

fn stock(name: &'static str) -> String {
    tool("mysql", &[name]).display().to_string()
}

/// `what`, with the version of MySQL's clients.
fn version(what: &str) -> String {
    let output = Command::new(stock("mysql")).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{what} {}", text.split("Ver ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?"))
}

fn with_version(what: &str, name: &'static str) -> String {
    let output = Command::new(tool(name, &[name])).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{what} {}", text.split([' ', ',']).nth(1).unwrap_or("?"))
}

pub fn scratch() -> tempfile::TempDir {
    scratch_in(&std::env::temp_dir())
}

pub fn scratch_in(dir: &Path) -> tempfile::TempDir {
    tempfile::Builder::new().prefix("tidemark-bench-").tempdir_in(dir).unwrap()
}

pub fn empty(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
}

/// Files of that name under `folder`.
fn count(folder: &Path, name: &str) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { count(&entry.path(), name) } else { usize::from(entry.file_name() == name) }
            },
        )
        .sum()
}
