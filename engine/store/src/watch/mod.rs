//! Watchers: cursors over history, with credit.
//!
//! A watcher owns no events. It knows which revisions hold events for it (*matches*), and up to where
//! it knows that. When its turn comes and it has credit, the events of its first matches are read from
//! the history. A slow watcher and a fast one differ only in how far back the cursor is:
//!
//! * **At the head**, every match is known. A new revision finds its watchers through an index
//!   ([`subjects`]) and is added to their matches, so a watcher without news costs nothing.
//! * **Behind**, matches are known up to `scan_from` only. New revisions are not noted, for they will
//!   be found: when matches run out, the history is searched from `scan_from` on, and a watcher that
//!   finds nothing more is at the head. A watcher starts here if it starts in the past, and falls back
//!   to here if it leaves so many matches unread that remembering them would be a buffer.
//!
//! Promises to a watcher: events come in order, once, none left out, all events of a revision in one
//! update; nothing of before its start revision (etcd #20221); a `Progress` follows every event that is
//! not later than it (etcd #15220); once what it needs next has been compacted, it is told and gone; that happens only to
//! watchers that start in the past or lack credit.

mod subjects;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::key_value::KeyValue;
use crate::mvcc::Mvcc;
use crate::query::WatchRequest;
use crate::response::{Event, EventKind, WatchUpdate};
use crate::revision::Revision;
use crate::store::WatchId;

use subjects::Subjects;

/// All watchers of a store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Watchers {
    /// Watchers live in slots, so that an event reaches each of a thousand without a search.
    slots: Vec<Option<Watcher>>,
    /// Slots that are free. One that is still in `runnable` is not, until it has been taken from there.
    free: Vec<Slot>,
    ids: BTreeMap<WatchId, Slot>,
    subjects: Subjects,
    /// Who may have something to say, in turn.
    runnable: VecDeque<Slot>,
    /// Watchers that asked for progress before their start revision, by that revision.
    waiting: BTreeSet<(Revision, Slot)>,
    /// Updates made before they were polled, because a compaction came.
    ready: VecDeque<(WatchId, WatchUpdate)>,
}

/// Where a watcher lives.
pub(crate) type Slot = u32;

/// One watcher.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Watcher {
    id: WatchId,
    request: WatchRequest,
    /// To be told first: the revision at which the watcher was added.
    created: Option<Revision>,
    /// Nothing earlier is of interest.
    start: Revision,
    /// Revisions with events for this watcher, not delivered yet, ascending.
    matches: VecDeque<Revision>,
    /// Matches from this revision on are not known; `None` if all are.
    scan_from: Option<Revision>,
    /// How many events may be delivered; negative after an update that overdrew.
    credit: i64,
    /// Whether a `Progress` has been asked for.
    progress: bool,
    /// Whether the slot is in `runnable`.
    queued: bool,
}

impl Watchers {
    /// Adds a watcher. A watcher with the same id is replaced.
    pub(crate) fn add(&mut self, id: WatchId, request: WatchRequest, revision: Revision) {
        self.cancel(id);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as Slot
        });
        self.ids.insert(id, slot);
        self.subjects.add(&request.range, slot);
        let start = request.start.unwrap_or(revision.next()).max(Revision(1));
        self.slots[slot as usize] = Some(Watcher {
            id,
            request,
            created: Some(revision),
            start,
            matches: VecDeque::new(),
            scan_from: (start <= revision).then_some(start),
            credit: 0,
            progress: false,
            queued: false,
        });
        self.enqueue(slot);
    }

    /// Removes a watcher, if there is one, and what it has not been told yet.
    pub(crate) fn cancel(&mut self, id: WatchId) {
        self.remove(id);
        self.ready.retain(|(other, _)| *other != id);
    }

    fn remove(&mut self, id: WatchId) {
        let Some(slot) = self.ids.remove(&id) else { return };
        let watcher = self.slots[slot as usize].take().expect("an id names a slot in use");
        self.subjects.remove(&watcher.request.range, slot);
        if let Some(start) = watcher.request.start {
            self.waiting.remove(&(start, slot));
        }
        if !watcher.queued {
            self.free.push(slot);
        }
    }

    pub(crate) fn credit(&mut self, id: WatchId, events: u32) {
        let Some(slot) = self.ids.get(&id).copied() else { return };
        let watcher = self.slots[slot as usize].as_mut().expect("an id names a slot in use");
        watcher.credit = watcher.credit.saturating_add(i64::from(events));
        self.enqueue(slot);
    }

    pub(crate) fn request_progress(&mut self, id: WatchId, revision: Revision) {
        let Some(slot) = self.ids.get(&id).copied() else { return };
        let watcher = self.slots[slot as usize].as_mut().expect("an id names a slot in use");
        watcher.progress = true;
        if let Some(start) = watcher.awaited(revision) {
            self.waiting.insert((start, slot));
        }
        self.enqueue(slot);
    }

    /// A revision has been written: its events find their watchers.
    pub(crate) fn note(&mut self, revision: Revision, events: &[Arc<KeyValue>]) {
        while let Some((start, slot)) = self.waiting.first().copied()
            && start <= revision
        {
            self.waiting.pop_first();
            self.enqueue(slot);
        }
        let Watchers { slots, subjects, runnable, .. } = self;
        for event in events {
            subjects.for_each(&event.key, |slot| {
                let watcher = slots[slot as usize].as_mut().expect("a subject names slots in use");
                watcher.note(revision, event);
                if (watcher.can_deliver() || watcher.progress) && !watcher.queued {
                    watcher.queued = true;
                    runnable.push_back(slot);
                }
            });
        }
    }

    /// History is about to be compacted: whoever has credit gets what has happened until now. Otherwise
    /// a compaction that comes in the same turn as a write would lose a watcher that did not lag at all.
    pub(crate) fn before_compact(&mut self, mvcc: &Mvcc) {
        while let Some(update) = self.next_in_turn(mvcc) {
            self.ready.push_back(update);
        }
    }

    /// History has been compacted: whoever still needed it is to be told.
    pub(crate) fn on_compact(&mut self, compact_revision: Revision) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|watcher| watcher.is_lost(compact_revision)) {
                self.enqueue(slot as Slot);
            }
        }
    }

    /// The contents have been replaced: every watcher goes on after what it has seen of the old ones,
    /// never before (etcd #15271).
    pub(crate) fn on_replace(&mut self, old_revision: Revision, revision: Revision) {
        for slot in 0..self.slots.len() {
            let Some(watcher) = self.slots[slot].as_mut() else { continue };
            watcher.start = watcher.needs().unwrap_or(watcher.start.max(old_revision.next()));
            watcher.matches.clear();
            watcher.scan_from = (watcher.start <= revision).then_some(watcher.start);
            self.enqueue(slot as Slot);
        }
        self.waiting.clear();
        for (slot, watcher) in self.slots.iter().enumerate() {
            let asking = watcher.as_ref().filter(|watcher| watcher.progress);
            if let Some(start) = asking.and_then(|watcher| watcher.awaited(revision)) {
                self.waiting.insert((start, slot as Slot));
            }
        }
    }

    /// The next update for anybody, in turn.
    pub(crate) fn poll(&mut self, mvcc: &Mvcc) -> Option<(WatchId, WatchUpdate)> {
        self.ready.pop_front().or_else(|| self.next_in_turn(mvcc))
    }

    fn next_in_turn(&mut self, mvcc: &Mvcc) -> Option<(WatchId, WatchUpdate)> {
        while let Some(slot) = self.runnable.pop_front() {
            let Some(watcher) = self.slots[slot as usize].as_mut() else {
                // It was cancelled while it waited for its turn.
                self.free.push(slot);
                continue;
            };
            watcher.queued = false;
            let Some(update) = watcher.next_update(mvcc) else { continue };
            let id = watcher.id;
            if matches!(update, WatchUpdate::Compacted { .. }) {
                self.remove(id);
            } else if watcher.can_deliver() || watcher.progress || watcher.is_lost(mvcc.compact_revision()) {
                self.enqueue(slot);
            }
            return Some((id, update));
        }
        None
    }

    fn enqueue(&mut self, slot: Slot) {
        if let Some(watcher) = self.slots[slot as usize].as_mut()
            && !watcher.queued
        {
            watcher.queued = true;
            self.runnable.push_back(slot);
        }
    }
}

impl Watcher {
    /// Takes note of an event in its range. Cheap, because there may be thousands to whom it happens.
    fn note(&mut self, revision: Revision, event: &KeyValue) {
        let known = self.scan_from.is_some() || self.matches.back() == Some(&revision);
        if known || revision < self.start || !self.wants(event) {
            return;
        }
        if self.matches.len() < MATCHES_MAX {
            self.matches.push_back(revision);
        } else {
            self.scan_from = Some(revision);
        }
    }

    /// Whether the filters let an event pass.
    fn wants(&self, event: &KeyValue) -> bool {
        if event.is_tombstone() { !self.request.no_delete } else { !self.request.no_put }
    }

    fn matches_any(&self, events: &[Arc<KeyValue>]) -> bool {
        events.iter().any(|event| self.wants(event) && self.request.range.contains(&event.key))
    }

    /// The first revision that must still be in the history; `None` for a watcher that waits for news.
    fn needs(&self) -> Option<Revision> {
        self.matches.front().copied().or(self.scan_from)
    }

    /// The start revision that was asked for, if it does not exist yet: no progress before it.
    fn awaited(&self, revision: Revision) -> Option<Revision> {
        self.request.start.filter(|start| *start > revision)
    }

    /// Whether what it needs next is gone.
    fn is_lost(&self, compact_revision: Revision) -> bool {
        self.needs().is_some_and(|needs| needs < compact_revision)
    }

    /// Whether there may be something to deliver.
    fn can_deliver(&self) -> bool {
        self.credit > 0 && self.needs().is_some()
    }

    /// What the watcher is to be told next, if anything.
    fn next_update(&mut self, mvcc: &Mvcc) -> Option<WatchUpdate> {
        let revision = mvcc.revision();
        if let Some(revision) = self.created.take() {
            return Some(WatchUpdate::Created { revision });
        }
        let compact_revision = mvcc.compact_revision();
        if self.is_lost(compact_revision) {
            return Some(WatchUpdate::Compacted { compact_revision, revision });
        }
        if self.matches.is_empty() && (self.credit > 0 || self.progress) {
            self.search(mvcc);
        }
        if self.credit > 0 && !self.matches.is_empty() {
            return Some(WatchUpdate::Events { revision, events: self.take_events(mvcc) });
        }
        if self.progress && self.needs().is_none() && self.awaited(revision).is_none() {
            self.progress = false;
            return Some(WatchUpdate::Progress { revision });
        }
        None
    }

    /// Reads the events of as many matches as there is credit for; of the last one all, in any case.
    fn take_events(&mut self, mvcc: &Mvcc) -> Vec<Event> {
        let mut events = Vec::with_capacity(self.matches.len());
        while self.credit > 0
            && events.len() < UPDATE_EVENTS_MAX
            && let Some(revision) = self.matches.pop_front()
        {
            let before = events.len();
            for event in mvcc.events(revision) {
                if self.wants(event) && self.request.range.contains(&event.key) {
                    events.push(self.event(event, mvcc));
                }
            }
            assert!(events.len() > before, "a match has events");
            self.credit -= (events.len() - before) as i64;
        }
        events
    }

    fn event(&self, version: &Arc<KeyValue>, mvcc: &Mvcc) -> Event {
        let kind = if version.is_tombstone() {
            EventKind::Delete { key: version.key.clone(), revision: version.mod_revision }
        } else {
            EventKind::Put(version.clone())
        };
        let previous = if self.request.previous { mvcc.before(version).cloned() } else { None };
        Event { kind, previous }
    }

    /// Looks for matches from `scan_from` on, until there are some or the present is reached.
    ///
    /// There are two ways: through the history, whose cost is the number of revisions, or through the
    /// versions of the range's keys. Which is shorter depends on the range, so both are tried in turn
    /// with growing patience: the cost is a small multiple of that of the shorter way.
    fn search(&mut self, mvcc: &Mvcc) {
        let mut steps = SEARCH_STEPS;
        while let Some(from) = self.scan_from {
            self.scan_from = self.search_history(from, steps, mvcc);
            let Some(from) = self.scan_from.filter(|_| self.matches.is_empty()) else { return };
            if let Some(revisions) = mvcc.revisions_of(&self.request.range, from, steps) {
                self.scan_from = revisions.get(MATCHES_MAX).copied();
                let wanted = |revision: &Revision| self.matches_any(mvcc.events(*revision));
                self.matches = revisions.iter().take(MATCHES_MAX).copied().filter(wanted).collect();
                if !self.matches.is_empty() {
                    return;
                }
            }
            steps *= 2;
        }
    }

    /// Goes through some revisions of the history; returns where to go on, `None` at the present.
    fn search_history(&mut self, from: Revision, steps: usize, mvcc: &Mvcc) -> Option<Revision> {
        let mut next = from;
        for _ in 0..steps {
            if next > mvcc.revision() || self.matches.len() == MATCHES_MAX {
                break;
            }
            if self.matches_any(mvcc.events(next)) {
                self.matches.push_back(next);
            }
            next = next.next();
        }
        (next <= mvcc.revision()).then_some(next)
    }
}

/// How many undelivered revisions a watcher remembers; beyond that it looks them up again.
const MATCHES_MAX: usize = 128;

/// How many events an update holds at most, but for the last revision in it.
const UPDATE_EVENTS_MAX: usize = 1000;

/// How many steps a search tries one way before it tries the other.
const SEARCH_STEPS: usize = 1024;
