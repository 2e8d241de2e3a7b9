//! Full backups, one folder a method: [`logical`] reads definitions and rows over SQL.

pub mod logical;
