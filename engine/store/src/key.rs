//! Keys and ranges of keys.

use core::ops::Bound::{self, Excluded, Included, Unbounded};

use serde::{Deserialize, Serialize};

use crate::bytes::Blob;

/// A key: any non-empty byte string, ordered byte by byte.
pub type Key = Blob;

/// A value: any byte string.
pub type Value = Blob;

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyRange {
    /// The first key.
    pub start: Key,
    /// Where the range ends.
    pub end: RangeEnd,
}

/// Where a range of keys ends. Ordered: of two ranges that are not single keys, the one whose end is less
/// ends first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RangeEnd {
    /// The range is the one key it starts with.
    Single,
    /// Every key below this one; possibly none.
    Before(Key),
    /// Every key from the start on.
    Unbounded,
}

impl KeyRange {
    /// The range that etcd's pair of `key` and `range_end` means: an empty end is the single key,
    /// `"\0"` is every key from `key` on, anything else is half-open.
    #[must_use]
    pub fn from_wire(key: &[u8], range_end: &[u8]) -> KeyRange {
        let end = match range_end {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            end => RangeEnd::Before(Key::from(end)),
        };
        KeyRange { start: Key::from(key), end }
    }

    /// One key.
    #[must_use]
    pub fn single(key: impl Into<Key>) -> KeyRange {
        KeyRange { start: key.into(), end: RangeEnd::Single }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start.as_slice(),
            RangeEnd::Before(end) => self.start.as_slice() <= key && key < end.as_slice(),
            RangeEnd::Unbounded => self.start.as_slice() <= key,
        }
    }

    /// Whether the range is the one key it starts with.
    pub(crate) fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }

    /// Whether a key that is not below the start lies beyond the end.
    pub(crate) fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key != self.start.as_slice(),
            RangeEnd::Before(end) => key >= end.as_slice(),
            RangeEnd::Unbounded => false,
        }
    }

    /// The range as bounds of an ordered map; `None` if it can hold no key (which maps panic at).
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        let start = self.start.as_slice();
        let end = match &self.end {
            RangeEnd::Single => Included(start),
            RangeEnd::Before(end) if end.as_slice() <= start => return None,
            RangeEnd::Before(end) => Excluded(end.as_slice()),
            RangeEnd::Unbounded => Unbounded,
        };
        Some((Included(start), end))
    }
}

/// Bounds of keys, as ordered maps take them.
pub(crate) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);
