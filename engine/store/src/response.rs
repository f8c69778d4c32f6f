//! What the store answers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::command::AlarmKind;
use crate::key::Key;
use crate::key_value::KeyValue;
use crate::member::Member;
use crate::query::HashPoint;
use crate::revision::{LeaseId, Revision};

/// The answer to a command or a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a put.
    Put {
        /// The version before, if it was asked for and there was one.
        previous: Option<Arc<KeyValue>>,
    },
    /// To a range.
    Range(RangeResponse),
    /// To a delete.
    DeleteRange {
        /// How many keys were deleted.
        deleted: i64,
        /// Their last versions, if asked for.
        previous: Vec<Arc<KeyValue>>,
    },
    /// To a transaction.
    Txn {
        /// Whether the compares held.
        succeeded: bool,
        /// One answer per operation done.
        responses: Vec<Response>,
    },
    /// To a compaction, a revocation, and what a member publishes.
    Done,
    /// To a grant.
    LeaseGranted {
        /// Its id.
        id: LeaseId,
        /// Its time to live in seconds.
        ttl: i64,
    },
    /// The ids of all leases, ascending.
    Leases(Vec<LeaseId>),
    /// One lease; `None` if there is none with this id.
    Lease(Option<LeaseResponse>),
    /// To a question for the members and to every change of them: all members, by id.
    Members(Vec<Member>),
    /// To a directory that wanted to join.
    Joined {
        /// The id that is its own from now on.
        id: u64,
    },
    /// To a question for alarms: those that are on, by member and kind. To an alarm command: the alarm
    /// that it raised or cleared; none if it was so already.
    Alarms(Vec<(u64, AlarmKind)>),
    /// To a question for a checksum.
    Hash(HashResponse),
}

/// A part of a checksum. Parts belong together only if all have the same compacted revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashResponse {
    /// The state that it is of.
    pub revision: Revision,
    /// The compacted revision: what came before does not count.
    pub compact_revision: Revision,
    /// The checksum, if this was the last part.
    pub hash: u64,
    /// Where to go on, if it was not.
    pub next: Option<HashPoint>,
}

/// The answer to a range query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The versions found. Under `keys_only` the values are still here; whoever encodes leaves them out.
    pub kvs: Vec<Arc<KeyValue>>,
    /// Whether the limit cut the result.
    pub more: bool,
    /// How many keys the range holds at that revision, whatever the limit and the filter.
    pub count: i64,
    /// The query's `keys_only`, for whoever encodes.
    pub keys_only: bool,
}

/// What the store knows of a lease. How long it still lives, only the leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseResponse {
    /// The granted time to live in seconds.
    pub ttl: i64,
    /// Its keys, ascending, if asked for.
    pub keys: Vec<Key>,
}

/// What applying a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer.
    pub result: Result<Response, crate::error::Error>,
    /// The store's revision afterwards.
    pub revision: Revision,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The version before, if the watcher asked for it and it is still known.
    pub previous: Option<Arc<KeyValue>>,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It was put.
    Put(Arc<KeyValue>),
    /// It was deleted.
    Delete {
        /// The key.
        key: Key,
        /// The deleting revision.
        revision: Revision,
    },
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchUpdate {
    /// The watcher is in place.
    Created {
        /// The store's revision when it was.
        revision: Revision,
    },
    /// Changes, in order. All events of one revision come in one update; several revisions may.
    Events {
        /// The store's revision when they were read.
        revision: Revision,
        /// The events, never empty.
        events: Vec<Event>,
    },
    /// Every event up to and including this revision has been delivered.
    Progress {
        /// That revision.
        revision: Revision,
    },
    /// The watcher is gone: what it wanted next has been compacted.
    Compacted {
        /// The compacted revision: a new watch must start after it (or at it).
        compact_revision: Revision,
        /// The store's revision.
        revision: Revision,
    },
}
