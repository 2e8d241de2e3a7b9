//! A child process that never outlives the tests, with its output in files, its memory watched, and kill -9 at hand.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use super::wait_for;

/// The signals that tests send, besides `kill9`.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Interrupt,
    Terminate,
    Stop,
    Continue,
}

/// A running child. Dropping it kills it.
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    peak_rss_bytes: Arc<AtomicU64>,
    peak_anon_bytes: Arc<AtomicU64>,
    cpu_ms: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    _dir: Option<tempfile::TempDir>,
}

impl Process {
    /// Starts `command` with its output in files of a fresh temporary folder.
    pub fn spawn(command: Command) -> Process {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::spawn_in(command, dir.path());
        process._dir = Some(dir);
        process
    }

    /// Starts `command` with its output appended to the files `stdout` and `stderr` in `dir`.
    pub fn spawn_in(command: Command, dir: &Path) -> Process {
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        let mut bound = bind_to_parent(&command);
        bound.stdin(Stdio::null()).stdout(append(&stdout)).stderr(append(&stderr));
        let child = spawn_from_lasting_thread(bound);
        let mut process = Process {
            child,
            stdout,
            stderr,
            peak_rss_bytes: Arc::default(),
            peak_anon_bytes: Arc::default(),
            cpu_ms: Arc::default(),
            ended: Arc::default(),
            _dir: None,
        };
        process.watch();
        process
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Both outputs, for a failure's message.
    pub fn output(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout(), self.stderr())
    }

    /// Waits until stdout or stderr has a line that contains `text`, and returns the first such line.
    /// Fails when the process ends without it.
    pub fn wait_for_line(&mut self, text: &str, timeout: Duration) -> String {
        wait_for(&format!("the line {text:?}"), timeout, || {
            let ended = self.try_wait();
            let output = format!("{}\n{}", self.stdout(), self.stderr());
            let line = output.lines().find(|line| line.contains(text)).map(str::to_owned);
            if let (None, Some(status)) = (&line, ended) {
                panic!("the process ended ({status}) without the line {text:?}\n{}", self.output());
            }
            line
        })
    }

    /// Waits until a `pause` of that failpoint stops it: what comes before is done, and it uses no CPU time.
    pub fn wait_to_pause_at(&mut self, failpoint: &str, is_near: impl Fn() -> bool) {
        let mut cpu = Duration::MAX;
        wait_for(&format!("the process to stand still at {failpoint}"), Duration::from_secs(90), || {
            assert!(self.try_wait().is_none(), "{failpoint} was not met\n{}", self.output());
            std::thread::sleep(Duration::from_millis(300));
            let before = std::mem::replace(&mut cpu, self.cpu());
            (!cpu.is_zero() && before == cpu && is_near()).then_some(())
        });
    }

    /// The exit status, once the process has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {timeout:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal; a process that has ended is left alone.
    pub fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_some() {
            return;
        }
        let name = match signal {
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        let kill = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill} failed");
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The most memory it has had resident, as the kernel counted it (VmHWM, read every few milliseconds).
    pub fn peak_rss_bytes(&self) -> u64 {
        self.peak_rss_bytes.load(Ordering::Relaxed)
    }

    /// The most memory of its own (RssAnon, read every few milliseconds) that it was seen to have resident: without the pages of
    /// its binary, which of one with debug assertions and symbols are some 40 MiB more than of a release.
    pub fn peak_anon_bytes(&self) -> u64 {
        self.peak_anon_bytes.load(Ordering::Relaxed)
    }

    /// CPU time used so far, user and system.
    pub fn cpu(&self) -> Duration {
        Duration::from_millis(self.cpu_ms.load(Ordering::Relaxed))
    }

    /// Follows /proc/PID from a thread: the figures must survive the process.
    fn watch(&mut self) {
        let (pid, rss, cpu, ended) = (self.pid(), self.peak_rss_bytes.clone(), self.cpu_ms.clone(), self.ended.clone());
        let anon = self.peak_anon_bytes.clone();
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Some(bytes) = memory_bytes(pid, "VmHWM:") else { break };
                rss.fetch_max(bytes, Ordering::Relaxed);
                anon.fetch_max(memory_bytes(pid, "RssAnon:").unwrap_or(0), Ordering::Relaxed);
                if let Some(ms) = cpu_ms(pid) {
                    cpu.fetch_max(ms, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn memory_bytes(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn cpu_ms(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields count from after the name, which may hold anything: utime and stime are the 12th and 13th, in 1/100 s.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?) * 10)
}

/// The same command, but killed by the kernel when this process dies, however it dies.
fn bind_to_parent(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        bound.current_dir(dir);
    }
    bound
}

/// The kernel sends the death signal when the *thread* that forked ends, and a test's thread ends before a server that
/// other tests share: so one thread, which lasts as long as the process, forks all.
fn spawn_from_lasting_thread(command: Command) -> Child {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        requests
    });
    let program = format!("{command:?}");
    let (reply, outcome) = mpsc::channel();
    spawner.send((command, reply)).unwrap();
    outcome.recv().unwrap().unwrap_or_else(|e| panic!("cannot start {program}: {e}"))
}
