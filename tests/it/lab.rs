//! A source, its archive, and restores from it: what the tests of `serve` and `restore` stand on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tidemark::archive::store::{Store, StoreConfig};
use tidemark::backup::logical::{self, LogicalConfig};
use tidemark::binlog::{StreamConfig, StreamReading, StreamStatus, stream};
use tidemark::model::{Flavor, GtidSet, Progress};
use tidemark::mysql::endpoint::{Endpoint, Tls, TlsMode};
use tidemark::restore::plan::{Plan, Request, Target, Throughput, parse_gtids};
use tidemark::restore::{self, RestoreError, RestoreOptions, RestoreReport};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::support::{ROOT_PASSWORD, Server, ServerOptions, wait_for};

/// Failpoints are the whole process's: only one test sets some at a time, and only its own threads heed them.
static FAILPOINTS: Mutex<()> = Mutex::new(());

pub struct Lab {
    pub source: Server,
    pub store: Store,
    pub root: PathBuf,
    pub runtime: Runtime,
    /// What the runtime's threads are called.
    threads: String,
    _dir: tempfile::TempDir,
}

/// A stream that runs until it is stopped.
pub struct Streaming {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), tidemark::binlog::Error>>,
    pub status: StreamStatus,
}

impl Streaming {
    /// Waits for its end, which nobody asked for.
    pub async fn ended(self) -> Result<(), tidemark::binlog::Error> {
        self.task.await.unwrap()
    }
}

impl Lab {
    /// A fresh source with one full of its empty self.
    pub fn new(options: ServerOptions) -> Lab {
        let lab = Lab::without_full(options);
        lab.full();
        lab
    }

    pub fn without_full(options: ServerOptions) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("archive");
        let store = Store::open(&StoreConfig::Fs { root: root.clone() }).unwrap();
        static LABS: AtomicU32 = AtomicU32::new(0);
        let threads = format!("lab {}", LABS.fetch_add(1, Ordering::Relaxed));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).thread_name(&threads).enable_all().build().unwrap();
        let source = options.start();
        let lab = Lab { source, store, root, runtime, threads, _dir: dir };
        lab.runtime.block_on(tidemark::archive::identity::ensure(&lab.store, lab.source.flavor(), "lab")).unwrap();
        lab
    }

    pub fn flavor(&self) -> Flavor {
        self.source.flavor()
    }

    /// Takes a full; its id.
    pub fn full(&self) -> String {
        let config = LogicalConfig::default();
        let endpoint = endpoint(&self.source);
        let full = logical::run(&config, &endpoint, &self.store, Progress::default(), CancellationToken::new());
        self.runtime.block_on(full).unwrap().id
    }

    pub fn stream(&self, config: StreamConfig) -> Streaming {
        let (cancel, status) = (CancellationToken::new(), StreamStatus::default());
        let run = stream(config, endpoint(&self.source), self.store.clone(), cancel.clone(), status.clone());
        Streaming { cancel, task: self.runtime.spawn(run), status }
    }

    /// Archives everything the source has logged by now, in small segments.
    pub fn archive(&self) {
        let config = StreamConfig {
            segment_bytes: 256 << 10,
            flush_interval: Duration::from_millis(50),
            ..StreamConfig::default()
        };
        let streaming = self.stream(config);
        self.durable(&streaming);
        self.stop(streaming);
    }

    /// Waits until all that the source has logged is durable.
    pub fn durable(&self, streaming: &Streaming) {
        let row = self.source.rows(match self.flavor() {
            Flavor::Mysql => "SHOW BINARY LOG STATUS",
            Flavor::Mariadb => "SHOW MASTER STATUS",
        });
        let (file, offset) = (row[0][0].clone(), row[0][1].parse::<u64>().unwrap());
        let mut status = streaming.status.subscribe();
        // MariaDB may end its log with an event that is no part of a transaction and that nothing hurries to store.
        let all = GtidSet::parse(self.flavor(), &self.source.gtids()).unwrap();
        let position = |s: &StreamReading| {
            s.durable.as_ref().is_some_and(|d| d.file > file || d.file == file && d.offset >= offset)
        };
        let gtids = |s: &StreamReading| !all.is_empty() && s.durable_gtids.as_ref().is_some_and(|g| covers(g, &all));
        // (A file that has nothing yet makes none of them more: whether the one before is closed, it alone tells.)
        let in_file = |s: &StreamReading| s.archived_to.as_ref().is_some_and(|to| to.file >= file);
        let there = status.wait_for(|s| position(s) || gtids(s) && in_file(s));
        let waited =
            self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), there).await.is_ok() });
        assert!(waited, "not durable up to {file}:{offset}: {:?}", streaming.status.read());
    }

    pub fn stop(&self, streaming: Streaming) {
        streaming.cancel.cancel();
        self.runtime.block_on(streaming.task).unwrap().unwrap();
    }

    pub fn plan(&self, request: &Request) -> Result<Plan, RestoreError> {
        self.runtime.block_on(restore::plan(&self.store, request, Throughput::default()))
    }

    pub fn run(&self, plan: &Plan, target: &Server) -> Result<RestoreReport, RestoreError> {
        let (options, progress, cancel) = (RestoreOptions::default(), Progress::default(), CancellationToken::new());
        self.runtime.block_on(restore::run(plan, &self.store, &endpoint(target), &options, &progress, &cancel))
    }

    /// Runs with something happening at a failpoint.
    pub fn run_with(
        &self,
        plan: &Plan,
        target: &Server,
        failpoint: &str,
        happens: impl Fn() + Send + Sync + 'static,
    ) -> Result<RestoreReport, RestoreError> {
        let _alone = FAILPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(failpoint, happens);
        let outcome = self.run(plan, target);
        fail::remove(failpoint);
        outcome
    }

    /// Runs until `failpoint`, where it dies in mid-air: connections are cut, nothing is tidied up.
    pub fn run_dying_at(&self, plan: &Plan, target: &Server, failpoint: &str) {
        let _alone = FAILPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
        let name = failpoint.to_owned();
        self.set(failpoint, move || panic!("dies at {name}"));
        let (plan, store, endpoint) = (plan.clone(), self.store.clone(), endpoint(target));
        let died = self.runtime.block_on(self.runtime.spawn(async move {
            let (options, progress, cancel) =
                (RestoreOptions::default(), Progress::default(), CancellationToken::new());
            restore::run(&plan, &store, &endpoint, &options, &progress, &cancel).await.map(|_| ())
        }));
        fail::remove(failpoint);
        assert!(died.as_ref().is_err_and(|e| e.is_panic()), "{failpoint} was not met: {died:?}");
    }

    /// Lets something happen at a failpoint, in this thread and this lab's own.
    fn set(&self, failpoint: &str, happens: impl Fn() + Send + Sync + 'static) {
        let (caller, threads) = (thread::current().id(), self.threads.clone());
        fail::cfg_callback(failpoint, move || {
            let current = thread::current();
            if current.id() == caller || current.name() == Some(&threads) {
                happens();
            }
        })
        .unwrap();
    }

    /// Restores into a fresh server and returns it.
    pub fn restore(&self, request: &Request) -> (Server, RestoreReport) {
        let plan = self.plan(request).unwrap_or_else(|e| panic!("{e}"));
        let target = ServerOptions::of(self.flavor()).start();
        let report = self.run(&plan, &target).unwrap_or_else(|e| panic!("{e}\n{plan}\n{}", target.log()));
        assert_eq!(executed(&target), report.executed, "the report tells the truth");
        (target, report)
    }

    pub fn gtids(&self, text: &str) -> GtidSet {
        parse_gtids(self.flavor(), text).unwrap()
    }
}

/// Whether a server that is at `have` has executed `all`.
fn covers(have: &GtidSet, all: &GtidSet) -> bool {
    match have {
        GtidSet::Mysql(_) => all.is_subset(have),
        GtidSet::Mariadb(have) => all.is_subset(&GtidSet::Mariadb(have.filled())),
    }
}

pub fn request(target: Target) -> Request {
    Request { target, exclusive: false, skip_gtids: None, allow_nearest: false }
}

pub fn endpoint(server: &Server) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".into(),
        at: None,
        port: server.port(),
        user: "root".into(),
        password: ROOT_PASSWORD.into(),
        tls: Tls { mode: TlsMode::Disabled, ca_pem: None },
        connect_timeout: Duration::from_secs(10),
    }
}

/// What the server has executed, in our own canonical text.
pub fn executed(server: &Server) -> String {
    match server.flavor() {
        Flavor::Mysql => server.gtids(),
        Flavor::Mariadb => server.sql("SELECT @@GLOBAL.gtid_slave_pos"),
    }
}

/// Name and checksum of every user table.
pub fn checksums(server: &Server) -> Vec<Vec<String>> {
    let tables = server.rows(
        "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND \
         table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') ORDER BY 1",
    );
    let names: Vec<String> = tables.into_iter().map(|row| row[0].clone()).collect();
    if names.is_empty() { Vec::new() } else { server.rows(&format!("CHECKSUM TABLE {}", names.join(", "))) }
}

/// Makes `replica` follow `source`, with GTIDs.
pub fn replicate(replica: &Server, source: &Server) {
    let port = source.port();
    replica.sql(&match source.flavor() {
        Flavor::Mysql => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='root', \
             SOURCE_PASSWORD='{ROOT_PASSWORD}', SOURCE_AUTO_POSITION=1, SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
        ),
        Flavor::Mariadb => format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root', \
             MASTER_PASSWORD='{ROOT_PASSWORD}', MASTER_USE_GTID=slave_pos; START SLAVE"
        ),
    });
}

/// Waits until two servers are equally far.
pub fn same_gtids(a: &Server, b: &Server) {
    wait_for("the replica to follow", Duration::from_secs(60), || (a.gtids() == b.gtids()).then_some(()));
}
