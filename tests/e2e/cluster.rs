//! The cluster as a person has it: kubectl, helm, and the operator installed by its chart.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What any single thing in the cluster may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Where the operator is installed.
pub const OPERATOR_NAMESPACE: &str = "tidemark-system";

static OPERATOR: LazyLock<()> = LazyLock::new(|| {
    helm(
        &["upgrade", "--install", "tidemark", "charts/tidemark", "--namespace", OPERATOR_NAMESPACE]
            .into_iter()
            .chain(["--create-namespace", "--wait", "--timeout", "3m"])
            .chain(["--set", &format!("image.repository={}", image("tidemark").rsplit_once(':').unwrap().0)])
            .chain(["--set", &format!("image.tag={}", image("tidemark").rsplit_once(':').unwrap().1)])
            .collect::<Vec<_>>(),
    );
});

/// Held by every test, shared; by one that takes the whole cluster away, alone.
static CLUSTER: RwLock<()> = RwLock::new(());

/// The operator, installed by its chart with the chart's own rights; for as long as what this returns is held.
pub fn operator() -> RwLockReadGuard<'static, ()> {
    LazyLock::force(&OPERATOR);
    CLUSTER.read().unwrap_or_else(PoisonError::into_inner)
}

/// The same, with no other test beside it.
pub fn operator_alone() -> RwLockWriteGuard<'static, ()> {
    LazyLock::force(&OPERATOR);
    CLUSTER.write().unwrap_or_else(PoisonError::into_inner)
}

/// The operator's words.
pub fn operator_log() -> String {
    let output = run(kubectl(&["--namespace", OPERATOR_NAMESPACE, "logs", "deployment/tidemark", "--tail=200"]), None);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Kills the operator's pod as a lost node would, and waits for the next one.
pub fn kill_operator() {
    let namespace = ["--namespace", OPERATOR_NAMESPACE];
    let pods = ["delete", "pods", "--selector=app.kubernetes.io/name=tidemark-operator", "--force", "--grace-period=0"];
    let killed = succeed(kubectl(&[&namespace[..], &pods[..]].concat()), None);
    assert!(killed.contains("deleted"), "there was no operator to kill");
    succeed(kubectl(&[&namespace[..], &["rollout", "status", "deployment/tidemark", "--timeout=3m"]].concat()), None);
}

/// Reference of an image that `tests/cluster/cluster image` loaded.
pub fn image(name: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/image");
    let mut command = Command::new(script);
    command.args(["--ref", name]);
    succeed(command, None).trim().to_owned()
}

pub fn kubectl(args: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(args);
    command
}

/// `kubectl tidemark ARGS… --namespace …`, with the plugin where kubectl looks for plugins.
pub fn kubectl_tidemark(namespace: &Namespace, args: &[&str]) -> Command {
    let plugin = crate::support::plugin();
    let mut paths = vec![plugin.parent().unwrap().to_owned()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut command = kubectl(&[&["tidemark"], args, &["--namespace", &namespace.0]].concat());
    command.env("PATH", std::env::join_paths(paths).unwrap());
    command
}

pub fn helm(args: &[&str]) -> String {
    let mut command = Command::new("helm");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    succeed(command, None)
}

/// Runs it with `input`; what it printed, both ways.
pub fn run(mut command: Command, input: Option<&str>) -> Output {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|e| {
            panic!("{command:?}: {e}: tests/e2e/run starts these tests with kubectl and helm in PATH")
        });
    if let Some(input) = input {
        // One that has ended takes none; its status tells.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    }
    child.wait_with_output().unwrap()
}

/// Runs it; what it printed.
pub fn succeed(command: Command, input: Option<&str>) -> String {
    let shown = format!("{command:?}");
    let output = run(command, input);
    assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace of one test, under the strictest Pod Security Standard.
pub struct Namespace(pub String);

impl Namespace {
    /// A fresh one.
    pub fn new(name: &str) -> Self {
        let namespace = Self(format!("tidemark-e2e-{name}"));
        succeed(kubectl(&["delete", "namespace", &namespace.0, "--ignore-not-found"]), None);
        succeed(kubectl(&["create", "namespace", &namespace.0]), None);
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        succeed(kubectl(&["label", "namespace", &namespace.0, restricted]), None);
        namespace
    }

    pub fn kubectl(&self, args: &[&str]) -> Command {
        kubectl(&[&["--namespace", &self.0], args].concat())
    }

    pub fn apply(&self, manifests: &str) {
        succeed(self.kubectl(&["apply", "-f", "-"]), Some(manifests));
    }

    /// A volume claim of 1 GiB.
    pub fn claim(&self, name: &str) {
        self.apply(&format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{accessModes: [ReadWriteOnce], \
             resources: {{requests: {{storage: 1Gi}}}}}}}}"
        ));
    }

    /// Why the API server does not take a manifest; none if it does.
    pub fn refusal(&self, manifest: &str) -> Option<String> {
        let output = run(self.kubectl(&["apply", "--dry-run=server", "-f", "-"]), Some(manifest));
        (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
    }

    /// Why it does not take a change.
    pub fn patch_refusal(&self, object: &str, patch: &str) -> String {
        let output = run(self.kubectl(&["patch", object, "--type=merge", "--patch", patch]), None);
        assert!(!output.status.success(), "{object} was changed: {patch}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// An object, if it is there.
    pub fn get(&self, object: &str) -> Option<Value> {
        let output = run(self.kubectl(&["get", object, "--output=json", "--ignore-not-found"]), None);
        let text = String::from_utf8(output.stdout).unwrap();
        if text.trim().is_empty() { None } else { Some(serde_json::from_str(&text).unwrap()) }
    }

    /// All of a kind.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let text = succeed(self.kubectl(&["get", kind, "--output=json"]), None);
        serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone()
    }

    /// A value of a Secret.
    pub fn secret(&self, name: &str, key: &str) -> String {
        let template = format!("go-template={{{{ index .data \"{key}\" | base64decode }}}}");
        succeed(self.kubectl(&["get", "secret", name, "--output", &template]), None)
    }

    /// Waits until `probe` finds what it looks for in the object; says how the object was if it never does.
    pub fn await_object<T>(&self, object: &str, what: &str, probe: impl Fn(&Value) -> Option<T>) -> T {
        let (kind, name) = object.split_once('/').unwrap();
        let mut watch = self.kubectl(&["get", kind, "--field-selector", &format!("metadata.name={name}")]);
        watch.args(["--watch", "--output=json"]);
        let deadline = Instant::now() + PATIENCE;
        // A watch ends now and then: it is begun again.
        while Instant::now() < deadline {
            if let Some(found) = each_object(&mut watch, deadline, &probe) {
                return found;
            }
            thread::sleep(Duration::from_millis(500));
        }
        println!("{:#}", self.get(object).unwrap_or_default()["status"]);
        self.describe();
        panic!("timed out after {PATIENCE:?} waiting for {object}: {what}");
    }

    /// Waits until a condition says so with this status.
    pub fn await_condition(&self, object: &str, type_: &str, status: &str) -> Condition {
        self.await_object(object, &format!("condition {type_} to be {status}"), |object| {
            condition(object, type_).filter(|condition| condition.status == status)
        })
    }

    /// What a person would look at.
    pub fn describe(&self) {
        for args in [&["get", "all,pvc,tidemark", "--output=wide"][..], &["get", "events", "--sort-by=.lastTimestamp"]]
        {
            println!("{}", String::from_utf8_lossy(&run(self.kubectl(args), None).stdout));
        }
        for pod in self.list("pods") {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let logs = run(self.kubectl(&["logs", name, "--all-containers", "--tail=25", "--prefix"]), None);
            println!("{}", String::from_utf8_lossy(&logs.stdout));
        }
        println!("{}", operator_log());
    }
}

/// Shows `probe` each object that a `kubectl get --watch` prints, until it finds what it looks for, the watch ends or the time is up. Unlike
/// asking again and again it costs nothing while nothing happens, on a machine whose every core the cluster needs.
fn each_object<T>(watch: &mut Command, deadline: Instant, probe: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let mut child = watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let (told, objects) = mpsc::channel();
    let reader = thread::spawn(move || {
        for object in serde_json::Deserializer::from_reader(stdout).into_iter::<Value>().map_while(Result::ok) {
            let _ = told.send(object);
        }
    });
    let next = || objects.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
    let found = std::iter::from_fn(next).find_map(|object| probe(&object));
    let _ = child.kill();
    let _ = child.wait();
    reader.join().unwrap();
    found
}

/// Waits for what only asking can tell, by processes that are not cheap.
pub fn ask_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out after {PATIENCE:?} waiting for {what}");
        thread::sleep(Duration::from_millis(500));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !thread::panicking() {
            run(kubectl(&["delete", "namespace", &self.0, "--wait=false"]), None);
        }
    }
}

/// A condition of a status.
#[derive(Clone, Debug)]
pub struct Condition {
    pub status: String,
    pub reason: String,
    pub message: String,
}

pub fn condition(object: &Value, type_: &str) -> Option<Condition> {
    let all = object["status"]["conditions"].as_array()?;
    let found = all.iter().find(|condition| condition["type"] == type_)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}
