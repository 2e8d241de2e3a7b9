use std::collections::BTreeSet;

use super::ServerVersion;
use crate::model::Flavor;

/// What an account is used for; each needs its own privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reading the binary log.
    Stream,
    /// A logical full backup.
    LogicalBackup,
    /// A physical full backup over the Clone protocol (MySQL).
    ClonePhysical,
    /// Loading and replaying into a target server.
    Restore,
}

/// The global privileges a verb needs, in the words of that server.
pub fn privileges(version: ServerVersion, verb: Verb) -> &'static [&'static str] {
    match (version.flavor, verb) {
        (Flavor::Mysql, Verb::Stream) => &["REPLICATION SLAVE", "REPLICATION CLIENT"],
        (Flavor::Mariadb, Verb::Stream) => &["REPLICATION SLAVE", "BINLOG MONITOR"],
        (Flavor::Mysql, Verb::LogicalBackup) if version.is(Flavor::Mysql, 8, 0, 20) => &[
            "SELECT",
            "RELOAD",
            "PROCESS",
            "REPLICATION CLIENT",
            "SHOW VIEW",
            "EVENT",
            "TRIGGER",
            "BACKUP_ADMIN",
            "XA_RECOVER_ADMIN",
            "SHOW_ROUTINE",
        ],
        (Flavor::Mysql, Verb::LogicalBackup) => &[
            "SELECT",
            "RELOAD",
            "PROCESS",
            "REPLICATION CLIENT",
            "SHOW VIEW",
            "EVENT",
            "TRIGGER",
            "BACKUP_ADMIN",
            "XA_RECOVER_ADMIN",
        ],
        (Flavor::Mariadb, Verb::LogicalBackup) => {
            &["SELECT", "RELOAD", "PROCESS", "BINLOG MONITOR", "SHOW VIEW", "EVENT", "TRIGGER", "BINLOG ADMIN"]
        }
        (_, Verb::ClonePhysical) => &["BACKUP_ADMIN", "REPLICATION CLIENT"],
        (_, Verb::Restore) => &["ALL PRIVILEGES"],
    }
}

/// The GRANT statements that prepare `account` (as in `'tidemark'@'%'`) for `verb`.
pub fn grants(version: ServerVersion, verb: Verb, account: &str) -> Vec<String> {
    vec![statement(privileges(version, verb), verb, account)]
}

/// The GRANT statement for what `verb` needs and `shown` (the rows of SHOW GRANTS) does not give; none if all is there.
pub fn missing_grants(version: ServerVersion, verb: Verb, account: &str, shown: &[String]) -> Option<String> {
    let held = global_privileges(shown);
    if held.contains("ALL PRIVILEGES") {
        return None;
    }
    // SHOW GRANTS of MySQL spells ALL out.
    let all = held.contains("SUPER") && held.contains("GRANT OPTION") && held.contains("CREATE USER");
    let missing: Vec<&str> = privileges(version, verb)
        .iter()
        .copied()
        .filter(|p| match *p {
            "ALL PRIVILEGES" => !all,
            // The older name of the same.
            "BINLOG MONITOR" => !held.contains("BINLOG MONITOR") && !held.contains("REPLICATION CLIENT"),
            p => !held.contains(p),
        })
        .collect();
    (!missing.is_empty()).then(|| statement(&missing, verb, account))
}

fn statement(privileges: &[&str], verb: Verb, account: &str) -> String {
    let option = if verb == Verb::Restore { " WITH GRANT OPTION" } else { "" };
    format!("GRANT {} ON *.* TO {account}{option}", privileges.join(", "))
}

fn global_privileges(shown: &[String]) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for line in shown {
        let Some((privileges, rest)) = line.strip_prefix("GRANT ").and_then(|l| l.split_once(" ON *.* TO ")) else {
            continue;
        };
        held.extend(privileges.split(',').map(|p| p.trim().to_ascii_uppercase()));
        if rest.contains("WITH GRANT OPTION") {
            held.insert("GRANT OPTION".to_owned());
        }
    }
    held
}
