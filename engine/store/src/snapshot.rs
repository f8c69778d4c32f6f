//! Exporting and importing the whole state in parts.
//!
//! A snapshot is the state at the compacted revision, followed by every event since: what was last
//! changed before the compacted revision key by key, then the events in the order in which they
//! happened. Whoever imports it replays the events and thereby gets index and history alike; each event
//! is checked to follow from the version before it, so no damaged or hostile snapshot can build a store
//! that breaks an invariant.
//!
//! ```text
//! Head    revision, compacted revision, checksum, leases, members, removed members, alarms
//! Base*   versions older than the compacted revision that were visible at it, ascending by key
//! Events* versions and tombstones from the compacted revision on, in order, every revision present
//! End     how many versions there were
//! ```
//!
//! An export is pinned to the revision at which it was opened. Writes and compactions go on meanwhile
//! and do not change it: versions are never altered, and the sweep waits.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::alarm::Alarms;
use crate::command::AlarmKind;
use crate::hash::{Checksum, Effect};
use crate::key::{Key, KeyRange, RangeEnd};
use crate::key_value::KeyValue;
use crate::lease::Leases;
use crate::member::{Member, Members};
use crate::mvcc::{Mvcc, first_with_events};
use crate::revision::{LeaseId, Revision};
use crate::store::{ImportError, Store};

/// A piece of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotPart {
    /// Comes first, once.
    Head(SnapshotHead),
    /// The state at the compacted revision, as far as it is older than that. May be empty.
    Base(Vec<Arc<KeyValue>>),
    /// What happened from the compacted revision on. A revision may be spread over parts.
    Events(Vec<Arc<KeyValue>>),
    /// Comes last, once.
    End {
        /// How many versions all parts held, so that a missing part is noticed.
        versions: u64,
    },
}

/// What a snapshot covers, and the small tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The state's revision.
    pub revision: Revision,
    /// The revision up to which history is forgotten.
    pub compact_revision: Revision,
    /// `Store::state_hash`'s state, which goes on from here.
    pub checksum: u64,
    /// Leases with their granted time to live, ascending.
    pub leases: Vec<(LeaseId, i64)>,
    /// Members, ascending by id.
    pub members: Vec<Member>,
    /// Ids that were members', ascending.
    pub removed: Vec<u64>,
    /// The alarms that are on, ascending.
    pub alarms: Vec<(u64, AlarmKind)>,
}

/// How far an export has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotCursor {
    head: SnapshotHead,
    stage: Stage,
    versions: u64,
}

/// What an export does next.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stage {
    Head,
    /// The keys of this range are left.
    Base(KeyRange),
    /// The events from this position of this revision on are left.
    Events(Revision, usize),
    End,
    Done,
}

impl SnapshotCursor {
    pub(crate) fn new(head: SnapshotHead) -> SnapshotCursor {
        SnapshotCursor { head, stage: Stage::Head, versions: 0 }
    }

    /// The next part; see `Store::next_part`.
    pub(crate) fn next(&mut self, mvcc: &Mvcc, bytes_max: usize) -> Option<SnapshotPart> {
        match core::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Head => {
                let everything = KeyRange { start: Key::default(), end: RangeEnd::Unbounded };
                // Without a compaction nothing is older than the history; spare the walk.
                self.stage = match self.head.compact_revision.0 {
                    0 => self.first_event(),
                    _ => Stage::Base(everything),
                };
                Some(SnapshotPart::Head(self.head.clone()))
            }
            Stage::Base(range) => Some(self.next_base(mvcc, &range, bytes_max)),
            Stage::Events(revision, position) => self.next_events(mvcc, revision, position, bytes_max),
            Stage::End => Some(SnapshotPart::End { versions: self.versions }),
            Stage::Done => None,
        }
    }

    fn first_event(&self) -> Stage {
        Stage::Events(first_with_events(self.head.compact_revision), 0)
    }

    fn next_base(&mut self, mvcc: &Mvcc, range: &KeyRange, bytes_max: usize) -> SnapshotPart {
        let (mut part, mut bytes) = (Vec::new(), 0);
        self.stage = self.first_event();
        for (key, version) in mvcc.base(range, self.head.compact_revision) {
            if bytes >= bytes_max && bytes > 0 {
                self.stage = Stage::Base(KeyRange { start: key.clone(), end: RangeEnd::Unbounded });
                break;
            }
            // Keys without a version to export count too, so that the time for a part is bounded.
            bytes += ENCODED_BYTES + version.map_or(0, |kv| kv.key.len() + kv.value.len());
            part.extend(version.cloned());
        }
        self.versions += part.len() as u64;
        SnapshotPart::Base(part)
    }

    fn next_events(
        &mut self,
        mvcc: &Mvcc,
        mut revision: Revision,
        mut position: usize,
        bytes_max: usize,
    ) -> Option<SnapshotPart> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while revision <= self.head.revision && (bytes < bytes_max || bytes == 0) {
            let Some(event) = mvcc.events(revision).get(position) else {
                (revision, position) = (revision.next(), 0);
                continue;
            };
            bytes += ENCODED_BYTES + event.key.len() + event.value.len();
            part.push(event.clone());
            position += 1;
        }
        if part.is_empty() {
            self.stage = Stage::End;
            return self.next(mvcc, bytes_max);
        }
        self.stage = Stage::Events(revision, position);
        self.versions += part.len() as u64;
        Some(SnapshotPart::Events(part))
    }
}

/// A store from all parts of an export, in order.
pub(crate) fn import(parts: Vec<SnapshotPart>) -> Result<Store, ImportError> {
    let mut parts = parts.into_iter();
    let Some(SnapshotPart::Head(head)) = parts.next() else {
        return Err(ImportError("the first part is not a head"));
    };
    check_head(&head)?;
    let mut store = Store::new();
    store.mvcc = Mvcc::importing(head.compact_revision);
    store.checksum = Checksum(head.checksum);
    let end = import_versions(&mut store.mvcc, &mut parts)?;
    if parts.next().is_some() {
        return Err(ImportError("there are parts after the end"));
    }
    if end != head.revision {
        return Err(ImportError("the events do not end at the revision of the head"));
    }
    import_tables(&mut store, head)?;
    Ok(store)
}

fn check_head(head: &SnapshotHead) -> Result<(), ImportError> {
    let compacted = head.compact_revision;
    if head.revision.0 < 1 || head.revision.0 > REVISION_MAX {
        return Err(ImportError("the revision is out of bounds"));
    }
    if compacted.0 < 0 || compacted > head.revision {
        return Err(ImportError("the compacted revision is out of bounds"));
    }
    let ascending = head.leases.is_sorted_by(|a, b| a.0 < b.0)
        && head.members.is_sorted_by(|a, b| a.id < b.id)
        && head.removed.is_sorted_by(|a, b| a < b)
        && head.alarms.is_sorted_by(|a, b| a < b);
    if head.members.iter().any(|member| head.removed.binary_search(&member.id).is_ok()) {
        return Err(ImportError("a member has been removed"));
    }
    if ascending { Ok(()) } else { Err(ImportError("a table is not in order")) }
}

/// Replays base and events; returns the revision reached.
fn import_versions(
    mvcc: &mut Mvcc,
    parts: &mut impl Iterator<Item = SnapshotPart>,
) -> Result<Revision, ImportError> {
    let (mut versions, mut events_begun) = (0u64, false);
    for part in parts {
        match part {
            SnapshotPart::Head(_) => return Err(ImportError("there is a second head")),
            SnapshotPart::Base(_) if events_begun => {
                return Err(ImportError("the base continues after events"));
            }
            SnapshotPart::Base(base) => {
                versions += base.len() as u64;
                base.iter().try_for_each(|kv| mvcc.import_base(kv)).map_err(ImportError)?;
            }
            SnapshotPart::Events(events) => {
                events_begun = true;
                versions += events.len() as u64;
                for event in &events {
                    if event.mod_revision > mvcc.revision().next() {
                        mvcc.commit();
                    }
                    mvcc.import_event(event).map_err(ImportError)?;
                }
            }
            SnapshotPart::End { versions: expected } => {
                mvcc.commit();
                let complete = versions == expected;
                return if complete { Ok(mvcc.revision()) } else { Err(ImportError("a part is missing")) };
            }
        }
    }
    Err(ImportError("there is no end"))
}

fn import_tables(store: &mut Store, head: SnapshotHead) -> Result<(), ImportError> {
    import_leases(store, &head.leases)?;
    let mut alarms = Alarms::default();
    for (member, kind) in head.alarms {
        alarms.switch(member, kind, true);
    }
    store.alarms = alarms;
    store.members = Members::new(head.members, head.removed.into_iter().collect());
    Ok(())
}

/// Gives a store its leases, and each of them the keys that hang on it.
pub(crate) fn import_leases(store: &mut Store, table: &[(LeaseId, i64)]) -> Result<(), ImportError> {
    let mut leases = Leases::default();
    if !table.iter().all(|(id, ttl)| leases.grant(*id, *ttl)) {
        return Err(ImportError("a lease has no id"));
    }
    let everything = KeyRange { start: Key::default(), end: RangeEnd::Unbounded };
    for kv in store.mvcc.iter(&everything) {
        if kv.lease != LeaseId::NONE && leases.get(kv.lease).is_none() {
            return Err(ImportError("a key hangs on a lease that does not exist"));
        }
        leases.reattach(&kv.key, LeaseId::NONE, kv.lease);
    }
    store.leases = leases;
    Ok(())
}

/// A checksum over everything that a snapshot of the present state would hold.
pub(crate) fn content_hash(head: &SnapshotHead, mvcc: &Mvcc) -> u64 {
    let mut checksum = Checksum::EMPTY;
    checksum.word(head.revision.0 as u64);
    checksum.word(head.compact_revision.0 as u64);
    checksum.word(head.checksum);
    checksum.word(head.leases.len() as u64);
    for (id, ttl) in &head.leases {
        checksum.word(id.0 as u64);
        checksum.word(*ttl as u64);
    }
    checksum.word(head.members.len() as u64);
    head.members.iter().for_each(|member| checksum.member(member.id, Some(member)));
    head.removed.iter().for_each(|id| checksum.member(*id, None));
    for (member, kind) in &head.alarms {
        checksum.word(*member);
        checksum.word(*kind as u64);
    }
    let everything = KeyRange { start: Key::default(), end: RangeEnd::Unbounded };
    for (_, version) in mvcc.base(&everything, head.compact_revision) {
        version.into_iter().for_each(|kv| checksum.version(kv));
    }
    let mut revision = first_with_events(head.compact_revision);
    while revision <= head.revision {
        checksum.word(Effect::Revision as u64);
        mvcc.events(revision).iter().for_each(|kv| checksum.version(kv));
        revision = revision.next();
    }
    checksum.value()
}

/// About what a version takes when encoded, beyond key and value.
const ENCODED_BYTES: usize = 48;

/// No snapshot may bring the store near the end of its numbers. At a million writes a second this is
/// reached after a hundred thousand years.
const REVISION_MAX: i64 = i64::MAX / 2;
