//! Holds the store against the dumbest model that could be right, over long random histories.

mod histories;
mod membership;
mod reference;
mod watching;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;
use quorate_store::{
    Command, DeleteRange, Key, KeyRange, LeaseId, Put, Query, RangeEnd, RangeQuery, Revision, SnapshotPart,
    Store, StoreCopy, Value, WatchId, WatchRequest,
};

use histories::{Step, burst_key, history, resolve, resolve_command, resolve_query};
use reference::Model;
use watching::Watching;

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    /// Every response, every update, every past state and every snapshot is what the model says.
    #[test]
    fn behaves_like_the_model(steps in history()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
        }
        pair.check_everything();
    }
}

/// Found by chance: of two questions for progress, a compaction makes one answer ready, and then there are
/// events for which there is no credit. Nothing more is owed than the events.
#[test]
fn one_answer_serves_two_questions_for_progress_before_a_compaction() {
    let put = || {
        let (key, value, lease) = (Key::from("a"), Some(Value::default()), Some(LeaseId::NONE));
        Step::Apply(Command::Put(Put { key, value, lease, previous: false }))
    };
    let watch = WatchRequest {
        range: KeyRange::single(Key::from("a")),
        start: None,
        previous: false,
        no_put: false,
        no_delete: false,
    };
    let mut pair = Pair::new();
    pair.step(put());
    pair.step(Step::Watch(watch));
    pair.step(Step::Progress(0));
    pair.step(Step::Progress(0));
    pair.step(Step::Apply(Command::Compact(Revision(0))));
    pair.step(put());
    pair.step(Step::Drain);
    pair.check_everything();
}

/// A store and its model.
struct Pair {
    store: Store,
    model: Model,
    watchers: BTreeMap<WatchId, Watching>,
    next_watcher: u64,
}

impl Pair {
    fn new() -> Pair {
        Pair { store: Store::new(), model: Model::new(), watchers: BTreeMap::new(), next_watcher: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(command) => self.apply(command),
            Step::Query(mut query) => {
                resolve_query(&mut query, self.model.revision());
                assert_eq!(self.store.query(&query), self.model.query(&query), "{query:?}");
            }
            Step::Burst { count, seed } => self.burst(count, seed),
            Step::Watch(mut request) => {
                if let Some(start) = &mut request.start {
                    resolve(start, self.model.revision());
                    start.0 = start.0.max(1);
                }
                let id = WatchId(self.next_watcher);
                self.next_watcher += 1;
                self.watchers.insert(id, Watching::new(request.clone(), &self.model));
                self.store.watch(id, request);
            }
            Step::Cancel(choice) => {
                if let Some(id) = self.choose(choice) {
                    self.watchers.remove(&id);
                    self.store.cancel_watch(id);
                }
            }
            Step::Credit(choice, events) => {
                if let Some(id) = self.choose(choice) {
                    self.watchers.get_mut(&id).unwrap().add_credit(u32::from(events));
                    self.store.credit(id, u32::from(events));
                }
            }
            Step::Progress(choice) => {
                if let Some(id) = self.choose(choice) {
                    self.watchers.get_mut(&id).unwrap().ask_progress();
                    self.store.request_progress(id);
                }
            }
            Step::Drain => self.drain(),
            Step::Maintain => self.maintain(),
            Step::Export { part_bytes, meanwhile } => self.export(part_bytes, meanwhile),
            Step::Copy { steps, meanwhile } => self.copy(steps, meanwhile),
            Step::Install(commands) => self.install(commands),
        }
    }

    fn apply(&mut self, command: Command) {
        if matches!(command, Command::Compact(_)) {
            self.watchers.values_mut().for_each(Watching::on_compact);
        }
        apply(&mut self.store, &mut self.model, command);
    }

    fn choose(&self, choice: u8) -> Option<WatchId> {
        let ids: Vec<_> = self.watchers.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[usize::from(choice) % ids.len()])
    }

    fn burst(&mut self, count: u16, seed: u16) {
        for i in 0..count {
            let key = burst_key(seed.wrapping_add(i.wrapping_mul(37)));
            let command = if i % 5 == 4 {
                let range = KeyRange { end: RangeEnd::Before(Key::from("b\u{7f}")), start: key };
                let range = if i % 50 == 49 { range } else { KeyRange::single(range.start) };
                Command::DeleteRange(DeleteRange { range, previous: false })
            } else {
                let (value, lease) = (Some(Value::from("burst")), Some(LeaseId::NONE));
                Command::Put(Put { key, value, lease, previous: true })
            };
            self.apply(command);
        }
    }

    fn drain(&mut self) {
        while let Some((id, update)) = self.store.poll_watch() {
            let watcher = self.watchers.get_mut(&id).expect("updates are for known watchers");
            if !watcher.check(update, &self.model) {
                self.watchers.remove(&id);
            }
        }
        for watcher in self.watchers.values_mut() {
            watcher.check_idle(&self.model);
        }
    }

    fn maintain(&mut self) {
        let hashes = (self.store.state_hash(), self.store.content_hash());
        while self.store.maintain() {}
        assert_eq!(hashes, (self.store.state_hash(), self.store.content_hash()), "garbage is not content");
        assert_eq!(self.store.size_bytes(), self.model.size_bytes());
        assert_eq!(self.store.key_count(), self.model.now().len() as u64);
    }

    /// Exports while commands go on; what is imported is the state at the beginning.
    fn export(&mut self, part_bytes: usize, meanwhile: Vec<Command>) {
        let revision = self.store.revision();
        let hashes = (self.store.state_hash(), self.store.content_hash());
        let mut cursor = self.store.open_snapshot();
        let mut parts = Vec::new();
        let mut meanwhile = meanwhile.into_iter();
        while let Some(part) = self.store.next_part(&mut cursor, part_bytes) {
            parts.push(part);
            if let Some(command) = meanwhile.next() {
                self.apply(command);
            }
        }
        self.store.close_snapshot(cursor);
        let imported = Store::import(through_bytes(&parts)).expect("an export can be imported");
        assert_eq!(imported.revision(), revision);
        assert_eq!((imported.state_hash(), imported.content_hash()), hashes);
        // Every part is needed, and none may come twice or in another place.
        for missing in 0..parts.len() {
            let mut damaged = parts.clone();
            let removed = damaged.remove(missing);
            let empty = matches!(&removed, SnapshotPart::Base(versions) if versions.is_empty());
            assert!(empty || Store::import(damaged).is_err(), "part {missing} of {parts:?}");
        }
    }

    /// Copies while commands go on; what is restored is the store as it was at the beginning, down to its garbage and
    /// its watchers, and does the same from then on.
    fn copy(&mut self, steps: usize, meanwhile: Vec<Command>) {
        let mut original = self.store.clone();
        let mut copy = self.store.begin_copy();
        let mut commands = meanwhile.iter().cloned();
        while !self.store.go_on_with_copy(&mut copy, steps) {
            if let Some(command) = commands.next() {
                self.apply(command);
            }
            self.store.maintain();
        }
        let bytes = bincode::serialize(&copy).expect("copies can be encoded");
        let copy: StoreCopy = bincode::deserialize(&bytes).expect("and decoded");
        let mut restored = copy.restore().expect("it is complete");
        for mut command in meanwhile {
            let present = original.revision().0;
            resolve_command(&mut command, present);
            assert_eq!(restored.apply(&command), original.apply(&command), "{command:?}");
        }
        assert_eq!(restored.content_hash(), original.content_hash());
        loop {
            let (here, there) = (restored.poll_watch(), original.poll_watch());
            assert_eq!(here, there);
            assert_eq!(restored.size_bytes(), original.size_bytes());
            assert_eq!(restored.maintain(), original.maintain());
            if here.is_none() {
                break;
            }
        }
        assert_eq!(restored.size_bytes(), original.size_bytes());
        assert_eq!(restored.state_hash(), original.state_hash());
    }

    /// Another store goes ahead; this one catches up by a snapshot and keeps its watchers.
    fn install(&mut self, commands: Vec<Command>) {
        let mut ahead = import(&mut self.store);
        for command in commands {
            apply(&mut ahead, &mut self.model, command);
        }
        self.store.replace_contents(import(&mut ahead));
        assert_eq!(self.store.state_hash(), ahead.state_hash());
        self.watchers.values_mut().for_each(Watching::on_replace);
    }

    fn check_everything(&mut self) {
        for id in self.watchers.keys() {
            self.store.credit(*id, 1_000_000);
        }
        for watcher in self.watchers.values_mut() {
            watcher.add_credit(1_000_000);
        }
        self.drain();
        self.check_states(&self.store);
        self.maintain();
        self.check_states(&self.store);
        let imported = import(&mut self.store);
        assert_eq!(imported.size_bytes(), self.store.size_bytes());
        self.check_states(&imported);
    }

    /// Every state since the compacted one is still there.
    fn check_states(&self, store: &Store) {
        let everything = KeyRange { start: Key::default(), end: RangeEnd::Unbounded };
        for revision in self.model.compacted - 1..=self.model.revision() + 1 {
            let revision = Some(Revision(revision));
            let query = Query::Range(RangeQuery { revision, ..RangeQuery::of(everything.clone()) });
            assert_eq!(store.query(&query), self.model.query(&query), "at revision {revision:?}");
        }
        for id in self.model.leases.keys() {
            let query = Query::Lease { id: *id, keys: true };
            assert_eq!(store.query(&query), self.model.query(&query));
        }
    }
}

fn apply(store: &mut Store, model: &mut Model, mut command: Command) {
    resolve_command(&mut command, model.revision());
    let hash = store.state_hash();
    let before = (model.revision(), model.leases.clone(), model.compacted);
    let applied = store.apply(&command);
    assert_eq!(applied, model.apply(&command), "{command:?}");
    assert_eq!(store.revision().0, model.revision());
    assert_eq!(store.compact_revision().0, model.compacted);
    let changed = before != (model.revision(), model.leases.clone(), model.compacted);
    assert!(!changed || store.state_hash() != hash, "an effect shows in the checksum: {command:?}");
    assert!(applied.result.is_ok() || store.state_hash() == hash, "a refused command has no effect");
}

/// A copy of a store by way of a snapshot.
fn import(store: &mut Store) -> Store {
    let mut cursor = store.open_snapshot();
    let parts: Vec<_> = std::iter::from_fn(|| store.next_part(&mut cursor, 4096)).collect();
    store.close_snapshot(cursor);
    Store::import(parts).expect("an export can be imported")
}

/// Parts as they arrive at a peer.
fn through_bytes(parts: &[SnapshotPart]) -> Vec<SnapshotPart> {
    let bytes = bincode::serialize(parts).expect("parts can be encoded");
    bincode::deserialize(&bytes).expect("and decoded")
}
