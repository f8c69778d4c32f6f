//! One version of one key.

use serde::{Deserialize, Serialize};

use crate::key::{Key, Value};
use crate::revision::{LeaseId, Revision};

/// One version of one key. Made once when a put is applied, then shared (in an `Arc`) by the index,
/// the history, every response and every watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// The revision of this version.
    pub mod_revision: Revision,
    /// How many puts since the key was created, this one included.
    pub version: i64,
    /// The lease it is attached to, or `LeaseId::NONE`.
    pub lease: LeaseId,
}

impl KeyValue {
    /// What is kept of a key's deletion: a version of number zero.
    pub(crate) fn tombstone(key: Key, revision: Revision, empty: Value) -> KeyValue {
        let (create_revision, version) = (Revision(0), 0);
        KeyValue { key, value: empty, create_revision, mod_revision: revision, version, lease: LeaseId::NONE }
    }

    /// Whether this stands for a deletion. Never true of what a client sees.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// Whether the key did not exist before.
    pub(crate) fn is_create(&self) -> bool {
        self.version == 1 && self.create_revision == self.mod_revision
    }

    /// Whether some store could have made this version: no more puts than revisions, and nothing said
    /// of a deleted key but when.
    pub(crate) fn is_plausible(&self) -> bool {
        if self.is_tombstone() {
            return self.value.is_empty() && self.create_revision.0 == 0 && self.lease == LeaseId::NONE;
        }
        self.create_revision > Revision(1)
            && self.mod_revision >= self.create_revision
            && (self.version == 1) == (self.mod_revision == self.create_revision)
            && (1..=self.mod_revision.0 - self.create_revision.0 + 1).contains(&self.version)
    }

    /// What the version counts for in `Store::size_bytes`.
    pub(crate) fn size_bytes(&self) -> u64 {
        VERSION_BYTES + self.key.len() as u64 + self.value.len() as u64
    }
}

/// What a version costs beyond its key and value: this struct, three reference-counted headers, and its
/// places in the index and the history.
const VERSION_BYTES: u64 = 128;
