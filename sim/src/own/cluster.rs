//! The run itself: one queue of events, members, links, clients, and the nemesis of all simulations.

use quorate_jepsen::History;
use quorate_raft::{
    Configuration, Index, Input, Message, NodeId, Output, Payload, Position, Raft, Role, SnapshotMeta, Term,
};

use super::clients::Client;
use super::judge::{self, Judge, demand};
use super::member::{Attempt, Job, Member, Proposal};
use super::operator::{Change, Lost};
use super::{Service, Summary};
use crate::env::network::Network;
use crate::invariants::{Check, Violation};
use crate::messages;
use crate::nemesis::{DiskFailure, Nemesis, Step, World};
use crate::options::Options;
use crate::queue::Queue;
use crate::random::{Random, Stream};
use crate::report::catch_panic;
use crate::time::Time;

/// What became of a run.
pub struct Finished {
    pub violation: Option<Violation>,
    pub faults: Vec<Step>,
    pub last: Vec<String>,
    pub summary: Summary,
}

pub(super) enum Event<S: Service> {
    Deliver {
        from: NodeId,
        to: NodeId,
        sent: Time,
        message: Message<Proposal<S::Command>>,
    },
    /// A whole snapshot arrives.
    Install {
        from: NodeId,
        to: NodeId,
        term: Term,
        meta: SnapshotMeta,
        state: S::State,
    },
    /// A leader has no more patience with a peer that was sent a snapshot.
    InstallOver {
        node: NodeId,
        boot: u64,
        to: NodeId,
    },
    Wake {
        node: NodeId,
        number: u64,
    },
    /// A member that is busy with something else looks at what has arrived.
    Turn {
        node: NodeId,
        boot: u64,
    },
    /// The operator looks after a lost disk.
    Operator,
    /// Whoever runs a member that was removed ends it.
    Farewell(NodeId),
    Disk {
        node: NodeId,
        boot: u64,
    },
    /// A client begins with its next request.
    Think {
        client: u64,
    },
    /// An attempt arrives at a member.
    Ask {
        node: NodeId,
        attempt: Attempt,
        command: S::Command,
    },
    Answer {
        attempt: Attempt,
        response: S::Response,
    },
    /// A client has waited long enough for this attempt.
    Patience {
        attempt: Attempt,
    },
    Nemesis,
    /// A fault of a given list.
    Strike(Step),
    Calm,
    End,
}

pub(super) struct Cluster<'a, S: Service> {
    pub(super) service: &'a S,
    pub(super) options: &'a Options,
    pub(super) time: Time,
    pub(super) queue: Queue<Event<S>>,
    pub(super) members: Vec<Member<S>>,
    pub(super) network: Network,
    pub(super) nemesis: Option<Nemesis>,
    pub(super) clients: Vec<Client<S::Command>>,
    /// What the operator waits for.
    pub(super) change: Option<Change>,
    /// The disk that was lost last, until somebody has taken its place.
    pub(super) lost: Option<Lost>,
    /// Who sits in the place of each member that the cluster began with.
    pub(super) seats: Vec<NodeId>,
    pub(super) history: History<S::Command, S::Response>,
    pub(super) judge: Judge,
    pub(super) random: Random,
    pub(super) disk_random: Random,
    pub(super) workload: Random,
    pub(super) violation: Option<Violation>,
    pub(super) calm: bool,
    pub(super) over: bool,
    pub(super) wakes: u64,
    pub(super) summary: Summary,
    pub(super) words: Option<Vec<(Time, String)>>,
}

/// Runs a seed, with the faults that it draws or with these.
pub fn run<S: Service>(service: &S, options: &Options, faults: Option<&[Step]>, words: bool) -> Finished {
    let mut cluster = Cluster::new(service, options, faults, words);
    if let Err(violation) = catch_panic(|| cluster.run()) {
        cluster.demand(Err(violation));
    }
    if cluster.violation.is_none() {
        let history = std::mem::take(&mut cluster.history).finish();
        cluster.demand(judge::judge(service, &history));
    }
    let Cluster { violation, nemesis, words, time, mut summary, .. } = cluster;
    summary.seeds = 1;
    summary.simulated = time.since(Time::ZERO);
    let faults = nemesis.map(|nemesis| nemesis.begun().to_vec()).unwrap_or_default();
    let mut words = words.unwrap_or_default();
    // A history is judged at the end; what explains it is where the faults were.
    let judged = violation.as_ref().is_some_and(|violation| violation.invariant == judge::LINEARIZABILITY);
    let ended = faults.iter().map(|step| step.at + step.lasts).max();
    if let Some(ended) = ended.filter(|_| judged) {
        words.retain(|(at, _)| *at <= ended + options.load.patience);
    }
    words.drain(..words.len().saturating_sub(LINES_KEPT));
    let last = words.into_iter().map(|(at, line)| format!("{:>12} {line}", at.to_string())).collect();
    Finished { violation, faults, last, summary }
}

impl<'a, S: Service> Cluster<'a, S> {
    fn new(service: &'a S, options: &'a Options, faults: Option<&[Step]>, words: bool) -> Cluster<'a, S> {
        let seed = options.seed;
        let configuration =
            Configuration { voters: options.member_ids().into_iter().collect(), ..Configuration::default() };
        let initial = SnapshotMeta { position: Position::default(), configuration };
        let clocks = &mut Random::new(seed, Stream::Clock);
        let members = options.member_ids().into_iter();
        let mut cluster = Cluster {
            service,
            options,
            time: Time::ZERO,
            queue: Queue::default(),
            members: members
                .map(|id| Member::new(service, id, &initial, options.clock_rate(clocks)))
                .collect(),
            network: Network::new(options.network, Random::new(seed, Stream::Network)),
            nemesis: Some(if faults.is_some() { Nemesis::idle(options) } else { Nemesis::new(options) }),
            change: None,
            lost: None,
            seats: options.member_ids(),
            clients: vec![Client::default(); options.load.clients as usize],
            history: History::new(),
            judge: Judge::default(),
            random: Random::new(seed, Stream::Clients),
            disk_random: Random::new(seed, Stream::Disk),
            workload: Random::new(seed, Stream::Workload),
            violation: None,
            calm: false,
            over: false,
            wakes: 0,
            summary: Summary::default(),
            words: words.then(Vec::new),
        };
        for step in faults.into_iter().flatten() {
            cluster.queue.push(step.at, Event::Strike(*step));
        }
        let storm_ends = Time::ZERO + options.storm;
        cluster.queue.push(storm_ends, Event::Calm);
        // Clocks may run at half the true rate, and retries of clients may still be under way.
        cluster.queue.push(
            storm_ends + options.election_timeout * CALM_TIMEOUTS + options.load.patience * 2,
            Event::End,
        );
        cluster
    }

    fn run(&mut self) {
        for id in self.options.member_ids() {
            self.start(id);
        }
        for client in 0..self.clients.len() as u64 {
            self.queue.push(self.time, Event::Think { client });
        }
        self.schedule_nemesis();
        while !self.over && self.violation.is_none() {
            let Some((time, event)) = self.queue.pop() else { break };
            self.time = time;
            self.summary.events += 1;
            self.step(event);
        }
    }

    fn step(&mut self, event: Event<S>) {
        match event {
            Event::Deliver { from, to, sent, message } => {
                if !self.options.is_forgotten(sent, self.time) {
                    self.input(to, Input::Message { from, message });
                }
            }
            Event::Install { from, to, term, meta, state } => {
                self.note(|| format!("n{from} → n{to} snapshot {}", meta.position.index));
                if self.member(to).raft.is_some() {
                    self.disk(to, Job::Received(from, term, meta, state));
                }
            }
            Event::InstallOver { node, boot, to } => {
                if self.member(node).boot == boot {
                    self.input(node, Input::SnapshotFailed { to });
                }
            }
            Event::Wake { node, number } => self.wake(node, number),
            Event::Turn { node, boot } => self.late_turn(node, boot),
            Event::Operator => self.operator_looks(),
            Event::Farewell(node) => self.end_for_good(node),
            Event::Disk { node, boot } => self.disk_done(node, boot),
            Event::Think { client } => self.think(client),
            Event::Ask { node, attempt, command } => self.ask(node, attempt, command),
            Event::Answer { attempt, response } => self.answer(attempt, response),
            Event::Patience { attempt } => self.lose_patience(attempt),
            Event::Nemesis => self.with_nemesis(|nemesis, time, cluster| nemesis.step(time, cluster)),
            Event::Strike(step) => self.with_nemesis(|nemesis, time, cluster| {
                nemesis.strike(time, step.lasts, step.fault, cluster);
            }),
            Event::Calm => {
                self.note(|| "--- calm ---".to_owned());
                self.calm = true;
                self.with_nemesis(|nemesis, _, cluster| nemesis.finish(cluster));
                self.network.set_quality(crate::env::network::Quality {
                    loss: 0,
                    duplication: 0,
                    reordering: 0,
                    ..self.options.network
                });
            }
            Event::End => {
                self.over = true;
                let check = self.check_convergence();
                self.demand(check);
            }
        }
    }

    /// Something happens to a member.
    pub(super) fn input(&mut self, node: NodeId, input: Input<Proposal<S::Command>>) {
        let time = self.time;
        let member = self.member(node);
        if member.raft.is_none() {
            return;
        }
        member.inbox.push(input);
        if member.paused || member.turn_scheduled {
            return;
        }
        if member.cpu_delay.is_zero() {
            return self.turn(node);
        }
        member.turn_scheduled = true;
        let (at, boot) = (time + member.cpu_delay, member.boot);
        self.queue.push(at, Event::Turn { node, boot });
    }

    fn late_turn(&mut self, node: NodeId, boot: u64) {
        let member = self.member(node);
        if member.boot == boot && std::mem::take(&mut member.turn_scheduled) && !member.paused {
            self.turn(node);
        }
    }

    /// A member looks at what has arrived; does what its Raft asks for.
    pub(super) fn turn(&mut self, node: NodeId) {
        let time = self.time;
        let member = self.member(node);
        let now = member.clock.now(time);
        let inbox = std::mem::take(&mut member.inbox);
        let Some(raft) = &mut member.raft else { return };
        inbox.into_iter().for_each(|input| raft.handle(now, input));
        while let Some(output) = self.member(node).raft.as_mut().and_then(Raft::poll_output) {
            self.perform(node, output);
        }
        self.maybe_take_snapshot(node);
        self.schedule_wake(node);
        self.fingerprint(node);
    }

    fn perform(&mut self, node: NodeId, output: Output<Proposal<S::Command>>) {
        match output {
            Output::Send { to, message } => {
                let sent = self.time;
                let arrivals = self.network.send(sent, node, to);
                let kind = || messages::kind(&message.body);
                let arrivals = self.network.meddle(node, to, kind, arrivals);
                for at in [arrivals.first, arrivals.second].into_iter().flatten() {
                    self.queue.push(at, Event::Deliver { from: node, to, sent, message: message.clone() });
                }
            }
            Output::Persist(write) => self.disk(node, Job::Write(write)),
            Output::Committed(entries) => {
                for entry in entries {
                    self.apply(node, entry.position(), entry.payload);
                }
            }
            Output::SnapshotNeeded { to } => self.send_snapshot(node, to),
            Output::Restore(meta) => {
                let member = self.member(node);
                member.state = member.received.take().expect("a snapshot is received before it is restored");
                member.applied = meta.position;
                member.snapshot = meta.position.index;
                member.configuration = meta.configuration;
                self.check_state(node, "by a snapshot");
            }
            Output::RoleChanged => {
                let raft = self.member(node).raft.as_ref().expect("it speaks");
                let (role, term) = (raft.status().role, raft.status().term);
                self.note(|| format!("n{node} is {role} in term {term}"));
                if role == Role::Leader {
                    let check = self.judge.on_leader(term, node);
                    self.demand(check);
                    self.with_nemesis(|nemesis, time, _| nemesis.on_leader(time, node));
                }
            }
            // Clients notice by themselves that nobody answers, and nobody reads. The operator tries again another day.
            _ => {}
        }
    }

    pub(super) fn apply(&mut self, node: NodeId, position: Position, payload: Payload<Proposal<S::Command>>) {
        let service = self.service;
        let member = self.member(node);
        member.applied = position;
        let proposal = match payload {
            Payload::Command(proposal) => proposal,
            Payload::Membership(membership) => {
                member.configuration = membership.configuration;
                return self.membership_applied(node);
            }
            Payload::Noop => return,
        };
        let Some(command) = &proposal.command else { return };
        let response = service.apply(&mut member.state, command);
        let asked_here = proposal.origin == node && proposal.boot == member.boot;
        if asked_here && member.waiting.remove(&proposal.attempt) {
            let at = self.network.send_client(self.time, node);
            if let Some(at) = at {
                self.queue.push(at, Event::Answer { attempt: proposal.attempt, response });
            }
        }
        self.check_state(node, "by its log");
    }

    fn check_state(&mut self, node: NodeId, how: &str) {
        let Cluster { judge, members, service, .. } = self;
        let member = &members[place(node)];
        let check = judge.on_state(*service, node, member.applied.index, &member.state, how);
        self.demand(check);
    }

    fn maybe_take_snapshot(&mut self, node: NodeId) {
        let (service, every, catchup) =
            (self.service, self.options.snapshot_entries, self.options.catchup_entries);
        let member = self.member(node);
        let due = member.applied.index.0 >= member.snapshot.0 + every;
        if !due || member.snapshot_under_way || member.raft.is_none() {
            return;
        }
        member.snapshot_under_way = true;
        let meta = SnapshotMeta { position: member.applied, configuration: member.configuration.clone() };
        let keep_after = Index(member.applied.index.0.saturating_sub(catchup));
        let job = Job::Snapshot(meta, service.snapshot(&member.state), keep_after);
        self.disk(node, job);
    }

    fn send_snapshot(&mut self, node: NodeId, to: NodeId) {
        let service = self.service;
        let member = self.member(node);
        let (boot, term) = (member.boot, member.raft.as_ref().expect("it speaks").status().term);
        let meta = SnapshotMeta { position: member.applied, configuration: member.configuration.clone() };
        let state = service.snapshot(&member.state);
        let arrivals = self.network.send(self.time, node, to);
        if let Some(at) = self.network.meddle(node, to, || "Chunk", arrivals).first {
            self.queue.push(at, Event::Install { from: node, to, term, meta, state });
        }
        let over = self.time + self.options.election_timeout * 10;
        self.queue.push(over, Event::InstallOver { node, boot, to });
    }

    /// Gives a member's disk something to do.
    pub(super) fn disk(&mut self, node: NodeId, job: Job<S>) {
        let member = self.member(node);
        member.jobs.push_back(job);
        if member.jobs.len() == 1 {
            self.begin_job(node);
        }
    }

    fn begin_job(&mut self, node: NodeId) {
        let speed = self.options.disk;
        let mut takes = speed.sync + self.disk_random.exponential_duration(speed.jitter);
        let time = self.time;
        let member = self.member(node);
        if time < member.slower.1 {
            takes *= member.slower.0;
        }
        let boot = member.boot;
        self.queue.push(time + takes, Event::Disk { node, boot });
    }

    fn disk_done(&mut self, node: NodeId, boot: u64) {
        let member = self.member(node);
        if member.boot != boot || member.raft.is_none() {
            return;
        }
        if let Some(failure) = member.disk_fails {
            return self.disk_fails(node, failure);
        }
        let input = member.job_done();
        if !member.jobs.is_empty() {
            self.begin_job(node);
        }
        if let Some(input) = input {
            self.input(node, input);
        }
    }

    /// A job cannot be done, and the process ends, as the product's does. A sync that fails may have made durable what it
    /// should, or not.
    fn disk_fails(&mut self, node: NodeId, failure: DiskFailure) {
        let lasting = failure == DiskFailure::FailedSync && self.disk_random.chance(500_000);
        let member = self.member(node);
        if lasting {
            member.job_done();
        }
        member.crash();
        self.note(|| format!("n{node} ends: its disk fails"));
    }

    pub(super) fn wake(&mut self, node: NodeId, number: u64) {
        let member = self.member(node);
        if member.wake.comes(number) && !member.paused {
            self.input(node, Input::Wake);
        }
    }

    pub(super) fn schedule_wake(&mut self, node: NodeId) {
        let Cluster { members, queue, wakes, time, .. } = self;
        let member = &mut members[place(node)];
        let deadline = member.raft.as_ref().and_then(Raft::deadline);
        if let Some((at, number)) = member.wake.schedule(deadline, &member.clock, *time, wakes) {
            queue.push(at, Event::Wake { node, number });
        }
    }

    /// Everybody who takes part in the end has applied everything.
    fn check_convergence(&self) -> Check {
        let Some(furthest) = self.members.iter().max_by_key(|member| member.applied.index) else {
            return Ok(());
        };
        let index = furthest.applied.index;
        demand(self.lost.is_none(), "convergence after the storm", || {
            "nobody has taken the place of the member that lost its disk".to_owned()
        })?;
        for id in furthest.configuration.members() {
            let applied = self.members[place(id)].applied.index;
            demand(applied == index, "convergence after the storm", || {
                format!("n{id} has applied {applied} of {index}")
            })?;
        }
        demand(index > Index(0), "service after the storm", || "nothing was ever committed".to_owned())
    }

    /// What a run is, in a number: equal for equal runs.
    fn fingerprint(&mut self, node: NodeId) {
        let time = self.time;
        let Some(raft) = &self.member(node).raft else { return };
        let status = raft.status();
        let words = [time.0, node.0, status.term.0, status.last.index.0, status.commit.0];
        for word in words {
            self.summary.hash = (self.summary.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(words) = &mut self.words {
            words.push((self.time, line()));
        }
    }

    pub(super) fn demand(&mut self, check: Check) {
        if let Err(violation) = check {
            self.violation.get_or_insert(violation);
        }
    }

    pub(super) fn member(&mut self, node: NodeId) -> &mut Member<S> {
        &mut self.members[place(node)]
    }
}

/// Where a member is in the list of members.
pub(super) fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// How long a cluster may take to come round, in election timeouts.
const CALM_TIMEOUTS: u32 = 60;

/// How much of the end of a run a failure shows.
const LINES_KEPT: usize = 25;
