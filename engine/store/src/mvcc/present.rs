//! The present: the newest version of every key that exists, in key order.
//!
//! A B-tree of two levels. The upper one is a map from separators to chunks, the lower one a sorted
//! vector of shared versions. Compared with a map from key to version this saves the map's own copy of
//! every key: about 12 bytes per key are spent here, where a `BTreeMap<Key, Arc<KeyValue>>` takes 40 to
//! 60. Counting a range costs one addition per chunk, and chunk lengths are where order statistics
//! would go if even that should ever be too slow.
//!
//! Invariants: the keys of a chunk are not less than its separator and less than the next one; the
//! first separator is empty and therefore not above any key; no chunk but the first is empty.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::ops::Bound::{Excluded, Included, Unbounded};

use crate::key::{Key, KeyRange};
use crate::key_value::KeyValue;

/// Sorted versions of neighbouring keys.
type Chunk = Vec<Arc<KeyValue>>;

/// The newest version of every key that exists.
#[derive(Debug)]
pub(crate) struct Present {
    chunks: BTreeMap<Key, Chunk>,
    len: usize,
}

impl Present {
    pub(crate) fn new() -> Present {
        Present { chunks: BTreeMap::from([(Key::default(), Chunk::new())]), len: 0 }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The newest version of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        let (_, chunk) = self.chunk_of(key);
        position(chunk, key).ok().map(|i| &chunk[i])
    }

    /// Puts what `make` makes of the present version in its place, and returns both, new and old.
    pub(crate) fn put(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&KeyValue>) -> Arc<KeyValue>,
    ) -> (Arc<KeyValue>, Option<Arc<KeyValue>>) {
        let up_to_key = (Unbounded, Included(key));
        let (_, chunk) = self.chunks.range_mut::<[u8], _>(up_to_key).next_back().expect(FIRST_IS_EMPTY);
        match position(chunk, key) {
            Ok(i) => {
                let new = make(Some(&chunk[i]));
                debug_assert_eq!(&*new.key, key, "a version is put under its own key");
                let old = mem::replace(&mut chunk[i], new.clone());
                (new, Some(old))
            }
            Err(i) => {
                let new = make(None);
                debug_assert_eq!(&*new.key, key, "a version is put under its own key");
                self.len += 1;
                if chunk.len() < CHUNK_MAX {
                    chunk.insert(i, new.clone());
                } else {
                    let (separator, upper) = split(chunk, i, new.clone());
                    self.chunks.insert(separator, upper);
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
        let removed = chunk.remove(position(chunk, key).ok()?);
        self.len -= 1;
        if chunk.len() < CHUNK_MIN {
            let separator = separator.clone();
            self.merge(&separator);
        }
        Some(removed)
    }

    /// The versions of a range in key order, as slices; some may be empty.
    pub(crate) fn slices<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = &'a [Arc<KeyValue>]> + 'a {
        let (first, _) = self.chunk_of(&range.start);
        let from_first = (Included(first.as_slice()), Unbounded);
        let mut low_cut = false;
        self.chunks.range::<[u8], _>(from_first).map_while(move |(_, chunk)| {
            let mut slice = chunk.as_slice();
            if !mem::replace(&mut low_cut, true) {
                slice = &slice[slice.partition_point(|kv| kv.key < range.start)..];
            }
            match (slice.first(), slice.last()) {
                (Some(first), _) if range.ends_before(&first.key) => None,
                (_, Some(last)) if range.ends_before(&last.key) => {
                    Some(&slice[..slice.partition_point(|kv| !range.ends_before(&kv.key))])
                }
                _ => Some(slice),
            }
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

    /// Joins a chunk that has become small with the next one, if both fit into one with room to grow.
    fn merge(&mut self, separator: &Key) {
        let after = (Excluded(separator.as_slice()), Unbounded);
        let next = self.chunks.range::<[u8], _>(after).next();
        let len = self.chunks[separator].len();
        if let Some((next, _)) = next.filter(|(_, chunk)| chunk.len() + len <= CHUNK_MAX / 2) {
            let next = next.clone();
            let mut moved = self.chunks.remove(&next).expect("it was found a moment ago");
            self.chunks.get_mut(separator).expect("the caller found it").append(&mut moved);
        } else if len == 0 && !separator.is_empty() {
            self.chunks.remove(separator);
        }
    }
}

/// Splits a full chunk and puts `new` at position `i` of what it was. Returns the upper half and its
/// separator. Keys that come in ascending order leave full chunks behind, not half-full ones.
fn split(chunk: &mut Chunk, i: usize, new: Arc<KeyValue>) -> (Key, Chunk) {
    let at = if i == chunk.len() { i } else { chunk.len() / 2 };
    let mut upper = chunk.split_off(at);
    if i < at {
        chunk.insert(i, new);
    } else {
        upper.insert(i - at, new);
    }
    (upper[0].key.clone(), upper)
}

/// Where in a chunk a key is (`Ok`) or would be (`Err`).
fn position(chunk: &Chunk, key: &[u8]) -> Result<usize, usize> {
    chunk.binary_search_by(|kv| kv.key.as_slice().cmp(key))
}

/// A chunk of this many versions is split.
const CHUNK_MAX: usize = 64;

/// A chunk of fewer looks for a neighbour to join.
const CHUNK_MIN: usize = CHUNK_MAX / 4;

const FIRST_IS_EMPTY: &str = "the first separator is empty, so it is not above any key";
