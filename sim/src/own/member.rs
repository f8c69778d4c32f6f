//! A member that runs somebody's service: a Raft, the state, and a disk that forgets what it has not written yet.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use quorate_raft::{
    Config, Configuration, Entry, HardState, Index, Input, Instant, NodeId, Position, Raft, Saved,
    SnapshotMeta, Term, Write,
};

use super::Service;
use crate::env::clock::NodeClock;
use crate::env::wake::WakeUp;
use crate::nemesis::DiskFailure;
use crate::time::Time;

/// What goes through the log: a command, and which attempt of which request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal<C> {
    /// Who took it.
    pub origin: NodeId,
    /// In which of its lives.
    pub boot: u64,
    /// Whose it is.
    pub attempt: Attempt,
    /// What to do; nothing, for a change of the membership.
    pub command: Option<C>,
}

/// A client's request, and how often it was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// The client.
    pub client: u64,
    /// Its how-manieth request.
    pub number: u64,
    /// How many attempts there were before.
    pub again: u32,
}

impl<C: Clone> quorate_raft::Command for Proposal<C> {
    fn size(&self) -> usize {
        64
    }
}

/// Something that a disk has to do.
pub enum Job<S: Service> {
    /// Raft's.
    Write(Write<Proposal<S::Command>>),
    /// This member's own snapshot.
    Snapshot(SnapshotMeta, S::State, Index),
    /// One that a leader of this term has sent.
    Received(NodeId, Term, SnapshotMeta, S::State),
}

/// What survives a crash.
struct Durable<S: Service> {
    hard_state: HardState,
    snapshot: (SnapshotMeta, S::State),
    entries: Vec<Entry<Proposal<S::Command>>>,
}

/// A member.
pub struct Member<S: Service> {
    pub id: NodeId,
    pub raft: Option<Raft<Proposal<S::Command>>>,
    pub boot: u64,
    pub clock: NodeClock,
    pub clock_rate: u64,
    pub paused: bool,
    /// What has arrived while it was paused, or busy with something else.
    pub inbox: Vec<Input<Proposal<S::Command>>>,
    /// How late it looks at what arrives, and whether it is going to.
    pub cpu_delay: Duration,
    pub turn_scheduled: bool,
    pub wake: WakeUp,
    pub state: S::State,
    pub applied: Position,
    pub configuration: Configuration,
    /// A snapshot from a leader, until Raft has judged it.
    pub received: Option<S::State>,
    /// Whether a snapshot of its own is on its way to the disk, and up to where the last one went.
    pub snapshot_under_way: bool,
    pub snapshot: Index,
    pub jobs: VecDeque<Job<S>>,
    /// The disk is this many times slower until then.
    pub slower: (u32, Time),
    /// The next that the disk is asked for fails, and so ends the process.
    pub disk_fails: Option<DiskFailure>,
    /// It was removed from the cluster, for ever.
    pub over: bool,
    /// Who waits for the answer to what this life has proposed.
    pub waiting: BTreeSet<Attempt>,
    durable: Durable<S>,
}

impl<S: Service> Member<S> {
    /// A member that never ran.
    pub fn new(service: &S, id: NodeId, initial: &SnapshotMeta, clock_rate: u64) -> Member<S> {
        let mut clock = NodeClock::default();
        clock.set_rate(Time::ZERO, clock_rate);
        let durable = Durable {
            hard_state: HardState::default(),
            snapshot: (initial.clone(), service.begin()),
            entries: Vec::new(),
        };
        Member {
            id,
            raft: None,
            boot: 0,
            clock,
            clock_rate,
            paused: false,
            inbox: Vec::new(),
            cpu_delay: Duration::ZERO,
            turn_scheduled: false,
            wake: WakeUp::default(),
            state: service.begin(),
            applied: Position::default(),
            configuration: initial.configuration.clone(),
            received: None,
            snapshot_under_way: false,
            snapshot: Index(0),
            jobs: VecDeque::new(),
            slower: (1, Time::ZERO),
            disk_fails: None,
            over: false,
            waiting: BTreeSet::new(),
            durable,
        }
    }

    /// The process begins, with what is on the disk.
    pub fn start(&mut self, config: Config, seed: u64, now: Instant) {
        let (meta, state) = self.durable.snapshot.clone();
        let position = meta.position;
        let behind = |entry: &&Entry<_>| entry.index > position.index;
        let mut entries: Vec<_> = self.durable.entries.iter().filter(behind).cloned().collect();
        if entries.first().is_some_and(|first| first.index != position.index.next()) {
            entries.clear();
        }
        self.boot += 1;
        (self.state, self.applied, self.snapshot) = (state, position, position.index);
        self.configuration = meta.configuration.clone();
        let saved = Saved { hard_state: self.durable.hard_state, snapshot: meta, entries };
        self.raft = Some(Raft::recover(config, seed, now, saved));
    }

    /// The power fails: what the disk has not done is not done.
    pub fn crash(&mut self) {
        self.raft = None;
        self.inbox.clear();
        self.jobs.clear();
        self.waiting.clear();
        self.wake.forget();
        self.turn_scheduled = false;
        self.received = None;
        self.snapshot_under_way = false;
    }

    /// The disk has done its first job; what the Raft is to hear of it.
    pub fn job_done(&mut self) -> Option<Input<Proposal<S::Command>>> {
        Some(match self.jobs.pop_front()? {
            Job::Write(write) => {
                self.durable.write(write.hard_state, write.entries);
                Input::Persisted(write.id)
            }
            Job::Snapshot(meta, state, keep_after) => {
                self.snapshot_under_way = false;
                if !self.durable.install(&meta, &state) {
                    return None;
                }
                self.durable.entries.retain(|entry| entry.index > keep_after);
                self.snapshot = meta.position.index;
                Input::SnapshotTaken { meta, keep_after }
            }
            Job::Received(from, term, meta, state) => {
                self.durable.install(&meta, &state);
                self.received = Some(state);
                Input::SnapshotReceived { from, term, meta }
            }
        })
    }
}

impl<S: Service> Durable<S> {
    fn write(&mut self, hard_state: Option<HardState>, entries: Vec<Entry<Proposal<S::Command>>>) {
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        self.entries.retain(|entry| entry.index < first);
        if self.entries.last().is_some_and(|last| last.index.next() != first) {
            // A snapshot covers the gap.
            self.entries.clear();
        }
        self.entries.extend(entries);
    }

    /// A snapshot is there, unless a newer one is.
    fn install(&mut self, meta: &SnapshotMeta, state: &S::State) -> bool {
        let newer = meta.position.index > self.snapshot.0.position.index;
        if newer {
            self.snapshot = (meta.clone(), state.clone());
        }
        newer
    }
}
