//! A full: its objects are decrypted and encrypted again as they are, compressed. Only a description that was in clear is made anew, as what the
//! manifest says of tables in clear moves there.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use super::{RekeyError, Work};
use crate::archive::catalog::load_manifest;
use crate::archive::codec::{Compression, Decoder, Encoder};
use crate::archive::crypt::{self, Encrypter, Locked, OpenError};
use crate::archive::digest::Digest;
use crate::archive::format_of;
use crate::archive::keys::{self, Key};
use crate::archive::logical::Record;
use crate::archive::manifest::{Content, FullManifest, ObjectEntry};
use crate::archive::sealed::seal;
use crate::archive::store::Condition;

/// Objects at a time.
const AT_ONCE: usize = 2;
/// Encrypted bytes are handed to the store in pieces of at least this size.
const WRITE_BYTES: usize = 512 << 10;

impl Work<'_> {
    pub(super) async fn full(&mut self, id: &str) -> Result<(), RekeyError> {
        self.go_on()?;
        let old = load_manifest(self.store, id).await?;
        let new = match self.remake_full(&old).await {
            Ok(new) => new,
            Err(e) => {
                self.discard(&keys::full_dir(id)).await;
                return Err(e);
            }
        };
        let key = keys::manifest(id);
        let named = new.objects.iter().map(|object| (object.key.clone(), object.bytes)).collect();
        self.publish(&key, &keys::full_dir(id), seal(&key, &new)?, named).await?;
        fail::fail_point!("rekey::after_manifest");
        self.done.fulls += 1;
        self.done.objects += new.objects.len() as u64;
        self.done.bytes += new.objects.iter().map(|object| object.bytes).sum::<u64>();
        let replaced = old.objects.into_iter().map(|object| object.key);
        match &self.shared {
            Some(shared) => {
                let replaced = replaced.filter(|key| !shared.contains(key)).collect();
                self.clear(replaced).await
            }
            None => {
                self.done.left += replaced.len() as u64;
                Ok(())
            }
        }
    }

    /// The full's manifest in this run's edition, whose objects are stored.
    async fn remake_full(&self, old: &FullManifest) -> Result<FullManifest, RekeyError> {
        let mut new = FullManifest {
            format: format_of(true),
            recipients: self.options.recipients.names(),
            edition: Some(self.edition.clone()),
            ..old.clone()
        };
        let Content::Logical(content) = &mut new.content;
        let warnings = std::mem::take(&mut content.warnings);
        let described = (!warnings.is_empty()).then_some(content.description);
        if described.is_some_and(|number| number >= old.objects.len()) {
            let problem = "it names no description".to_owned();
            return Err(RekeyError::Damaged { key: keys::manifest(&old.id), problem });
        }
        new.objects = stream::iter(old.objects.iter().enumerate())
            .map(|(number, entry)| {
                let warnings = described.filter(|description| *description == number).map(|_| warnings.as_slice());
                async move { self.object(old, entry, warnings).await }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        fail::fail_point!("rekey::before_manifest");
        if load_manifest(self.store, &old.id).await? != *old {
            return Err(RekeyError::Changed { key: keys::manifest(&old.id) });
        }
        Ok(new)
    }

    /// One object, which is read back, as the old one is to go. With `warnings`: it is a description, whose server's they are from now on.
    async fn object(
        &self,
        old: &FullManifest,
        entry: &ObjectEntry,
        warnings: Option<&[String]>,
    ) -> Result<ObjectEntry, RekeyError> {
        let key = self.new_key(old, entry)?;
        let mut writer = self.store.writer(&key, Condition::IfAbsent).await?;
        let (mut made, mut plain) = (Made::default(), Digest::new());
        let mut raw_bytes = entry.raw_bytes;
        let mut pieces = self.open(&old.recipients, entry).await?;
        let unmade = |e: std::io::Error| RekeyError::Damaged { key: entry.key.clone(), problem: e.to_string() };
        let mut encrypter = Encrypter::new(&self.options.recipients, Vec::new()).map_err(unmade)?;
        let mut described = Vec::new();
        while let Some(piece) = pieces.try_next().await.map_err(|e| opening(&entry.key, e))? {
            self.go_on()?;
            if warnings.is_some() {
                described.extend_from_slice(&piece);
                continue;
            }
            plain.update(&piece);
            encrypter.write(&piece).map_err(unmade)?;
            if encrypter.pending_bytes() >= WRITE_BYTES {
                writer.write(made.note(encrypter.take())).await?;
            }
        }
        if let Some(warnings) = warnings {
            let lines = with_warnings(&described, warnings).map_err(unmade)?;
            raw_bytes = lines.len() as u64;
            let compressed = compress(self.options.compression, &lines).map_err(unmade)?;
            plain.update(&compressed);
            encrypter.write(&compressed).map_err(unmade)?;
        }
        writer.write(made.note(encrypter.finish().map_err(unmade)?)).await?;
        // After a retry it is our own that is there already.
        let _ = writer.finish().await?;
        fail::fail_point!("rekey::after_object_of_full");
        self.pace.take(usize::try_from(entry.bytes).unwrap_or(usize::MAX)).await;
        let new = ObjectEntry { key, bytes: made.bytes, raw_bytes, blake3: made.digest.hex() };
        self.read_back_as(&new, &plain.hex()).await?;
        self.progress.add(entry.bytes, 1);
        Ok(new)
    }

    fn new_key(&self, old: &FullManifest, entry: &ObjectEntry) -> Result<String, RekeyError> {
        match keys::parse(&entry.key) {
            Some(Key::FullObject { full, name, .. }) if full == old.id => {
                Ok(keys::full_object(&full, Some(&self.edition), &name, true))
            }
            _ => {
                let problem = format!("the manifest of full {} names it, and it is none of that full's", old.id);
                Err(RekeyError::Damaged { key: entry.key.clone(), problem })
            }
        }
    }

    /// The compressed bytes of an object, checked on the way.
    async fn open(
        &self,
        recipients: &[String],
        entry: &ObjectEntry,
    ) -> Result<BoxStream<'static, Result<Bytes, OpenError>>, RekeyError> {
        if self.store.stat(&entry.key).await?.is_some_and(|bytes| bytes != entry.bytes) {
            let problem = format!("it does not have {} bytes", entry.bytes);
            return Err(RekeyError::Damaged { key: entry.key.clone(), problem });
        }
        let stored = self.store.read_stream(&entry.key, 0..entry.bytes).await?;
        if keys::is_encrypted(&entry.key) {
            let locked = Locked {
                key: &entry.key,
                recipients,
                age_bytes: entry.bytes,
                age_blake3: None,
                blake3: Some(&entry.blake3),
            };
            let opened = crypt::open(self.store.identities(), locked, stored).await;
            return opened.map_err(|e| opening(&entry.key, e));
        }
        let checked = (stored, Digest::new(), Some(entry.blake3.clone()));
        let checked = stream::try_unfold(checked, |(mut stored, mut digest, mut expected)| async move {
            if let Some(piece) = stored.try_next().await? {
                digest.update(&piece);
                return Ok(Some((piece, (stored, digest, expected))));
            }
            match expected.take().filter(|expected| *expected != digest.hex()) {
                Some(expected) => Err(OpenError::Damaged {
                    problem: format!("its checksum is {}, it was stored with {expected}", digest.hex()),
                }),
                None => Ok(None),
            }
        });
        Ok(checked.boxed())
    }

    /// Decrypts what was written, and compares it with what was to be.
    async fn read_back_as(&self, new: &ObjectEntry, plain: &str) -> Result<(), RekeyError> {
        let torn = |problem: String| RekeyError::Torn { key: new.key.clone(), problem };
        if self.store.stat(&new.key).await? != Some(new.bytes) {
            return Err(torn("its size is another one".to_owned()));
        }
        let read = async {
            let (mut pieces, mut digest) = (self.open(&self.options.recipients.names(), new).await?, Digest::new());
            while let Some(piece) = pieces.try_next().await.map_err(|e| opening(&new.key, e))? {
                self.go_on()?;
                digest.update(&piece);
            }
            Ok(digest.hex())
        };
        match read.await {
            Ok(digest) if digest == plain => Ok(()),
            Ok(_) => Err(torn("what is in it is something else".to_owned())),
            Err(RekeyError::Damaged { problem, .. }) => Err(torn(problem)),
            Err(e) => Err(e),
        }
    }
}

/// What was made of an object so far.
#[derive(Default)]
struct Made {
    digest: Digest,
    bytes: u64,
}

impl Made {
    fn note(&mut self, piece: Vec<u8>) -> Bytes {
        self.digest.update(&piece);
        self.bytes += piece.len() as u64;
        piece.into()
    }
}

fn opening(key: &str, error: OpenError) -> RekeyError {
    match error {
        OpenError::Store { source } => source.into(),
        OpenError::Locked { source } => source.into(),
        OpenError::Damaged { problem } => RekeyError::Damaged { key: key.to_owned(), problem },
    }
}

/// A description's lines, the server's with these warnings.
fn with_warnings(compressed: &[u8], warnings: &[String]) -> std::io::Result<Vec<u8>> {
    let (mut decoder, mut input, mut lines) = (Decoder::new()?, compressed, Vec::new());
    loop {
        let piece = decoder.decode(&mut input)?;
        if piece.is_empty() && input.is_empty() {
            break;
        }
        lines.extend_from_slice(&piece);
    }
    let (mut out, mut taken) = (Vec::with_capacity(lines.len()), false);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice(line)? {
            Record::Server(mut server) => {
                taken = true;
                server.warnings = warnings.to_vec();
                serde_json::to_writer(&mut out, &Record::Server(server))?;
                out.push(b'\n');
            }
            _ => out.extend_from_slice(line),
        }
    }
    if taken { Ok(out) } else { Err(std::io::Error::other("it does not speak of the server")) }
}

fn compress(compression: Compression, raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(compression, &crypt::Recipients::default())?;
    encoder.write(raw)?;
    encoder.finish()
}
