//! Users and roles, then what they may do.

use super::error::BaseError;
use super::session::Session;
use crate::archive::logical::{Account, ServerRecord};
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
        let name = quote::account(&own.user, &own.host);
        warnings
            .push(format!("account {name} was used for the restore and keeps the target's password and privileges"));
    }
    if server.partial_revokes && session.flavor == Flavor::Mysql {
        session.exec("SET GLOBAL partial_revokes = ON").await?;
    }
    let mut todo: Vec<_> = accounts.iter().filter(|account| !is_own(account)).collect();
    let others = todo.clone();
    // A role's first holder may be a role that comes later.
    while !todo.is_empty() {
        let before = todo.len();
        let mut left = Vec::new();
        let mut problem = None;
        for account in todo {
            match create(session, account).await {
                Ok(()) => {}
                Err(e) if account.role => {
                    problem.get_or_insert(e);
                    left.push(account);
                }
                Err(e) => return Err(e),
            }
        }
        match problem {
            Some(e) if left.len() == before => return Err(e),
            _ => todo = left,
        }
    }
    for account in others {
        let name = quote::account(&account.user, &account.host);
        for grant in &account.grants {
            match session.define(grant.as_bytes(), &format!("granting to {name}")).await {
                // A grant may outlive its table or routine.
                Err(e) if matches!(e.code(), Some(1146 | 1305 | 1054)) => {
                    warnings.push(format!("a grant to {name} names what does not exist and was not restored: {e}"));
                }
                other => drop(other?),
            }
        }
    }
    session.exec("FLUSH PRIVILEGES").await?;
    Ok(warnings)
}

async fn create(session: &mut Session, account: &Account) -> Result<(), BaseError> {
    let name = quote::account(&account.user, &account.host);
    if account.create.as_bytes().is_empty() {
        return Ok(());
    }
    // The server's own root, or made by a load that was cut off.
    let drop_it = if account.role { "DROP ROLE IF EXISTS" } else { "DROP USER IF EXISTS" };
    session.exec(&format!("{drop_it} {name}")).await?;
    session.define(account.create.as_bytes(), &format!("creating account {name}")).await.map(drop)
}
