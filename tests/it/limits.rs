//! What a full may cost its source.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidemark::archive::store::Store;
use tidemark::backup::logical::{self, Limits, LogicalConfig};
use tidemark::model::{Flavor, Progress};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fidelity::{endpoint, folder, small};
use crate::lab::replicate;
use crate::support::{Server, ServerOptions, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARBINARY(1024)); \
    INSERT INTO d.t (v) VALUES (RANDOM_BYTES(1024)); INSERT INTO d.t (v) SELECT v FROM d.t; INSERT INTO d.t (v) SELECT v FROM d.t; \
    INSERT INTO d.t (v) SELECT a.v FROM d.t a, d.t b, d.t c, d.t e";

/// 260 KiB of rows take longer than the first look at the source.
const SLOW: Option<u64> = Some(64 << 10);

/// A full that is being taken.
struct Full {
    progress: Progress,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Full {
    fn begin(source: &Server, limits: Limits) -> Full {
        let dir = tempfile::tempdir().unwrap();
        let (store, at, progress): (Store, _, _) = (folder(dir.path()), endpoint(source), Progress::default());
        let config = LogicalConfig { limits, ..small() };
        let seen = progress.clone();
        let task = tokio::spawn(async move {
            logical::run(&config, &at, &store, seen, CancellationToken::new()).await.unwrap();
        });
        Full { progress, task, _dir: dir }
    }

    async fn yields_until(self, relieve: impl FnOnce()) {
        let waits = || (self.progress.read().phase == "waiting for the source").then_some(());
        tokio::task::block_in_place(|| wait_for("the full to yield", PATIENCE, waits));
        // As long as all of it takes at its rate.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!self.task.is_finished(), "it did not wait");
        relieve();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it goes on").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_yields_while_its_source_is_busy_and_goes_on_when_it_no_longer_is() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let source = ServerOptions::of(flavor).start();
        source.sql(ROWS);
        let mut sleepers: Vec<_> =
            (0..9).map(|_| source.client().args(["-e", "SELECT SLEEP(600)"]).spawn().unwrap()).collect();
        let sleeping = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'";
        wait_for("the load", PATIENCE, || (source.rows(sleeping).len() == 9).then_some(()));
        let limits = Limits { threads_running: Some(6), bytes_per_second: SLOW, ..Limits::default() };
        let full = Full::begin(&source, limits);
        full.yields_until(|| source.rows(sleeping).iter().for_each(|id| drop(source.sql(&format!("KILL {}", id[0])))))
            .await;
        sleepers.iter_mut().for_each(|sleeper| drop(sleeper.wait()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_of_a_replica_yields_while_that_lags() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let (primary, replica) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).start());
        replicate(&replica, &primary);
        let (stop, change, start, show) = match flavor {
            Flavor::Mysql => {
                ("STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY", "START REPLICA", "SHOW REPLICA STATUS")
            }
            Flavor::Mariadb => ("STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY", "START SLAVE", "SHOW SLAVE STATUS"),
        };
        primary.sql(ROWS);
        let rows = "SELECT COUNT(*) FROM d.t";
        wait_for("the rows", PATIENCE, || (replica.try_sql(rows) == primary.try_sql(rows)).then_some(()));
        replica.sql(&format!("{stop}; {change} = 3600; {start}"));
        primary.sql("INSERT INTO d.t (v) VALUES ('late')");
        wait_for("the lag", PATIENCE, || {
            // Seconds_Behind_Source is the 33rd.
            replica.rows(show)[0][32].parse::<u64>().ok().filter(|seconds| *seconds > 1)
        });
        let limits =
            Limits { replication_lag: Some(Duration::from_secs(1)), bytes_per_second: SLOW, ..Limits::default() };
        let full = Full::begin(&replica, limits);
        full.yields_until(|| drop(replica.sql(&format!("{stop}; {change} = 0; {start}")))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_reads_no_faster_than_its_rate() {
    let source = ServerOptions::mysql().start();
    source.sql(ROWS);
    let began = Instant::now();
    let full = Full::begin(&source, Limits { bytes_per_second: Some(100 << 10), ..Limits::default() });
    full.task.await.unwrap();
    // 260 KiB of rows.
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
}
