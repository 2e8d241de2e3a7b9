use std::time::Duration;

use secrecy::SecretString;
use tidemark::model::Flavor;
use tidemark::mysql::endpoint::{Endpoint, Tls, TlsMode};
use tidemark::mysql::flavor::preflight::{Severity, check};
use tidemark::mysql::flavor::{Verb, grants};
use tidemark::mysql::sql::{self, Session};
use tidemark::mysql::wire::{Connection, Error};

use super::{endpoint, root};
use crate::support::{Authority, Server, ServerOptions};

const MODES: [TlsMode; 4] = [TlsMode::Disabled, TlsMode::Required, TlsMode::VerifyCa, TlsMode::VerifyIdentity];

fn with_tls(endpoint: &Endpoint, mode: TlsMode, authority: &Authority) -> Endpoint {
    let ca_pem = Some(std::fs::read_to_string(authority.ca()).unwrap());
    Endpoint { tls: Tls { mode, ca_pem }, ..endpoint.clone() }
}

/// Both clients: our own and the one for SQL.
async fn logs_in(endpoint: &Endpoint, what: &str) {
    let mut connection = Connection::connect(endpoint).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(connection.is_encrypted(), endpoint.tls.mode != TlsMode::Disabled, "{what}");
    assert_eq!(connection.query("SELECT 1").await.unwrap()[0][0].as_deref(), Some(b"1".as_slice()), "{what}");
    connection.close().await;
    let mut session = Session::connect(endpoint).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let cipher = session.named_rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'").await.unwrap();
    assert_eq!(!cipher[0]["Value"].is_empty(), endpoint.tls.mode != TlsMode::Disabled, "{what}");
    session.close().await;
}

async fn refusal(endpoint: &Endpoint) -> Error {
    let error = Connection::connect(endpoint).await.expect_err("a refusal");
    let sql::Error::Connect { source } = Session::connect(endpoint).await.expect_err("a refusal") else {
        panic!("SQL sessions explain refusals as connections do");
    };
    assert_eq!(source.to_string(), error.to_string());
    error
}

#[tokio::test]
async fn every_account_plugin_logs_in_over_every_tls_mode() {
    let authority = Authority::new();
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let server = ServerOptions::of(flavor).tls(&authority.issue("IP:127.0.0.1")).start();
        let accounts: &[(&str, &str)] = match flavor {
            Flavor::Mysql => {
                server.sql(
                    "CREATE USER sha2 IDENTIFIED WITH caching_sha2_password BY 'p\u{e4}ss w\u{f6}rd'; \
                     CREATE USER blank IDENTIFIED WITH caching_sha2_password BY ''",
                );
                &[("sha2", "päss wörd"), ("blank", "")]
            }
            Flavor::Mariadb => {
                server.sql(
                    "INSTALL SONAME 'auth_ed25519'; \
                     CREATE USER native IDENTIFIED VIA mysql_native_password USING PASSWORD('native secret'); \
                     CREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD('ed secret'); \
                     CREATE USER blank IDENTIFIED BY ''",
                );
                &[("native", "native secret"), ("ed", "ed secret"), ("blank", "")]
            }
        };
        for (user, password) in accounts {
            for mode in MODES {
                let endpoint = with_tls(&endpoint(&server, user, password), mode, &authority);
                // The first login finds no cached hash (full exchange), the second one does (fast).
                server.sql("FLUSH PRIVILEGES");
                for turn in ["cold", "warm"] {
                    logs_in(&endpoint, &format!("{flavor} {user} {mode:?} {turn}")).await;
                }
                let wrong = Endpoint { password: SecretString::from("wrong"), ..endpoint.clone() };
                let error = refusal(&wrong).await;
                assert!(matches!(&error, Error::AccessDenied { user: u, .. } if u == user), "{error}");
                assert!(!error.is_transient());
            }
        }
    }
}

#[tokio::test]
async fn an_ed25519_account_logs_in_whatever_challenge_it_gets() {
    let server = ServerOptions::mariadb().start();
    server.sql("INSTALL SONAME 'auth_ed25519'; CREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD('ed secret')");
    // One challenge in 256 ends in a zero byte.
    for turn in 0..1500 {
        let connection = Connection::connect(&endpoint(&server, "ed", "ed secret")).await;
        connection.unwrap_or_else(|e| panic!("login {turn}: {e}")).close().await;
        let session = Session::connect(&endpoint(&server, "ed", "ed secret")).await;
        session.unwrap_or_else(|e| panic!("login {turn}: {e}")).close().await;
    }
}

#[tokio::test]
async fn a_certificate_is_checked_as_far_as_the_mode_says() {
    let authority = Authority::new();
    let server = ServerOptions::mysql().tls(&authority.issue("DNS:elsewhere.example")).start();
    let stranger = Authority::new();

    for mode in [TlsMode::Required, TlsMode::VerifyCa] {
        logs_in(&with_tls(&root(&server), mode, &authority), &format!("{mode:?} does not look at the name")).await;
    }
    let error = refusal(&with_tls(&root(&server), TlsMode::VerifyIdentity, &authority)).await;
    assert!(matches!(error, Error::CertificateName { .. }), "{error}");
    assert!(error.to_string().contains("elsewhere.example"), "{error}");
    // It names the host, whichever of the host's addresses is meant.
    let named = Endpoint { host: "elsewhere.example".to_owned(), at: Some([127, 0, 0, 1].into()), ..root(&server) };
    logs_in(&with_tls(&named, TlsMode::VerifyIdentity, &authority), "the name of the host at its address").await;

    logs_in(&with_tls(&root(&server), TlsMode::Required, &stranger), "Required takes any certificate").await;
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyIdentity] {
        let error = refusal(&with_tls(&root(&server), mode, &stranger)).await;
        assert!(matches!(error, Error::CertificateNotTrusted { .. }), "{mode:?}: {error}");
        // Nor do the public web's roots know it.
        let public = Endpoint { tls: Tls { mode, ca_pem: None }, ..root(&server) };
        assert!(matches!(refusal(&public).await, Error::CertificateNotTrusted { .. }));
        let junk = Endpoint { tls: Tls { mode, ca_pem: Some("junk".to_owned()) }, ..root(&server) };
        assert!(matches!(Connection::connect(&junk).await, Err(Error::BadCa { .. })));
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_unless_tls_is_disabled() {
    let server = ServerOptions::mariadb().start();
    for mode in MODES {
        let endpoint = Endpoint { tls: Tls { mode, ca_pem: None }, ..root(&server) };
        match mode {
            TlsMode::Disabled => logs_in(&endpoint, "Disabled").await,
            _ => assert!(matches!(refusal(&endpoint).await, Error::TlsNotOffered { .. })),
        }
    }
}

#[tokio::test]
async fn mysqls_own_certificate_passes_verify_ca() {
    let server = ServerOptions::mysql().start();
    let ca_pem = Some(std::fs::read_to_string(server.datadir().join("ca.pem")).unwrap());
    let endpoint = Endpoint { tls: Tls { mode: TlsMode::VerifyCa, ca_pem }, ..root(&server) };
    logs_in(&endpoint, "the certificate mysqld made for itself").await;
}

#[tokio::test]
async fn an_unreachable_server_is_a_transient_error_that_names_it() {
    let mut server = ServerOptions::mariadb().start();
    let endpoint = root(&server);
    server.kill9();
    let error = refusal(&endpoint).await;
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains(&endpoint.address()), "{error}");
    // A port that takes connections but never greets.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    let endpoint = Endpoint { port, connect_timeout: Duration::from_millis(300), ..endpoint };
    let error = Connection::connect(&endpoint).await.expect_err("silence");
    assert!(matches!(error, Error::ConnectTimeout { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn preflight_names_what_is_wrong_with_a_source_and_the_statement_that_mends_it() {
    const VERBS: [Verb; 2] = [Verb::Stream, Verb::LogicalBackup];
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let server = Server::start(ServerOptions::of(flavor));
        let mut session = Session::connect(&root(&server)).await.unwrap();
        assert_eq!(check(&session.facts().await.unwrap(), &VERBS), [], "{flavor}: root on a well-kept server");
        assert_eq!(check(&session.facts().await.unwrap(), &[Verb::Restore]), [], "{flavor}: root may restore");

        server.sql(
            "SET GLOBAL binlog_format = MIXED; SET GLOBAL binlog_row_image = MINIMAL; CREATE USER u IDENTIFIED BY 'u'",
        );
        let mut session = Session::connect(&endpoint(&server, "u", "u")).await.unwrap();
        for mended in 0..10 {
            let findings = check(&session.facts().await.unwrap(), &VERBS);
            let Some(finding) = findings.first() else {
                assert!(mended >= 4, "{flavor}: format, image and two lots of privileges were wrong");
                break;
            };
            assert!(mended < 9, "{flavor}: {finding:?} does not go away");
            assert!(findings.iter().all(|f| f.severity <= finding.severity));
            server.sql(finding.mend.split(" (").next().unwrap());
        }
        let done = check(&session.facts().await.unwrap(), &VERBS);
        assert_eq!(done, [], "{flavor}");
        // What the manual tells to run is enough as well.
        server.sql("CREATE USER v IDENTIFIED BY 'v'");
        let mut session = Session::connect(&endpoint(&server, "v", "v")).await.unwrap();
        for verb in VERBS {
            grants(session.info().version, verb, "'v'@'%'").iter().for_each(|grant| drop(server.sql(grant)));
        }
        assert_eq!(check(&session.facts().await.unwrap(), &VERBS), [], "{flavor}");
    }
    let off = ServerOptions::mysql().arg("--skip-log-bin").without_gtids().start();
    let mut session = Session::connect(&root(&off)).await.unwrap();
    let findings = check(&session.facts().await.unwrap(), &VERBS);
    assert!(findings[0].severity == Severity::Refuse && findings[0].mend.contains("--log-bin"), "{findings:?}");
    assert!(findings.iter().any(|f| f.problem.contains("gtid_mode is OFF")), "{findings:?}");
}
