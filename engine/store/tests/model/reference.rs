//! The dumbest store that could be right: a copy of all keys for every revision there ever was, and a
//! list of what happened in each. Nothing is shared with the crate but the vocabulary.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_store::{
    AlarmKind, Applied, Branch, Command, Compare, CompareResult, CompareTarget, Error, Event, EventKind, Key,
    KeyRange, KeyValue, LeaseId, LeaseResponse, Operation, Put, Query, RangeEnd, RangeQuery, RangeResponse,
    Response, Revision, SortBy, Txn, Value, WatchRequest,
};

use crate::membership::Membership;

pub type State = BTreeMap<Key, Arc<KeyValue>>;

#[derive(Debug)]
pub struct Model {
    /// By revision. Compaction removes nothing here.
    pub states: Vec<State>,
    /// By revision.
    pub events: Vec<Vec<EventKind>>,
    pub compacted: i64,
    /// The revision at which that was last tried.
    pub compacted_at: i64,
    pub leases: BTreeMap<LeaseId, i64>,
    members: Membership,
    alarms: BTreeSet<(u64, AlarmKind)>,
}

/// A revision being written.
struct Draft {
    revision: Revision,
    state: State,
    events: Vec<EventKind>,
}

impl Model {
    pub fn new() -> Model {
        Model {
            states: vec![State::new(), State::new()],
            events: vec![Vec::new(), Vec::new()],
            compacted: 0,
            compacted_at: 0,
            leases: BTreeMap::new(),
            members: Membership::default(),
            alarms: BTreeSet::new(),
        }
    }

    pub fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    pub fn apply(&mut self, command: &Command) -> Applied {
        let mut draft =
            Draft { revision: Revision(self.revision() + 1), state: self.now().clone(), events: Vec::new() };
        let result = self.check_alarms(command).and_then(|()| self.execute(command, &mut draft));
        if !draft.events.is_empty() {
            self.states.push(draft.state);
            self.events.push(draft.events);
        }
        Applied { result, revision: Revision(self.revision()) }
    }

    pub fn query(&self, query: &Query) -> Result<Response, Error> {
        Ok(match query {
            Query::Range(query) => {
                self.check_revision(query)?;
                Response::Range(self.range(query, self.now()))
            }
            Query::Txn(txn) => {
                let mut draft =
                    Draft { revision: Revision(0), state: self.now().clone(), events: Vec::new() };
                check_shape(txn)?;
                let mut operations = Vec::new();
                self.path(txn, 0, &mut operations);
                check_writes(&operations)?;
                if operations.iter().any(|operation| !matches!(operation, Operation::Range(_))) {
                    return Err(Error::MalformedTxn);
                }
                self.check_operations(&operations)?;
                self.run(txn, 0, &mut draft)
            }
            Query::Leases => Response::Leases(self.leases.keys().copied().collect()),
            Query::Lease { id, keys } => Response::Lease(self.leases.get(id).map(|ttl| LeaseResponse {
                ttl: *ttl,
                keys: if *keys { keys_of(self.now(), *id) } else { Vec::new() },
            })),
            Query::Members => Response::Members(self.members.list()),
            Query::Alarms => Response::Alarms(self.alarms.iter().copied().collect()),
            Query::Hash(_) => unreachable!("checksums are tested where they are made"),
        })
    }

    /// The events of a revision that a watcher is to see.
    pub fn events_for(&self, request: &WatchRequest, revision: i64) -> Vec<Event> {
        let mut found = Vec::new();
        for kind in &self.events[revision as usize] {
            let (key, unwanted) = match kind {
                EventKind::Put(kv) => (&kv.key, request.no_put),
                EventKind::Delete { key, .. } => (key, request.no_delete),
            };
            if unwanted || !within(&request.range, key) {
                continue;
            }
            let known = request.previous && revision > self.compacted;
            let previous = self.states[revision as usize - 1].get(key).filter(|_| known).cloned();
            found.push(Event { kind: kind.clone(), previous });
        }
        found
    }

    /// What `size_bytes` must be once all garbage has been removed: each version once.
    pub fn size_bytes(&self) -> u64 {
        let size = |key: &Key, value: &[u8]| 128 + key.len() as u64 + value.len() as u64;
        let first = self.compacted.max(2);
        let base = self.states[self.compacted as usize].values();
        let old = base.filter(|kv| kv.mod_revision.0 < first).map(|kv| size(&kv.key, &kv.value)).sum::<u64>();
        let events = self.events[first.min(self.revision() + 1) as usize..].iter().flatten();
        let new = events.map(|event| match event {
            EventKind::Put(kv) => size(&kv.key, &kv.value),
            EventKind::Delete { key, .. } => size(key, &[]),
        });
        old + new.sum::<u64>()
    }

    fn check_alarms(&self, command: &Command) -> Result<(), Error> {
        let on = |kind| self.alarms.iter().any(|(_, on)| *on == kind);
        let (writes, adds) = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => (true, true),
            Command::Txn(txn) => (true, puts_somewhere(txn, 0)),
            Command::DeleteRange(_) | Command::Compact(_) | Command::LeaseRevoke { .. } => (true, false),
            _ => (false, false),
        };
        match () {
            () if writes && on(AlarmKind::Corrupt) => Err(Error::Corrupt),
            () if adds && on(AlarmKind::NoSpace) => Err(Error::NoSpace),
            () => Ok(()),
        }
    }

    fn execute(&mut self, command: &Command, draft: &mut Draft) -> Result<Response, Error> {
        Ok(match command {
            Command::Put(put) => {
                self.check_put(put)?;
                draft.put(put)
            }
            Command::DeleteRange(delete) => draft.delete(&delete.range, delete.previous),
            Command::Txn(txn) => {
                check_shape(txn)?;
                let mut operations = Vec::new();
                self.path(txn, 0, &mut operations);
                check_writes(&operations)?;
                self.check_operations(&operations)?;
                self.run(txn, 0, draft)
            }
            Command::Compact(revision) => {
                self.compacted_at = self.revision();
                if revision.0 <= self.compacted {
                    return Err(Error::Compacted);
                }
                if revision.0 > self.revision() {
                    return Err(Error::FutureRevision);
                }
                self.compacted = revision.0;
                Response::Done
            }
            Command::LeaseGrant { id, ttl } => {
                if id.0 == 0 || self.leases.contains_key(id) {
                    return Err(Error::LeaseExists);
                }
                self.leases.insert(*id, *ttl);
                Response::LeaseGranted { id: *id, ttl: *ttl }
            }
            Command::LeaseRevoke { id } => {
                self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
                for key in keys_of(&draft.state, *id) {
                    draft.delete(&KeyRange::single(key), false);
                }
                Response::Done
            }
            Command::Alarm { member, kind, active } => {
                let alarm = (*member, *kind);
                let changed = if *active { self.alarms.insert(alarm) } else { self.alarms.remove(&alarm) };
                Response::Alarms(if changed { vec![alarm] } else { Vec::new() })
            }
            member => self.members.apply(member)?,
        })
    }

    // --- Transactions ---

    /// Collects the operations that will be done, in order.
    fn path<'a>(&self, txn: &'a Txn, branch: usize, operations: &mut Vec<&'a Operation>) {
        for operation in self.side(txn, branch).1 {
            match operation {
                Operation::Nested(inner) => self.path(txn, *inner as usize, operations),
                operation => operations.push(operation),
            }
        }
    }

    fn run(&self, txn: &Txn, branch: usize, draft: &mut Draft) -> Response {
        let (succeeded, operations) = self.side(txn, branch);
        let mut responses = Vec::new();
        for operation in operations {
            responses.push(match operation {
                Operation::Range(query) => Response::Range(self.range(query, &draft.state)),
                Operation::Put(put) => draft.put(put),
                Operation::DeleteRange(delete) => draft.delete(&delete.range, delete.previous),
                Operation::Nested(inner) => self.run(txn, *inner as usize, draft),
            });
        }
        Response::Txn { succeeded, responses }
    }

    /// Which side of a branch is done. Compares read the state before the transaction.
    fn side<'a>(&self, txn: &'a Txn, branch: usize) -> (bool, &'a [Operation]) {
        let branch = &txn.branches[branch];
        let succeeded = branch.compares.iter().all(|compare| {
            let all = self.now().values().filter(|kv| within(&compare.range, &kv.key));
            let mut keys: Vec<Option<&KeyValue>> = all.map(|kv| Some(&**kv)).collect();
            if keys.is_empty() {
                keys.push(None);
            }
            keys.into_iter().all(|kv| compare_one(compare, kv))
        });
        (succeeded, if succeeded { &branch.success } else { &branch.failure })
    }

    fn check_operations(&self, operations: &[&Operation]) -> Result<(), Error> {
        for operation in operations {
            if let Operation::Put(put) = operation {
                self.check_put(put)?;
            }
        }
        for operation in operations {
            if let Operation::Range(query) = operation {
                self.check_revision(query)?;
            }
        }
        Ok(())
    }

    fn check_put(&self, put: &Put) -> Result<(), Error> {
        if (put.value.is_none() || put.lease.is_none()) && !self.now().contains_key(&put.key) {
            return Err(Error::KeyNotFound);
        }
        match put.lease {
            Some(id) if id.0 != 0 && !self.leases.contains_key(&id) => Err(Error::LeaseNotFound),
            _ => Ok(()),
        }
    }

    // --- Ranges ---

    fn check_revision(&self, query: &RangeQuery) -> Result<(), Error> {
        let revision = query.revision.map_or(0, |revision| revision.0);
        if revision > self.revision() {
            return Err(Error::FutureRevision);
        }
        if revision > 0 && revision < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(())
    }

    fn range(&self, query: &RangeQuery, now: &State) -> RangeResponse {
        let state = match query.revision {
            Some(revision) if revision.0 > 0 => &self.states[revision.0 as usize],
            _ => now,
        };
        let mut kvs: Vec<_> = state.values().filter(|kv| within(&query.range, &kv.key)).cloned().collect();
        let count = kvs.len() as i64;
        let keys_only = query.keys_only;
        if query.count_only {
            return RangeResponse { kvs: Vec::new(), more: false, count, keys_only };
        }
        let limit = query.limit as usize;
        if limit > 0 && query.sort.is_some_and(|sort| sort.limit_first) && query.filter.is_none() {
            kvs.truncate(limit + 1);
        }
        if let Some(filter) = query.filter {
            kvs.retain(|kv| {
                kv.mod_revision.0 >= filter.min_mod
                    && (filter.max_mod == 0 || kv.mod_revision.0 <= filter.max_mod)
                    && kv.create_revision.0 >= filter.min_create
                    && (filter.max_create == 0 || kv.create_revision.0 <= filter.max_create)
            });
        }
        if let Some(sort) = query.sort {
            kvs.sort_by(|a, b| {
                let order = match sort.by {
                    SortBy::Key => a.key.cmp(&b.key),
                    SortBy::Version => a.version.cmp(&b.version),
                    SortBy::Create => a.create_revision.cmp(&b.create_revision),
                    SortBy::Mod => a.mod_revision.cmp(&b.mod_revision),
                    SortBy::Value => a.value.cmp(&b.value),
                };
                if sort.descending { order.reverse() } else { order }
            });
        }
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        RangeResponse { kvs, more, count, keys_only }
    }
}

impl Draft {
    fn put(&mut self, put: &Put) -> Response {
        let old = self.state.get(&put.key).cloned();
        let kv = Arc::new(KeyValue {
            key: put.key.clone(),
            value: put.value.clone().unwrap_or_else(|| old.as_ref().unwrap().value.clone()),
            create_revision: old.as_ref().map_or(self.revision, |old| old.create_revision),
            mod_revision: self.revision,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: put.lease.unwrap_or_else(|| old.as_ref().unwrap().lease),
        });
        self.events.push(EventKind::Put(kv.clone()));
        self.state.insert(put.key.clone(), kv);
        Response::Put { previous: old.filter(|_| put.previous) }
    }

    fn delete(&mut self, range: &KeyRange, previous: bool) -> Response {
        let gone: Vec<_> = self.state.values().filter(|kv| within(range, &kv.key)).cloned().collect();
        for kv in &gone {
            self.state.remove(&kv.key);
            self.events.push(EventKind::Delete { key: kv.key.clone(), revision: self.revision });
        }
        Response::DeleteRange {
            deleted: gone.len() as i64,
            previous: if previous { gone } else { Vec::new() },
        }
    }
}

fn keys_of(state: &State, lease: LeaseId) -> Vec<Key> {
    state.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect()
}

fn within(range: &KeyRange, key: &[u8]) -> bool {
    match &range.end {
        RangeEnd::Single => *range.start == *key,
        RangeEnd::Before(end) => *range.start <= *key && *key < **end,
        RangeEnd::Unbounded => *range.start <= *key,
    }
}

fn compare_one(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let order = match (&compare.target, kv) {
        (CompareTarget::Value(_), None) => return false,
        (CompareTarget::Value(value), Some(kv)) => Value::cmp(&kv.value, value),
        (CompareTarget::Version(target), kv) => kv.map_or(0, |kv| kv.version).cmp(target),
        (CompareTarget::Create(target), kv) => kv.map_or(0, |kv| kv.create_revision.0).cmp(target),
        (CompareTarget::Mod(target), kv) => kv.map_or(0, |kv| kv.mod_revision.0).cmp(target),
        (CompareTarget::Lease(target), kv) => kv.map_or(0, |kv| kv.lease.0).cmp(target),
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Always => true,
    }
}

/// Whether a branch, or one nested in it, puts anything on either side.
fn puts_somewhere(txn: &Txn, branch: usize) -> bool {
    let Some(Branch { success, failure, .. }) = txn.branches.get(branch) else { return false };
    success.iter().chain(failure).any(|operation| match operation {
        Operation::Put(_) => true,
        Operation::Nested(inner) => *inner as usize > branch && puts_somewhere(txn, *inner as usize),
        Operation::Range(_) | Operation::DeleteRange(_) => false,
    })
}

/// Branches must form a tree whose numbers grow towards the leaves.
fn check_shape(txn: &Txn) -> Result<(), Error> {
    let mut referred = vec![0; txn.branches.len()];
    *referred.first_mut().ok_or(Error::MalformedTxn)? += 1;
    for (outer, branch) in txn.branches.iter().enumerate() {
        for operation in branch.success.iter().chain(&branch.failure) {
            if let Operation::Nested(inner) = operation {
                let inner = *inner as usize;
                if inner <= outer || inner >= referred.len() {
                    return Err(Error::MalformedTxn);
                }
                referred[inner] += 1;
            }
        }
    }
    if referred.iter().all(|times| *times == 1) { Ok(()) } else { Err(Error::MalformedTxn) }
}

/// No key may be put twice, or be put and lie in a deleted range.
fn check_writes(operations: &[&Operation]) -> Result<(), Error> {
    for (i, a) in operations.iter().enumerate() {
        for (j, b) in operations.iter().enumerate() {
            let clash = match (a, b) {
                (Operation::Put(a), Operation::Put(b)) => i != j && a.key == b.key,
                (Operation::Put(put), Operation::DeleteRange(delete)) => within(&delete.range, &put.key),
                _ => false,
            };
            if clash {
                return Err(Error::MalformedTxn);
            }
        }
    }
    Ok(())
}
