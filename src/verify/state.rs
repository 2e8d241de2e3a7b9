//! What outlives a verify: how far a deep one has come, and where the logs ended. It is kept in the archive's own store, where whoever goes on
//! finds it (a pod has no disk of its own), but is no part of the archive: without it the next one begins anew. Who may only read keeps none.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::gaps::Tail;
use super::{Depth, VerifyError};
use crate::archive::sealed::{seal, unseal};
use crate::archive::store::{Condition, Store};
use crate::archive::{format_of, keys};

/// What was read longer ago is read again.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The content of the state object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Archive format version.
    pub format: u32,
    /// Where the servers' logs ended when they were last looked at.
    pub tails: Vec<Tail>,
    /// A deep verify that has not ended.
    pub deep: Option<DeepState>,
    /// The last of each depth that came to its end.
    pub ended: Vec<Ended>,
}

/// A verify that came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How much was looked at.
    pub depth: Depth,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// How much was wrong.
    pub findings: u64,
    /// What that means for restores, in words.
    pub affected: String,
}

/// How far a deep verify has come: everything up to a place in the order of folders, and of keys in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeepState {
    /// When it began.
    pub started_at: Timestamp,
    /// The folder it is in.
    pub dir: String,
    /// The last object of that folder that was read; empty before the first.
    pub key: String,
    /// Objects read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Encrypted ones of them that were not decoded.
    #[serde(default)]
    pub undecoded: u64,
    /// What seems wrong so far; it is looked at again before it is told.
    pub suspects: Vec<Suspect>,
}

/// Something that seems wrong with an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspect {
    /// What.
    pub finding: Finding,
    /// Hex BLAKE3 of what the object holds, where that may be another object's.
    pub blake3: Option<String>,
}

impl DeepState {
    /// One that begins.
    pub fn new(started_at: Timestamp) -> Self {
        Self {
            started_at,
            dir: String::new(),
            key: String::new(),
            objects: 0,
            bytes: 0,
            undecoded: 0,
            suspects: Vec::new(),
        }
    }

    /// Whether everything in a folder was read.
    pub fn is_past(&self, dir: &str) -> bool {
        dir < self.dir.as_str()
    }

    /// Whether an object of a folder that is not past was read.
    pub fn has(&self, dir: &str, key: &str) -> bool {
        dir == self.dir && key <= self.key.as_str()
    }
}

impl State {
    /// Reads it. One that is not there or cannot be read is a new one.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Self, VerifyError> {
        let mut state = match store.get(keys::VERIFY_STATE).await {
            Ok(json) => unseal(keys::VERIFY_STATE, &json).unwrap_or_else(|error| {
                tracing::warn!(%error, "what the last verify left cannot be read: beginning anew");
                Self::new()
            }),
            Err(e) if e.is_not_found() => Self::new(),
            Err(e) if e.is_transient() => return Err(e.into()),
            Err(error) => {
                tracing::warn!(%error, "what the last verify left cannot be read: beginning anew");
                Self::new()
            }
        };
        let age = |deep: &DeepState| now.duration_since(deep.started_at);
        // Of a clock that was wrong nothing is believed.
        state.deep = state.deep.filter(|deep| (SignedDuration::ZERO..GOOD_FOR).contains(&age(deep)));
        Ok(state)
    }

    /// Writes it; false where it cannot be kept. That is no failure: who may only read goes on without.
    pub async fn save(&self, store: &Store) -> bool {
        let sealed = match seal(keys::VERIFY_STATE, self) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::warn!(%error, "cannot keep how far this verify has come");
                return false;
            }
        };
        match store.put(keys::VERIFY_STATE, sealed, Condition::Overwrite).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "cannot keep how far this verify has come: if it is stopped, the next one begins anew");
                false
            }
        }
    }

    fn new() -> Self {
        Self { format: format_of(false), tails: Vec::new(), deep: None, ended: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::StoreConfig;

    #[tokio::test]
    async fn it_comes_back_unless_it_is_old_or_not_what_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Fs { root: dir.path().to_owned() }).unwrap();
        let at = |hour: i64| Timestamp::from_second(hour * 3600).unwrap();
        assert_eq!(State::load(&store, at(0)).await.unwrap(), State::new());
        let deep = DeepState { dir: "b/".into(), key: "b/5".into(), ..DeepState::new(at(10)) };
        assert!(deep.is_past("a/") && !deep.is_past("b/") && deep.has("b/", "b/5") && !deep.has("b/", "b/6"));
        let kept = State { deep: Some(deep), ..State::new() };
        assert!(kept.save(&store).await);
        assert_eq!(State::load(&store, at(11)).await.unwrap(), kept);
        assert_eq!(State::load(&store, at(10 + 7 * 24)).await.unwrap().deep, None);
        assert_eq!(State::load(&store, at(9)).await.unwrap().deep, None);
        let _ = store.put(keys::VERIFY_STATE, "{\"format\":1}".into(), Condition::Overwrite).await.unwrap();
        assert_eq!(State::load(&store, at(11)).await.unwrap(), State::new());
    }
}
