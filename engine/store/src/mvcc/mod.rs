//! Multi-version storage: every version of every key since the compacted revision.
//!
//! Three structures share the versions:
//! * the *present*: the newest version of every key that exists ([`present`]);
//! * the *past*: per key, the versions that have been superseded, and tombstones;
//! * the *history*: per revision, what happened ([`history`]).
//!
//! A key with a single version is in the present and in the history only, so reading the present never
//! meets superseded versions, and compaction never meets keys that have not changed.
//!
//! Invariants:
//! * a key is written at most once per revision, so (key, mod revision) names a version and no
//!   sub-revisions are needed; [`txn`](crate::txn) sees to it;
//! * the versions of a key in the past ascend by mod revision and are older than its present one; a
//!   tombstone, which ends a life of the key, is a version of number zero;
//! * the history begins at the compacted revision (at 2, the first that can have events, if nothing has
//!   been compacted) or before it, as long as the sweep is behind.
//!
//! **Compaction** takes effect at once by moving `compact_revision`, which every read is held against.
//! Memory is given back later by the *sweep*, some dozens of versions per applied command: it walks the
//! history up to the compacted revision, and every event it meets supersedes exactly one version.
//! The work is thus proportional to what is removed. The versions visible at the compacted revision
//! stay, and so do its events, tombstones among them (etcd #18089, #19179: a watch may start there).

mod checksum;
mod copy;
mod history;
mod present;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::key::{Key, KeyRange, Value};
use crate::key_value::KeyValue;
use crate::query::{RangeQuery, RevisionFilter, Sort, SortBy};
use crate::response::RangeResponse;
use crate::revision::Revision;

use copy::Kept;
pub(crate) use copy::MvccCopy;
use history::History;
use present::Present;

/// Superseded versions of one key, oldest first.
type Versions = VecDeque<Arc<KeyValue>>;

/// All versions of all keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mvcc {
    revision: Revision,
    compact_revision: Revision,
    present: Present,
    past: BTreeMap<Key, Versions>,
    history: History,
    /// What the revision now being written has done so far.
    open: Vec<Arc<KeyValue>>,
    size_bytes: u64,
    /// The compaction whose garbage has been removed completely.
    swept: Revision,
    /// How many events of the history's first revision the sweep has dealt with.
    sweep_position: usize,
    /// The value of all tombstones.
    empty: Value,
    /// What is removed while a copy is in the making.
    #[serde(skip)]
    kept: Option<Kept>,
}

impl Mvcc {
    /// An empty store at revision one.
    pub(crate) fn new() -> Mvcc {
        Mvcc::compacted_at(Revision(0), Revision(1))
    }

    /// Without keys and events, at `revision`, with history to begin at the compacted revision.
    fn compacted_at(compact_revision: Revision, revision: Revision) -> Mvcc {
        Mvcc {
            revision,
            compact_revision,
            present: Present::new(),
            past: BTreeMap::new(),
            history: History::starting_at(first_with_events(compact_revision)),
            open: Vec::new(),
            size_bytes: 0,
            swept: compact_revision,
            sweep_position: 0,
            empty: Value::default(),
            kept: None,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    // --- Writing: any number of puts and deletes, then `commit` ---

    /// Puts what `make` makes of the version before; the new version's number and create revision are
    /// filled in here. Returns the new and the old version.
    pub(crate) fn put(
        &mut self,
        key: &Key,
        make: impl FnOnce(Option<&KeyValue>) -> (Value, crate::LeaseId),
    ) -> (Arc<KeyValue>, Option<Arc<KeyValue>>) {
        let revision = self.revision.next();
        let (new, old) = self.present.put(key, |old| {
            let (value, lease) = make(old);
            let (create_revision, version) =
                old.map_or((revision, 1), |old| (old.create_revision, old.version + 1));
            let key = key.clone();
            Arc::new(KeyValue { key, value, create_revision, mod_revision: revision, version, lease })
        });
        self.record(new.clone(), old.clone());
        (new, old)
    }

    /// Deletes every key of a range and returns their last versions.
    pub(crate) fn delete_range(&mut self, range: &KeyRange) -> Vec<Arc<KeyValue>> {
        let found: Vec<_> = match self.single(range) {
            Some(found) => found.into_iter().cloned().collect(),
            None => self.present.range(range).cloned().collect(),
        };
        for kv in &found {
            self.delete(kv);
        }
        found
    }

    /// Deletes a key, given its present version.
    pub(crate) fn delete(&mut self, kv: &KeyValue) {
        let old = self.present.remove(&kv.key);
        assert!(old.is_some(), "only what exists is deleted");
        let tombstone = KeyValue::tombstone(kv.key.clone(), self.revision.next(), self.empty.clone());
        self.record(Arc::new(tombstone), old);
    }

    /// Closes the revision, if anything was written since the last one.
    pub(crate) fn commit(&mut self) -> Option<Revision> {
        if self.open.is_empty() {
            return None;
        }
        self.revision = self.revision.next();
        self.history.push(self.revision, &mut self.open);
        Some(self.revision)
    }

    /// Notes a change of the present in the past and in the history.
    fn record(&mut self, new: Arc<KeyValue>, old: Option<Arc<KeyValue>>) {
        self.size_bytes += new.size_bytes();
        if let Some(old) = old {
            assert!(old.mod_revision < new.mod_revision, "a key is written once per revision");
            self.supersede(old);
        }
        if new.is_tombstone() {
            self.supersede(new.clone());
        }
        self.open.push(new);
    }

    /// Adds to the past. Most keys there have one version: no more room than that to begin with.
    fn supersede(&mut self, version: Arc<KeyValue>) {
        if let Some(versions) = self.past.get_mut(version.key.as_slice()) {
            return versions.push_back(version);
        }
        let (key, mut versions) = (version.key.clone(), Versions::with_capacity(1));
        versions.push_back(version);
        self.past.insert(key, versions);
    }

    // --- Reading ---

    /// The present version of a key; what has been written since the last commit counts.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.present.get(key)
    }

    /// The present versions of a range, in key order.
    pub(crate) fn iter<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Arc<KeyValue>> + 'a {
        self.present.range(range)
    }

    /// The version of a key at a revision that is not before the compacted one.
    pub(crate) fn at(&self, key: &[u8], revision: Revision) -> Option<&Arc<KeyValue>> {
        visible_at(revision, self.present.get(key), self.past.get(key))
    }

    /// The version that an event superseded, as far as it is known: etcd's `prev_kv`.
    pub(crate) fn before(&self, event: &KeyValue) -> Option<&Arc<KeyValue>> {
        let revision = Revision(event.mod_revision.0 - 1);
        if event.version == 1 || revision < self.compact_revision {
            return None;
        }
        self.at(&event.key, revision)
    }

    /// The events of a revision that is not before the compacted one.
    pub(crate) fn events(&self, revision: Revision) -> &[Arc<KeyValue>] {
        self.history.events(revision)
    }

    /// Whether a revision can be read; `None` and etcd's zero are the present.
    pub(crate) fn check_revision(&self, revision: Option<Revision>) -> Result<(), Error> {
        match revision {
            Some(revision) if revision.0 <= 0 => Ok(()),
            Some(revision) if revision > self.revision => Err(Error::FutureRevision),
            Some(revision) if revision < self.compact_revision => Err(Error::Compacted),
            _ => Ok(()),
        }
    }

    /// Answers a range query. Counting costs O(n / 64) steps at the present revision and O(n) at a past one.
    pub(crate) fn range(&self, query: &RangeQuery) -> Result<RangeResponse, Error> {
        self.check_revision(query.revision)?;
        // A limit may end the walk early only if neither a sort nor a filter comes after it. One key
        // more than the limit is fetched, to know whether there is more.
        let sorts_all = query.sort.is_some_and(|sort| !sort.limit_first && !sort.is_key_order());
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let fetch = match (limit, sorts_all || query.filter.is_some(), query.count_only) {
            (_, _, true) => 0,
            (0, ..) | (_, true, _) => usize::MAX,
            (limit, ..) => limit.saturating_add(1),
        };
        let (mut kvs, count) = match query.revision {
            Some(revision) if revision.0 > 0 && (revision < self.revision || !self.open.is_empty()) => {
                self.range_past(&query.range, revision, fetch)
            }
            _ => self.range_present(&query.range, fetch),
        };
        if let Some(filter) = &query.filter {
            kvs.retain(|kv| filter.admits(kv));
        }
        if let Some(sort) = query.sort.filter(|sort| !sort.is_key_order()) {
            sort.apply(&mut kvs);
        }
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        Ok(RangeResponse { kvs, more, count: count as i64, keys_only: query.keys_only })
    }

    fn range_present(&self, range: &KeyRange, fetch: usize) -> (Vec<Arc<KeyValue>>, usize) {
        if let Some(found) = self.single(range) {
            return (found.into_iter().take(fetch).cloned().collect(), usize::from(found.is_some()));
        }
        let count = self.present.count(range);
        let mut kvs = Vec::with_capacity(count.min(fetch));
        kvs.extend(self.present.range(range).take(fetch).cloned());
        (kvs, count)
    }

    fn range_past(&self, range: &KeyRange, revision: Revision, fetch: usize) -> (Vec<Arc<KeyValue>>, usize) {
        let (mut kvs, mut count) = (Vec::new(), 0);
        for (present, past) in self.walk(range) {
            if let Some(kv) = visible_at(revision, present, past) {
                count += 1;
                if kvs.len() < fetch {
                    kvs.push(kv.clone());
                }
            }
        }
        (kvs, count)
    }

    /// If a range is a single key: its present version.
    fn single(&self, range: &KeyRange) -> Option<Option<&Arc<KeyValue>>> {
        range.is_single().then(|| self.present.get(&range.start))
    }

    /// Every key of a range that has a version, in order, with its present version and its past.
    fn walk<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = (Option<&'a Arc<KeyValue>>, Option<&'a Versions>)> + 'a {
        let mut present = self.present.range(range).peekable();
        let past = range.bounds().map(|bounds| self.past.range::<[u8], _>(bounds));
        let mut past = past.into_iter().flatten().peekable();
        core::iter::from_fn(move || {
            let order = match (present.peek(), past.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(kv), Some((key, _))) => kv.key.cmp(key),
            };
            let kv = if order.is_le() { present.next() } else { None };
            let versions = if order.is_ge() { past.next() } else { None };
            Some((kv, versions.map(|(_, versions)| versions)))
        })
    }

    /// The revisions from `from` on at which a key of the range changed, ascending; `None` if finding
    /// out takes more than `steps` steps.
    pub(crate) fn revisions_of(
        &self,
        range: &KeyRange,
        from: Revision,
        mut steps: usize,
    ) -> Option<Vec<Revision>> {
        let mut revisions = Vec::new();
        for (present, past) in self.walk(range) {
            let newest = present.map(|kv| kv.mod_revision);
            let older = past.into_iter().flatten().rev().map(|kv| kv.mod_revision);
            let found = revisions.len();
            revisions.extend(newest.into_iter().chain(older).take_while(|r| *r >= from).take(steps));
            steps = steps.checked_sub(revisions.len() - found + 1)?;
        }
        revisions.sort_unstable();
        revisions.dedup();
        Some(revisions)
    }

    /// Whether a copy is in the making.
    pub(crate) fn is_being_copied(&self) -> bool {
        self.kept.is_some()
    }

    /// No copy is in the making any more.
    pub(crate) fn abandon_copy(&mut self) {
        self.kept = None;
    }

    // --- Compaction ---

    /// Forgets what only states before `revision` show. From here on such states cannot be read; memory
    /// is given back by `sweep`.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compact_revision = revision;
        // The sweep may have dealt with events of what was the last revision to keep; their tombstones
        // can go now, so it looks at them again.
        self.sweep_position = 0;
        Ok(())
    }

    /// Removes up to about `steps` superseded versions. Returns whether some are left. Nothing that can
    /// be observed changes but `size_bytes`.
    pub(crate) fn sweep(&mut self, mut steps: usize) -> bool {
        while self.swept < self.compact_revision {
            let revision = self.history.first();
            let keep_events = revision >= self.compact_revision;
            while let Some(event) = self.history.events(revision).get(self.sweep_position) {
                if steps == 0 {
                    return true;
                }
                steps -= 1;
                self.sweep_position += 1;
                let event = event.clone();
                self.forget_before(&event, keep_events);
            }
            self.sweep_position = 0;
            if keep_events {
                self.swept = self.compact_revision;
            } else {
                if let Some(kept) = &mut self.kept {
                    kept.revision(revision, self.history.events(revision));
                }
                self.history.pop_first();
            }
        }
        false
    }

    /// Removes what an event superseded, and the event itself if it is a tombstone not to be kept.
    fn forget_before(&mut self, event: &KeyValue, keep_tombstone: bool) {
        let Some(versions) = self.past.get_mut(&event.key) else { return };
        while let Some(version) = versions.front() {
            let goes = version.mod_revision < event.mod_revision
                || (version.mod_revision == event.mod_revision && event.is_tombstone() && !keep_tombstone);
            if !goes {
                return;
            }
            self.size_bytes -= version.size_bytes();
            let removed = versions.pop_front();
            if let (Some(kept), Some(removed)) = (&mut self.kept, removed) {
                kept.version(removed);
            }
        }
        self.past.remove(&event.key);
    }

    // --- Export and import: the state at a compacted revision, then the events since ---

    /// Every key of a range, in order, with the version that was visible at `compact_revision` if it was
    /// older than that: what an export has before the history.
    pub(crate) fn base<'a>(
        &'a self,
        range: &'a KeyRange,
        compact_revision: Revision,
    ) -> impl Iterator<Item = (&'a Key, Option<&'a Arc<KeyValue>>)> + 'a {
        self.walk(range).map(move |(present, past)| {
            let any = present.or_else(|| past.and_then(VecDeque::front)).expect("a key has a version");
            let visible = visible_at(compact_revision, present, past);
            (&any.key, visible.filter(|kv| kv.mod_revision < compact_revision))
        })
    }

    /// Begins an import.
    pub(crate) fn importing(compact_revision: Revision) -> Mvcc {
        let revision = Revision(first_with_events(compact_revision).0 - 1);
        Mvcc::compacted_at(compact_revision, revision)
    }

    /// Takes over a version that was written before the history begins.
    pub(crate) fn import_base(&mut self, kv: &Arc<KeyValue>) -> Result<(), &'static str> {
        let sound = !kv.is_tombstone() && kv.is_plausible() && kv.mod_revision < self.compact_revision;
        if !sound {
            return Err("a version of the base is not one");
        }
        self.size_bytes += kv.size_bytes();
        match self.present.put(&kv.key, |_| kv.clone()) {
            (_, None) => Ok(()),
            (_, Some(_)) => Err("the base has a key twice"),
        }
    }

    /// Takes over the next event. Events of one revision must follow each other; `commit` comes between
    /// revisions.
    pub(crate) fn import_event(&mut self, event: &Arc<KeyValue>) -> Result<(), &'static str> {
        if event.mod_revision != self.revision.next() {
            return Err("revisions are not consecutive");
        }
        let key = event.key.as_slice();
        let newest = self.present.get(key).or_else(|| self.past.get(key).and_then(VecDeque::back));
        if newest.is_some_and(|newest| newest.mod_revision >= event.mod_revision) {
            return Err("a revision writes a key twice");
        }
        let old = self.present.get(key);
        // What the events of the compacted revision superseded is not in the snapshot.
        let unknown_before = event.mod_revision == self.compact_revision;
        let sound = match (event.is_tombstone(), old) {
            (false, Some(old)) => {
                !unknown_before
                    && event.create_revision == old.create_revision
                    && event.version == old.version + 1
            }
            (false, None) => event.is_plausible() && (unknown_before || event.is_create()),
            (true, old) => event.is_plausible() && old.is_some() != unknown_before,
        };
        if !sound {
            return Err("an event does not follow from the version before");
        }
        let old = if event.is_tombstone() {
            self.present.remove(key)
        } else {
            self.present.put(key, |_| event.clone()).1
        };
        self.record(event.clone(), old);
        Ok(())
    }

    /// How many keys exist.
    pub(crate) fn len(&self) -> usize {
        self.present.len()
    }
}

/// The first revision of which the history has events. Nothing happened at revision one.
pub(crate) fn first_with_events(compact_revision: Revision) -> Revision {
    compact_revision.max(Revision(2))
}

/// Which of a key's versions is visible at a revision.
fn visible_at<'a>(
    revision: Revision,
    present: Option<&'a Arc<KeyValue>>,
    past: Option<&'a Versions>,
) -> Option<&'a Arc<KeyValue>> {
    if let Some(kv) = present.filter(|kv| kv.mod_revision <= revision) {
        return Some(kv);
    }
    let past = past?;
    let newer = past.partition_point(|kv| kv.mod_revision <= revision);
    past.get(newer.checked_sub(1)?).filter(|kv| !kv.is_tombstone())
}

impl RevisionFilter {
    fn admits(&self, kv: &KeyValue) -> bool {
        let within = |revision: Revision, min: i64, max: i64| {
            (min == 0 || revision.0 >= min) && (max == 0 || revision.0 <= max)
        };
        within(kv.mod_revision, self.min_mod, self.max_mod)
            && within(kv.create_revision, self.min_create, self.max_create)
    }
}

impl Sort {
    /// Whether it asks for the order that results have anyway.
    fn is_key_order(&self) -> bool {
        self.by == SortBy::Key && !self.descending
    }

    /// Sorts; equals stay in key order, which etcd leaves open.
    fn apply(&self, kvs: &mut [Arc<KeyValue>]) {
        let by = |a: &KeyValue, b: &KeyValue| match self.by {
            SortBy::Key => a.key.cmp(&b.key),
            SortBy::Version => a.version.cmp(&b.version),
            SortBy::Create => a.create_revision.cmp(&b.create_revision),
            SortBy::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortBy::Value => a.value.cmp(&b.value),
        };
        kvs.sort_by(|a, b| if self.descending { by(b, a) } else { by(a, b) });
    }
}
