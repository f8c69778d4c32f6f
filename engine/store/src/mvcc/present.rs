//! The present: the newest version of every key that exists, in key order.
//!
//! A B-tree of two levels. The upper one is a map from separators to chunks; a chunk has the keys from
//! its separator up to the next one, sorted. Compared with a map from key to version this saves the map's
//! own copy of every key: about 20 bytes per key are spent here, where a `BTreeMap<Key, Arc<KeyValue>>`
//! takes 40 to 60. Counting a range costs one addition per chunk, and chunk lengths are where order
//! statistics would go if even that should ever be too slow.
//!
//! Finding a key is a matter of cache misses: a look at a version costs two, for the version and for its
//! key's bytes. A chunk therefore keeps the *heads* of its keys side by side: eight bytes of each, from
//! where they begin to differ ("poor man's normalized keys": Graefe and Larson 2001, "B-tree indexes and
//! CPU caches"). Where that is, the separators tell: keys between two separators share whatever these
//! share. So most searches look at a single version, the one they find.
//!
//! Invariants: the keys of a chunk are not less than its separator and less than the next one; the
//! first separator is empty and therefore not above any key; no chunk but the first is empty; a chunk's
//! heads begin after what its separator and the next have in common.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::ops::Bound::{Excluded, Included, Unbounded};
use core::ptr;

use serde::{Deserialize, Serialize};

use crate::key::{Key, KeyRange, RangeEnd};
use crate::key_value::KeyValue;

/// The newest version of every key that exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Present {
    chunks: BTreeMap<Key, Chunk>,
    len: usize,
}

/// Sorted versions of neighbouring keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Chunk {
    /// How many bytes all keys have in common; the heads come after them.
    shared: usize,
    /// By position; ascending, though not strictly.
    heads: Vec<u64>,
    versions: Vec<Arc<KeyValue>>,
}

impl Present {
    pub(crate) fn new() -> Present {
        Present { chunks: BTreeMap::from([(Key::default(), Chunk::default())]), len: 0 }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The newest version of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        let (_, chunk) = self.chunk_of(key);
        chunk.position(key).ok().map(|i| &chunk.versions[i])
    }

    /// Puts what `make` makes of the present version in its place, and returns both, new and old.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&KeyValue>) -> Arc<KeyValue>,
    ) -> (Arc<KeyValue>, Option<Arc<KeyValue>>) {
        let up_to_key = (Unbounded, Included(key));
        let (separator, chunk) =
            self.chunks.range_mut::<[u8], _>(up_to_key).next_back().expect(FIRST_IS_EMPTY);
        match chunk.position(key) {
            Ok(i) => {
                let new = make(Some(&chunk.versions[i]));
                debug_assert_eq!(&*new.key, key, "a version is put under its own key");
                let old = mem::replace(&mut chunk.versions[i], new.clone());
                (new, Some(old))
            }
            Err(i) => {
                let new = make(None);
                debug_assert_eq!(&*new.key, key, "a version is put under its own key");
                self.len += 1;
                if chunk.versions.len() < CHUNK_MAX {
                    chunk.insert(i, new.clone());
                } else {
                    let lower = separator.clone();
                    let (upper, moved) = chunk.split(i, new.clone());
                    self.chunks.insert(upper.clone(), moved);
                    self.refit(&lower);
                    self.refit(&upper);
                }
                (new, None)
            }
        }
    }

    /// Takes a key out.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Arc<KeyValue>> {
        let up_to_key = (Unbounded, Included(key));
        let (separator, chunk) =
            self.chunks.range_mut::<[u8], _>(up_to_key).next_back().expect(FIRST_IS_EMPTY);
        let i = chunk.position(key).ok()?;
        chunk.heads.remove(i);
        let removed = chunk.versions.remove(i);
        self.len -= 1;
        if chunk.versions.len() < CHUNK_MIN {
            let separator = separator.clone();
            self.merge(&separator);
        }
        Some(removed)
    }

    /// The versions of a range in key order, as slices; some may be empty. Only the first and the last
    /// chunk are looked into.
    pub(crate) fn slices<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = &'a [Arc<KeyValue>]> + 'a {
        // A range that ends before it starts has no chunks, though its bounds would find some.
        range.bounds().into_iter().flat_map(move |_| {
            let first = self.chunk_of(&range.start).0;
            let last = match &range.end {
                RangeEnd::Single => first,
                RangeEnd::Before(end) => self.chunk_of(end).0,
                RangeEnd::Unbounded => self.chunks.last_key_value().expect(FIRST_IS_EMPTY).0,
            };
            let chunks = (Included(first.as_slice()), Included(last.as_slice()));
            self.chunks.range::<[u8], _>(chunks).map(move |(separator, chunk)| {
                let mut slice = chunk.versions.as_slice();
                if ptr::eq(separator, first) {
                    slice = &slice[slice.partition_point(|kv| kv.key < range.start)..];
                }
                if ptr::eq(separator, last) {
                    slice = &slice[..slice.partition_point(|kv| !range.ends_before(&kv.key))];
                }
                slice
            })
        })
    }

    /// The versions of a range in key order.
    pub(crate) fn range<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Arc<KeyValue>> + 'a {
        self.slices(range).flatten()
    }

    /// How many keys a range holds.
    pub(crate) fn count(&self, range: &KeyRange) -> usize {
        self.slices(range).map(<[_]>::len).sum()
    }

    /// Where a key is, or would be.
    fn chunk_of(&self, key: &[u8]) -> (&Key, &Chunk) {
        self.chunks.range::<[u8], _>((Unbounded, Included(key))).next_back().expect(FIRST_IS_EMPTY)
    }

    /// The separator after another.
    fn after(&self, separator: &Key) -> Option<&Key> {
        let after = (Excluded(separator.as_slice()), Unbounded);
        self.chunks.range::<[u8], _>(after).next().map(|(next, _)| next)
    }

    /// Joins a chunk that has become small with the next one, if both fit into one with room to grow; one
    /// that is empty goes in any case, and the one before takes over its keys to come.
    fn merge(&mut self, separator: &Key) {
        let len = self.chunks[separator].versions.len();
        let next = self.after(separator).cloned();
        let fits = |next: &Key| self.chunks[next].versions.len() + len <= CHUNK_MAX / 2;
        if let Some(next) = next.filter(fits) {
            let mut moved = self.chunks.remove(&next).expect("it was found a moment ago");
            let chunk = self.chunks.get_mut(separator).expect("the caller found it");
            chunk.versions.append(&mut moved.versions);
            self.refit(separator);
        } else if len == 0 && !separator.is_empty() {
            self.chunks.remove(separator);
            let before = self.chunk_of(separator).0.clone();
            self.refit(&before);
        }
    }

    /// Makes a chunk's heads anew, because it or the separators around it have changed.
    fn refit(&mut self, separator: &Key) {
        let shared = self.after(separator).map_or(0, |next| common_prefix(separator, next));
        let chunk = self.chunks.get_mut(separator).expect("the caller has made or found it");
        chunk.shared = shared;
        chunk.heads.clear();
        chunk.heads.extend(chunk.versions.iter().map(|kv| head(&kv.key, shared)));
    }
}

impl Chunk {
    /// Where a key that lies between the separators is (`Ok`) or would be (`Err`).
    fn position(&self, key: &[u8]) -> Result<usize, usize> {
        let head = head(key, self.shared);
        let low = self.heads.partition_point(|other| *other < head);
        let equal = self.heads[low..].partition_point(|other| *other == head);
        let found = self.versions[low..low + equal].binary_search_by(|kv| kv.key.as_slice().cmp(key));
        found.map(|i| low + i).map_err(|i| low + i)
    }

    fn insert(&mut self, i: usize, new: Arc<KeyValue>) {
        self.heads.insert(i, head(&new.key, self.shared));
        self.versions.insert(i, new);
    }

    /// Splits a full chunk and puts `new` at position `i` of what it was. Returns the upper half and its
    /// separator; heads are the caller's to refit. Keys that come in ascending order leave full chunks
    /// behind, not half-full ones.
    fn split(&mut self, i: usize, new: Arc<KeyValue>) -> (Key, Chunk) {
        let len = self.versions.len();
        let at = if i == len { len } else { len / 2 };
        let mut versions = self.versions.split_off(at);
        if i < at {
            self.versions.insert(i, new);
        } else {
            versions.insert(i - at, new);
        }
        (versions[0].key.clone(), Chunk { versions, ..Chunk::default() })
    }
}

/// Eight bytes of a key as a number of the same order; nothing counts as zeros.
fn head(key: &[u8], shared: usize) -> u64 {
    let rest = key.get(shared..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A chunk of this many versions is split.
const CHUNK_MAX: usize = 64;

/// A chunk of fewer looks for a neighbour to join.
const CHUNK_MIN: usize = CHUNK_MAX / 4;

const FIRST_IS_EMPTY: &str = "the first separator is empty, so it is not above any key";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::{LeaseId, Revision};
    use alloc::collections::BTreeSet;
    use alloc::format;

    fn version(key: &Key) -> Arc<KeyValue> {
        let (value, lease, revision) = (Key::default(), LeaseId::NONE, Revision(2));
        let (create_revision, mod_revision) = (revision, revision);
        Arc::new(KeyValue { key: key.clone(), value, create_revision, mod_revision, version: 1, lease })
    }

    /// Keys that share long prefixes, end in zeros, or are prefixes of each other come and go; the index
    /// holds what an ordered set holds, and every chunk keeps the invariants.
    #[test]
    fn holds_what_an_ordered_set_holds() {
        let (mut present, mut set) = (Present::new(), BTreeSet::<Key>::new());
        let mut random = 7u64;
        for step in 0..30_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (number, form) = (random >> 33, random >> 60);
            let key = match form {
                0..4 => Key::from(format!("/a/long/shared/prefix/{:05}", number % 3000).as_str()),
                4..8 => Key::from(alloc::vec![0; (number % 40) as usize].as_slice()),
                8..12 => Key::from("x".repeat((number % 300) as usize).as_str()),
                _ => Key::from(number.wrapping_mul(random).to_le_bytes().as_slice()),
            };
            // Fill up first, thin out later.
            if random % 100 < if step < 15_000 { 20 } else { 70 } {
                let victim = set.range(key.clone()..).next().cloned().unwrap_or_default();
                assert_eq!(present.remove(&victim).is_some(), set.remove(&victim));
            } else {
                let (_, old) = present.put(&key, |_| version(&key));
                assert_eq!(old.is_none(), set.insert(key));
            }
            if step % 500 == 0 {
                let everything = KeyRange { start: Key::default(), end: RangeEnd::Unbounded };
                assert!(present.range(&everything).map(|kv| &kv.key).eq(&set), "after {step} steps");
                assert_eq!((present.len(), present.count(&everything)), (set.len(), set.len()));
                check_invariants(&present);
            }
        }
    }

    fn check_invariants(present: &Present) {
        for (separator, chunk) in &present.chunks {
            let next = present.after(separator);
            assert!(separator.is_empty() || !chunk.versions.is_empty(), "no chunk but the first is empty");
            assert_eq!(chunk.shared, next.map_or(0, |next| common_prefix(separator, next)));
            assert_eq!(chunk.heads.len(), chunk.versions.len());
            for (kv, stored) in chunk.versions.iter().zip(&chunk.heads) {
                assert!(kv.key >= *separator && next.is_none_or(|next| kv.key < *next));
                assert_eq!(head(&kv.key, chunk.shared), *stored);
            }
        }
    }
}
