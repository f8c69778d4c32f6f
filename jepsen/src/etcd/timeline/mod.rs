//! The store of the replay: what [`Store`] does, on numbers and borrowed bytes.
//!
//! The naive store copies what it keeps and builds every answer before it is compared. A replay of a million
//! answers has no time for that. Here
//!
//! * keys are numbers in the order of the keys, so that a range of keys is a range of numbers, and a bit per
//!   key says whether it is there;
//! * values are numbers, too;
//! * an answer is compared while it is found, and never built;
//! * every change is written to a journal, so that the latest revision can be taken back.
//!
//! Requests are done in `answer`, plain ones, which need no request, in `plain`. Leases and compactions are left out: the engine does
//! not know where between two revisions a lease was granted or a compaction was done, and judges these by
//! their times. The tests hold the two stores against each other, answer by answer.

mod answer;
mod plain;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range as Span;

use super::outcome::{KeyValue, Reply};
use super::records::{Atom, Atoms, Kind, NO_ATOM, Records};
use super::request::{Bytes, Keys, Request};
use super::store::{Compared, Store};
use super::watch::{Change, Event};

/// The number of a key: its rank among all keys that anybody may write.
pub(super) type KeyId = u32;

/// All versions of all keys, as far as the replay has come.
pub(super) struct Timeline<'h> {
    atoms: &'h Atoms,
    /// What the initial state has and the history has not; numbered behind the others.
    more_atoms: Atoms,
    /// In order.
    keys: Vec<Bytes>,
    /// By atom: the number of the key, or [`NOT_WRITTEN`].
    ids: Vec<KeyId>,
    /// By key, in the order of their revisions.
    versions: Vec<Vec<Version>>,
    /// A bit per key: whether it is there.
    live: Vec<u64>,
    /// The keys of each lease that has any.
    attached: BTreeMap<i64, BTreeSet<KeyId>>,
    initial: i64,
    revision: i64,
    /// The keys that were changed, in the order of the changes.
    journal: Vec<KeyId>,
    /// The revisions made, from the first after the initial one on.
    made: Vec<Made>,
    /// The outcomes of the compares of the request in progress, and how many of them have been used.
    path: Vec<bool>,
    used: usize,
    /// Where in the journal the changes of the request in progress begin.
    begun: usize,
}

/// What became of a key at a revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    pub revision: i64,
    /// None: it was deleted.
    value: Atom,
    create_revision: i64,
    version: i64,
    lease: i64,
}

/// A revision that was made.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Where its changes begin in the journal.
    start: usize,
    /// When what made it was called.
    since: u64,
}

impl<'h> Timeline<'h> {
    /// A store that begins as `initial` and in which nothing but what is recorded will be done.
    pub fn new(initial: &Store, records: &'h Records<'_>) -> Timeline<'h> {
        let atoms = records.atoms();
        let mut more_atoms = Atoms::default();
        let mut known = |bytes: &[u8]| match atoms.find(bytes) {
            Some(atom) => atom,
            None => atoms.len() as Atom + more_atoms.intern(bytes),
        };
        let mut written: Vec<Atom> = initial.keys().map(|key| known(key.as_slice())).collect();
        initial.all_versions().filter_map(|(_, _, kv)| kv).for_each(|kv| {
            known(kv.value.as_slice());
        });
        for rare in records.rare() {
            written_keys(&rare.operation.input, &mut |key| {
                written.push(atoms.find(key.as_slice()).expect("what may be written has a number"));
            });
        }
        let mut timeline = Timeline {
            ids: vec![NOT_WRITTEN; atoms.len() + more_atoms.len()],
            atoms,
            more_atoms,
            versions: Vec::new(),
            live: Vec::new(),
            keys: Vec::new(),
            attached: BTreeMap::new(),
            initial: initial.revision(),
            revision: initial.revision(),
            journal: Vec::new(),
            made: Vec::new(),
            path: Vec::new(),
            used: 0,
            begun: 0,
        };
        timeline.number_keys(written, records);
        for (key, revision, kv) in initial.all_versions() {
            let id = timeline.id(key.as_slice()).expect("the initial keys are numbered");
            let version = timeline.version(revision, kv);
            timeline.push(id, version);
        }
        timeline.journal.clear();
        timeline
    }

    /// Numbers these keys, and those that plain operations write, in their order.
    fn number_keys(&mut self, mut written: Vec<Atom>, records: &Records<'_>) {
        let writes = |kind: Kind| matches!(kind, Kind::Put | Kind::Guarded);
        let plain = records.all().iter().filter(|record| writes(record.kind)).map(|record| record.key);
        let mut keys: Vec<Atom> = Vec::new();
        for atom in written.drain(..).chain(plain) {
            let id = &mut self.ids[atom as usize];
            if *id == NOT_WRITTEN {
                *id = 0;
                keys.push(atom);
            }
        }
        keys.sort_unstable_by(|left, right| self.bytes(*left).cmp(self.bytes(*right)));
        for (id, atom) in (0..).zip(&keys) {
            self.ids[*atom as usize] = id;
        }
        self.keys = keys.iter().map(|atom| Bytes::from(self.bytes(*atom))).collect();
        self.versions = vec![Vec::new(); keys.len()];
        self.live = vec![0; keys.len().div_ceil(64)];
    }

    /// The bytes of an atom.
    fn bytes(&self, atom: Atom) -> &[u8] {
        match (atom as usize).checked_sub(self.atoms.len()) {
            None => self.atoms.get(atom),
            Some(more) => self.more_atoms.get(more as Atom),
        }
    }

    /// The atom of some bytes, if they have one.
    pub fn atom(&self, bytes: &[u8]) -> Option<Atom> {
        let more = || self.more_atoms.find(bytes).map(|more| self.atoms.len() as Atom + more);
        self.atoms.find(bytes).or_else(more)
    }

    /// The latest revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Does `request` and compares the answer with `reply`. False, and nothing done, if that is not the
    /// answer, or if it does not `make` a revision, or makes one.
    pub fn replay(&mut self, request: &Request, reply: &Reply, make: bool, since: u64) -> bool {
        self.begin(request);
        let permitted = self.is_permitted(request)
            && self.perform(request, Some(reply))
            && (self.journal.len() > self.begun) == make;
        if permitted {
            self.commit(since);
        } else {
            self.roll_back();
        }
        permitted
    }

    /// Does `request`, whatever it answers. False if that changes nothing.
    pub fn apply(&mut self, request: &Request, since: u64) -> bool {
        self.begin(request);
        if self.is_permitted(request) {
            self.perform(request, None);
        }
        self.commit(since)
    }

    /// Deletes the keys of a lease. False if there are none.
    pub fn expire(&mut self, lease: i64, since: u64) -> bool {
        self.begun = self.journal.len();
        self.delete_attached(lease);
        self.commit(since)
    }

    /// Takes back the latest revision.
    pub fn undo(&mut self) {
        let made = self.made.pop().expect("only what was made is taken back");
        self.begun = made.start;
        self.roll_back();
        self.revision -= 1;
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The number of a key, if anybody may write it.
    pub fn id(&self, key: &[u8]) -> Option<KeyId> {
        self.id_of(self.atom(key)?)
    }

    /// The number of a key by its atom, if anybody may write it.
    pub fn id_of(&self, key: Atom) -> Option<KeyId> {
        Some(self.ids[key as usize]).filter(|id| *id != NOT_WRITTEN)
    }

    /// The present version of a key.
    pub fn current(&self, key: &[u8]) -> Option<&Version> {
        self.present(self.id(key)?)
    }

    /// The mod revision, version and create revision of a key.
    pub fn version_of(&self, id: KeyId) -> Option<(i64, i64, i64)> {
        self.present(id).map(|version| (version.revision, version.version, version.create_revision))
    }

    /// The revision of the latest change of a key, be it a put or a deletion.
    pub fn changed_at(&self, id: KeyId) -> i64 {
        self.versions[id as usize].last().map_or(i64::MIN, |version| version.revision)
    }

    /// The version of a key at a revision.
    pub fn version_at(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let id = self.id(key)?;
        Some(self.show(id, self.at(id, revision)?))
    }

    /// Every change of a key: its revision, and whether it was a put.
    pub fn changes(&self, key: &[u8]) -> impl Iterator<Item = (i64, bool)> {
        let versions = self.id(key).map_or(&[][..], |id| &self.versions[id as usize]);
        versions.iter().map(|version| (version.revision, version.is_there()))
    }

    /// Whether `kv` is the present version of its key, its value aside with `keys_only`.
    pub fn is_present(&self, kv: &KeyValue, keys_only: bool) -> bool {
        let present = self.id(kv.key.as_slice()).and_then(|id| self.present(id));
        present.is_some_and(|version| self.is_shown(version, kv, keys_only))
    }

    /// A key that is attached to a lease.
    pub fn attached(&self, lease: i64) -> Option<&Bytes> {
        self.attached.get(&lease)?.first().map(|id| &self.keys[*id as usize])
    }

    /// The leases that have keys, with these.
    pub fn leased(&self) -> impl Iterator<Item = (i64, &BTreeSet<KeyId>)> {
        self.attached.iter().map(|(id, keys)| (*id, keys))
    }

    /// Whether the latest revision deleted `key`.
    pub fn just_deleted(&self, key: &[u8]) -> bool {
        let start = self.made.last().map_or(0, |made| made.start);
        self.id(key).is_some_and(|id| self.journal[start..].contains(&id) && self.present(id).is_none())
    }

    /// The keys of a range that are there, in order.
    pub fn live_keys(&self, keys: &Keys) -> Vec<KeyId> {
        let mut live = Vec::new();
        self.for_each(keys, i64::MAX, |id, _| live.push(id));
        live
    }

    /// The keys that the latest revision changed, and whether they are there.
    pub fn latest_changes(&self) -> impl Iterator<Item = (KeyId, bool)> {
        let start = self.made.last().map_or(0, |made| made.start);
        self.journal[start..].iter().map(|id| (*id, self.present(*id).is_some()))
    }

    /// What the latest revision changed.
    pub fn latest_events(&self) -> Vec<Event> {
        self.events(self.made.len() - 1)
    }

    /// Everything that was made, in order.
    pub fn log(&self) -> Vec<Change> {
        let change = |(index, made): (usize, &Made)| Change {
            revision: self.initial + 1 + index as i64,
            since: made.since,
            events: self.events(index),
        };
        self.made.iter().enumerate().map(change).collect()
    }

    /// A naive store that answers requests on `footprint` as this one would, if they read the present or,
    /// with `past`, any revision.
    pub fn excerpt(&self, footprint: &[Keys], past: bool) -> Store {
        let mut wanted = BTreeSet::new();
        footprint.iter().for_each(|keys| wanted.extend(self.span(keys)));
        let of_key = |id: KeyId| {
            let versions = &self.versions[id as usize];
            let skipped = if past { 0 } else { versions.len().saturating_sub(1) };
            let shown = versions[skipped..].iter();
            let shown = shown.map(move |version| (version.revision, self.shown(id, version)));
            (self.keys[id as usize].clone(), shown.collect())
        };
        Store::of_versions(self.revision, wanted.into_iter().map(of_key))
    }

    fn events(&self, index: usize) -> Vec<Event> {
        let revision = self.initial + 1 + index as i64;
        let end = self.made.get(index + 1).map_or(self.journal.len(), |next| next.start);
        let changed = &self.journal[self.made[index].start..end];
        changed.iter().map(|id| self.event(*id, revision)).collect()
    }

    /// What became of a key at a revision.
    fn event(&self, id: KeyId, revision: i64) -> Event {
        let previous = self.at(id, revision.saturating_sub(1)).map(|version| self.show(id, version));
        match self.at(id, revision) {
            Some(version) => Event { deleted: false, kv: self.show(id, version), previous },
            None => {
                let key = self.keys[id as usize].clone();
                let kv = KeyValue { key, mod_revision: revision, ..KeyValue::default() };
                Event { deleted: true, kv, previous }
            }
        }
    }

    fn shown(&self, id: KeyId, version: &Version) -> Option<KeyValue> {
        version.is_there().then(|| self.show(id, version))
    }

    fn show(&self, id: KeyId, version: &Version) -> KeyValue {
        KeyValue {
            key: self.keys[id as usize].clone(),
            value: Bytes::from(self.bytes(version.value)),
            create_revision: version.create_revision,
            mod_revision: version.revision,
            version: version.version,
            lease: version.lease,
        }
    }

    fn present(&self, id: KeyId) -> Option<&Version> {
        self.versions[id as usize].last().filter(|version| version.is_there())
    }

    fn at(&self, id: KeyId, revision: i64) -> Option<&Version> {
        let versions = &self.versions[id as usize];
        let last = match versions.last() {
            Some(last) if last.revision <= revision => last,
            _ => {
                let after = versions.partition_point(|version| version.revision <= revision);
                versions[..after].last()?
            }
        };
        Some(last).filter(|version| version.is_there())
    }

    /// The numbers of the keys of a range.
    pub fn span(&self, keys: &Keys) -> Span<KeyId> {
        let rank = |bound: &[u8]| self.keys.partition_point(|key| key.as_slice() < bound) as KeyId;
        match keys.range_end.as_slice() {
            [] => self.id(keys.key.as_slice()).map_or(0..0, |id| id..id + 1),
            [0] if keys.key.as_slice() <= [0].as_slice() => 0..self.keys.len() as KeyId,
            [0] => rank(keys.key.as_slice())..self.keys.len() as KeyId,
            end if end <= keys.key.as_slice() => 0..0,
            end => rank(keys.key.as_slice())..rank(end),
        }
    }

    /// The first key of a span that is there.
    fn first_live(&self, span: &Span<KeyId>) -> Option<KeyId> {
        if span.is_empty() {
            return None;
        }
        let mut word = span.start as usize / 64;
        let mut bits = self.live[word] & (u64::MAX << (span.start % 64));
        while bits == 0 {
            word += 1;
            if word * 64 >= span.end as usize {
                return None;
            }
            bits = self.live[word];
        }
        let id = word as KeyId * 64 + bits.trailing_zeros();
        (id < span.end).then_some(id)
    }

    /// Calls `visit` with the keys of a range that are there at a revision, in order.
    fn for_each(&self, keys: &Keys, revision: i64, mut visit: impl FnMut(KeyId, &Version)) {
        let mut span = self.span(keys);
        let present = self.revision + i64::from(self.journal.len() > self.begun);
        if revision < present {
            for id in span {
                if let Some(version) = self.at(id, revision) {
                    visit(id, version);
                }
            }
            return;
        }
        while let Some(id) = self.first_live(&span) {
            span.start = id + 1;
            visit(id, self.versions[id as usize].last().expect("what is there has a version"));
        }
    }

    fn push(&mut self, id: KeyId, version: Version) {
        let before = self.present(id).map_or(0, |before| before.lease);
        self.attach(id, before, version.lease);
        self.mark(id, version.is_there());
        self.versions[id as usize].push(version);
        self.journal.push(id);
    }

    fn pop(&mut self, id: KeyId) {
        let taken = self.versions[id as usize].pop().expect("a changed key has versions");
        let before = self.present(id).map_or((0, false), |before| (before.lease, true));
        self.attach(id, taken.lease, before.0);
        self.mark(id, before.1);
    }

    fn mark(&mut self, id: KeyId, live: bool) {
        let word = &mut self.live[id as usize / 64];
        *word = *word & !(1 << (id % 64)) | u64::from(live) << (id % 64);
    }

    fn attach(&mut self, id: KeyId, before: i64, after: i64) {
        if before == after {
            return;
        }
        if before != 0
            && let Some(keys) = self.attached.get_mut(&before)
        {
            keys.remove(&id);
            if keys.is_empty() {
                self.attached.remove(&before);
            }
        }
        if after != 0 {
            self.attached.entry(after).or_default().insert(id);
        }
    }

    /// Ends a request. False if it changed nothing.
    fn commit(&mut self, since: u64) -> bool {
        if self.journal.len() == self.begun {
            return false;
        }
        self.made.push(Made { start: self.begun, since });
        self.revision += 1;
        true
    }

    fn roll_back(&mut self) {
        while self.journal.len() > self.begun {
            let id = self.journal.pop().expect("it is longer than that");
            self.pop(id);
        }
    }
}

impl Timeline<'_> {
    fn version(&self, revision: i64, kv: Option<&KeyValue>) -> Version {
        kv.map_or(Version::deletion(revision), |kv| Version {
            revision,
            value: self.atom(kv.value.as_slice()).expect("what was written has a number"),
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
        })
    }

    fn compared(&self, version: &Version) -> Compared<'_> {
        Compared {
            version: version.version,
            create_revision: version.create_revision,
            mod_revision: version.revision,
            lease: version.lease,
            value: self.bytes(version.value),
        }
    }

    /// Whether `kv` shows this version, of whatever key.
    fn is_shown(&self, version: &Version, kv: &KeyValue, keys_only: bool) -> bool {
        version.revision == kv.mod_revision
            && version.create_revision == kv.create_revision
            && version.version == kv.version
            && version.lease == kv.lease
            && if keys_only {
                kv.value.is_empty()
            } else {
                version.is_there() && self.bytes(version.value) == kv.value.as_slice()
            }
    }
}

impl Version {
    fn deletion(revision: i64) -> Version {
        Version { revision, value: NO_ATOM, create_revision: 0, version: 0, lease: 0 }
    }

    fn is_there(&self) -> bool {
        self.value != NO_ATOM
    }
}

/// Calls `visit` with every key that a request may put.
fn written_keys<'h>(request: &'h Request, visit: &mut impl FnMut(&'h Bytes)) {
    match request {
        Request::Put(put) => visit(&put.key),
        Request::Txn(txn) => {
            for request in txn.success.iter().chain(&txn.failure) {
                written_keys(request, visit);
            }
        }
        _ => {}
    }
}

/// Nobody may write the key.
const NOT_WRITTEN: KeyId = KeyId::MAX;
