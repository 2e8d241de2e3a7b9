//! A real S3 server (versitygw over a folder) on a free loopback port, or the user's own.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rand::Rng;

use super::process::{Process, Signal};
use super::server::free_port;
use super::tls::Certificate;
use super::{tool, wait_for};

/// A running S3 server with credentials and one empty bucket. Dropping it kills it and removes its data.
pub struct S3Server {
    endpoint: String,
    bucket: String,
    access_key: String,
    secret_key: String,
    own: Option<Own>,
}

struct Own {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
    /// Whether it can keep versions.
    versions: bool,
    /// Whether it knows other users than its root.
    users: bool,
    /// What it shows to whoever connects; none: it speaks HTTP.
    certificate: Option<Certificate>,
}

impl S3Server {
    /// Starts a server, or turns to the one that `TIDEMARK_TEST_S3` names, and makes a bucket.
    pub fn start() -> S3Server {
        let bucket = format!("tidemark-{:x}", rand::rng().random::<u64>());
        let server = match std::env::var("TIDEMARK_TEST_S3") {
            Ok(endpoint) => {
                let key = |name: &str| {
                    std::env::var(name).unwrap_or_else(|_| panic!("TIDEMARK_TEST_S3 is set, so set {name}"))
                };
                let (access_key, secret_key) = (key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY"));
                S3Server { endpoint, bucket, access_key, secret_key, own: None }
            }
            Err(_) => {
                let (dir, port) = (tempfile::Builder::new().prefix("tidemark-s3-").tempdir().unwrap(), free_port());
                for folder in ["objects", "versions"] {
                    std::fs::create_dir(dir.path().join(folder)).unwrap();
                }
                let mut server = S3Server {
                    endpoint: format!("http://127.0.0.1:{port}"),
                    bucket,
                    access_key: "tidemark-test".into(),
                    secret_key: "secret-of-the-tests".into(),
                    own: Some(Own { dir, port, process: None, versions: true, users: false, certificate: None }),
                };
                server.launch();
                server
            }
        };
        server.create_bucket(&server.bucket);
        server
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub fn region(&self) -> &str {
        "us-east-1"
    }

    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The folder that holds the bucket's objects as plain files. (A user's own server shows none.)
    pub fn objects(&self) -> PathBuf {
        let own = self.own.as_ref().expect("this test looks at the S3 server's files: run it without TIDEMARK_TEST_S3");
        own.dir.path().join("objects").join(&self.bucket)
    }

    pub fn create_bucket(&self, bucket: &str) {
        let (status, body) = self.request("PUT", &format!("/{bucket}"), &[]);
        assert_eq!(status, 200, "cannot create the bucket {bucket}: {body}");
    }

    /// Starts it again as a server that keeps no versions, whose locks refuse every delete.
    pub fn keep_no_versions(&mut self) {
        self.own().versions = false;
        self.restart();
    }

    /// Starts it again as one that speaks HTTPS alone.
    pub fn encrypt(&mut self, certificate: Certificate) {
        self.endpoint = self.endpoint.replace("http://", "https://");
        self.own().certificate = Some(certificate);
        self.restart();
    }

    /// Makes a user who may do nothing yet.
    pub fn add_user(&mut self, access_key: &str, secret_key: &str) {
        self.own().users = true;
        self.restart();
        let user =
            format!("<Account><Access>{access_key}</Access><Secret>{secret_key}</Secret><Role>user</Role></Account>");
        let (status, body) = self.request("PATCH", "/create-user", &["--data-binary", &user]);
        assert_eq!(status, 201, "{body}");
    }

    /// Lets a user do this in the bucket, and nothing else: actions, and what they are about below the bucket (empty: the bucket itself).
    pub fn allow(&self, access_key: &str, rights: &[(&[&str], &str)]) {
        let statements: Vec<String> = rights
            .iter()
            .map(|(actions, below)| {
                let actions: Vec<String> = actions.iter().map(|action| format!("\"s3:{action}\"")).collect();
                format!(
                    "{{\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": [\"{access_key}\"]}}, \"Action\": [{}], \"Resource\": \"arn:aws:s3:::{}{below}\"}}",
                    actions.join(", "),
                    self.bucket
                )
            })
            .collect();
        let policy = format!("{{\"Version\": \"2012-10-17\", \"Statement\": [{}]}}", statements.join(", "));
        let (status, body) = self.request("PUT", &format!("/{}?policy=", self.bucket), &["--data-binary", &policy]);
        assert!([200, 204].contains(&status), "{status}: {body}");
    }

    /// Makes the server's bucket another one, which keeps versions if the server does, and can lock them.
    pub fn lock(&mut self) {
        self.bucket = format!("{}-locks", self.bucket);
        let (status, body) =
            self.request("PUT", &format!("/{}", self.bucket), &["--header", "x-amz-bucket-object-lock-enabled: true"]);
        assert_eq!(status, 200, "{body}");
        if self.own.as_ref().is_none_or(|own| own.versions) {
            self.keep_versions();
        }
    }

    /// From now on the bucket keeps every version.
    pub fn keep_versions(&self) {
        let enabled = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
        let (status, body) = self.request("PUT", &format!("/{}?versioning=", self.bucket), &["--data-binary", enabled]);
        assert_eq!(status, 200, "{body}");
    }

    /// What the bucket that locks does with every object by itself: `<Mode>COMPLIANCE</Mode><Days>2</Days>`.
    pub fn lock_by_default(&self, rule: &str) {
        let xml = format!(
            "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled</ObjectLockEnabled>\
             <Rule><DefaultRetention>{rule}</DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        let args = ["--header", &checksum_header(&xml), "--data-binary", &xml];
        let (status, body) = self.request("PUT", &format!("/{}?object-lock=", self.bucket), &args);
        assert_eq!(status, 200, "{body}");
    }

    /// Every version in the bucket, and every mark of a delete (`false`): key and id, an object's newest first.
    pub fn versions(&self) -> Vec<(String, String, bool)> {
        let (status, body) = self.request("GET", &format!("/{}?versions=", self.bucket), &[]);
        assert!(status == 200 && body.contains("<IsTruncated>false</IsTruncated>"), "{status}: {body}");
        let field = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {text}"));
            rest.split_once("</").unwrap().0.to_owned()
        };
        let found = |tag: &str| {
            let tag = format!("<{tag}>");
            body.split(&tag).skip(1).map(|part| (field(part, "Key"), field(part, "VersionId"))).collect::<Vec<_>>()
        };
        let versions = found("Version").into_iter().map(|(key, id)| (key, id, true));
        versions.chain(found("DeleteMarker").into_iter().map(|(key, id)| (key, id, false))).collect()
    }

    /// Sends a signed request by curl, with more curl arguments (`-H…`, `--data-binary…`); returns its status and body.
    pub fn request(&self, method: &str, path: &str, args: &[&str]) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--config", "-", "--write-out", "\n%{http_code}"]);
        match method {
            "HEAD" => command.arg("--head"),
            _ => command.args(["--request", method]),
        };
        command.args(["--aws-sigv4", &format!("aws:amz:{}:s3", self.region())]);
        command.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]).args(args);
        command.arg(format!("{}{path}", self.endpoint));
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), format!("user = \"{}:{}\"\n", self.access_key, self.secret_key)).unwrap();
        let output = command.stdin(config.reopen().unwrap()).output().expect("curl runs");
        assert!(output.status.success(), "{method} {path}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// A crash: kill -9. (A user's own server is not ours to kill.)
    pub fn kill9(&mut self) {
        self.own().process.take().expect("the server runs").kill9();
    }

    pub fn restart(&mut self) {
        if let Some(mut process) = self.own().process.take() {
            process.signal(Signal::Terminate);
            process.wait(Duration::from_secs(60));
        }
        self.launch();
    }

    /// Restarts it with another secret key.
    pub fn restart_with_secret(&mut self, secret_key: &str) {
        self.secret_key = secret_key.to_owned();
        self.restart();
    }

    /// Freezes (SIGSTOP) or thaws it: requests hang, as in a stalled network.
    pub fn freeze(&mut self, frozen: bool) {
        let signal = if frozen { Signal::Stop } else { Signal::Continue };
        self.own().process.as_mut().expect("the server runs").signal(signal);
    }

    fn own(&mut self) -> &mut Own {
        self.own.as_mut().expect("this test kills the S3 server: run it without TIDEMARK_TEST_S3")
    }

    fn launch(&mut self) {
        let mut command = Command::new(tool("versitygw", &["versitygw"]));
        command.env("ROOT_ACCESS_KEY", &self.access_key).env("ROOT_SECRET_KEY", &self.secret_key);
        let own = self.own();
        command.args(["--quiet", "--keep-alive", "--port"]).arg(format!("127.0.0.1:{}", own.port)).arg("posix");
        if own.versions {
            command.arg("--versioning-dir").arg(own.dir.path().join("versions"));
        }
        command.arg(own.dir.path().join("objects"));
        if let Some(Certificate { ca: _, certificate, key }) = &own.certificate {
            command.env("VGW_CERT", certificate).env("VGW_KEY", key);
        }
        if own.users {
            std::fs::create_dir_all(own.dir.path().join("users")).unwrap();
            command.env("VGW_IAM_DIR", own.dir.path().join("users")).env("VGW_IAM_CACHE_DISABLE", "true");
        }
        let mut process = Process::spawn_in(command, own.dir.path());
        let port = own.port;
        wait_for("the S3 server", Duration::from_secs(60), || {
            assert!(process.try_wait().is_none(), "the S3 server ended\n{}", process.output());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        own.process = Some(process);
    }
}

/// What requests about locks need: the body's checksum, for curl.
pub fn checksum_header(body: &str) -> String {
    format!("x-amz-checksum-crc32: {}", BASE64_STANDARD.encode(crc32fast::hash(body.as_bytes()).to_be_bytes()))
}
