//! Cuts the power after every single operation of a scripted life, in several ways each, and looks whether
//! what recovery finds is a state that the member may be in.
//!
//! The script has segments of a few hundred bytes, so it rotates often, replaces entries, takes snapshots,
//! prunes, and is overtaken by a leader's snapshot. Recovery itself is cut short after every operation,
//! too.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use quorate_raft::{Entry, HardState, Index, NodeId, Position, SnapshotMeta, Term, WriteId};
use quorate_replica::{ChunkBody, Saved, SharedProposal, SnapshotChunk, Write};

use crate::error::Error;
use crate::establish::Identity;
use crate::inbox::{Event, InboxReceiver, inbox};
use crate::recover::{Recovery, recover};
use crate::storage::{StorageQueue, tasks};
use crate::testing::{self, MemoryDisk, Survival, configuration, put, ready};

const SEGMENT_BYTES: u64 = 400;

/// One thing that the driver asks of the storage tasks; the next one comes when it is acknowledged.
#[derive(Clone, Debug)]
enum Step {
    Write(Write),
    Chunk(SnapshotChunk, Index),
}

/// Writes a script as data.
#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    writes: u64,
    term: Term,
}

impl Script {
    fn write(&mut self, hard_state: Option<(u64, u64)>, term: u64, indexes: &[u64]) {
        self.writes += 1;
        let hard_state = hard_state.map(|(term, commit)| HardState {
            term: Term(term),
            vote: Some(NodeId(term)),
            commit: Index(commit),
        });
        let entries: Vec<_> = indexes.iter().map(|&index| put(term, index, "key", "some value")).collect();
        // As Raft does: if only the commit index moves, the write may stay in the page cache.
        let sync = !entries.is_empty() || self.term != Term(term);
        self.term = Term(term);
        self.steps.push(Step::Write(Write { id: WriteId(self.writes), hard_state, entries, sync }));
    }

    fn snapshot(&mut self, term: u64, index: u64, chunks: u32, keep_after: u64) {
        let position = Position { term: Term(term), index: Index(index) };
        let meta = SnapshotMeta { position, configuration: configuration(&[1, 2, 3]) };
        for sequence in 0..chunks {
            let last = sequence + 1 == chunks;
            let chunk =
                SnapshotChunk { meta: meta.clone(), sequence, last, body: ChunkBody::Sessions(Vec::new()) };
            self.steps.push(Step::Chunk(chunk, Index(keep_after)));
        }
    }
}

fn script() -> Vec<Step> {
    let mut script = Script::default();
    script.write(Some((1, 0)), 1, &[]);
    script.write(None, 1, &[1, 2, 3]);
    script.write(Some((1, 2)), 1, &[]);
    script.write(None, 1, &[4, 5, 6, 7]);
    // A new leader replaces what was not committed.
    script.write(Some((2, 3)), 2, &[6]);
    script.write(Some((2, 6)), 2, &[7, 8]);
    script.snapshot(2, 6, 2, 4);
    script.write(None, 2, &[9, 10, 11]);
    script.write(Some((2, 11)), 2, &[12]);
    script.snapshot(2, 11, 3, 9);
    script.write(Some((2, 12)), 2, &[]);
    script.write(None, 2, &[13, 14]);
    script.write(None, 2, &[15, 16, 17, 18]);
    // A leader of a later term sends a snapshot in the middle of a log that does not agree with it.
    script.write(Some((4, 12)), 4, &[]);
    script.snapshot(4, 15, 2, 15);
    script.write(Some((4, 15)), 4, &[16, 17]);
    script.write(None, 4, &[18]);
    // And one far ahead of the log.
    script.snapshot(4, 40, 1, 40);
    script.write(Some((4, 41)), 4, &[41]);
    script.snapshot(4, 41, 1, 41);
    script.write(None, 4, &[42]);
    // So many writes that are not synced that a segment ends among them.
    (0..16).for_each(|_| script.write(Some((4, 42)), 4, &[]));
    // So many segments between two snapshots that several are dropped at once.
    for index in (43..63).step_by(2) {
        script.write(Some((4, index - 1)), 4, &[index, index + 1]);
        if index == 51 {
            script.snapshot(4, 50, 1, 50);
        }
    }
    script.snapshot(4, 60, 2, 60);
    script.write(Some((4, 62)), 4, &[63]);
    script.steps
}

/// What a member knows after some steps: the dumbest model of it.
#[derive(Clone, Default, PartialEq, Eq)]
struct Model {
    hard_state: HardState,
    snapshot: Position,
    log: BTreeMap<Index, Entry<SharedProposal>>,
}

impl Model {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(write) => {
                self.hard_state = write.hard_state.unwrap_or(self.hard_state);
                for entry in &write.entries {
                    self.log.split_off(&entry.index);
                    self.log.insert(entry.index, entry.clone());
                }
            }
            Step::Chunk(chunk, _) if chunk.last => {
                self.snapshot = chunk.meta.position;
                let agrees = self.log.get(&self.snapshot.index).map(Entry::position) == Some(self.snapshot);
                self.log = self.log.split_off(&self.snapshot.index.next());
                if !agrees {
                    self.log.clear();
                }
                self.hard_state.commit = self.hard_state.commit.max(self.snapshot.index);
            }
            Step::Chunk(..) => {}
        }
    }

    fn of(saved: &Saved) -> Model {
        let log = saved.entries.iter().map(|entry| (entry.index, entry.clone())).collect();
        Model { hard_state: saved.hard_state, snapshot: saved.snapshot.position, log }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HardState { term, commit, .. } = self.hard_state;
        write!(f, "term={term} commit={commit} snapshot={} log=", self.snapshot)?;
        self.log.values().try_for_each(|entry| write!(f, "{} ", entry.position()))
    }
}

fn identity() -> Identity {
    testing::identity(7, 1, &[1, 2, 3])
}

fn start(disk: &MemoryDisk) -> Result<Recovery<MemoryDisk>, Error> {
    ready(recover(disk, &identity(), SEGMENT_BYTES, false))
}

type Task = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// The storage tasks, run by hand.
struct Member {
    queue: StorageQueue,
    inbox: InboxReceiver,
    tasks: [Task; 2],
    /// The power has gone, perhaps after the last step was acknowledged.
    ended: bool,
}

impl Member {
    fn new(recovery: Recovery<MemoryDisk>) -> Member {
        let (sender, receiver) = inbox();
        let (queue, storage, snapshots) = tasks(recovery.wal, recovery.snapshots, &sender);
        // Snapshots first: what they complete goes on to the log.
        let tasks: [Task; 2] = [Box::pin(snapshots.run()), Box::pin(storage.run())];
        Member { queue, inbox: receiver, tasks, ended: false }
    }

    /// Whether the step was acknowledged; the power may have gone.
    fn step(&mut self, step: &Step) -> bool {
        let queued = match step {
            Step::Write(write) => self.queue.write(write.clone()),
            Step::Chunk(chunk, keep_after) => self.queue.save(Arc::new(chunk.clone()), *keep_after),
        };
        queued.expect("the tasks are running");
        let mut context = Context::from_waker(Waker::noop());
        self.ended = self.tasks.iter_mut().any(|task| task.as_mut().poll(&mut context).is_ready());
        match (self.inbox.receiver.try_recv(), step) {
            (Ok(Event::Persisted(id)), Step::Write(write)) => assert_eq!(id, write.id),
            (Ok(Event::SnapshotSaved { position, sequence }), Step::Chunk(chunk, _)) => {
                assert_eq!((position, sequence), (chunk.meta.position, chunk.sequence));
            }
            (Ok(other), _) => panic!("{other:?} does not answer {step:?}"),
            (Err(_), _) => {
                assert!(self.ended, "a step is acknowledged at once, or the power has gone");
                return false;
            }
        }
        true
    }
}

/// A life until the power goes.
struct Life {
    disk: MemoryDisk,
    /// Steps that are durable for certain, and steps that were begun.
    durable: usize,
    begun: usize,
}

fn live(script: &[Step], power: Option<usize>) -> Life {
    let disk = MemoryDisk::default();
    if let Some(operations) = power {
        disk.cut_power_after(operations);
    }
    let (mut durable, mut begun) = (0, 0);
    if let Ok(recovery) = start(&disk) {
        let mut member = Member::new(recovery);
        for (at, step) in script.iter().enumerate() {
            if member.ended {
                break;
            }
            begun = at + 1;
            if !member.step(step) {
                break;
            }
            let syncs_the_log = match step {
                Step::Write(write) => write.sync,
                Step::Chunk(chunk, _) => chunk.last,
            };
            if syncs_the_log {
                durable = begun;
            }
        }
    }
    Life { disk, durable, begun }
}

/// All states that the member may be found in.
fn legal(script: &[Step], life: &Life) -> Vec<Model> {
    let mut model = Model::default();
    let mut states = Vec::new();
    for begun in 0..=life.begun {
        if begun > 0 {
            model.step(&script[begun - 1]);
        }
        if begun >= life.durable {
            states.push(model.clone());
        }
    }
    states
}

fn survivals(at: usize) -> impl Iterator<Item = Survival> {
    let seeds = (0..6).map(move |seed| Survival::Some((at * 100 + seed) as u64));
    [Survival::Nothing, Survival::Everything].into_iter().chain(seeds)
}

#[test]
fn every_crash_leaves_a_legal_state() {
    let script = script();
    let whole = live(&script, None);
    assert_eq!((whole.durable, whole.begun), (script.len(), script.len()), "the script runs to its end");
    let names = ready(crate::Disk::list(&whole.disk)).expect("it is in memory");
    assert!(!names.contains(&"0000000000000001-0000000000000001.wal".to_owned()), "it prunes: {names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("snap-")).count(), 2, "it keeps two: {names:?}");

    for operations in 0..=whole.disk.operations() {
        let life = live(&script, Some(operations));
        let legal = legal(&script, &life);
        check_kill(&life.disk.after_kill(), &legal);
        for survival in survivals(operations) {
            let left = life.disk.after_power_cut(survival);
            let recovery = start(&left)
                .unwrap_or_else(|error| panic!("cut after {operations}, {survival:?} survives: {error}"));
            let found = Model::of(&recovery.saved);
            assert!(
                legal.contains(&found),
                "cut after {operations}, {survival:?} survives: {found:#?} is none of {legal:#?}"
            );
            if survival == Survival::Everything {
                check_second_crash(&life.disk.after_power_cut(survival), &found, operations);
            }
            check_it_goes_on(left, recovery, found);
        }
    }
}

/// Only the process dies, and what was not synced is still there. What recovery finds then is believed, so
/// it must survive a power cut that comes later.
fn check_kill(disk: &MemoryDisk, legal: &[Model]) {
    let found = Model::of(&start(disk).expect("nothing is lost").saved);
    assert!(legal.contains(&found), "{found:?} is none of {legal:#?}");
    let again = start(&disk.after_power_cut(Survival::Nothing)).expect("it was synced by then");
    assert_eq!(Model::of(&again.saved), found);
}

/// Recovery is cut short, wherever it may be; the next one finds the same.
fn check_second_crash(disk: &MemoryDisk, found: &Model, seed: usize) {
    for operations in 0.. {
        let again = disk.after_power_cut(Survival::Everything);
        again.cut_power_after(operations);
        let completed = start(&again).is_ok();
        for survival in [Survival::Nothing, Survival::Some(seed as u64)] {
            let left = again.after_power_cut(survival);
            let recovery = start(&left).expect("recovery can be repeated");
            assert_eq!(Model::of(&recovery.saved), *found, "recovery cut after {operations}");
            assert!(
                !completed || recovery.saved.boot > 1,
                "a boot number that was returned is not used again"
            );
        }
        if completed {
            break;
        }
    }
}

/// The recovered member can write, and what it wrote before the power went again is there.
fn check_it_goes_on(disk: MemoryDisk, recovery: Recovery<MemoryDisk>, mut model: Model) {
    let boot = recovery.saved.boot;
    let mut member = Member::new(recovery);
    let last = model.log.keys().last().copied().unwrap_or(model.snapshot.index);
    let mut script = Script::default();
    script.write(Some((9, model.hard_state.commit.0)), 9, &[last.0 + 1]);
    assert!(member.step(&script.steps[0]));
    model.step(&script.steps[0]);
    let recovery = start(&disk.after_power_cut(Survival::Nothing)).expect("all of it was synced");
    assert_eq!(Model::of(&recovery.saved), model);
    assert_eq!(recovery.saved.boot, boot + 1);
}
