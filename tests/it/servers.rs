//! The servers that the other tests stand on are what those tests take them for.

use std::time::Duration;

use tidemark::model::Flavor;

use crate::support::{Authority, Process, S3Server, Server, ServerOptions, wait_for};

#[test]
fn mysql_is_9_with_gtids_row_binlog_clone_and_semisync() {
    let server =
        ServerOptions::mysql().semisync_source(Duration::from_secs(1)).arg("--plugin-load-add=mysql_clone.so").start();
    assert!(server.sql("SELECT VERSION()").starts_with("9."), "{}", server.sql("SELECT VERSION()"));
    let row =
        server.sql("SELECT @@gtid_mode, @@log_bin, @@binlog_format, @@binlog_row_image, @@sync_binlog, @@local_infile");
    assert_eq!(row, "ON\t1\tROW\tFULL\t1\t0");
    let plugins = server.sql(
        "SELECT plugin_status FROM information_schema.plugins WHERE plugin_name IN ('clone', 'rpl_semi_sync_source')",
    );
    assert_eq!(plugins, "ACTIVE\nACTIVE");
    assert_eq!(server.sql("SELECT @@rpl_semi_sync_source_enabled"), "1");
}

#[test]
fn mariadb_is_10_11_with_row_binlog_and_semisync() {
    let server = ServerOptions::mariadb().semisync_source(Duration::from_secs(1)).start();
    assert!(server.sql("SELECT VERSION()").starts_with("10.11."), "{}", server.sql("SELECT VERSION()"));
    let row = server.sql("SELECT @@log_bin, @@binlog_format, @@binlog_row_image, @@sync_binlog, @@gtid_strict_mode");
    assert_eq!(row, "1\tROW\tFULL\t1\t1");
    assert_eq!(server.sql("SELECT @@rpl_semi_sync_master_enabled"), "1");
}

#[test]
fn committed_data_and_gtids_survive_a_crash_and_a_restart() {
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let mut server = Server::start(ServerOptions::of(flavor));
        assert_eq!(server.gtids(), "", "{flavor} starts without history");
        server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
        let (gtids, port) = (server.gtids(), server.port());
        server.kill9();
        assert!(std::net::TcpStream::connect(server.addr()).is_err(), "{flavor} is dead after kill -9");
        server.restart();
        assert_eq!((server.gtids(), server.port()), (gtids, port));
        server.sql("INSERT INTO d.t VALUES (2)");
        server.stop();
        server.restart();
        assert_eq!(server.sql("SELECT a FROM d.t ORDER BY a"), "1\n2");
        assert!(server.binlogs().len() >= 3, "each start begins a binlog file: {:?}", server.binlogs());
        assert!(server.binlogs().iter().all(|path| path.is_file()));
    }
}

#[test]
fn servers_of_one_template_have_identities_of_their_own() {
    let (a, b) = (ServerOptions::mysql().start(), ServerOptions::mysql().start());
    assert_ne!(a.sql("SELECT @@server_uuid, @@server_id"), b.sql("SELECT @@server_uuid, @@server_id"));
    assert_ne!(a.sql("SELECT @@server_uuid"), b.sql("SELECT @@server_uuid"));
}

#[test]
fn a_server_presents_the_certificate_it_was_given() {
    let authority = Authority::new();
    for flavor in [Flavor::Mysql, Flavor::Mariadb] {
        let server = ServerOptions::of(flavor).tls(&authority.issue("IP:127.0.0.1")).start();
        let verify = match flavor {
            Flavor::Mysql => "--ssl-mode=VERIFY_IDENTITY",
            Flavor::Mariadb => "--ssl-verify-server-cert",
        };
        let connect = |ca: &Authority| {
            let mut client = server.client();
            client.arg(format!("--ssl-ca={}", ca.ca().display())).args([verify, "--execute=SELECT 1"]);
            client.output().unwrap()
        };
        let good = connect(&authority);
        assert!(good.status.success(), "{flavor}: {}", String::from_utf8_lossy(&good.stderr));
        assert!(!connect(&Authority::new()).status.success(), "{flavor}: a strange authority is refused");
    }
}

#[test]
fn s3_puts_an_object_only_once_when_asked_so_and_keeps_it_over_a_crash() {
    let mut s3 = S3Server::start();
    let path = format!("/{}/a/b", s3.bucket());
    let once = ["-H", "If-None-Match: *", "--data-binary", "one"];
    assert_eq!(s3.request("PUT", &path, &once).0, 200);
    assert_eq!(s3.request("PUT", &path, &["-H", "If-None-Match: *", "--data-binary", "two"]).0, 412);
    s3.kill9();
    s3.restart();
    assert_eq!(s3.request("GET", &path, &[]), (200, "one".to_owned()));
    assert_eq!(s3.request("GET", "/no-such-bucket/a", &[]).0, 404);
}

#[test]
fn s3_keeps_versions() {
    let s3 = S3Server::start();
    let (bucket, path) = (format!("/{}", s3.bucket()), format!("/{}/a", s3.bucket()));
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(s3.request("PUT", &format!("{bucket}?versioning="), &["--data-binary", on]).0, 200);
    s3.request("PUT", &path, &["--data-binary", "one"]);
    s3.request("PUT", &path, &["--data-binary", "two"]);
    let (status, list) = s3.request("GET", &format!("{bucket}?versions="), &[]);
    assert_eq!((status, list.matches("<Version>").count()), (200, 2), "{list}");
}

/// The kernel kills our servers when the test process dies, however it dies.
#[test]
fn a_child_dies_with_the_process_that_started_it_but_not_with_the_thread() {
    let child = std::thread::spawn(|| {
        let mut command = std::process::Command::new("sleep");
        command.arg("600");
        Process::spawn(command)
    });
    let mut child = child.join().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(child.try_wait().is_none(), "the thread ended, the child lives");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    assert!(status.contains(&format!("PPid:\t{}\n", std::process::id())), "{status}");
    wait_for("its memory to be counted", Duration::from_secs(5), || (child.peak_rss_bytes() > 0).then_some(()));
    child.kill9();
}
