//! A database in the cluster, an S3 server, and what a platform team applies for them.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde_json::Value;
use tidemark::model::Flavor;

use crate::cluster::{Namespace, ask_until, image, run, succeed};

/// Root's password of the databases in `tests/cluster/manifests`.
const PASSWORD: &str = "secret-of-the-tests";
/// Of the account that backs up.
const LOGIN: &str = "pw-of-tidemark";

/// When fulls are taken, where a test does not say otherwise.
pub const SCHEDULE: &str = "schedule: { cron: '30 2 * * *', timeZone: Europe/Berlin }";
const S3: &str = include_str!("../cluster/manifests/s3.yaml");

/// Where the archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    S3,
    Claim,
}

/// A database, its store and its policy, in a namespace of their own.
pub struct Site {
    pub namespace: Namespace,
    pub flavor: Flavor,
    store: Store,
    /// Whether [`Site::SECOND`] is the primary now.
    failed_over: AtomicBool,
}

impl Site {
    /// Name of the second server's StatefulSet, Service and Secret.
    pub const SECOND: &str = "second";

    /// A database that runs, with exactly the account that docs/permissions.md tells to make, and no policy yet.
    pub fn new(name: &str, flavor: Flavor, store: Store) -> Self {
        let namespace = Namespace::new(name);
        namespace.apply(manifest(flavor));
        if store == Store::S3 {
            namespace.apply(S3);
        } else {
            namespace.claim("archive");
        }
        let site = Self { namespace, flavor, store, failed_over: AtomicBool::new(false) };
        let workload = format!("statefulset/{}", site.name());
        succeed(site.namespace.kubectl(&["rollout", "status", &workload, "--timeout=3m"]), None);
        if store == Store::S3 {
            succeed(site.namespace.kubectl(&["rollout", "status", "deployment/s3", "--timeout=3m"]), None);
        }
        let server = site.source();
        ask_until("the database", || server.try_sql("SELECT 1").ok());
        for statement in grants(flavor) {
            server.sql(&statement);
        }
        site
    }

    /// Name of the database's StatefulSet and Service.
    pub fn name(&self) -> &'static str {
        match self.flavor {
            Flavor::Mysql => "mysql",
            Flavor::Mariadb => "mariadb",
        }
    }

    /// The database that is backed up: the primary.
    pub fn source(&self) -> Server<'_> {
        if self.failed_over.load(Ordering::SeqCst) { self.second() } else { self.first() }
    }

    /// The primary of the start.
    pub fn first(&self) -> Server<'_> {
        self.server(self.name(), self.name(), PASSWORD)
    }

    /// The server that [`Site::add_second`] made.
    pub fn second(&self) -> Server<'_> {
        self.server(Self::SECOND, self.name(), PASSWORD)
    }

    /// Where its archive is.
    pub fn store(&self) -> Store {
        self.store
    }

    /// All that is secret here, and of the server that a RestoreRequest made.
    pub fn secrets(&self, request: &str) -> [String; 3] {
        [PASSWORD.to_owned(), LOGIN.to_owned(), self.namespace.secret(&format!("{request}-root"), "password")]
    }

    /// The server that a RestoreRequest made.
    pub fn restored(&self, request: &str) -> Server<'_> {
        let password = self.namespace.secret(&format!("{request}-root"), "password");
        self.server(request, "server", &password)
    }

    fn server(&self, workload: &str, container: &'static str, password: &str) -> Server<'_> {
        Server {
            namespace: &self.namespace,
            flavor: self.flavor,
            pod: format!("{workload}-0"),
            container,
            password: password.to_owned(),
        }
    }

    /// Starts a second, empty server beside the first.
    pub fn add_second(&self) {
        let (first, second) = (self.name(), Self::SECOND);
        self.namespace.apply(
            &manifest(self.flavor)
                .replace(&format!("metadata: {{ name: {first} }}"), &format!("metadata: {{ name: {second} }}"))
                .replace(&format!("app: {first}"), &format!("app: {second}"))
                .replace(&format!("serviceName: {first}"), &format!("serviceName: {second}"))
                .replace(&format!("name: {first}, key"), &format!("name: {second}, key"))
                .replace("--server-id=1", "--server-id=2"),
        );
        let workload = format!("statefulset/{second}");
        succeed(self.namespace.kubectl(&["rollout", "status", &workload, "--timeout=3m"]), None);
        ask_until("the second database", || self.second().try_sql("SELECT 1").ok());
    }

    /// From now on the second server is the primary.
    pub fn fail_over(&self) {
        self.failed_over.store(true, Ordering::SeqCst);
    }

    fn storage(&self, bucket: &str) -> String {
        match self.store {
            Store::S3 => {
                let rest = "prefix: shop, region: us-east-1, endpoint: 'http://s3:7070', credentialsSecretRef: {name: bucket-login}";
                format!("s3: {{bucket: {bucket}, {rest}}}")
            }
            Store::Claim => "fs: {path: /archive, claimName: archive}".to_owned(),
        }
    }

    /// Applies the Secrets and the BackupPolicy `shop`.
    pub fn protect(&self) {
        self.protect_as(LOGIN, "backups");
    }

    /// The same, as somebody would who mistook the password or the bucket.
    pub fn protect_as(&self, password: &str, bucket: &str) {
        self.apply_policy(&format!("serviceRef: {{ name: {} }}", self.name()), password, bucket, SCHEDULE);
    }

    /// The same with a policy that says this of its schedule and retention.
    pub fn protect_with(&self, rest: &str) {
        self.apply_policy(&format!("serviceRef: {{ name: {} }}", self.name()), LOGIN, "backups", rest);
    }

    /// The same for a pair of servers.
    pub fn protect_pair(&self) {
        let hosts = format!("hosts: [{}, {}]", self.name(), Self::SECOND);
        self.apply_policy(&hosts, LOGIN, "backups", SCHEDULE);
    }

    /// The same for a pair that is named by a label of its pods.
    pub fn protect_pods(&self) {
        let pods = "selector: { matchLabels: { group: mysql } }";
        self.apply_policy(pods, LOGIN, "backups", SCHEDULE);
    }

    fn apply_policy(&self, source: &str, password: &str, bucket: &str, rest: &str) {
        self.namespace.apply(&format!(
            "
apiVersion: v1
kind: Secret
metadata: {{ name: shop-login }}
stringData: {{ username: tidemark, password: {password} }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: bucket-login }}
stringData: {{ AWS_ACCESS_KEY_ID: tidemark-test, AWS_SECRET_ACCESS_KEY: {PASSWORD} }}
---
apiVersion: tidemark.dev/v1alpha1
kind: BackupPolicy
metadata: {{ name: shop }}
spec:
  source:
    {source}
    credentialsSecretRef: {{ name: shop-login }}
    tls: {{ mode: {tls} }}
  {rest}
  storage: {{ {storage} }}
",
            // MariaDB 10.11 makes no certificate of its own.
            tls = if self.flavor == Flavor::Mysql { "Required" } else { "Disabled" },
            storage = self.storage(bucket),
        ));
    }

    /// A moment of a later second than what was committed until now: MariaDB's log knows whole seconds only.
    pub fn next_second(&self) -> Timestamp {
        let second = self.source().now().as_second();
        ask_until("the next second", || Some(self.source().now()).filter(|now| now.as_second() > second))
    }

    /// The end of the window, once it is behind `moment`.
    pub fn await_window_behind(&self, moment: Timestamp) {
        self.namespace.await_object("backuppolicy/shop", &format!("a window that reaches {moment}"), |policy| {
            time(&policy["status"]["latestRestorableTime"]).filter(|end| *end > moment)
        });
    }

    /// Applies a RestoreRequest into a fresh server.
    pub fn request(&self, name: &str, target: &str) {
        let into = format!("into: {{ image: '{}', storage: {{ size: 1Gi }} }}", image(self.name()));
        self.request_into(name, target, &into);
    }

    /// Applies one into the second server.
    pub fn request_into_second(&self, name: &str, target: &str) {
        self.namespace.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: second-login}}, stringData: {{username: root, password: {PASSWORD}}}}}"
        ));
        let into = format!(
            "intoExisting: {{ host: {}, credentialsSecretRef: {{ name: second-login }}, tls: {{ mode: Required }} }}",
            Self::SECOND
        );
        self.request_into(name, target, &into);
    }

    /// Applies one.
    pub fn request_into(&self, name: &str, target: &str, into: &str) {
        self.namespace.apply(&format!(
            "
apiVersion: tidemark.dev/v1alpha1
kind: RestoreRequest
metadata: {{ name: {name} }}
spec:
  policyRef: {{ name: shop }}
  target: {{ {target} }}
  {into}
"
        ));
    }

    /// The request, once it has ended well.
    pub fn await_restored(&self, name: &str) -> Value {
        let ended = self.namespace.await_object(&format!("restorerequest/{name}"), "its end", |request| {
            matches!(request["status"]["phase"].as_str(), Some("Succeeded" | "Failed")).then(|| request.clone())
        });
        if ended["status"]["phase"] != "Succeeded" {
            self.namespace.describe();
            panic!("{:#}", ended["status"]);
        }
        ended
    }
}

fn manifest(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Mysql => include_str!("../cluster/manifests/mysql.yaml"),
        Flavor::Mariadb => include_str!("../cluster/manifests/mariadb.yaml"),
    }
}

/// RFC 3339 of a status.
pub fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// A server in a pod, spoken to by the stock client in that pod.
pub struct Server<'a> {
    namespace: &'a Namespace,
    flavor: Flavor,
    pod: String,
    container: &'static str,
    password: String,
}

impl Server<'_> {
    /// A client that reads statements from its input.
    pub fn client(&self) -> Command {
        let client = match self.flavor {
            Flavor::Mysql => "mysql",
            Flavor::Mariadb => "mariadb",
        };
        let password = format!("MYSQL_PWD={}", self.password);
        let socket = "--socket=/var/run/mysqld/mysqld.sock";
        let options = [socket, "--user=root", "--batch", "--unbuffered", "--skip-column-names"];
        let exec = ["exec", "--stdin", &self.pod, "--container", self.container, "--", "env", &password, client];
        self.namespace.kubectl(&[&exec[..], &options[..]].concat())
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let output = run(self.client(), Some(sql));
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|e| panic!("{}: {sql}: {e}", self.pod))
    }

    /// The server's clock.
    pub fn now(&self) -> Timestamp {
        let text = self.sql("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')");
        text.parse().unwrap()
    }
}

/// The statements of docs/permissions.md.
fn grants(flavor: Flavor) -> Vec<String> {
    let page = include_str!("../../docs/permissions.md");
    let block = page.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    let (mysql, mariadb) = block.split_once("-- MariaDB").unwrap();
    let ours = match flavor {
        Flavor::Mysql => mysql,
        Flavor::Mariadb => mariadb,
    };
    let lines = ours.lines().skip_while(|line| !line.starts_with("CREATE")).collect::<Vec<_>>().join(" ");
    lines.replace('…', LOGIN).split_inclusive(';').map(str::to_owned).filter(|s| s.len() > 3).collect()
}
