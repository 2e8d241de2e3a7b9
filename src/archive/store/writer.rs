use bytes::Bytes;
use opendal::ErrorKind;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::error::StoreError;
use super::fs::TempFile;
use super::{Condition, Put, Store, from_io, joined};

/// An object written piece by piece; memory is bounded by a few parts. It appears with [`StoreWriter::finish`], whole, or
/// never: dropped before that, everything sent so far is thrown away.
pub struct StoreWriter {
    store: Store,
    key: String,
    condition: Condition,
    state: Option<State>,
}

enum State {
    Folder(TempFile),
    Remote(Box<opendal::Writer>),
}

impl StoreWriter {
    pub(super) fn folder(store: Store, key: &str, condition: Condition, temp: TempFile) -> Self {
        Self { store, key: key.to_owned(), condition, state: Some(State::Folder(temp)) }
    }

    pub(super) fn remote(store: Store, key: &str, condition: Condition, writer: opendal::Writer) -> Self {
        Self { store, key: key.to_owned(), condition, state: Some(State::Remote(Box::new(writer))) }
    }

    /// Appends bytes. After an error (or a cancelled call) the object is lost: begin again.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        fail::fail_point!("archive::store::write", |_| Err(self.failed(super::injected())));
        // A remote writer stays in `self` while it works, so that a cancelled call still aborts its parts.
        if let Some(State::Remote(writer)) = &mut self.state {
            let written = writer.write(bytes).await;
            return written.map_err(|e| self.failed(e));
        }
        let Some(State::Folder(mut temp)) = self.state.take() else { return Err(self.failed(lost())) };
        let written = spawn_blocking(move || temp.write(&bytes).map(|()| temp)).await;
        self.state = Some(State::Folder(joined(written).map_err(|e| self.failed(e))?));
        Ok(())
    }

    /// Makes the object appear, durable.
    pub async fn finish(mut self) -> Result<Put, StoreError> {
        fail::fail_point!("archive::store::finish", |_| Err(self.failed(super::injected())));
        match self.state.take() {
            Some(State::Folder(temp)) => {
                let (key, condition) = (self.key.clone(), self.condition);
                let published = spawn_blocking(move || temp.publish(&key, condition)).await;
                joined(published).map_err(|e| self.failed(e))
            }
            Some(State::Remote(writer)) => {
                let State::Remote(writer) = self.state.insert(State::Remote(writer)) else {
                    return Err(self.failed(lost()));
                };
                let closed = writer.close().await;
                match closed {
                    Ok(_) => {
                        self.state = None;
                        Ok(Put::Created)
                    }
                    Err(e) if e.kind() == ErrorKind::ConditionNotMatch && self.condition == Condition::IfAbsent => {
                        Ok(Put::AlreadyThere)
                    }
                    Err(e) => Err(self.failed(e)),
                }
            }
            None => Err(self.failed(lost())),
        }
    }

    fn failed(&self, source: opendal::Error) -> StoreError {
        StoreError::Write { key: self.key.clone(), store: self.store.url().to_owned(), source: Box::new(source) }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        if let (Some(State::Remote(mut writer)), Ok(runtime)) = (self.state.take(), Handle::try_current()) {
            let (key, store) = (std::mem::take(&mut self.key), self.store.clone());
            runtime.spawn(async move {
                if let Err(e) = writer.abort().await {
                    tracing::warn!(%key, store = store.url(), error = %e, "parts of an abandoned upload are left in the store");
                }
            });
        }
    }
}

fn lost() -> opendal::Error {
    from_io(std::io::Error::other("the upload failed before"))
}
