//! The store itself.

use alloc::vec::Vec;

use crate::command::Command;
use crate::error::Error;
use crate::query::{Query, WatchRequest};
use crate::response::{Applied, Response, WatchUpdate};
use crate::revision::{LeaseId, Revision};
use crate::snapshot::{SnapshotCursor, SnapshotPart};

/// A watcher of this store, numbered by the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// etcd's data model. `Send`, not shared: one task owns it.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// An empty store at revision one.
    pub fn new() -> Store {
        todo!()
    }
    /// Applies a command of the log. Total: any decodable command gives an answer, never a panic.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let _ = command;
        todo!()
    }
    /// Answers a question about the present (or a past) state.
    pub fn query(&self, query: &Query) -> Result<Response, Error> {
        let _ = query;
        todo!()
    }
    /// The latest revision.
    pub fn revision(&self) -> Revision {
        todo!()
    }
    /// The revision up to which history is forgotten; zero if none is.
    pub fn compact_revision(&self) -> Revision {
        todo!()
    }
    /// About how many bytes keys and values take, all versions counted; what the quota is held against.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    /// A checksum of everything that is replicated: equal on all members at equal index.
    pub fn state_hash(&self) -> u64 {
        todo!()
    }

    // --- Leases: the replicated half; the clock is the leader's (replica/leases.rs) ---

    /// All leases with their granted time to live in seconds, ascending by id.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        core::iter::empty()
    }
    /// The granted time to live of a lease, in seconds.
    pub fn lease_ttl(&self, id: LeaseId) -> Option<i64> {
        let _ = id;
        todo!()
    }

    // --- Watchers: cursors over history; not replicated ---

    /// Adds a watcher with no credit. Updates come from `poll_watch`, `Created` first.
    pub fn watch(&mut self, id: WatchId, request: WatchRequest) {
        let _ = (id, request);
        todo!()
    }
    /// Removes a watcher; no further update. Unknown ids are ignored.
    pub fn cancel_watch(&mut self, id: WatchId) {
        let _ = id;
        todo!()
    }
    /// The watcher can take this many more events. (An update is never split within a revision, so
    /// it may overdraw; the debt is kept.)
    pub fn credit(&mut self, id: WatchId, events: u32) {
        let _ = (id, events);
        todo!()
    }
    /// Asks for a `Progress` as soon as everything up to the present revision has been delivered.
    pub fn request_progress(&mut self, id: WatchId) {
        let _ = id;
        todo!()
    }
    /// The next update for anybody, until `None`: whoever has news and credit, in a fair order.
    pub fn poll_watch(&mut self) -> Option<(WatchId, WatchUpdate)> {
        todo!()
    }

    // --- Snapshots ---

    /// Begins to export the present state. History is not physically compacted while a cursor is open;
    /// finish with `close_snapshot`.
    pub fn open_snapshot(&mut self) -> SnapshotCursor {
        todo!()
    }
    /// The next part of about `bytes_max` bytes, until `None`.
    pub fn next_part(&self, cursor: &mut SnapshotCursor, bytes_max: usize) -> Option<SnapshotPart> {
        let _ = (cursor, bytes_max);
        todo!()
    }
    /// Ends an export.
    pub fn close_snapshot(&mut self, cursor: SnapshotCursor) {
        let _ = cursor;
        todo!()
    }
    /// A store from all parts of an export, in order. Watchers of `self` are not carried over by
    /// this; see `replace_contents`.
    pub fn import(parts: Vec<SnapshotPart>) -> Result<Store, ImportError> {
        let _ = parts;
        todo!()
    }
    /// Takes over the contents of `other` and keeps the watchers of `self`: their cursors go on where
    /// they were (or are told `Compacted`).
    pub fn replace_contents(&mut self, other: Store) {
        let _ = other;
        todo!()
    }
}

/// A snapshot whose parts do not fit together: damaged, or from a hostile peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot parts do not fit together: {0}")]
pub struct ImportError(pub &'static str);
