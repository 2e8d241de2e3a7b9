//! What each authentication plugin sends.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};

use super::error::Error;

pub(crate) const CACHING_SHA2: &str = "caching_sha2_password";
pub(crate) const NATIVE: &str = "mysql_native_password";
pub(crate) const ED25519: &str = "client_ed25519";

/// The first answer to `plugin`; `None` for a plugin that is not supported.
pub(crate) fn first_answer(plugin: &str, password: &SecretString, nonce: &[u8]) -> Option<Vec<u8>> {
    let password = password.expose_secret().as_bytes();
    match plugin {
        CACHING_SHA2 => Some(scramble_sha256(nonce, password).map(Vec::from).unwrap_or_default()),
        NATIVE => Some(scramble_native(nonce, password).map(Vec::from).unwrap_or_default()),
        ED25519 => Some(create_response_for_ed25519(password, nonce).to_vec()),
        _ => None,
    }
}

/// The nonce in a request for another plugin. Most are text that a zero byte ends; ed25519's are 32 bytes, of which the last may be zero.
pub(crate) fn switched_nonce<'a>(plugin: &str, data: &'a [u8]) -> &'a [u8] {
    match plugin {
        ED25519 => data.get(..32).unwrap_or(data),
        _ => data.strip_suffix(&[0]).unwrap_or(data),
    }
}

/// The password under the server's RSA key, for caching_sha2_password's full exchange without TLS.
pub(crate) fn encrypted_password(password: &SecretString, nonce: &[u8], key_pem: &[u8]) -> Result<Vec<u8>, Error> {
    const BAD_KEY: Error = Error::Malformed { what: "the server's RSA key cannot be used" };
    let mut masked = password_with_nul(password);
    for (byte, mask) in masked.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= mask;
    }
    let der = SubjectPublicKeyInfoDer::from_pem_slice(key_pem).map_err(|_| BAD_KEY)?;
    let key = PublicEncryptingKey::from_der(&der).and_then(|key| Ok(OaepPublicEncryptingKey::new(key)?));
    let key = key.map_err(|_| BAD_KEY)?;
    let mut out = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(&OAEP_SHA1_MGF1SHA1, &masked, &mut out, None).map_err(|_| BAD_KEY)?;
    Ok(encrypted.to_vec())
}

pub(crate) fn password_with_nul(password: &SecretString) -> Vec<u8> {
    let mut bytes = password.expose_secret().as_bytes().to_vec();
    bytes.push(0);
    bytes
}
