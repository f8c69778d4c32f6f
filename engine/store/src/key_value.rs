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
