//! etcd's data model, as naive as it can be: every version of every key is kept, nothing is clever.
//!
//! Written from etcd's documentation and protocol, independent of the store that is judged by it. What it
//! promises: [`Store::execute`] gives the answer that etcd gives to the same request in the same state, or
//! the same refusal and no change.
//!
//! The engine that places operations by revision replays them on a store of its own
//! (`timeline`), which the tests hold against this one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::outcome::{Error, KeyValue, Reply};
use super::request::{
    Bytes, Compare, Delete, Keys, Put, Range, Relation, Request, SortOrder, SortTarget, Target, Txn,
};
use super::watch::Change;

/// All versions of all keys, and the leases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    keys: BTreeMap<Bytes, Vec<Version>>,
    revision: i64,
    compacted: i64,
    /// Time to live by id; `None` takes every lease for granted: a store of versions alone does not know them.
    leases: Option<BTreeMap<i64, i64>>,
}

/// What became of a key at a revision: a version, or `None` for a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Version {
    revision: i64,
    kv: Option<KeyValue>,
}

/// What a request did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The answer that etcd gives.
    pub expected: Expected,
    /// The keys it changed, in the order of the changes. If there are any, the revision went up by one.
    pub changed: Vec<Bytes>,
}

impl Default for Store {
    fn default() -> Self {
        Store::new()
    }
}

impl Store {
    /// An empty store, at revision one.
    #[must_use]
    pub fn new() -> Store {
        Store { keys: BTreeMap::new(), revision: 1, compacted: -1, leases: Some(BTreeMap::new()) }
    }

    /// A store that holds these versions at a revision. What was before is not known: every lease is taken for
    /// granted, and nothing for compacted.
    #[must_use]
    pub fn at(revision: i64, kvs: impl IntoIterator<Item = KeyValue>) -> Store {
        let version = |kv: KeyValue| (kv.key.clone(), vec![(kv.mod_revision, Some(kv))]);
        Store::of_versions(revision, kvs.into_iter().map(version))
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Does `request`, or refuses it without any change.
    pub fn execute(&mut self, request: &Request) -> Result<Applied, Error> {
        let path = self.compare_all(request);
        self.validate(request, &mut path.clone())?;
        let mut transaction = Transaction { store: self, path, changed: Vec::new() };
        let expected = transaction.perform(request);
        let changed = transaction.changed;
        if !changed.is_empty() {
            self.revision += 1;
        }
        Ok(Applied { expected, changed })
    }

    /// Takes back the latest change, given the keys it changed.
    pub fn undo(&mut self, changed: &[Bytes]) {
        for key in changed.iter().rev() {
            let versions = self.keys.get_mut(key).expect("a changed key has versions");
            versions.pop();
            if versions.is_empty() {
                self.keys.remove(key);
            }
        }
        self.revision -= i64::from(!changed.is_empty());
    }

    /// The present version of a key.
    #[must_use]
    pub fn current(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)?.last()?.kv.as_ref()
    }

    /// The version of a key at a revision.
    #[must_use]
    pub fn version_at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        version_at(self.keys.get(key)?, revision)
    }

    /// Whether there is such a lease.
    #[must_use]
    pub fn has_lease(&self, id: i64) -> bool {
        self.leases.as_ref().is_none_or(|leases| leases.contains_key(&id))
    }

    /// The ids of all leases.
    pub fn leases(&self) -> impl Iterator<Item = i64> {
        self.leases.iter().flat_map(|leases| leases.keys().copied())
    }

    /// A store of these versions, with every lease taken for granted and nothing compacted.
    pub(super) fn of_versions(
        revision: i64,
        keys: impl Iterator<Item = (Bytes, Vec<(i64, Option<KeyValue>)>)>,
    ) -> Store {
        let version = |(revision, kv)| Version { revision, kv };
        let keys = keys.map(|(key, versions)| (key, versions.into_iter().map(version).collect()));
        Store { keys: keys.collect(), revision, compacted: -1, leases: None }
    }

    /// Adds what a change made, which is the next revision.
    pub(super) fn add(&mut self, change: &Change) {
        assert_eq!(change.revision, self.revision + 1, "changes come in their order");
        self.revision = change.revision;
        for event in &change.events {
            let kv = (!event.deleted).then(|| event.kv.clone());
            let version = Version { revision: change.revision, kv };
            self.keys.entry(event.kv.key.clone()).or_default().push(version);
        }
    }

    /// Takes history up to a revision for compacted, as far as refusals go.
    pub(super) fn compact(&mut self, revision: i64) {
        self.compacted = revision;
    }

    /// Forgets the versions of a key that had been replaced by a revision.
    pub(super) fn forget(&mut self, key: &Bytes, until: i64) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let replaced = versions.partition_point(|version| version.revision <= until).saturating_sub(1);
        versions.drain(..replaced);
        if let [Version { kv: None, revision }] = versions[..]
            && revision <= until
        {
            self.keys.remove(key);
        }
    }

    /// All keys that are there.
    pub(super) fn present(&self) -> impl Iterator<Item = &KeyValue> {
        self.keys.values().filter_map(|versions| versions.last()?.kv.as_ref())
    }

    /// Every key that ever was, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.keys()
    }

    /// Every version of every key.
    pub(super) fn all_versions(&self) -> impl Iterator<Item = (&Bytes, i64, Option<&KeyValue>)> {
        self.keys.iter().flat_map(|(key, versions)| {
            versions.iter().map(move |version| (key, version.revision, version.kv.as_ref()))
        })
    }

    /// The revision up to which history is compacted.
    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The keys attached to a lease.
    #[must_use]
    pub fn attached(&self, lease: i64) -> Vec<Bytes> {
        let attached = |versions: &Vec<Version>| {
            versions.last().and_then(|last| last.kv.as_ref()).is_some_and(|kv| kv.lease == lease)
        };
        self.keys.iter().filter(|(_, versions)| attached(versions)).map(|(key, _)| key.clone()).collect()
    }

    /// Every change of a key, with its revision: `None` is a deletion.
    pub fn changes(&self, key: &[u8]) -> impl Iterator<Item = (i64, Option<&KeyValue>)> {
        self.keys.get(key).into_iter().flatten().map(|version| (version.revision, version.kv.as_ref()))
    }

    /// The outcomes of all compares that decide what a txn does, in the order in which they are met. etcd
    /// decides all of them, those of nested txns included, before it does anything.
    fn compare_all(&self, request: &Request) -> VecDeque<bool> {
        let mut path = VecDeque::new();
        self.compare_into(request, &mut path);
        path
    }

    fn compare_into(&self, request: &Request, path: &mut VecDeque<bool>) {
        let Request::Txn(txn) = request else { return };
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        path.push_back(succeeded);
        for request in branch(txn, succeeded) {
            self.compare_into(request, path);
        }
    }

    /// Whether a condition holds: for every key of its range, or for the missing key if there is none.
    fn holds(&self, compare: &Compare) -> bool {
        if compare.keys.is_single() {
            return relates(self.current(compare.keys.key.as_slice()).map(Compared::of), compare);
        }
        let mut any = false;
        for kv in self.live(&compare.keys, self.revision) {
            any = true;
            if !relates(Some(Compared::of(kv)), compare) {
                return false;
            }
        }
        any || relates(None, compare)
    }

    /// The live versions of a range at a revision, by key.
    fn live<'a>(&'a self, keys: &Keys, revision: i64) -> Box<dyn Iterator<Item = &'a KeyValue> + 'a> {
        let start = keys.key.as_slice();
        let end = match keys.range_end.as_slice() {
            [] => {
                return Box::new(self.version_at(start, revision).into_iter());
            }
            [0] => Bound::Unbounded,
            end if end <= start => return Box::new(std::iter::empty()),
            end => Bound::Excluded(end),
        };
        let versions = self.keys.range::<[u8], _>((Bound::Included(start), end));
        Box::new(versions.filter_map(move |(_, versions)| version_at(versions, revision)))
    }

    /// Finds the reason to refuse a request. Txns are examined along the path that they will take, against
    /// the state before they do anything.
    fn validate(&self, request: &Request, path: &mut VecDeque<bool>) -> Result<(), Error> {
        match request {
            Request::Range(range) => self.validate_revision(range.revision),
            Request::Put(put) => self.validate_put(put),
            Request::Delete(_) | Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. } => Ok(()),
            Request::Txn(txn) => {
                let succeeded = path.pop_front().expect("the path was computed from this txn");
                branch(txn, succeeded).iter().try_for_each(|request| self.validate(request, path))
            }
            Request::Compact { revision } if *revision <= self.compacted => Err(Error::Compacted),
            Request::Compact { revision } if *revision > self.revision => Err(Error::FutureRevision),
            Request::Compact { .. } => Ok(()),
            Request::LeaseGrant { id, .. } => match &self.leases {
                Some(leases) if leases.contains_key(id) => Err(Error::LeaseExists),
                _ => Ok(()),
            },
            Request::LeaseRevoke { id } => self.validate_lease(*id),
        }
    }

    fn validate_revision(&self, revision: i64) -> Result<(), Error> {
        if revision > self.revision {
            Err(Error::FutureRevision)
        } else if revision > 0 && revision < self.compacted {
            Err(Error::Compacted)
        } else {
            Ok(())
        }
    }

    fn validate_put(&self, put: &Put) -> Result<(), Error> {
        if put.lease != 0 {
            self.validate_lease(put.lease)?;
        }
        if (put.ignore_value || put.ignore_lease) && self.current(put.key.as_slice()).is_none() {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn validate_lease(&self, id: i64) -> Result<(), Error> {
        match &self.leases {
            Some(leases) if !leases.contains_key(&id) => Err(Error::LeaseNotFound),
            _ => Ok(()),
        }
    }
}

/// A request in progress: all its changes share one revision.
struct Transaction<'a> {
    store: &'a mut Store,
    path: VecDeque<bool>,
    changed: Vec<Bytes>,
}

impl Transaction<'_> {
    fn perform(&mut self, request: &Request) -> Expected {
        match request {
            Request::Range(range) => self.range(range),
            Request::Put(put) => self.put(put),
            Request::Delete(delete) => self.delete(delete),
            Request::Txn(txn) => {
                let succeeded = self.path.pop_front().expect("the path was computed from this txn");
                let replies = branch(txn, succeeded).iter().map(|request| self.perform(request)).collect();
                Expected::Txn { succeeded, replies }
            }
            Request::Compact { revision } => {
                self.store.compacted = *revision;
                Expected::Done
            }
            Request::LeaseGrant { id, ttl } => {
                if let Some(leases) = &mut self.store.leases {
                    leases.insert(*id, *ttl);
                }
                Expected::Lease { id: *id, alive: true }
            }
            Request::LeaseRevoke { id } => {
                if let Some(leases) = &mut self.store.leases {
                    leases.remove(id);
                }
                self.store.attached(*id).into_iter().for_each(|key| self.write(key, None));
                Expected::Done
            }
            Request::LeaseKeepAlive { id } | Request::LeaseTimeToLive { id } => {
                let alive = self.store.leases.as_ref().is_none_or(|leases| leases.contains_key(id));
                Expected::Lease { id: *id, alive }
            }
        }
    }

    /// The revision of what has been written so far, as a read in the same txn sees it.
    fn visible(&self) -> i64 {
        self.store.revision + i64::from(!self.changed.is_empty())
    }

    fn write(&mut self, key: Bytes, kv: Option<KeyValue>) {
        let revision = self.store.revision + 1;
        let version = Version { revision, kv };
        match self.store.keys.get_mut(&key) {
            Some(versions) => versions.push(version),
            None => {
                self.store.keys.insert(key.clone(), vec![version]);
            }
        }
        self.changed.push(key);
    }

    fn put(&mut self, put: &Put) -> Expected {
        let previous = self.store.current(put.key.as_slice()).cloned();
        let revision = self.store.revision + 1;
        let before = previous.as_ref();
        let kv = KeyValue {
            key: put.key.clone(),
            value: match before {
                Some(kv) if put.ignore_value => kv.value.clone(),
                _ => put.value.clone(),
            },
            create_revision: before.map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.map_or(0, |kv| kv.version) + 1,
            lease: match before {
                Some(kv) if put.ignore_lease => kv.lease,
                _ => put.lease,
            },
        };
        self.write(put.key.clone(), Some(kv));
        Expected::Put { previous: previous.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &Delete) -> Expected {
        let previous: Vec<KeyValue> = self.store.live(&delete.keys, i64::MAX).cloned().collect();
        for kv in &previous {
            self.write(kv.key.clone(), None);
        }
        let deleted = previous.len() as i64;
        Expected::Delete { deleted, previous: if delete.prev_kv { previous } else { Vec::new() } }
    }

    fn range(&self, range: &Range) -> Expected {
        let revision = if range.revision > 0 { range.revision } else { self.visible() };
        arrange(self.store.live(&range.keys, revision), range)
    }
}

/// The answer to a range, of all keys of it that are there. Etcd's order of steps matters: without an order
/// and without filters it stops reading one key beyond the limit, and sorts only what it has read.
pub(super) fn arrange<'a>(live: impl Iterator<Item = &'a KeyValue>, range: &Range) -> Expected {
    let limit = usize::try_from(range.limit).ok().filter(|limit| *limit > 0);
    let early = limit.filter(|_| range.sort_order == SortOrder::None && !range.has_filter());
    let mut count = 0;
    let mut kvs = Vec::new();
    for kv in live {
        count += 1;
        let enough = early.is_some_and(|limit| kvs.len() > limit);
        if !range.count_only && !enough && passes(kv, range) {
            kvs.push(kv.clone());
        }
    }
    sort(&mut kvs, range);
    let cut = limit.unwrap_or(usize::MAX).min(kvs.len());
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::default());
    }
    let sorted_by = if range.keys_only && range.sort_target == SortTarget::Value {
        // Without the values nobody can tell which order is right.
        None
    } else {
        Some(range.sort_target)
    };
    Expected::Range { kvs, cut, count, sorted_by }
}

/// The operations of a txn's branch.
pub(super) fn branch(txn: &Txn, succeeded: bool) -> &[Request] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn version_at(versions: &[Version], revision: i64) -> Option<&KeyValue> {
    let last = versions.last()?;
    if last.revision <= revision {
        return last.kv.as_ref();
    }
    let after = versions.partition_point(|version| version.revision <= revision);
    versions[..after].last()?.kv.as_ref()
}

/// What of a version can be compared.
pub(super) struct Compared<'a> {
    pub version: i64,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub lease: i64,
    pub value: &'a [u8],
}

impl Compared<'_> {
    fn of(kv: &KeyValue) -> Compared<'_> {
        let KeyValue { version, create_revision, mod_revision, lease, ref value, .. } = *kv;
        Compared { version, create_revision, mod_revision, lease, value: value.as_slice() }
    }
}

/// Whether a key's property relates to the target as the compare demands. A missing key has version,
/// revisions and lease zero, and a value that relates to nothing.
pub(super) fn relates(version: Option<Compared<'_>>, compare: &Compare) -> bool {
    let number =
        |property: fn(&Compared<'_>) -> i64, target: &i64| version.as_ref().map_or(0, property).cmp(target);
    let ordering = match &compare.target {
        Target::Version(target) => number(|version| version.version, target),
        Target::Create(target) => number(|version| version.create_revision, target),
        Target::Mod(target) => number(|version| version.mod_revision, target),
        Target::Lease(target) => number(|version| version.lease, target),
        Target::Value(target) => match &version {
            Some(version) => version.value.cmp(target.as_slice()),
            None => return false,
        },
    };
    match compare.result {
        Relation::Equal => ordering == Ordering::Equal,
        Relation::NotEqual => ordering != Ordering::Equal,
        Relation::Greater => ordering == Ordering::Greater,
        Relation::Less => ordering == Ordering::Less,
    }
}

fn passes(kv: &KeyValue, range: &Range) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(kv.mod_revision, range.min_mod_revision, range.max_mod_revision)
        && within(kv.create_revision, range.min_create_revision, range.max_create_revision)
}

/// Sorts what is in key order. A target other than the key without an order means ascending.
fn sort(kvs: &mut [KeyValue], range: &Range) {
    if range.sort_target != SortTarget::Key {
        kvs.sort_by(|left, right| compare_by(left, right, range.sort_target));
    }
    if range.sort_order == SortOrder::Descend {
        kvs.reverse();
    }
}

fn compare_by(left: &KeyValue, right: &KeyValue, target: SortTarget) -> Ordering {
    match target {
        SortTarget::Key => left.key.cmp(&right.key),
        SortTarget::Version => left.version.cmp(&right.version),
        SortTarget::Create => left.create_revision.cmp(&right.create_revision),
        SortTarget::Mod => left.mod_revision.cmp(&right.mod_revision),
        SortTarget::Value => left.value.cmp(&right.value),
    }
}

/// The answers that etcd may give: more than one only where it sorts by something that is not unique, because
/// its sort is not stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// To a range: the first `cut` of `kvs`, ties by `sorted_by` in any order.
    Range {
        /// All that was found, sorted.
        kvs: Vec<KeyValue>,
        /// How many of them are answered.
        cut: usize,
        /// How many keys there are.
        count: i64,
        /// What orders them; `None` if the order cannot be seen.
        sorted_by: Option<SortTarget>,
    },
    /// To a put.
    Put {
        /// The version before, if asked for.
        previous: Option<KeyValue>,
    },
    /// To a delete.
    Delete {
        /// How many keys were deleted.
        deleted: i64,
        /// Their versions, if asked for.
        previous: Vec<KeyValue>,
    },
    /// To a txn.
    Txn {
        /// Whether all compares held.
        succeeded: bool,
        /// The answers of the branch.
        replies: Vec<Expected>,
    },
    /// To a compaction or a revocation.
    Done,
    /// To a lease's grant, keep-alive or time-to-live.
    Lease {
        /// Its id.
        id: i64,
        /// Whether there is such a lease. Its time to live is a matter of time, not of state.
        alive: bool,
    },
}

impl Expected {
    /// Whether `reply` is one of the answers.
    #[must_use]
    pub fn permits(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (
                Expected::Range { kvs, cut, count, sorted_by },
                Reply::Range { kvs: seen, more, count: seen_count },
            ) => {
                count == seen_count
                    && *more == (*cut < kvs.len())
                    && seen.len() == *cut
                    && (*seen == kvs[..*cut] || same_up_to_ties(kvs, seen, *sorted_by))
            }
            (Expected::Put { previous }, Reply::Put { previous: seen }) => previous == seen,
            (
                Expected::Delete { deleted, previous },
                Reply::Delete { deleted: seen_deleted, previous: seen },
            ) => deleted == seen_deleted && previous == seen,
            (
                Expected::Txn { succeeded, replies },
                Reply::Txn { succeeded: seen_succeeded, replies: seen },
            ) => {
                succeeded == seen_succeeded
                    && replies.len() == seen.len()
                    && replies.iter().zip(seen).all(|(expected, seen)| expected.permits(seen))
            }
            (Expected::Done, Reply::Done) => true,
            (Expected::Lease { id, alive }, Reply::Lease { id: seen, ttl }) => {
                // A server that picks the id may pick any.
                (id == seen || *id == 0) && *alive == (*ttl > 0)
            }
            _ => false,
        }
    }

    /// One of the answers: the one with ties in key order.
    #[must_use]
    pub fn into_reply(self) -> Reply {
        match self {
            Expected::Range { mut kvs, cut, count, .. } => {
                let more = cut < kvs.len();
                kvs.truncate(cut);
                Reply::Range { kvs, more, count }
            }
            Expected::Put { previous } => Reply::Put { previous },
            Expected::Delete { deleted, previous } => Reply::Delete { deleted, previous },
            Expected::Txn { succeeded, replies } => {
                Reply::Txn { succeeded, replies: replies.into_iter().map(Expected::into_reply).collect() }
            }
            Expected::Done => Reply::Done,
            Expected::Lease { id, alive } => Reply::Lease { id, ttl: if alive { 60 } else { -1 } },
        }
    }
}

/// Whether `seen` is a prefix of some reordering of `kvs` that keeps it sorted.
fn same_up_to_ties(kvs: &[KeyValue], seen: &[KeyValue], sorted_by: Option<SortTarget>) -> bool {
    let distinct: BTreeSet<&KeyValue> = seen.iter().collect();
    if distinct.len() != seen.len() || !seen.iter().all(|kv| kvs.contains(kv)) {
        return false;
    }
    let Some(target) = sorted_by else { return true };
    kvs.iter().zip(seen).all(|(expected, seen)| compare_by(expected, seen, target) == Ordering::Equal)
}
