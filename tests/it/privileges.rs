//! Accounts with exactly the privileges the README grants, and with less.

use tidemark::archive::manifest::Content;
use tidemark::backup::logical;
use tidemark::model::{Flavor, Progress};
use tidemark::mysql::endpoint::Endpoint;
use tidemark::mysql::flavor::{ServerVersion, Verb, grants};
use tokio_util::sync::CancellationToken;

use crate::fidelity::{accounts, back_up_as, dump, endpoint, folder, restore_as, same_lines, small};
use crate::full::moment_as;
use crate::support::{Server, ServerOptions};

/// An account that holds what these statements grant.
pub fn account(server: &Server, name: &str, grants: &[String]) -> Endpoint {
    server.sql(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY 'pw of the test'; {};", grants.join("; ")));
    Endpoint { user: name.into(), password: "pw of the test".into(), ..endpoint(server) }
}

fn granted(server: &Server, verbs: &[Verb], name: &str) -> Vec<String> {
    let version = ServerVersion::parse(&server.sql("SELECT VERSION()")).unwrap();
    verbs.iter().flat_map(|verb| grants(version, *verb, &format!("'{name}'@'%'"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_of_the_readme_back_up_and_restore_everything_of_mysql() {
    everything(Flavor::Mysql, include_str!("fidelity/mysql.sql")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_of_the_readme_back_up_and_restore_everything_of_mariadb() {
    everything(Flavor::Mariadb, include_str!("fidelity/mariadb.sql")).await;
}

async fn everything(flavor: Flavor, schema: &str) {
    let (source, target) = (ServerOptions::of(flavor).start(), ServerOptions::of(flavor).start());
    source.sql(schema);
    source.sql("CREATE USER proxied@localhost; \
        INSERT INTO mysql.proxies_priv (Host, User, Proxied_host, Proxied_user, With_grant, Grantor) VALUES ('localhost', 'proxied', '%', 'plain', 0, ''); \
        FLUSH PRIVILEGES");
    let reader = account(&source, "reading", &granted(&source, &[Verb::LogicalBackup, Verb::Stream], "reading"));
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let manifest = back_up_as(&reader, &store).await;
    let Content::Logical(content) = &manifest.content;
    // The one thing these grants do not show on MySQL is said, with the grant that would.
    let said = content
        .warnings
        .iter()
        .filter(|w| w.contains("`app`.`smileys`") && w.contains("GRANT CREATE TEMPORARY TABLES"));
    assert_eq!(said.count(), if flavor == Flavor::Mysql { 3 } else { 0 }, "{:#?}", content.warnings);
    let manifest = match flavor {
        Flavor::Mysql => {
            source.sql("GRANT CREATE TEMPORARY TABLES ON *.* TO reading");
            back_up_as(&reader, &store).await
        }
        Flavor::Mariadb => manifest,
    };
    let Content::Logical(content) = &manifest.content;
    let of_members = |w: &String| w.contains("`app`.`smileys`") && !w.contains("the DEFAULT of column");
    assert!(!content.warnings.iter().any(of_members), "{:#?}", content.warnings);

    let writer = account(&target, "writing", &granted(&target, &[Verb::Restore], "writing"));
    let loaded = restore_as(&store, &manifest, writer).await;
    same_lines("the stock dump", &dump(&source), &dump(&target));
    let others = |server: &Server| {
        accounts(server)
            .lines()
            .filter(|line| !["`writing`", "'writing'", "GRANT PROXY"].iter().any(|own| line.contains(own)))
            .fold(String::new(), |all, line| all + line + "\n")
    };
    same_lines("accounts", &others(&source), &others(&target));
    // Only who may act for everybody can pass that on: said, account by account.
    let there = accounts(&target);
    for line in accounts(&source).lines().filter(|line| line.starts_with("GRANT PROXY")) {
        let to = line.rsplit(" TO ").next().unwrap().split(' ').next().unwrap().replace('\'', "`");
        let said = loaded.warnings.iter().any(|w| w.contains("PROXY") && w.replace('\'', "`").contains(&to));
        assert!(there.lines().any(|own| own == line) || said, "{line}\n{:#?}", loaded.warnings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_global_lock_a_full_of_mysql_is_one_moment_or_names_the_grant() {
    let source = ServerOptions::mysql().start();
    let all = "SELECT, PROCESS, REPLICATION CLIENT, SHOW VIEW, EVENT, TRIGGER, SHOW_ROUTINE, XA_RECOVER_ADMIN";
    let locking = account(&source, "locking", &[format!("GRANT {all}, LOCK TABLES ON *.* TO locking")]);
    moment_as(&source, locking).await;
    let weak = account(&source, "weak", &[format!("GRANT {all} ON *.* TO weak")]);
    let dir = tempfile::tempdir().unwrap();
    let store = folder(dir.path());
    let config = small();
    let refused = logical::run(&config, &weak, &store, Progress::default(), CancellationToken::new());
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("GRANT RELOAD ON *.* TO"), "{refused}");
    // What is prepared and so in no copy must be seen.
    let blind = account(
        &source,
        "blind",
        &[format!("GRANT {}, RELOAD ON *.* TO blind", all.replace(", XA_RECOVER_ADMIN", ""))],
    );
    let refused = logical::run(&config, &blind, &store, Progress::default(), CancellationToken::new());
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("GRANT XA_RECOVER_ADMIN ON *.* TO"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_global_lock_a_full_of_mariadb_is_one_moment() {
    let source = ServerOptions::mariadb().start();
    let all = "SELECT, PROCESS, BINLOG MONITOR, SHOW VIEW, EVENT, TRIGGER";
    let weak = account(&source, "weak", &[format!("GRANT {all} ON *.* TO weak")]);
    moment_as(&source, weak).await;
}
