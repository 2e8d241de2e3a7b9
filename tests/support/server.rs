//! A real MySQL or MariaDB server on a free loopback port.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use tidemark::model::Flavor;

use super::process::{Process, Signal};
use super::template::{argument, copy_template, run_as};
use super::tls::Certificate;
use super::tool;

/// The password of `root`, who may connect from anywhere.
pub const ROOT_PASSWORD: &str = "root-of-the-tests";
const READY: Duration = Duration::from_secs(180);

/// How a server is to be started: GTIDs on, binary log on (ROW, FULL, synced at each commit), small memory.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    flavor: Flavor,
    tool: &'static str,
    init_args: Vec<String>,
    args: Vec<String>,
}

impl ServerOptions {
    pub fn mysql() -> ServerOptions {
        ServerOptions::new(Flavor::Mysql, "mysql")
    }

    /// MariaDB 10.11.
    pub fn mariadb() -> ServerOptions {
        ServerOptions::new(Flavor::Mariadb, "mariadb")
    }

    /// MariaDB 11.8, which `tests/tools/install mariadb-11` installs.
    pub fn mariadb_11() -> ServerOptions {
        ServerOptions::new(Flavor::Mariadb, "mariadb-11")
    }

    pub fn of(flavor: Flavor) -> ServerOptions {
        match flavor {
            Flavor::Mysql => ServerOptions::mysql(),
            Flavor::Mariadb => ServerOptions::mariadb(),
        }
    }

    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    fn new(flavor: Flavor, tool: &'static str) -> ServerOptions {
        ServerOptions { flavor, tool, init_args: Vec::new(), args: Vec::new() }
    }

    /// Adds an option of the server, such as `--binlog-checksum=NONE`. Later ones win, also over the defaults.
    pub fn arg(mut self, arg: &str) -> ServerOptions {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds an option that the data directory must be initialised with too, such as `--lower-case-table-names=1`.
    pub fn init_arg(mut self, arg: &str) -> ServerOptions {
        self.init_args.push(arg.to_owned());
        self
    }

    /// Without GTIDs (MySQL; MariaDB always has them).
    pub fn without_gtids(self) -> ServerOptions {
        match self.flavor {
            Flavor::Mysql => self.arg("--gtid-mode=OFF").arg("--enforce-gtid-consistency=OFF"),
            Flavor::Mariadb => self,
        }
    }

    /// With a certificate of the test's own. (MySQL makes one for itself otherwise; MariaDB 10.11 has no TLS otherwise.)
    pub fn tls(self, certificate: &Certificate) -> ServerOptions {
        self.arg(&argument("--ssl-ca", &certificate.ca))
            .arg(&argument("--ssl-cert", &certificate.certificate))
            .arg(&argument("--ssl-key", &certificate.key))
    }

    /// As a semi-synchronous source: a commit waits up to `timeout` for an acknowledgement.
    pub fn semisync_source(self, timeout: Duration) -> ServerOptions {
        let ms = timeout.as_millis();
        match self.flavor {
            Flavor::Mysql => self
                .arg("--plugin-load-add=semisync_source.so")
                .arg("--loose-rpl-semi-sync-source-enabled=ON")
                .arg(&format!("--loose-rpl-semi-sync-source-timeout={ms}")),
            Flavor::Mariadb => {
                self.arg("--rpl-semi-sync-master-enabled=ON").arg(&format!("--rpl-semi-sync-master-timeout={ms}"))
            }
        }
    }

    pub fn start(self) -> Server {
        Server::start(self)
    }
}

/// A running server with its data in a temporary folder. Dropping it kills it and removes the data.
pub struct Server {
    options: ServerOptions,
    dir: tempfile::TempDir,
    port: u16,
    server_id: u32,
    process: Option<Process>,
}

impl Server {
    /// Starts a fresh server and waits until it takes connections (about a second).
    pub fn start(options: ServerOptions) -> Server {
        let dir = tempfile::Builder::new().prefix("tidemark-").tempdir().unwrap();
        let server_id = rand::rng().random_range(1..u32::MAX / 2);
        copy_template(options.flavor, options.tool, &mysqld(&options), &options.init_args, &dir.path().join("data"));
        let mut server = Server { options, dir, port: free_port(), server_id, process: None };
        server.launch();
        server
    }

    pub fn flavor(&self) -> Flavor {
        self.options.flavor
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn server_id(&self) -> u32 {
        self.server_id
    }

    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// `mysql://root:…@127.0.0.1:PORT`, as mysql_async takes it.
    pub fn url(&self) -> String {
        format!("mysql://root:{ROOT_PASSWORD}@127.0.0.1:{}", self.port)
    }

    pub fn datadir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// The server's error log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }

    /// The server's process, for its memory, its CPU time, or signals.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the server runs")
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().is_none())
    }

    /// A crash: kill -9.
    pub fn kill9(&mut self) {
        self.process.take().expect("the server runs").kill9();
    }

    /// A clean shutdown.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.signal(Signal::Terminate);
        process.wait(READY);
    }

    /// Starts a server that was stopped or killed, on the same port and data.
    pub fn restart(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        self.launch();
    }

    /// Like [`Server::restart`], with one more option.
    pub fn restart_with(&mut self, arg: &str) {
        self.options.args.push(arg.to_owned());
        self.restart();
    }

    /// Freezes (SIGSTOP) or thaws the whole server.
    pub fn freeze(&mut self, frozen: bool) {
        let signal = if frozen { Signal::Stop } else { Signal::Continue };
        self.process.as_mut().expect("the server runs").signal(signal);
    }

    /// Runs SQL (any number of statements) as root by the stock client; returns its tab-separated rows without heads.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{error}\nin: {}", sql.chars().take(2000).collect::<String>()))
    }

    /// Like [`Server::sql`], but the server's error is the caller's to judge.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let path = self.dir.path().join(format!("sql-{:x}", rand::rng().random::<u64>()));
        std::fs::write(&path, sql).unwrap();
        let output = self.client().stdin(std::fs::File::open(&path).unwrap()).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The rows of a query, column by column, as text.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.sql(sql).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// The stock client, connected as root; it reads SQL from standard input.
    pub fn client(&self) -> Command {
        let mut command = self.stock(&["mysql", "mariadb"]);
        command.args(["--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4"]);
        command
    }

    /// The stock dump tool, connected as root, with no more arguments.
    pub fn dump_command(&self) -> Command {
        self.stock(&["mysqldump", "mariadb-dump"])
    }

    /// The stock binlog tool (`mysqlbinlog` or `mariadb-binlog`), not connected to anything.
    pub fn binlog_command(&self) -> Command {
        Command::new(tool(self.options.tool, flavored(self.flavor(), &["mysqlbinlog", "mariadb-binlog"])))
    }

    fn stock(&self, mysql_and_mariadb: &'static [&'static str; 2]) -> Command {
        let mut command = Command::new(tool(self.options.tool, flavored(self.flavor(), mysql_and_mariadb)));
        // Not an argument: `ps` shows those.
        command.env("MYSQL_PWD", ROOT_PASSWORD);
        command.args(["--no-defaults", "--protocol=TCP", "--host=127.0.0.1", "--user=root"]);
        command.arg(format!("--port={}", self.port)).arg("--max-allowed-packet=1G");
        command
    }

    /// `gtid_executed` (MySQL) or `gtid_binlog_pos` (MariaDB), as the server prints it but on one line.
    pub fn gtids(&self) -> String {
        let variable = match self.flavor() {
            Flavor::Mysql => "gtid_executed",
            Flavor::Mariadb => "gtid_binlog_pos",
        };
        self.sql(&format!("SELECT REPLACE(@@GLOBAL.{variable}, '\\n', '')"))
    }

    /// The binlog files that the server lists, oldest first, with their paths.
    pub fn binlogs(&self) -> Vec<PathBuf> {
        self.rows("SHOW BINARY LOGS").iter().map(|row| self.datadir().join(&row[0])).collect()
    }

    fn launch(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let mut process = Process::spawn_in(self.command(), self.dir.path());
        let deadline = Instant::now() + READY;
        while !greets(self.addr()) {
            if process.try_wait().is_some() || Instant::now() > deadline {
                let log = format!("{}\n{}", self.log(), process.output());
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                panic!("{} did not start on port {}:\n{tail}", self.flavor(), self.port);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(process.try_wait().is_none(), "somebody else's server greets on port {}", self.port);
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        let dir = self.dir.path();
        let mut command = Command::new(mysqld(&self.options));
        command.arg("--no-defaults").args(run_as());
        command.arg(argument("--datadir", &self.datadir())).arg(argument("--socket", &self.socket()));
        command.arg(argument("--log-error", &dir.join("error.log"))).arg(argument("--pid-file", &dir.join("pid")));
        // A starting server removes the temporary tables of everybody in its folder for them.
        command.arg(argument("--tmpdir", dir));
        command.arg(format!("--port={}", self.port)).arg(format!("--server-id={}", self.server_id));
        command.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--log-bin=binlog", "--sync-binlog=1"]);
        command.args(["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=64M", "--max-connections=200"]);
        command.args(match self.flavor() {
            Flavor::Mysql => ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--mysqlx=OFF"].as_slice(),
            Flavor::Mariadb => ["--gtid-strict-mode=ON", "--binlog-format=ROW"].as_slice(),
        });
        command.args(&self.options.init_args).args(&self.options.args);
        command
    }
}

fn flavored<'a>(flavor: Flavor, mysql_and_mariadb: &'a [&'a str; 2]) -> &'a [&'a str] {
    match flavor {
        Flavor::Mysql => &mysql_and_mariadb[..1],
        Flavor::Mariadb => &mysql_and_mariadb[1..],
    }
}

fn mysqld(options: &ServerOptions) -> PathBuf {
    match options.flavor {
        Flavor::Mysql => tool(options.tool, &["mysqld"]),
        Flavor::Mariadb => tool(options.tool, &["mariadbd", "mysqld"]),
    }
}

/// Whether a server greets there: a packet header, then protocol version 10 (an error packet would start with 255).
fn greets(addr: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&addr, Duration::from_secs(1)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).is_ok() && greeting[4] == 10
}

/// A port that is free now, that the kernel gives to no outgoing connection and this process to nobody else, so that it stays ours before a
/// start and over a restart.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = rand::rng().random_range(15_000..30_000);
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
