//! Certificates for TLS tests, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate authority of its own.
pub struct Authority {
    dir: tempfile::TempDir,
}

/// A certificate and its private key, PEM files that live as long as their [`Authority`].
#[derive(Clone, Debug)]
pub struct Certificate {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let dir = tempfile::tempdir().unwrap();
        openssl(
            dir.path(),
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tidemark-test-ca -keyout ca.key -out ca.pem",
        );
        Authority { dir }
    }

    /// The authority's certificate (PEM).
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A server certificate for `name`, written as openssl does: `IP:127.0.0.1` or `DNS:db.example`.
    pub fn issue(&self, name: &str) -> Certificate {
        let file = name.replace([':', '.', '*', '/'], "_");
        let path = |extension: &str| self.dir.path().join(format!("{file}.{extension}"));
        std::fs::write(path("ext"), format!("subjectAltName={name}\n")).unwrap();
        openssl(
            self.dir.path(),
            &format!("req -newkey rsa:2048 -nodes -subj /CN=tidemark-test-server -keyout {file}.key -out {file}.csr"),
        );
        openssl(
            self.dir.path(),
            &format!(
                "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile {file}.ext -out {file}.pem"
            ),
        );
        Certificate { ca: self.ca(), certificate: path("pem"), key: path("key") }
    }
}

fn openssl(dir: &Path, args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(dir).output();
    let output = output.expect("openssl runs (run `tests/tools/install packages`)");
    assert!(output.status.success(), "openssl {args}\n{}", String::from_utf8_lossy(&output.stderr));
}
