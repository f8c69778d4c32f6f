//! What can be asked of etcd, in the terms of its wire format (etcd's `rpc.proto`).

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::outcome::bytes_as_text;
use super::wire;
use crate::hash::FastMap;

/// A key or a value. Cheap to clone. None are kept nowhere: most requests name no end of a range.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(Option<Arc<[u8]>>);

impl Bytes {
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whatever is empty is the same `Bytes`: the derived order and equality count on it.
    fn of(bytes: impl AsRef<[u8]> + Into<Arc<[u8]>>) -> Bytes {
        Bytes((!bytes.as_ref().is_empty()).then(|| bytes.into()))
    }
}

/// As the bytes themselves, which maps are searched by.
impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

/// While a file is read, equal bytes are kept once: keys are read again and again, and what is written is
/// read. Besides memory, it saves comparing, for what is in the same place is equal.
pub(crate) struct Sharing(());

impl Sharing {
    /// Equal bytes are kept once on this thread until the result is dropped.
    pub fn begin() -> Sharing {
        SHARED.with(|shared| *shared.borrow_mut() = Some(FastMap::default()));
        Sharing(())
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        SHARED.with(|shared| *shared.borrow_mut() = None);
    }
}

thread_local! {
    static SHARED: RefCell<Option<FastMap<Bytes, ()>>> = const { RefCell::new(None) };
}

impl Bytes {
    /// These bytes, in a place of their own unless bytes are shared.
    pub(super) fn shared(bytes: &[u8]) -> Bytes {
        SHARED.with(|shared| {
            let mut shared = shared.borrow_mut();
            let Some(shared) = shared.as_mut() else { return Bytes::from(bytes) };
            if let Some((known, ())) = shared.get_key_value(bytes) {
                return known.clone();
            }
            let new = Bytes::from(bytes);
            shared.insert(new.clone(), ());
            new
        })
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Bytes::of(text.as_bytes())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes::of(bytes)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::of(bytes)
    }
}

impl std::borrow::Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_slice().escape_ascii())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.as_slice();
        let Some(rest) = bytes.len().checked_sub(BYTES_SHOWN_MAX).filter(|rest| *rest > 0) else {
            return write!(f, "\"{}\"", bytes.escape_ascii());
        };
        // The end of a long key or value tells as much as its beginning.
        let (begins, ends) = (&bytes[..BYTES_SHOWN_MAX / 2], &bytes[BYTES_SHOWN_MAX / 2 + rest..]);
        write!(f, "\"{}…{}\" ({} bytes)", begins.escape_ascii(), ends.escape_ascii(), bytes.len())
    }
}

/// Longer keys and values are shown without their middle.
const BYTES_SHOWN_MAX: usize = 128;

/// A key, or a range of keys, as etcd's pairs of `key` and `range_end` mean it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// The first key.
    #[serde(with = "bytes_as_text")]
    pub key: Bytes,
    /// Empty: the one key. `"\0"`: every key from `key` on. Anything else: every key before it.
    #[serde(with = "bytes_as_text", skip_serializing_if = "Bytes::is_empty")]
    pub range_end: Bytes,
}

impl Keys {
    /// One key.
    pub fn one(key: impl Into<Bytes>) -> Keys {
        Keys { key: key.into(), range_end: Bytes::default() }
    }

    /// Every key from `key` up to but without `range_end`.
    pub fn between(key: impl Into<Bytes>, range_end: impl Into<Bytes>) -> Keys {
        Keys { key: key.into(), range_end: range_end.into() }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Keys {
        Keys::between("\0", "\0")
    }

    /// Whether this is a single key rather than a range.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.range_end.is_empty()
    }

    /// Whether `key` is meant.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.range_end.as_slice() {
            [] => key == self.key.as_slice(),
            [0] => key >= self.key.as_slice(),
            end => key >= self.key.as_slice() && key < end,
        }
    }

    /// Whether some key may be meant by both.
    #[must_use]
    pub fn overlaps(&self, other: &Keys) -> bool {
        self.contains(other.key.as_slice()) || other.contains(self.key.as_slice())
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range_end.as_slice() {
            [] => write!(f, "{}", self.key),
            [0] if self.key.as_slice() == [0] => f.write_str("all keys"),
            [0] => write!(f, "{}…", self.key),
            _ => write!(f, "{}..{}", self.key, self.range_end),
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Reads a range.
    Range(Range),
    /// Writes a key.
    Put(Put),
    /// Deletes a range.
    Delete(Delete),
    /// Compares, then does one of two lists of the first four kinds of request.
    Txn(Txn),
    /// Forgets history before a revision.
    Compact {
        /// That revision.
        revision: i64,
    },
    /// Creates a lease.
    LeaseGrant {
        /// Its id; zero lets the server pick.
        id: i64,
        /// Its time to live in seconds.
        ttl: i64,
    },
    /// Ends a lease and deletes its keys.
    LeaseRevoke {
        /// Its id.
        id: i64,
    },
    /// Renews a lease.
    LeaseKeepAlive {
        /// Its id.
        id: i64,
    },
    /// Asks how long a lease still lives.
    LeaseTimeToLive {
        /// Its id.
        id: i64,
    },
}

/// Reads a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "wire::Range")]
pub struct Range {
    /// Which keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// At most so many; zero or less is no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: i64,
    /// At which revision; zero or less is the present one.
    #[serde(skip_serializing_if = "is_default")]
    pub revision: i64,
    /// In which order.
    #[serde(skip_serializing_if = "is_default")]
    pub sort_order: SortOrder,
    /// Sorted by what.
    #[serde(skip_serializing_if = "is_default")]
    pub sort_target: SortTarget,
    /// A member may answer from its own, possibly stale, state.
    #[serde(skip_serializing_if = "is_default")]
    pub serializable: bool,
    /// Without values.
    #[serde(skip_serializing_if = "is_default")]
    pub keys_only: bool,
    /// Only the number of keys.
    #[serde(skip_serializing_if = "is_default")]
    pub count_only: bool,
    /// Lower bound of the mod revision; zero is none.
    #[serde(skip_serializing_if = "is_default")]
    pub min_mod_revision: i64,
    /// Upper bound of the mod revision; zero is none.
    #[serde(skip_serializing_if = "is_default")]
    pub max_mod_revision: i64,
    /// Lower bound of the create revision; zero is none.
    #[serde(skip_serializing_if = "is_default")]
    pub min_create_revision: i64,
    /// Upper bound of the create revision; zero is none.
    #[serde(skip_serializing_if = "is_default")]
    pub max_create_revision: i64,
}

impl Range {
    /// A linearizable read of one key.
    pub fn key(key: impl Into<Bytes>) -> Range {
        Range { keys: Keys::one(key), ..Range::default() }
    }

    /// A linearizable read of all these keys.
    #[must_use]
    pub fn of(keys: Keys) -> Range {
        Range { keys, ..Range::default() }
    }

    /// Whether a revision bound is set.
    #[must_use]
    pub fn has_filter(&self) -> bool {
        [self.min_mod_revision, self.max_mod_revision, self.min_create_revision, self.max_create_revision]
            .iter()
            .any(|bound| *bound != 0)
    }
}

/// The order of a range's results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortOrder {
    /// By key, ascending; but see [`SortTarget`].
    #[default]
    None,
    /// Ascending.
    Ascend,
    /// Descending.
    Descend,
}

/// What a range's results are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value.
    Value,
}

/// Writes a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Put {
    /// The key.
    #[serde(with = "bytes_as_text")]
    pub key: Bytes,
    /// The value.
    #[serde(with = "bytes_as_text")]
    pub value: Bytes,
    /// The lease to attach to; zero is none.
    #[serde(skip_serializing_if = "is_default")]
    pub lease: i64,
    /// Answer with the previous version.
    #[serde(skip_serializing_if = "is_default")]
    pub prev_kv: bool,
    /// Keep the present value.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_value: bool,
    /// Keep the present lease.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_lease: bool,
}

impl Put {
    /// Writes `value` to `key`.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        Put { key: key.into(), value: value.into(), ..Put::default() }
    }
}

/// Deletes a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "wire::Delete")]
pub struct Delete {
    /// Which keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// Answer with the deleted versions.
    #[serde(skip_serializing_if = "is_default")]
    pub prev_kv: bool,
}

/// Compares, then does one of two lists of requests, all as one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// What is done if they do: ranges, puts, deletes and txns.
    pub success: Vec<Request>,
    /// What is done if they do not.
    pub failure: Vec<Request>,
}

/// A condition on a key, or on every key of a range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "wire::Compare")]
pub struct Compare {
    /// The keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// How the property must relate to the target.
    pub result: Relation,
    /// The property and what it is compared with.
    pub target: Target,
}

/// How two things must relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Equal.
    Equal,
    /// The property is greater.
    Greater,
    /// The property is less.
    Less,
    /// Different.
    NotEqual,
}

/// A property of a key and what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value.
    #[serde(with = "bytes_as_text")]
    Value(Bytes),
    /// The lease.
    Lease(i64),
}

impl Request {
    /// Whether it could change keys, in whichever branch.
    #[must_use]
    pub fn may_write(&self) -> bool {
        match self {
            Request::Put(_) | Request::Delete(_) | Request::LeaseRevoke { .. } => true,
            Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(Request::may_write),
            _ => false,
        }
    }

    /// Calls `visit` with everything it may read or write, in whichever branch.
    pub fn footprint(&self, visit: &mut impl FnMut(Keys)) {
        match self {
            Request::Range(range) => visit(range.keys.clone()),
            Request::Put(put) => visit(Keys::one(put.key.clone())),
            Request::Delete(delete) => visit(delete.keys.clone()),
            Request::Txn(txn) => {
                txn.compares.iter().for_each(|compare| visit(compare.keys.clone()));
                for request in txn.success.iter().chain(&txn.failure) {
                    request.footprint(visit);
                }
            }
            Request::LeaseRevoke { .. } => visit(Keys::all()),
            _ => {}
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Range(range) => {
                write!(f, "range {}", range.keys)?;
                if range.revision > 0 {
                    write!(f, " at revision {}", range.revision)?;
                }
                f.write_str(if range.serializable { " (serializable)" } else { "" })
            }
            Request::Put(put) => write!(f, "put {} {}", put.key, put.value),
            Request::Delete(delete) => write!(f, "delete {}", delete.keys),
            Request::Txn(txn) => {
                let lists = (txn.compares.len(), txn.success.len(), txn.failure.len());
                write!(f, "txn of {} compares, {} then, {} else", lists.0, lists.1, lists.2)
            }
            Request::Compact { revision } => write!(f, "compact {revision}"),
            Request::LeaseGrant { id, ttl } => write!(f, "grant lease {id} for {ttl} s"),
            Request::LeaseRevoke { id } => write!(f, "revoke lease {id}"),
            Request::LeaseKeepAlive { id } => write!(f, "keep lease {id} alive"),
            Request::LeaseTimeToLive { id } => write!(f, "time to live of lease {id}"),
        }
    }
}

/// Whether a field need not be written to a file.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
