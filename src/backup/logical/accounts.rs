//! Users, roles and what they may do.

use super::error::LogicalError;
use super::session::{Session, bytes, text};
use crate::archive::logical::{Account, SqlText};
use crate::model::Flavor;
use crate::mysql::quote;

/// What reading everything takes; without one of them the server hides things instead of refusing.
const NEEDED: [&str; 4] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"];

/// Fails unless the account sees everything there is.
pub(super) async fn check_privileges(session: &mut Session) -> Result<(), LogicalError> {
    let account = session.value("SELECT CURRENT_USER()").await?;
    let mut grants = grant_lines(session, "SHOW GRANTS").await?;
    let role = session.value("SELECT CURRENT_ROLE()").await?;
    if session.flavor == Flavor::Mysql && !role.is_empty() && role != "NONE" {
        grants.extend(grant_lines(session, &format!("SHOW GRANTS FOR CURRENT_USER() USING {role}")).await?);
    }
    let global: Vec<&str> =
        grants.iter().filter_map(|line| Some(line.strip_prefix("GRANT ")?.split_once(" ON *.* TO ")?.0)).collect();
    let has = |privilege: &str| {
        global.iter().any(|list| list.starts_with("ALL PRIVILEGES") || list.split(", ").any(|p| p == privilege))
    };
    let missing: Vec<_> = NEEDED.into_iter().filter(|privilege| !has(privilege)).collect();
    if !missing.is_empty() {
        let (user, host) = account.rsplit_once('@').unwrap_or((account.as_str(), "%"));
        return Err(LogicalError::Privilege { missing: missing.join(", "), account: quote::account(user, host) });
    }
    if let Some(revoke) = grants.iter().find(|line| line.starts_with("REVOKE ")) {
        let reason =
            format!("the account's privileges are revoked in part ({revoke}); use one without partial revokes");
        return Err(LogicalError::Unsupported { what: "everything".to_owned(), reason });
    }
    Ok(())
}

async fn grant_lines(session: &mut Session, sql: &str) -> Result<Vec<String>, LogicalError> {
    Ok(session.query(sql).await?.iter().map(|row| text(row, 0)).collect())
}

/// Every account but the server's own.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) known: Vec<Account>,
    /// In the tables, but not in force: they have a host's name and the server resolves none. MariaDB shows nothing of them.
    pub(super) ignored: Vec<String>,
}

pub(super) async fn read(session: &mut Session) -> Result<Accounts, LogicalError> {
    match session.flavor {
        Flavor::Mysql => mysql(session).await,
        Flavor::Mariadb => mariadb(session).await,
    }
}

/// Whether a statement failed because the server, which resolves no names, does not know an account of its own tables.
async fn is_ignored(session: &mut Session, failed: &LogicalError) -> Result<bool, LogicalError> {
    let LogicalError::Sql { source, .. } = failed else { return Ok(false) };
    // No matching row in the user table.
    let unknown = source.server_error().is_some_and(|e| e.code == 1133);
    Ok(unknown && session.value("SELECT @@GLOBAL.skip_name_resolve").await? == "1")
}

async fn mysql(session: &mut Session) -> Result<Accounts, LogicalError> {
    let sql = "SELECT User, Host FROM mysql.user WHERE User NOT IN ('mysql.sys','mysql.session','mysql.infoschema') ORDER BY User, Host";
    let mut out = Accounts::default();
    for row in session.query(sql).await? {
        let (user, host) = (text(&row, 0), text(&row, 1));
        let name = quote::account(&user, &host);
        let create = one(session, &format!("SHOW CREATE USER {name}")).await?;
        let (create, default_roles) = split_default_roles(create);
        let mut grants = all(session, &format!("SHOW GRANTS FOR {name}")).await?;
        if let Some(roles) = default_roles {
            grants.push(SqlText::from([format!("ALTER USER {name} DEFAULT ROLE ").as_bytes(), &roles].concat()));
        }
        out.known.push(Account { user, host, role: false, create: create.into(), grants });
    }
    Ok(out)
}

async fn mariadb(session: &mut Session) -> Result<Accounts, LogicalError> {
    let sql = "SELECT User, Host, is_role FROM mysql.user WHERE User <> 'mariadb.sys' AND User <> 'PUBLIC' ORDER BY is_role, User, Host";
    let mut out = Accounts::default();
    for row in session.query(sql).await? {
        let (user, host, role) = (text(&row, 0), text(&row, 1), text(&row, 2) == "Y");
        let name = quote::account(&user, if role { "" } else { &host });
        let create = if role {
            format!("CREATE ROLE {name}").into()
        } else {
            match one(session, &format!("SHOW CREATE USER {name}")).await {
                Err(e) if is_ignored(session, &e).await? => {
                    out.ignored.push(name);
                    continue;
                }
                shown => shown?.into(),
            }
        };
        let grants = all(session, &format!("SHOW GRANTS FOR {name}")).await?;
        out.known.push(Account { user, host: if role { String::new() } else { host }, role, create, grants });
    }
    // Everybody's role (10.11): there from the start, and only granted to.
    match session.query("SHOW GRANTS FOR PUBLIC").await {
        Ok(rows) => {
            let grants: Vec<_> =
                rows.iter().filter_map(|row| bytes(row, 0)).map(|b| SqlText::from(b.to_vec())).collect();
            if !grants.is_empty() {
                out.known.push(Account {
                    user: "PUBLIC".into(),
                    host: String::new(),
                    role: true,
                    create: String::new().into(),
                    grants,
                });
            }
        }
        Err(LogicalError::Sql { source, .. }) if source.server_error().is_some() => {}
        Err(e) => return Err(e),
    }
    Ok(out)
}

async fn one(session: &mut Session, sql: &str) -> Result<Vec<u8>, LogicalError> {
    let row = session.row(sql, "SHOW CREATE USER").await?;
    bytes(&row, 0).map(|b| b.to_vec()).ok_or(LogicalError::Answer { doing: "SHOW CREATE USER" })
}

async fn all(session: &mut Session, sql: &str) -> Result<Vec<SqlText>, LogicalError> {
    Ok(session.query(sql).await?.iter().filter_map(|row| bytes(row, 0)).map(|b| SqlText::from(b.to_vec())).collect())
}

/// Roles must exist and be granted before they can be default: takes ` DEFAULT ROLE …` out of a `CREATE USER`.
fn split_default_roles(create: Vec<u8>) -> (Vec<u8>, Option<Vec<u8>>) {
    const CLAUSE: &[u8] = b" DEFAULT ROLE ";
    let Some(start) = find_unquoted(&create, 0, CLAUSE) else { return (create, None) };
    let from = start + CLAUSE.len();
    let end = find_unquoted(&create, from, b" REQUIRE ").unwrap_or(create.len());
    let roles = create.get(from..end).unwrap_or_default().to_vec();
    let rest = [create.get(..start).unwrap_or_default(), create.get(end..).unwrap_or_default()].concat();
    (rest, Some(roles))
}

/// Where `needle` stands outside quotes at or after `from`.
fn find_unquoted(sql: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut i = from;
    while let Some(&byte) = sql.get(i) {
        match quote {
            None if sql.get(i..)?.starts_with(needle) => return Some(i),
            None if matches!(byte, b'\'' | b'"' | b'`') => quote = Some(byte),
            Some(b'\'' | b'"') if byte == b'\\' => i += 1,
            Some(q) if byte == q => quote = None,
            _ => {}
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_roles_leave_the_create_statement_whatever_names_say() {
        let create = b"CREATE USER `a DEFAULT ROLE b`@`%` IDENTIFIED WITH 'x' AS 'it\\'s' DEFAULT ROLE `r REQUIRE `@`%`,`s`@`%` REQUIRE NONE";
        let (rest, roles) = split_default_roles(create.to_vec());
        assert_eq!(rest, b"CREATE USER `a DEFAULT ROLE b`@`%` IDENTIFIED WITH 'x' AS 'it\\'s' REQUIRE NONE");
        assert_eq!(roles.unwrap(), b"`r REQUIRE `@`%`,`s`@`%`");
        assert_eq!(split_default_roles(b"CREATE USER `a`@`%`".to_vec()).1, None);
    }
}
