//! Segments that are in packs, shown as the objects that they were ([`crate::archive::packed`]).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::{Object, Store, StoreError};
use crate::archive::keys::{self, Key};
use crate::archive::packed::{Edition, Packed, Place, Places};

/// Segments whose places are remembered, of all files together: some 30 MB.
const REMEMBERED: usize = 500_000;
/// Places where a segment is looked for, one after the other, as it may be moved meanwhile.
const LOOKS: usize = 3;
/// What was read so short a time ago is not read again to see whether it has changed.
const FRESH: Duration = Duration::from_secs(10);

/// What is known of packs.
#[derive(Default)]
pub(super) struct Packs(Mutex<HashMap<Edition, Known>>);

#[derive(Clone)]
struct Known {
    /// Of segments that are to be looked for in a pack first.
    places: Arc<Places>,
    read_at: Instant,
}

impl Packs {
    fn known(&self, of: &Edition) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(of).cloned()
    }

    fn remember(&self, of: Edition, places: Places) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&of);
        if known.values().map(|known| known.places.len()).sum::<usize>() + places.len() > REMEMBERED {
            known.clear();
        }
        known.insert(of, Known { places: Arc::new(places), read_at: Instant::now() });
    }
}

/// Where an object is looked for.
pub(super) struct Look {
    /// Where in a pack; none: under its own name.
    pub(super) place: Option<Place>,
    looks: usize,
}

impl Look {
    /// What to read of which stored object for `range` (none: all) of `key`.
    pub(super) fn at(&self, key: &str, range: Option<Range<u64>>) -> (String, Option<Range<u64>>) {
        let Some(Place { pack, offset, bytes, .. }) = &self.place else { return (key.to_owned(), range) };
        let range = range.unwrap_or(0..*bytes);
        // A segment ends where its place does, whatever follows in the pack.
        let (start, end) = (range.start.min(*bytes), range.end.min(*bytes));
        (pack.clone(), Some(offset + start..offset + end))
    }
}

/// [`Store::read_stream`]: goes on in the other place where the object is moved while it is read.
pub(super) async fn stream(
    store: Store,
    key: String,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
    let mut reading = Reading { look: store.look(&key), at: range.start, end: range.end, pieces: None, store, key };
    let first = reading.next().await?;
    let rest =
        stream::try_unfold(
            reading,
            |mut reading| async move { Ok(reading.next().await?.map(|piece| (piece, reading))) },
        );
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

struct Reading {
    store: Store,
    key: String,
    look: Look,
    pieces: Option<BoxStream<'static, Result<Bytes, StoreError>>>,
    /// Offset of the next byte.
    at: u64,
    end: u64,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let next = match &mut self.pieces {
                Some(pieces) => pieces.try_next().await,
                None => {
                    let (key, range) = self.look.at(&self.key, Some(self.at..self.end));
                    let range = range.unwrap_or(self.at..self.end);
                    match self.store.stream_stored(&key, range).await {
                        Ok(pieces) => {
                            self.pieces = Some(pieces);
                            continue;
                        }
                        Err(e) => Err(e),
                    }
                }
            };
            match next {
                Ok(Some(piece)) => {
                    self.at += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Ok(None) if self.at < self.end => return Err(self.store.ended_early(&self.key, self.end - self.at)),
                Ok(None) => return Ok(None),
                Err(e) if e.is_not_found() => {
                    let Some(next) = self.store.look_on(&self.key, &self.look).await? else { return Err(e) };
                    (self.look, self.pieces) = (next, None);
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl Store {
    /// Where to look first: what is known to be in a pack is looked for there.
    pub(super) fn look(&self, key: &str) -> Look {
        let known = Edition::of_segment(key).and_then(|of| self.packs.known(&of));
        Look { place: known.and_then(|known| known.places.get(key)), looks: 1 }
    }

    /// Where to look next for what was not found; none: it is nowhere.
    pub(super) async fn look_on(&self, key: &str, last: &Look) -> Result<Option<Look>, StoreError> {
        let Some(of) = Edition::of_segment(key).filter(|_| last.looks < LOOKS) else { return Ok(None) };
        let looks = last.looks + 1;
        if last.place.is_some() {
            return Ok(Some(Look { place: None, looks }));
        }
        if last.looks > 1 && self.packs.known(&of).is_some_and(|known| known.read_at.elapsed() < FRESH) {
            return Ok(None);
        }
        let Some(places) = self.places(&of).await? else { return Ok(None) };
        let place = places.get(key);
        self.packs.remember(of, places);
        Ok(place.map(|place| Look { place: Some(place), looks }))
    }

    /// For who has found other bytes than it should: looks for a segment in a pack first from now on, or under its own name. False: it is in no pack.
    pub(in crate::archive) async fn turn(&self, key: &str, to_pack: bool) -> Result<bool, StoreError> {
        let Some(of) = Edition::of_segment(key) else { return Ok(false) };
        let Some(places) = self.places(&of).await?.filter(|places| places.get(key).is_some()) else {
            return Ok(false);
        };
        let mut known = self.packs.known(&of).map(|known| Places::clone(&known.places)).unwrap_or_default();
        if to_pack {
            known.insert(key, &places);
        } else {
            known.remove(key);
        }
        self.packs.remember(of, known);
        Ok(true)
    }

    /// Where segments are, as their `packed.json` says; none without one. A damaged one says nothing.
    async fn places(&self, of: &Edition) -> Result<Option<Places>, StoreError> {
        let json = match self.read_stored(&of.packed_key(), None).await {
            Err(e) if e.is_not_found() => return Ok(None),
            json => json?,
        };
        match Packed::parse(of, &json) {
            Ok(packed) => Ok(Some(packed.places())),
            Err(error) => {
                tracing::error!(store = self.url(), %error, "the segments in this file's packs cannot be found");
                Ok(None)
            }
        }
    }

    /// A binlog file's folder as it would be without packs: segments in packs under their own names, if their pack is there and whole.
    pub(super) async fn without_packs(&self, stored: Vec<Object>) -> Result<Vec<Object>, StoreError> {
        let mut objects = BTreeMap::new();
        let (mut packs, mut packed) = (HashMap::new(), Vec::new());
        for object in stored {
            match keys::parse(&object.key) {
                Some(Key::Pack { .. }) => _ = packs.insert(object.key.clone(), object),
                Some(Key::Packed { file, edition: id }) => packed.push(Edition { file, id }),
                _ => _ = objects.insert(object.key.clone(), object),
            }
        }
        for edition in packed {
            let Some(mut places) = self.places(&edition).await? else { continue };
            for (key, place) in places.clone().iter(&edition) {
                let whole = packs.get(&place.pack).filter(|pack| pack.bytes == place.pack_bytes);
                // What is there under its own name counts, but for a part, or another making, that somebody stored too late.
                let own = objects.get(&key).is_some_and(|own| own.bytes == place.bytes);
                match whole {
                    Some(pack) if !own => {
                        objects.insert(key.clone(), Object { key, bytes: place.bytes, modified: pack.modified });
                    }
                    _ => places.remove(&key),
                }
            }
            self.packs.remember(edition, places);
        }
        Ok(objects.into_values().collect())
    }
}
