//! The first packets of a connection: the server's greeting and the client's answer.

use super::error::Error;
use super::input::{Input, put_lenenc_bytes, put_lenenc_int};

pub(crate) mod capability {
    pub(crate) const LONG_PASSWORD: u32 = 1;
    pub(crate) const LONG_FLAG: u32 = 1 << 2;
    pub(crate) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(crate) const LOCAL_FILES: u32 = 1 << 7;
    pub(crate) const PROTOCOL_41: u32 = 1 << 9;
    pub(crate) const SSL: u32 = 1 << 11;
    pub(crate) const TRANSACTIONS: u32 = 1 << 13;
    pub(crate) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(crate) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(crate) const CONNECT_ATTRS: u32 = 1 << 20;
    pub(crate) const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
}

const UTF8MB4_GENERAL_CI: u8 = 45;
const MAX_PACKET_BYTES: u32 = 1 << 30;
const NONCE_BYTES: usize = 20;

/// The server's greeting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) server_version: String,
    pub(crate) connection_id: u32,
    pub(crate) capabilities: u32,
    pub(crate) nonce: Vec<u8>,
    pub(crate) plugin: String,
}

impl Greeting {
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, Error> {
        let mut input = Input::new(packet);
        if input.u8()? != 10 {
            return Err(Error::Malformed { what: "the server does not greet with protocol version 10" });
        }
        let server_version = String::from_utf8_lossy(input.nul_terminated()?).into_owned();
        let connection_id = input.u32()?;
        let mut nonce = input.bytes(8)?.to_vec();
        input.u8()?;
        let mut capabilities = u32::from(input.u16()?);
        if input.is_empty() {
            return Err(Error::Malformed { what: "the server is older than MySQL 4.1" });
        }
        input.u8()?;
        input.u16()?;
        capabilities |= u32::from(input.u16()?) << 16;
        let nonce_bytes = usize::from(input.u8()?);
        input.bytes(10)?;
        let second = input.bytes(nonce_bytes.saturating_sub(8).max(13))?;
        nonce.extend_from_slice(second.strip_suffix(&[0]).unwrap_or(second));
        let plugin = if capabilities & capability::PLUGIN_AUTH == 0 {
            "mysql_native_password".to_owned()
        } else {
            let name = input.rest();
            String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned()
        };
        Ok(Self { server_version, connection_id, capabilities, nonce, plugin })
    }

    /// Writes the greeting; the nonce must be 20 bytes without a NUL.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![10];
        out.extend_from_slice(self.server_version.as_bytes());
        out.push(0);
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        let (first, second) = self.nonce.split_at(self.nonce.len().min(8));
        out.extend_from_slice(first);
        out.push(0);
        let [a, b, c, d] = self.capabilities.to_le_bytes();
        out.extend_from_slice(&[a, b, UTF8MB4_GENERAL_CI, 2, 0, c, d, NONCE_BYTES as u8 + 1]);
        out.extend_from_slice(&[0; 10]);
        out.extend_from_slice(second);
        out.push(0);
        out.extend_from_slice(self.plugin.as_bytes());
        out.push(0);
        out
    }
}

/// What we ask of a server, before its own capabilities are taken into account.
pub(crate) fn client_capabilities(tls: bool) -> u32 {
    use capability::*;
    let common = LONG_PASSWORD
        | LONG_FLAG
        | LOCAL_FILES
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | PLUGIN_AUTH
        | CONNECT_ATTRS
        | PLUGIN_AUTH_LENENC;
    if tls { common | SSL } else { common }
}

/// The short answer that asks for TLS; also the head of the full one.
pub(crate) fn ssl_request(capabilities: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&capabilities.to_le_bytes());
    out.extend_from_slice(&MAX_PACKET_BYTES.to_le_bytes());
    out.push(UTF8MB4_GENERAL_CI);
    out.extend_from_slice(&[0; 23]);
    out
}

/// The full answer: who logs in, and with what.
pub(crate) fn login(capabilities: u32, user: &str, auth: &[u8], plugin: &str) -> Vec<u8> {
    let mut out = ssl_request(capabilities);
    out.extend_from_slice(user.as_bytes());
    out.push(0);
    if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
        put_lenenc_bytes(&mut out, auth);
    } else {
        let auth = auth.get(..auth.len().min(250)).unwrap_or_default();
        put_lenenc_bytes(&mut out, auth);
    }
    if capabilities & capability::PLUGIN_AUTH != 0 {
        out.extend_from_slice(plugin.as_bytes());
        out.push(0);
    }
    if capabilities & capability::CONNECT_ATTRS != 0 {
        let mut attributes = Vec::new();
        for (key, value) in [("program_name", "tidemark"), ("_client_version", env!("CARGO_PKG_VERSION"))] {
            put_lenenc_bytes(&mut attributes, key.as_bytes());
            put_lenenc_bytes(&mut attributes, value.as_bytes());
        }
        put_lenenc_int(&mut out, attributes.len() as u64);
        out.extend_from_slice(&attributes);
    }
    out
}

/// A client's answer to our greeting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) capabilities: u32,
    pub(crate) user: String,
    pub(crate) auth: Vec<u8>,
    pub(crate) plugin: String,
}

impl Login {
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, Error> {
        let mut input = Input::new(packet);
        let capabilities = input.u32()?;
        if capabilities & capability::PROTOCOL_41 == 0 {
            return Err(Error::Malformed { what: "the client is older than MySQL 4.1" });
        }
        input.bytes(28)?;
        let user = String::from_utf8_lossy(input.nul_terminated()?).into_owned();
        let auth = if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
            input.lenenc_bytes()?
        } else if capabilities & capability::SECURE_CONNECTION != 0 {
            let n = input.u8()?;
            input.bytes(n.into())?
        } else {
            input.nul_terminated()?
        };
        let auth = auth.to_vec();
        if capabilities & capability::CONNECT_WITH_DB != 0 {
            input.nul_terminated()?;
        }
        let plugin = if capabilities & capability::PLUGIN_AUTH != 0 && !input.is_empty() {
            let end = memchr::memchr(0, input.rest()).unwrap_or(input.rest().len());
            String::from_utf8_lossy(input.bytes(end)?).into_owned()
        } else {
            String::new()
        };
        Ok(Self { capabilities, user, auth, plugin })
    }
}
