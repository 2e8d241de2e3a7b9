//! Everything spoken with a MySQL or MariaDB server.

pub mod event;
