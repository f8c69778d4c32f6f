//! A synchronous cluster of replicas in which nothing happens by itself: messages travel, disks write
//! and time passes when a test says so.
//!
//! The disk keeps what was persisted, and a crash loses what was not. Whatever a replica asks for that
//! is not I/O (answers, watch updates, changes) is handed to the test as an [`Event`].

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use quorate_raft::{Entry, HardState, Index, Instant, NodeId, Role, SnapshotMeta, Term};
use quorate_replica::{
    Config, Error, Founder, Input, Message, Output, Replica, Request, RequestId, Response, Saved,
    SharedProposal, SnapshotChunk, Status, Write,
};
use quorate_store::{WatchId, WatchUpdate};

/// The cluster.
pub struct Cluster {
    pub members: BTreeMap<NodeId, Member>,
    /// Messages under way, oldest first.
    pub network: VecDeque<Packet>,
    /// One-way links that lose everything.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub options: Options,
    seed: u64,
}

/// What all members are told.
#[derive(Clone)]
pub struct Options {
    pub members: u64,
    pub snapshot_entries: u64,
    pub catchup_entries: u64,
    pub quota_bytes: u64,
    pub request_timeout: Duration,
    pub strict_reconfig_check: bool,
    pub learners_max: usize,
    pub auto_promote: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            members: 3,
            snapshot_entries: 10_000,
            catchup_entries: 5_000,
            quota_bytes: 0,
            request_timeout: Duration::from_secs(7),
            strict_reconfig_check: true,
            learners_max: 1,
            auto_promote: false,
        }
    }
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

/// One member's process and disk.
pub struct Member {
    pub id: NodeId,
    /// `None` after a crash.
    pub replica: Option<Replica>,
    pub disk: Disk,
    /// Writes that are not durable yet.
    pub writes: VecDeque<Write>,
    /// Snapshot chunks that are not durable yet.
    pub saves: VecDeque<(Arc<SnapshotChunk>, Index)>,
    /// Its own clock.
    pub now: Instant,
    /// While true it neither takes inputs nor is woken, though its clock goes on.
    pub paused: bool,
    /// While true, chunks of snapshots become durable only one by one, by `save`.
    pub saves_slowly: bool,
    /// What it last said of its leadership.
    pub announced: Option<(Term, Role, Option<NodeId>)>,
    /// Whom it talks to.
    pub peers: Vec<(NodeId, Vec<String>)>,
    /// The sequence of its latest request.
    pub sequence: u64,
}

/// What a member finds when it starts again.
#[derive(Clone, Default)]
pub struct Disk {
    pub genesis: Vec<Founder>,
    pub boot: u64,
    pub hard_state: HardState,
    pub log: Vec<Entry<SharedProposal>>,
    pub snapshot: SnapshotMeta,
    pub chunks: Vec<SnapshotChunk>,
    /// The file in the making.
    pub unfinished: Vec<SnapshotChunk>,
}

/// What a replica tells its clients and its operator.
#[derive(Debug)]
pub enum Event {
    Respond(RequestId, Result<Response, Error>),
    Watch(WatchId, WatchUpdate),
    Changed(Box<Status>),
    Removed,
    Disowned,
}

impl Cluster {
    pub fn new(options: Options, seed: u64) -> Cluster {
        let ids: BTreeSet<NodeId> = (1..=options.members).map(NodeId).collect();
        let genesis: Vec<Founder> = ids.iter().map(|id| founder(*id)).collect();
        let members = ids.iter().map(|id| (*id, Member::new(*id, genesis.clone()))).collect();
        let mut cluster = Cluster { members, network: VecDeque::new(), cut: BTreeSet::new(), options, seed };
        ids.into_iter().for_each(|id| cluster.start(id));
        cluster
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("a member of the cluster")
    }

    pub fn replica(&mut self, id: NodeId) -> &mut Replica {
        self.member(id).replica.as_mut().expect("a member that has not crashed")
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.members.get(&id).is_some_and(|member| member.replica.is_some())
    }

    /// Starts a process from what its disk holds.
    pub fn start(&mut self, id: NodeId) {
        let config = self.config(id);
        let seed = self.seed;
        let member = self.member(id);
        member.disk.boot += 1;
        member.sequence = 0;
        member.announced = None;
        let seed = seed.wrapping_mul(1_000_003) + id.0 * 1_009 + member.disk.boot;
        let (now, saved) = (member.now, member.disk.saved());
        member.replica = Some(Replica::recover(config, seed, now, saved).expect("a sound snapshot"));
    }

    fn config(&self, id: NodeId) -> Config {
        Config {
            raft: quorate_raft::Config::new(id),
            snapshot_entries: self.options.snapshot_entries,
            catchup_entries: self.options.catchup_entries,
            quota_bytes: self.options.quota_bytes,
            strict_reconfig_check: self.options.strict_reconfig_check,
            learners_max: self.options.learners_max,
            auto_promote: self.options.auto_promote,
            priority: 0,
            request_timeout: self.options.request_timeout,
        }
    }

    /// Ends a process; what its disk was not done with is lost.
    pub fn crash(&mut self, id: NodeId) {
        let member = self.member(id);
        member.replica = None;
        member.paused = false;
        member.writes.clear();
        member.saves.clear();
        member.disk.unfinished.clear();
    }

    /// Lets a frozen process go on: it takes all that has piled up before it looks at the clock.
    pub fn resume(&mut self, id: NodeId) {
        self.member(id).paused = false;
        while let Some(place) = self.network.iter().position(|packet| packet.to == id) {
            self.deliver(place);
        }
        if self.is_up(id) {
            self.handle(id, Input::Wake);
        }
    }

    /// Begins a process with an empty disk, as a member that has joined.
    pub fn start_new(&mut self, id: NodeId) {
        let oldest = self.members.values().next().expect("somebody is there");
        let member = Member { now: oldest.now, ..Member::new(id, oldest.disk.genesis.clone()) };
        self.members.insert(id, member);
        self.start(id);
    }

    /// Cuts the links between a member and all others.
    pub fn isolate(&mut self, id: NodeId) {
        let others = self.members.keys().filter(|other| **other != id);
        self.cut.extend(others.flat_map(|other| [(id, *other), (*other, id)]));
    }

    /// Asks a member something, without polling it.
    pub fn request(&mut self, id: NodeId, request: Request) -> RequestId {
        let member = self.member(id);
        member.sequence += 1;
        let request_id = RequestId { boot: member.disk.boot, sequence: member.sequence };
        self.handle(id, Input::Request { id: request_id, request });
        request_id
    }

    pub fn handle(&mut self, id: NodeId, input: Input) {
        let member = self.member(id);
        let now = member.now;
        member.replica.as_mut().expect("a member that has not crashed").handle(now, input);
    }

    /// Polls a member until it has nothing more to do.
    pub fn poll(&mut self, id: NodeId) -> Vec<Event> {
        let Cluster { members, network, cut, .. } = self;
        let member = members.get_mut(&id).expect("a member of the cluster");
        let Some(replica) = member.replica.as_mut() else { return Vec::new() };
        let mut events = Vec::new();
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Send { to, message } => {
                    assert_ne!(to, id, "nobody talks to himself");
                    if !cut.contains(&(id, to)) {
                        network.push_back(Packet { from: id, to, message });
                    }
                }
                Output::Persist(write) => member.writes.push_back(write),
                Output::SaveSnapshot { chunk, keep_after } => member.saves.push_back((chunk, keep_after)),
                Output::Respond { id, result } => events.push(Event::Respond(id, result)),
                Output::Watch { watch, update } => events.push(Event::Watch(watch, update)),
                Output::Changed(status) => {
                    let news = Some((status.raft.term, status.raft.role, status.raft.leader));
                    if std::mem::replace(&mut member.announced, news) != news {
                        events.push(Event::Changed(status));
                    }
                }
                Output::Peers(peers) => member.peers = peers,
                Output::Removed => events.push(Event::Removed),
                Output::Disowned => events.push(Event::Disowned),
            }
        }
        events
    }

    /// Makes a member's oldest write durable, if there is one.
    pub fn persist(&mut self, id: NodeId) -> bool {
        let member = self.member(id);
        let Some(write) = member.writes.pop_front() else { return false };
        let write_id = write.id;
        member.disk.write(write);
        self.handle(id, Input::Persisted(write_id));
        true
    }

    /// Makes a member's oldest snapshot chunk durable, if there is one.
    pub fn save(&mut self, id: NodeId) -> bool {
        let member = self.member(id);
        let Some((chunk, keep_after)) = member.saves.pop_front() else { return false };
        let (position, sequence) = (chunk.meta.position, chunk.sequence);
        member.disk.save(&chunk, keep_after);
        self.handle(id, Input::SnapshotSaved { position, sequence });
        true
    }

    /// Delivers the message at a place in the network; it is lost if nobody is there.
    pub fn deliver(&mut self, place: usize) {
        let Some(Packet { from, to, message }) = self.network.remove(place) else { return };
        if self.is_up(to) && !self.cut.contains(&(from, to)) {
            self.handle(to, Input::Message { from, message });
        }
    }

    /// Lets everything happen that needs no time to pass, in a fixed order.
    pub fn settle(&mut self) -> Vec<(NodeId, Event)> {
        self.settle_until(|_| false)
    }

    /// The same, but stops as soon as something has come about, with everybody polled.
    pub fn settle_until(&mut self, reached: impl Fn(&Cluster) -> bool) -> Vec<(NodeId, Event)> {
        let mut events = Vec::new();
        loop {
            let mut busy = false;
            for id in self.ids() {
                if !self.members[&id].paused {
                    events.extend(self.poll(id).into_iter().map(|event| (id, event)));
                }
            }
            if reached(self) {
                return events;
            }
            for id in self.ids() {
                if self.members[&id].paused || !self.is_up(id) {
                    continue;
                }
                let slowly = self.members[&id].saves_slowly;
                while self.persist(id) || (!slowly && self.save(id)) {
                    busy = true;
                }
            }
            let paused = |packet: &Packet| self.members.get(&packet.to).is_some_and(|member| member.paused);
            let place = self.network.iter().position(|packet| !paused(packet));
            if let Some(place) = place.filter(|_| !busy) {
                busy = true;
                self.deliver(place);
            }
            if !busy {
                return events;
            }
        }
    }

    /// Lets time pass, waking whoever has a deadline on the way.
    pub fn elapse(&mut self, time: Duration) -> Vec<(NodeId, Event)> {
        let mut left = time;
        let mut events = self.settle();
        let mut in_vain = 0;
        loop {
            let running = self.members.values().filter(|member| !member.paused);
            let next = running.filter_map(Member::time_to_deadline).min();
            let step = next.unwrap_or(left).min(left);
            self.members.values_mut().for_each(|member| member.now += step);
            left -= step;
            in_vain = if step.is_zero() { in_vain + 1 } else { 0 };
            assert!(in_vain < 100, "waking does not move the deadline: {:?}", self.deadlines());
            for id in self.ids() {
                let member = &self.members[&id];
                if !member.paused && member.time_to_deadline() == Some(Duration::ZERO) {
                    self.handle(id, Input::Wake);
                }
            }
            events.extend(self.settle());
            if left.is_zero() {
                return events;
            }
        }
    }

    fn deadlines(&self) -> Vec<Option<(Instant, &'static str)>> {
        self.members.values().map(|member| member.replica.as_ref()?.deadline()).collect()
    }

    /// Makes a member's Raft start an election at once, by moving its clock on. Its peers' clocks are moved
    /// on too, so that they do not refuse because they have just heard from a leader. If `bare`, nothing
    /// more happens once the member leads.
    pub fn campaign(&mut self, id: NodeId, bare: bool) -> Vec<(NodeId, Event)> {
        let leads = |cluster: &Cluster| {
            let replica = cluster.members[&id].replica.as_ref();
            replica.is_some_and(|replica| replica.status().raft.role == Role::Leader)
        };
        let mut events = Vec::new();
        self.members.values_mut().for_each(|member| member.now += Duration::from_secs(1));
        for _ in 0..20 {
            if leads(self) {
                break;
            }
            let deadline = self.replica(id).raft().deadline().expect("an election is due some time").0;
            let member = self.member(id);
            member.now = member.now.max(deadline);
            self.handle(id, Input::Wake);
            events.extend(self.settle_until(|cluster| bare && leads(cluster)));
        }
        events
    }
}

/// A member that was there at the beginning, with the first directory that it has.
fn founder(id: NodeId) -> Founder {
    Founder { id, owner: 100 * id.0, name: format!("m{}", id.0), peer_urls: vec![format!("p{}", id.0)] }
}

impl Member {
    fn new(id: NodeId, genesis: Vec<Founder>) -> Member {
        Member {
            id,
            replica: None,
            disk: Disk { genesis, ..Disk::default() },
            writes: VecDeque::new(),
            saves: VecDeque::new(),
            now: Instant::default(),
            paused: false,
            saves_slowly: false,
            announced: None,
            peers: Vec::new(),
            sequence: 0,
        }
    }

    pub fn time_to_deadline(&self) -> Option<Duration> {
        Some(self.replica.as_ref()?.deadline()?.0.since(self.now))
    }
}

impl Disk {
    fn write(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = write.entries.first() {
            self.log.retain(|entry| entry.index < first.index);
            self.log.extend(write.entries);
        }
    }

    fn save(&mut self, chunk: &SnapshotChunk, keep_after: Index) {
        if chunk.sequence == 0 {
            self.unfinished.clear();
        }
        assert_eq!(chunk.sequence as usize, self.unfinished.len(), "chunks of a file come in order");
        self.unfinished.push(chunk.clone());
        if chunk.last {
            assert!(chunk.meta.position.index > self.snapshot.position.index, "snapshots move forward");
            self.chunks = core::mem::take(&mut self.unfinished);
            self.snapshot = chunk.meta.clone();
            self.log.retain(|entry| entry.index > keep_after);
        }
    }

    fn saved(&self) -> Saved {
        let after = self.snapshot.position.index;
        Saved {
            genesis: self.genesis.clone(),
            boot: self.boot,
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            chunks: self.chunks.clone(),
            entries: self.log.iter().filter(|entry| entry.index > after).cloned().collect(),
        }
    }
}
