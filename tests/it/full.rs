//! Full backups under load, under DDL, cut off and damaged.
