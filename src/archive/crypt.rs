//! Encryption of objects: [age](https://age-encryption.org/v1), X25519. Who writes has public keys only.
//!
//! An object is compressed first and encrypted then, so that `age -d | zstd -d` undoes both. Each object has a file key of its own, wrapped
//! for every recipient; the rest is ChaCha20-Poly1305 in chunks of 64 KiB.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamWriter;
use age::x25519;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{AsyncReadExt, StreamExt, TryStreamExt};
use secrecy::{ExposeSecret, SecretString};
use snafu::Snafu;

use super::digest::Digest;
use super::store::StoreError;

/// Pieces that [`open`] hands out, at most.
const PIECE_BYTES: usize = 128 << 10;
/// An object begins with its header: this is enough for more recipients than a policy can name.
pub const HEADER_BYTES: u64 = 16 << 10;

/// Public keys that objects are encrypted to. None: they stay in clear.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Recipients(Arc<[x25519::Recipient]>);

/// Text that is no public key. It is not quoted: it may be a secret one.
#[derive(Debug, Snafu)]
#[snafu(display(
    "number {number} is not an age public key of the kind X25519: write what age-keygen prints as the public key, age1 and 58 characters"
))]
pub struct InvalidRecipient {
    number: usize,
}

impl Recipients {
    /// Reads public keys as `age-keygen` prints them.
    pub fn parse(keys: &[String]) -> Result<Self, InvalidRecipient> {
        let parsed = keys
            .iter()
            .enumerate()
            .map(|(at, text)| text.parse::<x25519::Recipient>().map_err(|_| InvalidRecipient { number: at + 1 }));
        Ok(Self(parsed.collect::<Result<Vec<_>, _>>()?.into()))
    }

    /// Whether objects stay in clear.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys as text, in one order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Secret keys that open encrypted objects.
#[derive(Clone, Default)]
pub struct Identities(Arc<[(String, x25519::Identity)]>);

/// Text that holds no secret key. It is never quoted.
#[derive(Debug, Snafu)]
pub enum InvalidIdentity {
    /// No line holds one.
    #[snafu(display("it holds no age identity: put the line AGE-SECRET-KEY-1… that age-keygen printed into it"))]
    Empty,
    /// A line is something else.
    #[snafu(display(
        "its line {line} is not an age identity of the kind X25519: write one a line, AGE-SECRET-KEY-1… as age-keygen prints it; lines \
         that begin with # are left out"
    ))]
    Line {
        /// Its number, from 1.
        line: usize,
    },
}

impl Identities {
    /// Reads what `age-keygen` writes: one key a line, comments begin with `#`.
    pub fn parse(text: &SecretString) -> Result<Self, InvalidIdentity> {
        let lines = text.expose_secret().lines().map(str::trim).enumerate();
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(at, line)| {
            let identity: x25519::Identity = line.parse().map_err(|_| InvalidIdentity::Line { line: at + 1 })?;
            Ok((identity.to_public().to_string(), identity))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(InvalidIdentity::Empty) } else { Ok(Self(keys.into())) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails unless one of them opens what is encrypted to these `recipients`; `key` names the object.
    pub fn check(&self, key: &str, recipients: &[String]) -> Result<(), LockedError> {
        if self.0.iter().any(|(public, _)| recipients.contains(public)) {
            return Ok(());
        }
        let (key, recipients) = (key.to_owned(), recipients.join(", "));
        match self.0.is_empty() {
            true => Err(LockedError::NoIdentity { key, recipients }),
            false => {
                let given = self.0.iter().map(|(public, _)| public.as_str()).collect::<Vec<_>>().join(", ");
                Err(LockedError::OtherIdentity { key, recipients, given })
            }
        }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(public, _)| public)).finish()
    }
}

/// An object is encrypted, and nothing at hand opens it.
#[derive(Debug, Snafu)]
pub enum LockedError {
    /// No identity was given.
    #[snafu(display(
        "{key} is encrypted to {recipients}, and no identity was given: name the Secret that holds the identity of one of them, by \
         spec.decryption.identitySecretRef of a RestoreRequest or by --identity-secret"
    ))]
    NoIdentity {
        /// The object.
        key: String,
        /// Public keys of those who can read it.
        recipients: String,
    },
    /// Only others were given.
    #[snafu(display(
        "{key} is encrypted to {recipients}; the identity that was given is of {given}: give that of one of the former (a Secret may hold \
         several, one a line)"
    ))]
    OtherIdentity {
        /// The object.
        key: String,
        /// Public keys of those who can read it.
        recipients: String,
        /// Public keys of the identities at hand.
        given: String,
    },
}

/// Encrypts one object as it is made.
pub struct Encrypter {
    writer: StreamWriter<Made>,
    made: Made,
}

impl Encrypter {
    /// Begins an object, in the empty `buffer`.
    pub fn new(recipients: &Recipients, buffer: Vec<u8>) -> io::Result<Self> {
        let keys = recipients.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let made = Made(Arc::new(Mutex::new(buffer)));
        let encryptor = age::Encryptor::with_recipients(keys).map_err(io::Error::other)?;
        Ok(Self { writer: encryptor.wrap_output(made.clone())?, made })
    }

    /// Adds bytes; the last 64 KiB are held back.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// Encrypted bytes that were not taken.
    pub fn pending_bytes(&self) -> usize {
        self.made.bytes().len()
    }

    /// Takes the encrypted bytes.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.made.bytes())
    }

    /// Ends the object; what was not taken.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        let made = self.writer.finish()?;
        Ok(std::mem::take(&mut *made.bytes()))
    }
}

/// Where age writes to. Nobody else waits for it: it is shared with its own [`Encrypter`] alone.
#[derive(Clone)]
struct Made(Arc<Mutex<Vec<u8>>>);

impl Made {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Made {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is known of an encrypted object before it is read.
#[derive(Clone, Debug)]
pub struct Locked<'a> {
    /// Its key.
    pub key: &'a str,
    /// Public keys of those who can read it, as the archive says.
    pub recipients: &'a [String],
    /// Its first bytes that are an age file; what follows is in clear.
    pub age_bytes: u64,
    /// Hex BLAKE3 of those, where known.
    pub age_blake3: Option<&'a str>,
    /// Hex BLAKE3 of the whole object, where known.
    pub blake3: Option<&'a str>,
}

/// Why an encrypted object cannot be read.
#[derive(Debug, Snafu)]
pub enum OpenError {
    /// The store failed.
    #[snafu(transparent)]
    Store {
        /// Cause.
        source: StoreError,
    },
    /// No identity opens it.
    #[snafu(transparent)]
    Locked {
        /// Cause.
        source: LockedError,
    },
    /// It is not what was stored.
    #[snafu(display("{problem}"))]
    Damaged {
        /// What is wrong.
        problem: String,
    },
}

/// Decrypts an object as its `stored` bytes come. The stream ends without an error only if everything is right and nothing is missing, also of
/// what follows the age file.
pub async fn open(
    identities: &Identities,
    locked: Locked<'_>,
    stored: BoxStream<'static, Result<Bytes, StoreError>>,
) -> Result<BoxStream<'static, Result<Bytes, OpenError>>, OpenError> {
    identities.check(locked.key, locked.recipients)?;
    let stored = Checked::new(&locked, stored);
    let bytes = futures::stream::try_unfold(stored, |mut stored| async move {
        Ok::<_, io::Error>(stored.next().await?.map(|piece| (piece, stored)))
    });
    let decryptor = age::Decryptor::new_async_buffered(bytes.boxed().into_async_read()).await.map_err(undecryptable)?;
    let keys = identities.0.iter().map(|(_, identity)| identity as &dyn age::Identity);
    let reader = decryptor.decrypt_async(keys).map_err(undecryptable)?;
    let pieces = futures::stream::try_unfold(reader, |mut reader| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let mut filled = 0;
        while let Some(room) = piece.get_mut(filled..).filter(|room| !room.is_empty()) {
            match reader.read(room).await.map_err(unreadable)? {
                0 => break,
                read => filled += read,
            }
        }
        piece.truncate(filled);
        Ok((filled > 0).then(|| (Bytes::from(piece), reader)))
    });
    Ok(pieces.boxed())
}

/// Whether `head`, the first bytes of an object ([`HEADER_BYTES`] or all of it), is the header of an age file that one of the identities opens.
pub fn try_header(identities: &Identities, key: &str, recipients: &[String], head: &[u8]) -> Result<(), OpenError> {
    identities.check(key, recipients)?;
    let keys = identities.0.iter().map(|(_, identity)| identity as &dyn age::Identity);
    let decryptor = age::Decryptor::new_buffered(head).map_err(undecryptable)?;
    decryptor.decrypt(keys).map(drop).map_err(undecryptable)
}

/// Checks an encrypted object against its checksums alone, which needs no identity; the BLAKE3 of all of it.
pub(super) async fn verify(
    locked: &Locked<'_>,
    stored: BoxStream<'static, Result<Bytes, StoreError>>,
) -> Result<String, OpenError> {
    let mut stored = Checked::new(locked, stored);
    while stored.next().await.map_err(unreadable)?.is_some() {}
    Ok(stored.digest.hex())
}

/// The age file in an object's stored bytes, checked on the way.
struct Checked {
    stored: BoxStream<'static, Result<Bytes, StoreError>>,
    digest: Digest,
    /// Bytes of the age file that are to come.
    left: u64,
    age_blake3: Option<String>,
    blake3: Option<String>,
}

impl Checked {
    fn new(locked: &Locked<'_>, stored: BoxStream<'static, Result<Bytes, StoreError>>) -> Self {
        let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
        let (age_blake3, blake3) = (owned(locked.age_blake3), owned(locked.blake3));
        Self { stored, digest: Digest::new(), left: locked.age_bytes, age_blake3, blake3 }
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Some(piece) = self.stored.next().await else {
                self.check_end()?;
                return Ok(None);
            };
            let mut piece = piece.map_err(io::Error::other)?;
            let behind = piece.split_off(usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len()));
            self.digest.update(&piece);
            self.left -= piece.len() as u64;
            if self.left == 0
                && let Some(expected) = self.age_blake3.take()
            {
                self.check(&expected)?;
            }
            self.digest.update(&behind);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    fn check_end(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::other(Damage { problem: format!("it ends {} bytes early", self.left) }));
        }
        match self.blake3.take() {
            Some(expected) => self.check(&expected),
            None => Ok(()),
        }
    }

    fn check(&self, expected: &str) -> io::Result<()> {
        let found = self.digest.hex();
        if found == expected {
            return Ok(());
        }
        let problem = format!("its checksum is {found}, it was stored with {expected}");
        Err(io::Error::other(Damage { problem }))
    }
}

/// Damage on its way through age, which knows no other errors than these.
#[derive(Debug, Snafu)]
#[snafu(display("{problem}"))]
struct Damage {
    problem: String,
}

fn undecryptable(error: age::DecryptError) -> OpenError {
    match error {
        age::DecryptError::Io(error) => unreadable(error),
        error => OpenError::Damaged { problem: format!("it cannot be decrypted: {error}") },
    }
}

fn unreadable(error: io::Error) -> OpenError {
    let error = match error.downcast::<StoreError>() {
        Ok(source) => return OpenError::Store { source },
        Err(error) => error,
    };
    match error.downcast::<Damage>() {
        Ok(Damage { problem }) => OpenError::Damaged { problem },
        Err(error) => OpenError::Damaged { problem: format!("it cannot be decrypted: {error}") },
    }
}

#[cfg(test)]
mod tests;
