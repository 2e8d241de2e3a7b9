//! One look at everything but rows.

use std::collections::BTreeMap;

use super::accounts::{self, Accounts};
use super::copy::definition;
use super::definitions::{self, Definitions};
use super::error::LogicalError;
use super::session::Session;
use crate::archive::logical::TableKind;

/// A table by schema and name.
pub(super) type TableName = (String, String);

/// What there was when somebody looked. Two equal looks with the snapshot between them belong to the snapshot, as does one during which no DDL
/// could run.
pub(super) struct Look {
    pub(super) definitions: Definitions,
    pub(super) accounts: Accounts,
    /// Each table's definition, hashed.
    pub(super) hashes: BTreeMap<TableName, String>,
    /// InnoDB's ids by table.
    pub(super) ids: BTreeMap<String, u64>,
}

impl Look {
    pub(super) async fn read(session: &mut Session) -> Result<Self, LogicalError> {
        let definitions = definitions::read(session).await?;
        let accounts = accounts::read(session).await?;
        let mut hashes = BTreeMap::new();
        for ((schema, name), head) in &definitions.tables {
            let (_, hash) = definition(session, schema, name, head.kind).await?;
            hashes.insert((schema.clone(), name.clone()), hash);
        }
        let ids = definitions::table_ids(session).await?;
        Ok(Self { definitions, accounts, hashes, ids })
    }

    /// Fails unless everything is as it was; tables' definitions are compared again when their rows are read.
    pub(super) async fn check_unchanged(&self, session: &mut Session) -> Result<(), LogicalError> {
        let changed = |what: &str| Err(LogicalError::Changed { what: what.to_owned() });
        let after = definitions::read(session).await?;
        if after.tables != self.definitions.tables || definitions::table_ids(session).await? != self.ids {
            return changed("a table");
        }
        if after != self.definitions {
            return changed("a schema, view, routine, trigger or event");
        }
        if accounts::read(session).await? != self.accounts {
            return changed("an account");
        }
        Ok(())
    }

    /// Fails unless the tables that were copied under the lock are the same in `later`.
    pub(super) fn check_locked(&self, later: &Self) -> Result<(), LogicalError> {
        fn locked(look: &Look) -> Vec<(&TableName, Option<&String>)> {
            let tables = look.definitions.tables.iter();
            tables
                .filter(|(_, head)| head.kind == TableKind::NonTransactional)
                .map(|(name, _)| (name, look.hashes.get(name)))
                .collect()
        }
        if locked(self) == locked(later) {
            return Ok(());
        }
        Err(LogicalError::Changed { what: "a table of a non-transactional engine".to_owned() })
    }
}

/// Fails if a table now has the id another one had: it was renamed, whether before or after it was read, nobody knows.
pub(super) async fn check_names(ids: &BTreeMap<String, u64>, session: &mut Session) -> Result<(), LogicalError> {
    let later = definitions::table_ids(session).await?;
    let mut by_id: BTreeMap<u64, &String> = ids.iter().map(|(name, id)| (*id, name)).collect();
    for (name, id) in &later {
        if ids.contains_key(name) && by_id.remove(id).is_some_and(|old| old != name) {
            return Err(LogicalError::Changed { what: format!("the name of {name}") });
        }
    }
    Ok(())
}
