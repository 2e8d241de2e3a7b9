//! Users and roles, then what they may do.

use super::error::BaseError;
use super::session::Session;
use crate::archive::logical::{Account, ServerRecord, SqlText};
use crate::model::Flavor;
use crate::mysql::quote;

/// Makes every account but the one this connection uses, which stays as it is. Returns what could not be restored, in words.
pub(super) async fn restore(
    session: &mut Session,
    server: &ServerRecord,
    accounts: &[Account],
) -> Result<Vec<String>, BaseError> {
    let mut warnings = Vec::new();
    let current = session.value("SELECT CURRENT_USER()").await?;
    let (own_user, own_host) = current.rsplit_once('@').unwrap_or((&current, ""));
    let is_own = |account: &Account| account.user == own_user && account.host == own_host;
    if let Some(own) = accounts.iter().find(|account| is_own(account)) {
        let name = quote::account_of(session.flavor, &own.user, &own.host);
        warnings
            .push(format!("account {name} was used for the restore and keeps the target's password and privileges"));
    }
    if server.partial_revokes && session.flavor == Flavor::Mysql {
        session.exec("SET GLOBAL partial_revokes = ON").await?;
    }
    let others: Vec<_> = accounts.iter().filter(|account| !is_own(account)).collect();
    for account in &others {
        create(session, account).await?;
    }
    for account in &others {
        let name = quote::account_of(session.flavor, &account.user, &account.host);
        for grant in &account.grants {
            let is_proxy = grant.as_bytes().starts_with(b"GRANT PROXY ");
            // The server's own root may have it, and would have it twice.
            if is_proxy && has_grant(session, &name, grant).await? {
                continue;
            }
            match session.define(grant.as_bytes(), &format!("granting to {name}")).await {
                // A grant may outlive its table or routine.
                Err(e) if matches!(e.code(), Some(1146 | 1305 | 1054)) => {
                    warnings.push(format!("a grant to {name} names what does not exist and was not restored: {e}"));
                }
                // Only who may act for everybody can pass that on.
                Err(e) if e.code() == Some(1698) && is_proxy => {
                    warnings.push(format!("a PROXY grant to {name} was not restored: {e}"));
                }
                other => drop(other?),
            }
        }
    }
    // Who makes a role on MariaDB becomes its administrator; that was needed above, and is undone unless the source says the same.
    let own_grants = accounts.iter().find(|account| is_own(account)).map_or(&[][..], |own| own.grants.as_slice());
    for role in others.iter().filter(|account| account.role && !account.create.as_bytes().is_empty()) {
        let name = quote::identifier(&role.user);
        let granted = format!("GRANT {name} TO ");
        if !own_grants.iter().any(|grant| grant.as_bytes().starts_with(granted.as_bytes())) {
            session.exec(&format!("REVOKE {name} FROM {}", quote::account(own_user, own_host))).await?;
        }
    }
    session.exec("FLUSH PRIVILEGES").await?;
    Ok(warnings)
}

async fn has_grant(session: &mut Session, name: &str, grant: &SqlText) -> Result<bool, BaseError> {
    let grants = session.query(&format!("SHOW GRANTS FOR {name}")).await?;
    let wanted = quote::bare(grant.as_bytes());
    Ok(grants.iter().any(|row| row.first().and_then(Option::as_ref).is_some_and(|own| quote::bare(own) == wanted)))
}

async fn create(session: &mut Session, account: &Account) -> Result<(), BaseError> {
    let name = quote::account_of(session.flavor, &account.user, &account.host);
    if account.create.as_bytes().is_empty() {
        return Ok(());
    }
    let what = format!("creating account {name}");
    let create = account.create.as_bytes();
    if account.role {
        session.exec(&format!("DROP ROLE IF EXISTS {name}")).await?;
        return session.define(create, &what).await.map(drop);
    }
    match session.define(create, &what).await {
        // The server's own root, or made by a load that was cut off. Dropped, it would lose PROXY rights nobody could give back.
        Err(e) if e.code() == Some(1396) => {
            let alter = [b"ALTER", create.strip_prefix(b"CREATE").unwrap_or(create)].concat();
            session.define(&alter, &what).await?;
            session.exec(&format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {name}")).await.map(drop)
        }
        other => other.map(drop),
    }
}
