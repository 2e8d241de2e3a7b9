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

/// Runs every parser of packets over `bytes`, as a peer might send them; for the fuzz target.
#[doc(hidden)]
pub fn parse_untrusted(bytes: &[u8]) {
    let _ = handshake::Greeting::parse(bytes);
    let _ = handshake::Login::parse(bytes);
    let _ = server::Command::parse(bytes);
    let _ = Column::parse(bytes);
    let _ = connection::parse_ok(bytes);
    let _ = input::parse_err(bytes);
    rows::Row::new(bytes).fields().for_each(drop);
    dump::decode_untrusted(bytes);
}
