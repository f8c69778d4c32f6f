//! A cluster of Rafts without threads, sockets, files or clocks: every delivery, every completion of
//! a write and every passing of time is a method call. For scripts, property tests and fuzzing.
//!
//! Each member has its own clock, which moves only when told to, and a disk on which a write is durable
//! only after [`Cluster::persist`]. Messages wait in [`Cluster::network`], in the order they were sent.
//! After each step the [`Invariants`] are checked; a violation panics.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::{
    Command, Config, Configuration, Entry, HardState, Index, Input, Instant, Message, NodeId, Output,
    Payload, Position, Raft, ReadId, Role, Saved, SnapshotMeta, Term, Write,
};

mod explore;
mod invariants;
mod trace;

pub use explore::{Budget, Explorer};
pub use invariants::Invariants;
pub use trace::entry_lines;
use trace::trace_line;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Envelope<C> {
    /// Who sent it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// What it says.
    pub message: Message<C>,
}

/// A snapshot on its way: its content is everything up to its position.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The leader that sends it.
    pub from: NodeId,
    /// Who needs it.
    pub to: NodeId,
    /// The leader's term when it began to send.
    pub term: Term,
    /// What it covers.
    pub meta: SnapshotMeta,
}

/// What is on a member's disk.
#[derive(Clone, Debug)]
pub struct Stored<C> {
    /// Term, vote, commit index.
    pub hard_state: HardState,
    /// The newest snapshot.
    pub snapshot: SnapshotMeta,
    /// The log, with whatever is left of it from before the snapshot.
    pub entries: Vec<Entry<C>>,
}

/// One member of the cluster.
#[derive(Clone, Debug)]
pub struct Member<C> {
    /// Its Raft, unless it has crashed.
    pub raft: Option<Raft<C>>,
    /// Its clock.
    pub now: Instant,
    /// What survives a crash.
    pub disk: Stored<C>,
    /// Writes that are not durable yet, oldest first.
    pub writes: VecDeque<Write<C>>,
    /// The last entry that its state machine has applied.
    pub applied: Position,
    /// The configuration as of that entry.
    applied_configuration: Configuration,
    config: Config,
    /// How many times it has started.
    starts: u64,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct Cluster<C> {
    /// Its members.
    pub members: BTreeMap<NodeId, Member<C>>,
    /// Messages on their way, oldest first.
    pub network: Vec<Envelope<C>>,
    /// Snapshots on their way, oldest first.
    pub transfers: Vec<Transfer>,
    /// What must hold, and what was seen so far.
    pub invariants: Invariants<C>,
    /// What happened since this was last taken, one line each; nothing unless it is `Some`.
    pub trace: Option<Vec<String>>,
    /// What everybody starts from.
    genesis: SnapshotMeta,
    /// Everybody's, but for the id.
    config: Config,
    /// Distinguishes this cluster's random choices from those of others.
    pub seed: u64,
    next_read: u64,
}

impl<C: Command + PartialEq + fmt::Debug> Cluster<C> {
    /// A cluster of new members, all started.
    pub fn new(seed: u64, configuration: &Configuration, configure: impl Fn(&mut Config)) -> Cluster<C> {
        let mut config = Config::new(NodeId(1));
        configure(&mut config);
        let snapshot = SnapshotMeta { position: Position::default(), configuration: configuration.clone() };
        let mut cluster = Cluster {
            members: BTreeMap::new(),
            network: Vec::new(),
            transfers: Vec::new(),
            invariants: Invariants::new(configuration.clone()),
            trace: None,
            seed,
            next_read: 1,
            genesis: snapshot,
            config,
        };
        configuration.members().for_each(|id| cluster.join(id));
        cluster
    }

    /// A member starts for the first time, with an empty disk: one of the first members, or one that was added,
    /// or is about to be. It learns from the leader who the members are.
    pub fn join(&mut self, id: NodeId) {
        let configuration = self.genesis.configuration.clone();
        let snapshot = self.genesis.clone();
        let disk = Stored { hard_state: HardState::default(), snapshot, entries: Vec::new() };
        let member = Member {
            raft: None,
            now: self.members.values().map(|member| member.now).max().unwrap_or_default(),
            disk,
            writes: VecDeque::new(),
            applied: Position::default(),
            applied_configuration: configuration,
            config: Config { id, ..self.config.clone() },
            starts: 0,
        };
        self.members.insert(id, member);
        self.restart(id);
    }

    /// Makes a member crash. Of its unfinished writes, the first `survive` happen to be durable, and of
    /// the next one the first `torn` entries.
    pub fn crash(&mut self, id: NodeId, survive: usize, torn: usize) {
        let member = self.member(id);
        for _ in 0..survive.min(member.writes.len()) {
            let write = member.writes.pop_front().expect("no more than there are");
            member.disk.apply(&write);
        }
        if let Some(mut write) = member.writes.pop_front() {
            write.entries.truncate(torn);
            if !write.entries.is_empty() {
                member.disk.apply(&write);
            }
        }
        member.writes.clear();
        member.raft = None;
        self.invariants.on_crash(id);
        // Whoever streams to it notices, and must say so.
        self.transfers.retain(|transfer| transfer.from != id);
        while let Some(place) = self.transfers.iter().position(|transfer| transfer.to == id) {
            self.finish_transfer(place, false);
        }
    }

    /// Starts a member from its disk.
    pub fn restart(&mut self, id: NodeId) {
        let seed = self.seed;
        let member = self.member(id);
        member.starts += 1;
        member.applied = member.disk.snapshot.position;
        member.applied_configuration = member.disk.snapshot.configuration.clone();
        let saved = member.disk.saved();
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(id.0 * 1_000 + member.starts);
        member.raft = Some(Raft::recover(member.config.clone(), seed, member.now, saved));
        self.drain(id);
    }

    /// Gives a member another past: it starts anew with this on its disk.
    pub fn set_disk(&mut self, id: NodeId, hard_state: HardState, entries: Vec<Entry<C>>) {
        self.crash(id, 0, 0);
        let write = Write { id: Default::default(), hard_state: Some(hard_state), entries, sync: true };
        self.invariants.on_disk_replaced(id);
        let member = self.member(id);
        member.disk.entries.clear();
        member.disk.apply(&write);
        self.restart(id);
        self.invariants.on_write(&write, &self.members[&id]);
    }

    /// Something happens to a member, by its clock now. Crashed members, and those that never started, take no
    /// notice.
    pub fn handle(&mut self, id: NodeId, input: Input<C>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(raft) = &mut member.raft else { return };
        raft.handle(member.now, input);
        self.drain(id);
    }

    /// Several things happen in one turn.
    pub fn handle_all(&mut self, id: NodeId, inputs: Vec<Input<C>>) {
        let member = self.member(id);
        let Some(raft) = &mut member.raft else { return };
        for input in inputs {
            raft.handle(member.now, input);
        }
        self.drain(id);
    }

    /// A member's clock moves on. Nobody wakes it.
    pub fn advance(&mut self, id: NodeId, time: Duration) {
        self.member(id).now += time;
    }

    /// A member's clock moves on to its deadline, and it wakes. False if it has none.
    pub fn timeout(&mut self, id: NodeId) -> bool {
        let member = self.member(id);
        let Some((at, _)) = member.raft.as_ref().and_then(Raft::deadline) else { return false };
        member.now = member.now.max(at);
        self.handle(id, Input::Wake);
        true
    }

    /// A member wants to read; returns the read's number.
    pub fn read(&mut self, id: NodeId) -> ReadId {
        self.read_after(id, Vec::new())
    }

    /// Several things happen in one turn, and then a member wants to read.
    pub fn read_after(&mut self, id: NodeId, mut inputs: Vec<Input<C>>) -> ReadId {
        let read = ReadId(self.next_read);
        self.next_read += 1;
        self.invariants.on_read(read);
        inputs.push(Input::Read(read));
        self.handle_all(id, inputs);
        read
    }

    /// The oldest `count` writes of a member become durable, with one completion. True if there were any.
    pub fn persist(&mut self, id: NodeId, count: usize) -> bool {
        let member = self.member(id);
        let mut last = None;
        for _ in 0..count.min(member.writes.len()) {
            let write = member.writes.pop_front().expect("no more than there are");
            member.disk.apply(&write);
            last = Some(write.id);
        }
        let Some(last) = last else { return false };
        self.handle(id, Input::Persisted(last));
        true
    }

    /// The message at this place in the network arrives. Messages to crashed members are lost.
    pub fn deliver(&mut self, place: usize) {
        let Envelope { from, to, message } = self.network.remove(place);
        self.handle(to, Input::Message { from, message });
    }

    /// A member takes a snapshot of what it has applied, and keeps `keep` entries before it.
    pub fn snapshot(&mut self, id: NodeId, keep: u64) {
        let member = self.member(id);
        let meta =
            SnapshotMeta { position: member.applied, configuration: member.applied_configuration.clone() };
        if member.raft.is_none() || meta.position.index <= member.disk.snapshot.position.index {
            return;
        }
        let keep_after = Index(meta.position.index.0.saturating_sub(keep));
        member.disk.take_snapshot(&meta, keep_after);
        self.handle(id, Input::SnapshotTaken { meta, keep_after });
    }

    /// The snapshot transfer at this place ends: the file is durable at its receiver, or lost.
    pub fn finish_transfer(&mut self, place: usize, success: bool) {
        let Transfer { from, to, term, meta } = self.transfers.remove(place);
        let receiver = self.members.get_mut(&to).filter(|receiver| success && receiver.raft.is_some());
        let Some(receiver) = receiver else { return self.handle(from, Input::SnapshotFailed { to }) };
        if meta.position.index > receiver.disk.snapshot.position.index {
            receiver.disk.snapshot = meta.clone();
        }
        self.handle(to, Input::SnapshotReceived { from, term, meta });
    }

    /// The leader with the highest term, if there is one.
    pub fn leader(&self) -> Option<NodeId> {
        let rafts = self.members.values().filter_map(|member| member.raft.as_ref());
        let leaders = rafts.map(Raft::status).filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    /// Does what a member asks for.
    fn drain(&mut self, id: NodeId) {
        while let Some(output) = self.member(id).raft.as_mut().and_then(Raft::poll_output) {
            if let Some(line) = trace_line(id, &output) {
                self.trace(line);
            }
            self.carry_out(id, output);
        }
        self.invariants.check(id, &self.members);
    }

    fn carry_out(&mut self, id: NodeId, output: Output<C>) {
        match output {
            Output::Send { to, message } => {
                self.invariants.on_send(id, to, &message, &self.members[&id]);
                self.network.push(Envelope { from: id, to, message });
            }
            Output::Persist(write) => {
                self.invariants.on_write(&write, &self.members[&id]);
                self.member(id).writes.push_back(write);
            }
            Output::Committed(entries) => {
                for entry in entries {
                    let member = self.member(id);
                    assert!(entry.index == member.applied.index.next(), "committed entries are consecutive");
                    member.applied = entry.position();
                    if let Payload::Membership(membership) = &entry.payload {
                        member.applied_configuration = membership.configuration.clone();
                    }
                    self.invariants.on_committed(id, &entry, &self.members);
                }
            }
            Output::Restore(meta) => {
                let member = self.member(id);
                assert!(meta.position.index > member.applied.index, "a snapshot is news");
                member.applied = meta.position;
                member.applied_configuration = meta.configuration;
            }
            Output::SnapshotNeeded { to } => self.send_snapshot(id, to),
            Output::ReadReady { id: read, index } => self.invariants.on_read_ready(read, index),
            Output::ReadDropped { id } => self.invariants.on_read_dropped(id),
            Output::PeerLostLog { peer, .. } => self.invariants.on_lost_log(peer),
            Output::Refused(_)
            | Output::RoleChanged
            | Output::ChangeRefused { .. }
            | Output::ConfigurationChanged { .. }
            | Output::TransferEnded { .. } => {}
        }
    }

    fn send_snapshot(&mut self, from: NodeId, to: NodeId) {
        self.transfers.retain(|transfer| (transfer.from, transfer.to) != (from, to));
        let sender = &self.members[&from];
        let term = sender.raft.as_ref().expect("it has just asked").status().term;
        let meta = sender.disk.snapshot.clone();
        self.transfers.push(Transfer { from, to, term, meta });
    }

    fn member(&mut self, id: NodeId) -> &mut Member<C> {
        self.members.get_mut(&id).expect("a member of this cluster")
    }

    fn trace(&mut self, line: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }
}

impl<C: Clone> Stored<C> {
    /// Carries out a write.
    fn apply(&mut self, write: &Write<C>) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    /// Keeps a snapshot, and forgets entries it makes unnecessary.
    fn take_snapshot(&mut self, meta: &SnapshotMeta, keep_after: Index) {
        self.snapshot = meta.clone();
        self.entries.retain(|entry| entry.index > keep_after);
    }

    /// What a Raft starts from.
    fn saved(&self) -> Saved<C> {
        let covered = self.snapshot.position.index;
        let mut entries: Vec<_> =
            self.entries.iter().filter(|entry| entry.index > covered).cloned().collect();
        if entries.first().is_some_and(|first| first.index != covered.next()) {
            entries.clear();
        }
        Saved { hard_state: self.hard_state, snapshot: self.snapshot.clone(), entries }
    }

    /// Whether the entry at this position is here, or covered by the snapshot.
    pub fn holds(&self, position: Position) -> bool {
        position.index <= self.snapshot.position.index
            || self.entries.iter().any(|entry| entry.position() == position)
    }

    /// The last index here.
    pub fn last(&self) -> Index {
        self.entries.last().map_or(Index(0), |entry| entry.index).max(self.snapshot.position.index)
    }
}
