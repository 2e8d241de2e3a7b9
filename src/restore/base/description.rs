//! The full's description, read back.

use super::error::BaseError;
use super::object;
use crate::archive::logical::{Account, LogicalContent, Program, Record, Schema, ServerRecord, Table};
use crate::archive::manifest::{Content, FullManifest};
use crate::archive::store::Store;

/// Everything a logical full says of itself.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) server: ServerRecord,
    pub(super) schemas: Vec<Schema>,
    pub(super) tables: Vec<Table>,
    pub(super) programs: Vec<Program>,
    pub(super) accounts: Vec<Account>,
}

/// Reads and checks it.
pub(super) async fn read(store: &Store, manifest: &FullManifest) -> Result<Description, BaseError> {
    let Content::Logical(LogicalContent { description, .. }) = &manifest.content;
    let entry = object::entry(manifest, *description)?;
    let text = object::read_whole(store, manifest, entry).await?;
    let damaged = |reason: String| BaseError::Damaged { key: entry.key.clone(), reason };
    let (mut schemas, mut tables, mut programs, mut accounts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut server, mut count, mut ended) = (None, 0, false);
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).map_err(|e| damaged(format!("it is not a description ({e})")))? {
            Record::Server(record) => server = Some(record),
            Record::Schema(schema) => schemas.push(schema),
            Record::Table(table) => tables.push(table),
            Record::Program(program) => programs.push(program),
            Record::Account(account) => accounts.push(account),
            Record::End { records } if records == count => ended = true,
            Record::End { .. } => return Err(damaged("records are missing".to_owned())),
        }
        count += 1;
    }
    match server {
        Some(server) if ended => Ok(Description { server, schemas, tables, programs, accounts }),
        _ => Err(damaged("its end is missing".to_owned())),
    }
}
