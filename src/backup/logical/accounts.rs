//! Users, roles and what they may do.

use super::error::LogicalError;
use super::session::{Row, Session, bytes, number, text};
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
    let sql = "SELECT User, Host, ssl_cipher, x509_issuer, x509_subject FROM mysql.user WHERE User NOT IN ('mysql.sys','mysql.session','mysql.infoschema') ORDER BY User, Host";
    let second = second_passwords(session).await?;
    let mut out = Accounts::default();
    for row in session.query(sql).await? {
        let (user, host) = (text(&row, 0), text(&row, 1));
        let name = quote::account_of(Flavor::Mysql, &user, &host);
        let create = requoted(one(session, &format!("SHOW CREATE USER {name}")).await?, &row);
        let (create, default_roles) = split_default_roles(create);
        let mut grants = all(session, &format!("SHOW GRANTS FOR {name}")).await?;
        if let Some((_, _, statements)) = second.iter().find(|(u, h, _)| (u, h) == (&user, &host)) {
            grants.extend(statements.iter().cloned());
        }
        if let Some(roles) = default_roles {
            grants.push(SqlText::from([format!("ALTER USER {name} DEFAULT ROLE ").as_bytes(), &roles].concat()));
        }
        out.known.push(Account { user, host, role: false, create: create.into(), grants });
    }
    Ok(out)
}

/// By user and host the statements that give an account of MySQL its second password (`RETAIN CURRENT PASSWORD`): it must have been the first.
async fn second_passwords(session: &mut Session) -> Result<Vec<(String, String, Vec<SqlText>)>, LogicalError> {
    let sql = "SELECT User, Host, plugin, HEX(authentication_string), HEX(JSON_UNQUOTE(JSON_EXTRACT(User_attributes, _utf8mb4'$.additional_password'))), \
               password_expired FROM mysql.user WHERE JSON_EXTRACT(User_attributes, _utf8mb4'$.additional_password') IS NOT NULL";
    let rows = match session.query(sql).await {
        // Before 8.0.14 there are none.
        Err(LogicalError::Sql { source, .. }) if source.server_error().is_some_and(|e| e.code == 1054) => Vec::new(),
        rows => rows?,
    };
    let statements = |row: Row| {
        let (user, host) = (text(&row, 0), text(&row, 1));
        let name = quote::account_of(Flavor::Mysql, &user, &host);
        let plugin = quote::plain_text(&text(&row, 2));
        let identified = |hash: usize, retain: &str| {
            let hash = text(&row, hash);
            SqlText::from(format!("ALTER USER {name} IDENTIFIED WITH {plugin} AS 0x{hash}{retain}"))
        };
        let mut statements = vec![identified(4, ""), identified(3, " RETAIN CURRENT PASSWORD")];
        if text(&row, 5) == "Y" {
            statements.push(format!("ALTER USER {name} PASSWORD EXPIRE").into());
        }
        (user, host, statements)
    };
    Ok(rows.into_iter().map(statements).collect())
}

async fn mariadb(session: &mut Session) -> Result<Accounts, LogicalError> {
    let sql = "SELECT User, Host, ssl_cipher, x509_issuer, x509_subject, is_role FROM mysql.user WHERE User <> 'mariadb.sys' AND User <> 'PUBLIC' ORDER BY is_role, User, Host";
    let mut out = Accounts::default();
    for row in session.query(sql).await? {
        let (user, host, role) = (text(&row, 0), text(&row, 1), text(&row, 5) == "Y");
        let name = quote::account(&user, if role { "" } else { &host });
        let create: SqlText = if role {
            format!("CREATE ROLE {name}").into()
        } else {
            match one(session, &format!("SHOW CREATE USER {name}")).await {
                Err(e) if is_ignored(session, &e).await? => {
                    out.ignored.push(name);
                    continue;
                }
                shown => requoted(shown?, &row).into(),
            }
        };
        let mut grants = all(session, &format!("SHOW GRANTS FOR {name}")).await?;
        for grant in &mut grants {
            *grant = requoted(grant.as_bytes().to_vec(), &row).into();
        }
        // A grant tells the password, too, and setting that again would make it a fresh one.
        if create.as_bytes().ends_with(b" PASSWORD EXPIRE") {
            grants.push(format!("ALTER USER {name} PASSWORD EXPIRE").into());
        }
        // Printed with quotes that do not hold a name with a quote in it.
        let requoted = proxies(session, &user, &host).await?;
        for grant in grants.iter_mut().filter(|grant| grant.as_bytes().starts_with(b"GRANT PROXY ")) {
            if let Some(same) =
                requoted.iter().find(|same| quote::bare(same.as_bytes()) == quote::bare(grant.as_bytes()))
            {
                *grant = same.clone();
            }
        }
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

/// For whom an account of MariaDB may act, as `SHOW GRANTS` says it, with names quoted as elsewhere.
async fn proxies(session: &mut Session, user: &str, host: &str) -> Result<Vec<SqlText>, LogicalError> {
    let sql = format!(
        "SELECT Proxied_user, Proxied_host, With_grant FROM mysql.proxies_priv WHERE User = {} AND Host = {} ORDER BY 1, 2",
        quote::text(user),
        quote::text(host)
    );
    let name = |name: String| if name.is_empty() { "''".to_owned() } else { quote::identifier(&name) };
    let host_of = |host: String| if host.is_empty() { "%".to_owned() } else { host };
    let grant = |row: &Row| {
        let option = if number(row, 2) == 1 { " WITH GRANT OPTION" } else { "" };
        let (proxied_user, proxied_host) = (name(text(row, 0)), name(host_of(text(row, 1))));
        format!(
            "GRANT PROXY ON {proxied_user}@{proxied_host} TO {}@{}{option}",
            name(user.to_owned()),
            name(host.to_owned())
        )
        .into()
    };
    Ok(session.query(&sql).await?.iter().map(grant).collect())
}

async fn one(session: &mut Session, sql: &str) -> Result<Vec<u8>, LogicalError> {
    let row = session.row(sql, "SHOW CREATE USER").await?;
    bytes(&row, 0).map(|b| b.to_vec()).ok_or(LogicalError::Answer { doing: "SHOW CREATE USER" })
}

async fn all(session: &mut Session, sql: &str) -> Result<Vec<SqlText>, LogicalError> {
    Ok(session.query(sql).await?.iter().filter_map(|row| bytes(row, 0)).map(|b| SqlText::from(b.to_vec())).collect())
}

/// A `CREATE USER` whose REQUIRE clause is quoted: servers print a cipher, an issuer or a subject as it is. `row` has them as columns 2 to 4.
fn requoted(mut create: Vec<u8>, row: &Row) -> Vec<u8> {
    for (column, word) in [(2, "CIPHER"), (3, "ISSUER"), (4, "SUBJECT")] {
        let value = text(row, column);
        let (printed, meant) = (format!(" {word} '{value}'"), format!(" {word} {}", quote::plain_text(&value)));
        if printed != meant
            && let Some(at) = memchr::memmem::rfind(&create, printed.as_bytes())
        {
            create.splice(at..at + printed.len(), meant.bytes());
        }
    }
    create
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
