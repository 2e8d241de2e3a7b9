//! What an archive in a bucket costs a day: objects that are left, and requests, of an idle, a steady and a busy cluster.

use std::path::Path;
use std::time::Duration;

use crate::contests::{bucket_at, full, policy_with_storage, scratch, server};
use crate::data;
use crate::measure;
use crate::support::{Faults, Process, Requests, S3Server, Server, Signal, tidemark_command};

const LOAD: Duration = Duration::from_secs(60);
const DAY: f64 = 86_400.0;
/// US dollars for a thousand requests: S3 Standard's list price in us-east-1 (PUT, POST and LIST; GET and HEAD). Deletes cost nothing.
const WRITES_USD: f64 = 0.005;
const READS_USD: f64 = 0.0004;

/// Measures all three; there are no goals.
pub fn requests() -> Vec<String> {
    let server = server();
    data::write_small_transactions(&server, 4);
    server.sql(
        "DELIMITER //
         CREATE PROCEDURE replay.paced(seconds INT)
         BEGIN
           DECLARE end_at DATETIME(6) DEFAULT SYSDATE(6) + INTERVAL seconds SECOND;
           WHILE SYSDATE(6) < end_at DO
             CALL replay.work(0, 1);
             DO SLEEP(0.1);
           END WHILE;
         END //
         DELIMITER ;",
    );
    let s3 = S3Server::start();
    let proxy = Faults::before(s3.endpoint(), 0.0, 0);
    let dir = scratch();
    println!(
        "\nObjects and requests, default settings: {} s of each load in one binlog file, as if all day were like that, with one prune. The prices are those \
         of S3 Standard",
        LOAD.as_secs()
    );
    println!(
        "  {:<38} {:>12} {:>12} {:>12} {:>12} {:>10}",
        "a day (with compaction: objects of the file)", "PUT, LIST", "GET, HEAD", "DELETE", "objects left", "USD"
    );
    let seconds = LOAD.as_secs();
    let loads = [
        ("idle (no commit)", Vec::new()),
        ("steady (8 commits a second)", vec![format!("CALL replay.paced({seconds})")]),
        ("busy (4 sessions)", (0..4).map(|session| format!("CALL replay.steady({session}, {seconds})")).collect()),
    ];
    // What a prune asks where there is nothing to pack, which it does once.
    let mut idle = None;
    for (n, (name, statements)) in loads.into_iter().enumerate() {
        let of = one(&server, dir.path(), &s3, &proxy, &format!("requests-{n}"), &statements);
        let prune = *idle.get_or_insert(of.pruned);
        line(&format!("{name}: the stream"), of.streamed, Requests::default(), a_day(of.objects));
        line("  with compaction", of.streamed + of.pruned - prune, prune, of.left as f64);
    }
    Vec::new()
}

/// What a load has asked for, and left.
struct Measured {
    streamed: Requests,
    pruned: Requests,
    /// Of the load.
    objects: u64,
    /// Of its file, once that is closed and packed.
    left: u64,
}

fn one(server: &Server, dir: &Path, s3: &S3Server, proxy: &Faults, prefix: &str, statements: &[String]) -> Measured {
    let policy = policy_with_storage(dir, server, &bucket_at(s3, &proxy.endpoint(), prefix), 1, true);
    measure::run(&full(&policy));
    let mut command = tidemark_command(["stream", "-f"]);
    command.arg(&policy);
    let mut stream = Process::spawn(command);
    stream.wait_for_line("connected to the source", Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(3)); // what it reads to begin with
    let objects = || segments(&s3.objects().join(prefix).join("binlog"));
    let (before, stored) = (proxy.requests(), objects());
    let sessions = statements.iter().map(|statement| {
        let mut client = server.client();
        client.arg(format!("--execute={statement}"));
        Process::spawn(client)
    });
    for mut session in sessions.collect::<Vec<_>>() {
        session.wait(LOAD * 4);
    }
    if statements.is_empty() {
        std::thread::sleep(LOAD);
    }
    let (streamed, loaded) = (proxy.requests() - before, objects() - stored);
    server.sql("FLUSH BINARY LOGS");
    std::thread::sleep(Duration::from_secs(3)); // its index is stored by then
    stream.signal(Signal::Terminate);
    stream.wait(Duration::from_secs(30));
    let before = proxy.requests();
    let mut prune = tidemark_command(["prune", "-f"]);
    prune.arg(&policy);
    measure::run(&prune);
    Measured { streamed, pruned: proxy.requests() - before, objects: loaded, left: objects() }
}

fn a_day(count: u64) -> f64 {
    count as f64 * DAY / LOAD.as_secs_f64()
}

/// Of requests that a load asks for all day, and of some that are asked for once.
fn line(what: &str, all_day: Requests, once: Requests, objects: f64) {
    let of = |field: fn(&Requests) -> u64| a_day(field(&all_day)) + field(&once) as f64;
    let (writes, reads, deletes) = (of(|r| r.writes), of(|r| r.reads), of(|r| r.deletes));
    let usd = (writes * WRITES_USD + reads * READS_USD) / 1000.0;
    println!("  {what:<38} {writes:>12.0} {reads:>12.0} {deletes:>12.0} {objects:>12.0} {usd:>10.3}");
}

/// Objects below a folder.
fn segments(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { segments(&path) } else { 1 }
        })
        .sum()
}
