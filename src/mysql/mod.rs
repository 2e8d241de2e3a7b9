//! Everything spoken with a MySQL or MariaDB server: where it is ([`endpoint`]), bulk and replication traffic over our own
//! protocol code ([`wire`]), the binary log's events ([`event`]), plain SQL ([`sql`]) and what differs by flavor and version
//! ([`flavor`]).

pub mod endpoint;
pub mod event;
pub mod flavor;
pub mod quote;
pub mod sql;
pub mod wire;
