//! The classic client/server protocol, both sides, for traffic where speed, exact bytes or memory matter: reading tables
//! ([`RowStream`]), loading them ([`Connection::load_data`]), the binary log as a replica reads it ([`DumpStream`]) and the
//! source's side of the same ([`server`]). Plain SQL goes through [`super::sql`].

mod auth;
mod connection;
mod dump;
mod error;
mod handshake;
mod input;
mod packet;
mod rows;
pub mod server;
mod tls;
mod transport;

pub(crate) use connection::summary;
pub use connection::{Connection, Done};
pub use dump::{Acks, DumpItem, DumpRequest, DumpStream, Piece};
pub(crate) use error::is_transient_code;
pub use error::{Error, ServerError};
pub use rows::{Column, Fields, Row, RowStream};
