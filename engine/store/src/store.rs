//! The store itself: what each command does, and to which part of the state.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::alarm::Alarms;
use crate::command::{Command, DeleteRange, Operation, Put, Txn};
use crate::error::Error;
use crate::hash::{Checksum, Effect};
use crate::key_value::KeyValue;
use crate::lease::Leases;
use crate::member::{Member, Members};
use crate::mvcc::{Mvcc, MvccCopy};
use crate::query::{Query, WatchRequest};
use crate::response::{Applied, LeaseResponse, Response, WatchUpdate};
use crate::revision::{LeaseId, Revision};
use crate::snapshot::{self, SnapshotCursor, SnapshotHead, SnapshotPart};
use crate::txn::{Path, check_put};
use crate::watch::Watchers;

/// A watcher of this store, numbered by the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WatchId(pub u64);

/// etcd's data model. `Send`, not shared: one task owns it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Store {
    pub(crate) mvcc: Mvcc,
    pub(crate) leases: Leases,
    pub(crate) members: Members,
    pub(crate) alarms: Alarms,
    /// Over the effects of all commands.
    pub(crate) checksum: Checksum,
    /// Not replicated.
    watchers: Watchers,
    /// How many exports are open. Not replicated.
    exports: u32,
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// An empty store at revision one.
    #[must_use]
    pub fn new() -> Store {
        Store {
            mvcc: Mvcc::new(),
            leases: Leases::default(),
            members: Members::default(),
            alarms: Alarms::default(),
            checksum: Checksum::EMPTY,
            watchers: Watchers::default(),
            exports: 0,
        }
    }

    /// An empty store of a cluster that these members begin.
    #[must_use]
    pub fn founded(founders: impl IntoIterator<Item = Member>) -> Store {
        Store { members: Members::new(founders, BTreeSet::new()), ..Store::new() }
    }

    /// Applies a command of the log. Total: any decodable command gives an answer, never a panic. A
    /// command that is refused has changed nothing.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let result = self.alarms.check(command).and_then(|()| self.execute(command));
        self.commit();
        self.sweep(SWEEP_STEPS_PER_COMMAND);
        Applied { result, revision: self.mvcc.revision() }
    }

    /// Answers a question about the present (or a past) state.
    pub fn query(&self, query: &Query) -> Result<Response, Error> {
        Ok(match query {
            Query::Range(range) => Response::Range(self.mvcc.range(range)?),
            Query::Txn(txn) => self.query_txn(txn)?,
            Query::Leases => Response::Leases(self.leases.iter().map(|(id, _)| id).collect()),
            Query::Lease { id, keys } => Response::Lease(self.leases.get(*id).map(|lease| LeaseResponse {
                ttl: lease.ttl,
                keys: if *keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
            })),
            Query::Members => Response::Members(self.members.iter().cloned().collect()),
            Query::Alarms => Response::Alarms(self.alarms.list()),
            Query::Hash(hash) => Response::Hash(self.mvcc.hash(hash)?),
        })
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.mvcc.revision()
    }

    /// The revision up to which history is forgotten; zero if none is.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        self.mvcc.compact_revision()
    }

    /// About how many bytes keys and values take, all versions counted; what the quota is held against.
    ///
    /// It falls as the garbage of a compaction is removed, so members may differ for a while: the leader's
    /// figure decides, by way of an alarm.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.mvcc.size_bytes()
    }

    /// How many keys there are.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.mvcc.len() as u64
    }

    /// A checksum over the effects of all commands: equal on all members at equal index, whether they
    /// applied them all or began with a snapshot. Costs nothing.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.checksum.value()
    }

    /// A checksum over the content, all versions included: equal wherever `state_hash` is, unless memory
    /// has been damaged. Costs a walk over everything.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        snapshot::content_hash(&self.snapshot_head(), &self.mvcc)
    }

    /// Removes some of what compactions have left behind, and returns whether calling again would remove
    /// more: not while an export is open. Every applied command does some of this; an owner with nothing
    /// else to do may do the rest.
    pub fn maintain(&mut self) -> bool {
        self.sweep(SWEEP_STEPS_PER_CALL)
    }

    // --- Leases: the replicated half; the clock is the leader's (replica/leases.rs) ---

    /// All leases with their granted time to live in seconds, ascending by id.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        self.leases.iter()
    }

    /// The granted time to live of a lease, in seconds.
    #[must_use]
    pub fn lease_ttl(&self, id: LeaseId) -> Option<i64> {
        self.leases.get(id).map(|lease| lease.ttl)
    }

    // --- Members ---

    /// The members of the cluster.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Makes the members agree with Raft's configuration, which decides. Returns whether they did not before: then
    /// somebody has put a configuration into the log that does not fit the command that came with it.
    pub fn conform_members(&mut self, voters: &BTreeSet<u64>, learners: &BTreeSet<u64>) -> bool {
        let changed = self.members.conform(voters, learners);
        self.note_members(&changed);
        !changed.is_empty()
    }

    // --- Watchers: cursors over history; not replicated ---

    /// Adds a watcher with no credit. Updates come from `poll_watch`, `Created` first. A watcher with
    /// the same id is replaced.
    pub fn watch(&mut self, id: WatchId, request: WatchRequest) {
        self.watchers.add(id, request, self.mvcc.revision());
    }

    /// Removes a watcher; no further update. Unknown ids are ignored.
    pub fn cancel_watch(&mut self, id: WatchId) {
        self.watchers.cancel(id);
    }

    /// The watcher can take this many more events. (An update is never split within a revision, so
    /// it may overdraw; the debt is kept.)
    pub fn credit(&mut self, id: WatchId, events: u32) {
        self.watchers.credit(id, events);
    }

    /// Asks for a `Progress` as soon as everything up to the present revision has been delivered. A watcher
    /// that starts in the future gets none before its start.
    pub fn request_progress(&mut self, id: WatchId) {
        self.watchers.request_progress(id, self.mvcc.revision());
    }

    /// The next update for anybody, until `None`: whoever has news and credit, in a fair order.
    pub fn poll_watch(&mut self) -> Option<(WatchId, WatchUpdate)> {
        self.watchers.poll(&self.mvcc)
    }

    // --- Snapshots ---

    /// Begins to export the present state. Garbage of compactions is not removed while a cursor is open;
    /// finish with `close_snapshot`.
    pub fn open_snapshot(&mut self) -> SnapshotCursor {
        self.exports += 1;
        SnapshotCursor::new(self.snapshot_head())
    }

    /// The next part of about `bytes_max` bytes, until `None`.
    pub fn next_part(&self, cursor: &mut SnapshotCursor, bytes_max: usize) -> Option<SnapshotPart> {
        cursor.next(&self.mvcc, bytes_max)
    }

    /// Ends an export, complete or not.
    pub fn close_snapshot(&mut self, cursor: SnapshotCursor) {
        drop(cursor);
        self.exports = self.exports.checked_sub(1).expect("an export is closed once");
    }

    /// A store from all parts of an export, in order. Watchers of `self` are not carried over by
    /// this; see `replace_contents`.
    pub fn import(parts: Vec<SnapshotPart>) -> Result<Store, ImportError> {
        snapshot::import(parts)
    }

    /// Takes over the contents of `other` and keeps the watchers of `self`: their cursors go on where
    /// they were (or are told `Compacted`). Exports of the old contents must have been closed; a copy of them that is in the
    /// making is lost.
    pub fn replace_contents(&mut self, other: Store) {
        assert_eq!(self.exports, 0, "an export of contents that are replaced could not go on");
        let old_revision = self.mvcc.revision();
        let watchers = core::mem::take(&mut self.watchers);
        *self = Store { watchers, exports: 0, ..other };
        self.watchers.on_replace(old_revision, self.mvcc.revision());
    }

    // --- Copies in steps: exact, what is not replicated included ---

    /// Begins a copy of the store as it is now: nothing that is done later will be in it, however long it takes, and it
    /// changes nothing of what is done. It costs time for every watcher and every lease, not for keys.
    pub fn begin_copy(&mut self) -> StoreCopy {
        let rest = Store {
            mvcc: Mvcc::new(),
            leases: Leases::default(),
            members: self.members.clone(),
            alarms: self.alarms.clone(),
            checksum: self.checksum,
            watchers: self.watchers.clone(),
            exports: self.exports,
        };
        StoreCopy { rest, leases: self.leases.iter().collect(), mvcc: MvccCopy::begin(&mut self.mvcc) }
    }

    /// Copies some more; returns whether the copy is complete. Not to be called when the store is not being copied any more.
    pub fn go_on_with_copy(&mut self, copy: &mut StoreCopy, steps: usize) -> bool {
        assert!(self.mvcc.is_being_copied(), "what was to be copied may be gone");
        copy.mvcc.go_on(&mut self.mvcc, steps)
    }

    /// Gives up the copy that is in the making, if any.
    pub fn abandon_copy(&mut self) {
        self.mvcc.abandon_copy();
    }

    /// Whether a copy is in the making, and can go on.
    #[must_use]
    pub fn is_being_copied(&self) -> bool {
        self.mvcc.is_being_copied()
    }

    /// The small tables, as they are now.
    fn snapshot_head(&self) -> SnapshotHead {
        SnapshotHead {
            revision: self.mvcc.revision(),
            compact_revision: self.mvcc.compact_revision(),
            checksum: self.checksum.0,
            leases: self.leases.iter().collect(),
            members: self.members.iter().cloned().collect(),
            removed: self.members.removed().collect(),
            alarms: self.alarms.list(),
        }
    }

    // --- What commands do ---

    fn execute(&mut self, command: &Command) -> Result<Response, Error> {
        match command {
            Command::Put(put) => {
                check_put(put, &self.mvcc, |id| self.leases.get(id).is_some())?;
                Ok(self.put(put))
            }
            Command::DeleteRange(delete) => Ok(self.delete_range(delete)),
            Command::Txn(txn) => self.txn(txn),
            Command::Compact(revision) => self.compact(*revision),
            Command::LeaseGrant { id, ttl } => self.grant(*id, *ttl),
            Command::LeaseRevoke { id } => self.revoke(*id),
            Command::MemberPublish { .. }
            | Command::MemberAdd { .. }
            | Command::MemberRemove { .. }
            | Command::MemberUpdate { .. }
            | Command::MemberPromote { .. }
            | Command::MemberDemote { .. }
            | Command::MemberJoin { .. }
            | Command::MemberRefused { .. } => {
                let (response, changed) = self.members.execute(command)?;
                self.note_members(&changed);
                Ok(response)
            }
            Command::Alarm { member, kind, active } => {
                let mut changed = Vec::new();
                if self.alarms.switch(*member, *kind, *active) {
                    changed.push((*member, *kind));
                    self.note_effect(Effect::Alarm, |checksum| {
                        checksum.word(*member);
                        checksum.word(*kind as u64);
                        checksum.word(u64::from(*active));
                    });
                }
                Ok(Response::Alarms(changed))
            }
        }
    }

    /// Does a put that has been checked.
    fn put(&mut self, put: &Put) -> Response {
        let (new, old) = self.mvcc.put(&put.key, |old| {
            let kept = || old.expect("what is to be kept has been checked to exist");
            let value = put.value.clone().unwrap_or_else(|| kept().value.clone());
            (value, put.lease.unwrap_or_else(|| kept().lease))
        });
        let old_lease = old.as_ref().map_or(LeaseId::NONE, |old| old.lease);
        self.leases.reattach(&new.key, old_lease, new.lease);
        Response::Put { previous: old.filter(|_| put.previous) }
    }

    fn delete_range(&mut self, delete: &DeleteRange) -> Response {
        let deleted = self.mvcc.delete_range(&delete.range);
        for kv in &deleted {
            self.leases.reattach(&kv.key, kv.lease, LeaseId::NONE);
        }
        let count = deleted.len() as i64;
        Response::DeleteRange { deleted: count, previous: if delete.previous { deleted } else { Vec::new() } }
    }

    fn txn(&mut self, txn: &Txn) -> Result<Response, Error> {
        let path = Path::choose(txn, &self.mvcc)?;
        path.check(&self.mvcc, |id| self.leases.get(id).is_some())?;
        Ok(path.run(|operation| match operation {
            Operation::Range(query) => Response::Range(self.mvcc.range(query).expect(CHECKED)),
            Operation::Put(put) => self.put(put),
            Operation::DeleteRange(delete) => self.delete_range(delete),
            Operation::Nested(_) => unreachable!("paths are flat"),
        }))
    }

    /// A transaction that came as a query, and must not write.
    fn query_txn(&self, txn: &Txn) -> Result<Response, Error> {
        let path = Path::choose(txn, &self.mvcc)?;
        if path.operations().any(|operation| !matches!(operation, Operation::Range(_))) {
            return Err(Error::MalformedTxn);
        }
        path.check(&self.mvcc, |id| self.leases.get(id).is_some())?;
        Ok(path.run(|operation| match operation {
            Operation::Range(query) => Response::Range(self.mvcc.range(query).expect(CHECKED)),
            _ => unreachable!("there are ranges only"),
        }))
    }

    fn compact(&mut self, revision: Revision) -> Result<Response, Error> {
        self.watchers.before_compact(&self.mvcc);
        self.mvcc.compact(revision)?;
        self.note_effect(Effect::Compact, |checksum| checksum.word(revision.0 as u64));
        self.watchers.on_compact(revision);
        Ok(Response::Done)
    }

    fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<Response, Error> {
        if !self.leases.grant(id, ttl) {
            return Err(Error::LeaseExists);
        }
        self.note_effect(Effect::LeaseGrant, |checksum| {
            checksum.word(id.0 as u64);
            checksum.word(ttl as u64);
        });
        Ok(Response::LeaseGranted { id, ttl })
    }

    fn revoke(&mut self, id: LeaseId) -> Result<Response, Error> {
        let lease = self.leases.revoke(id).ok_or(Error::LeaseNotFound)?;
        for key in &lease.keys {
            let kv = self.mvcc.get(key).expect("a lease's keys exist").clone();
            self.mvcc.delete(&kv);
        }
        self.note_effect(Effect::LeaseRevoke, |checksum| checksum.word(id.0 as u64));
        Ok(Response::Done)
    }

    /// Closes the revision, if the command wrote: into the checksum, and to whoever watches.
    fn commit(&mut self) {
        let Some(revision) = self.mvcc.commit() else { return };
        let events: &[Arc<KeyValue>] = self.mvcc.events(revision);
        self.checksum.word(Effect::Revision as u64);
        events.iter().for_each(|event| self.checksum.version(event));
        self.watchers.note(revision, events);
    }

    fn note_members(&mut self, changed: &[u64]) {
        for id in changed {
            self.checksum.word(Effect::Member as u64);
            self.checksum.member(*id, self.members.get(*id));
        }
    }

    fn note_effect(&mut self, effect: Effect, fields: impl FnOnce(&mut Checksum)) {
        self.checksum.word(effect as u64);
        fields(&mut self.checksum);
    }

    fn sweep(&mut self, steps: usize) -> bool {
        self.exports == 0 && self.mvcc.sweep(steps)
    }
}

/// An exact copy of a store, complete or in the making; see [`Store::begin_copy`]. What is done to it leads to the same as if
/// done to the original, down to the order in which watchers have their turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreCopy {
    /// All but keys and leases.
    rest: Store,
    /// Without their keys, which say themselves what they hang on.
    leases: Vec<(LeaseId, i64)>,
    mvcc: MvccCopy,
}

impl StoreCopy {
    /// The store that was copied.
    ///
    /// # Errors
    /// The copy is not complete, or damaged.
    pub fn restore(self) -> Result<Store, ImportError> {
        let mvcc = self.mvcc.restore().map_err(ImportError)?;
        let mut store = Store { mvcc, ..self.rest };
        snapshot::import_leases(&mut store, &self.leases)?;
        Ok(store)
    }
}

/// A snapshot whose parts do not fit together: damaged, or from a hostile peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot parts do not fit together: {0}")]
pub struct ImportError(pub &'static str);

/// How much garbage an applied command removes: more than most commands make, so that the sweep gains
/// on the writes.
const SWEEP_STEPS_PER_COMMAND: usize = 64;

/// How much garbage one call of `maintain` removes: well below a millisecond's work.
const SWEEP_STEPS_PER_CALL: usize = 512;

const CHECKED: &str = "the revisions of a path's ranges have been checked";
