//! All versions as they are at one moment, copied in steps while writing goes on.
//!
//! A clone takes time for every version, all of it at once. This copy takes that time in as many steps as its owner
//! likes, and is nevertheless of the moment at which it was begun: versions are never altered, what has come since has a later revision
//! and is left out, and what the sweep removes meanwhile is [`Kept`] aside. So the copy changes nothing for the original.
//!
//! Unlike a snapshot it is exact: garbage is copied as garbage, and the sweep of the copy goes on where that of the
//! original was. Where the present ends and the past begins follows from the versions, and so does the history of a revision
//! with one event. Copied on their own are the events of revisions that have several, because their order is told
//! nowhere else, and those of the history's first revision, because the sweep may have removed their versions.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use super::Mvcc;
use super::history::History;
use super::present::Present;
use crate::key::{Key, KeyRange, RangeEnd};
use crate::key_value::KeyValue;
use crate::revision::Revision;

/// A copy, complete or in the making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MvccCopy {
    /// Everything but the versions.
    rest: Mvcc,
    /// All versions, by key and then by revision, a piece for each step: a single vector would be moved as it grows.
    versions: Vec<Vec<Arc<KeyValue>>>,
    /// The events of some revisions, in order.
    events: Vec<Vec<Arc<KeyValue>>>,
    /// What was removed before the copy was complete; some of it may have been copied.
    kept: Kept,
    stage: Stage,
}

/// What the sweep has removed while a copy is in the making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The first revision of the history when the copy was begun.
    first: Revision,
    versions: Vec<Arc<KeyValue>>,
    events: BTreeMap<Revision, Vec<Arc<KeyValue>>>,
}

impl Kept {
    /// A version is removed.
    pub(super) fn version(&mut self, version: Arc<KeyValue>) {
        self.versions.push(version);
    }

    /// The history forgets a revision.
    pub(super) fn revision(&mut self, revision: Revision, events: &[Arc<KeyValue>]) {
        if events.len() > 1 || revision == self.first {
            self.events.insert(revision, events.to_vec());
        }
    }
}

/// What the next step begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stage {
    /// The versions of these keys; of the first one only those after this revision.
    Versions(KeyRange, Revision),
    /// The events from this position of this revision on.
    Events(Revision, usize),
    Complete,
}

impl MvccCopy {
    /// Begins a copy of what is there now; `mvcc` keeps for it what is removed, until the copy is complete.
    pub(crate) fn begin(mvcc: &mut Mvcc) -> MvccCopy {
        assert!(mvcc.open.is_empty(), "copies are begun between two commands");
        let rest = Mvcc {
            present: Present::new(),
            past: BTreeMap::new(),
            history: History::starting_at(mvcc.history.first()),
            open: Vec::new(),
            empty: mvcc.empty.clone(),
            kept: None,
            ..*mvcc
        };
        let everything = KeyRange { start: Key::default(), end: RangeEnd::Unbounded };
        let stage = Stage::Versions(everything, Revision(0));
        let kept = Kept { first: rest.history.first(), versions: Vec::new(), events: BTreeMap::new() };
        mvcc.kept = Some(kept.clone());
        MvccCopy { rest, versions: Vec::new(), events: Vec::new(), kept, stage }
    }

    /// Copies some more of what was there when the copy was begun: so much that it takes about as many steps. Returns
    /// whether it is complete.
    pub(crate) fn go_on(&mut self, mvcc: &mut Mvcc, mut steps: usize) -> bool {
        while steps > 0 && !matches!(self.stage, Stage::Complete) {
            self.stage = match mem::replace(&mut self.stage, Stage::Complete) {
                Stage::Versions(range, after) => self.copy_versions(mvcc, &range, after, &mut steps),
                Stage::Events(revision, position) => self.copy_events(mvcc, revision, position, &mut steps),
                Stage::Complete => Stage::Complete,
            };
        }
        let complete = matches!(self.stage, Stage::Complete);
        if complete && let Some(kept) = mvcc.kept.take() {
            self.kept = kept;
        }
        complete
    }

    fn copy_versions(
        &mut self,
        mvcc: &Mvcc,
        range: &KeyRange,
        mut after: Revision,
        steps: &mut usize,
    ) -> Stage {
        let until = self.rest.revision;
        let mut piece = Vec::new();
        let mut stage = Stage::Events(self.rest.history.first(), 0);
        'keys: for (present, past) in mvcc.walk(range) {
            let any = present.or_else(|| past.and_then(VecDeque::front)).expect("a key has a version");
            let rest_from = |key: &Key| KeyRange { start: key.clone(), end: RangeEnd::Unbounded };
            if any.key != range.start {
                // (The key at which this was to go on may be gone.)
                after = Revision(0);
            }
            if *steps == 0 {
                stage = Stage::Versions(rest_from(&any.key), after);
                break;
            }
            let known = past.map_or(0, |past| past.partition_point(|kv| kv.mod_revision <= after));
            let older = past.into_iter().flat_map(|past| past.range(known..));
            for kv in older.chain(present).take_while(|kv| kv.mod_revision <= until) {
                if *steps == 0 {
                    stage = Stage::Versions(rest_from(&any.key), after);
                    break 'keys;
                }
                if kv.mod_revision > after {
                    *steps = steps.saturating_sub(VERSION_STEPS);
                    after = kv.mod_revision;
                    piece.push(kv.clone());
                }
            }
            *steps = steps.saturating_sub(1);
        }
        self.versions.push(piece);
        stage
    }

    fn copy_events(
        &mut self,
        mvcc: &Mvcc,
        mut revision: Revision,
        mut position: usize,
        steps: &mut usize,
    ) -> Stage {
        let (first, until) = (self.rest.history.first(), self.rest.revision);
        let mut piece = Vec::new();
        while revision <= until && *steps > 0 {
            let events = mvcc.events(revision);
            let wanted = events.len() > 1 || revision == first;
            match events.get(position).filter(|_| wanted) {
                Some(event) => {
                    *steps = steps.saturating_sub(VERSION_STEPS);
                    piece.push(event.clone());
                    position += 1;
                }
                None => {
                    *steps = steps.saturating_sub(1);
                    (revision, position) = (revision.next(), 0);
                }
            }
        }
        self.events.push(piece);
        if revision <= until { Stage::Events(revision, position) } else { Stage::Complete }
    }

    /// What was copied.
    pub(crate) fn restore(self) -> Result<Mvcc, &'static str> {
        let MvccCopy { rest: mut mvcc, versions, events, kept, stage } = self;
        if !matches!(stage, Stage::Complete) {
            return Err("the copy is not complete");
        }
        let first = mvcc.history.first();
        let mut several = BTreeMap::<Revision, Vec<Arc<KeyValue>>>::new();
        for event in events.into_iter().flatten() {
            several.entry(event.mod_revision).or_default().push(event);
        }
        // Of what was copied in part, or not at all, before it was removed, all was kept.
        several.extend(kept.events.into_iter().filter(|(revision, _)| *revision <= mvcc.revision));
        let removed = kept.versions.into_iter().filter(|version| version.mod_revision <= mvcc.revision);
        let mut versions: Vec<_> = versions.into_iter().flatten().chain(removed).collect();
        versions.sort_by(|a, b| (&a.key, a.mod_revision).cmp(&(&b.key, b.mod_revision)));
        versions.dedup_by(|a, b| a.key == b.key && a.mod_revision == b.mod_revision);
        let mut single = Vec::new();
        let mut versions = versions.into_iter().peekable();
        while let Some(version) = versions.next() {
            if version.mod_revision >= first && !several.contains_key(&version.mod_revision) {
                single.push(version.clone());
            }
            mvcc.restore_version(version, versions.peek());
        }
        single.sort_unstable_by_key(|event| event.mod_revision);
        let mut single = VecDeque::from(single);
        while mvcc.history.next() <= mvcc.revision {
            let revision = mvcc.history.next();
            let mut events = several.remove(&revision).or_else(|| Some(alloc::vec![single.pop_front()?]));
            let events = events.as_mut().filter(|events| events[0].mod_revision == revision);
            mvcc.history.push(revision, events.ok_or("a revision has no events")?);
        }
        if single.is_empty() && several.is_empty() { Ok(mvcc) } else { Err("a revision has too many events") }
    }
}

impl Mvcc {
    /// Puts a version where it belongs, given the one that comes after it.
    fn restore_version(&mut self, version: Arc<KeyValue>, next: Option<&Arc<KeyValue>>) {
        let superseded = next.is_some_and(|next| next.key == version.key);
        if superseded || version.is_tombstone() {
            self.supersede(version);
        } else {
            self.present.put(&version.key, |_| version.clone());
        }
    }
}

/// To copy a version takes about as long as to pass so many by: it is touched, and seldom in a cache.
const VERSION_STEPS: usize = 8;
