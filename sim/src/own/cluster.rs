//! The run itself: one queue of events, members, links, clients, and the nemesis of all simulations.

use std::time::Duration;

use quorate_jepsen::History;
use quorate_jepsen::history::OperationId;
use quorate_raft::{
    Configuration, Index, Input, Message, NodeId, Output, Payload, Position, Raft, Role, SnapshotMeta, Term,
};

use super::judge::{self, Judge, demand};
use super::member::{Attempt, Job, Member, Proposal};
use super::{Service, Summary};
use crate::env::network::Network;
use crate::invariants::{Check, Violation};
use crate::nemesis::{DiskFailure, FaultLine, Nemesis, Step, World};
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

enum Event<S: Service> {
    Deliver {
        from: NodeId,
        to: NodeId,
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
        command: S::Command,
    },
    Nemesis,
    /// A fault of a given list.
    Strike(Step),
    Calm,
    End,
}

/// A client, and the request it waits for.
#[derive(Clone, Copy)]
struct Client {
    number: u64,
    asked: Option<(Attempt, OperationId)>,
}

struct Cluster<'a, S: Service> {
    service: &'a S,
    options: &'a Options,
    time: Time,
    queue: Queue<Event<S>>,
    members: Vec<Member<S>>,
    network: Network,
    nemesis: Option<Nemesis>,
    clients: Vec<Client>,
    history: History<S::Command, S::Response>,
    judge: Judge,
    random: Random,
    disk_random: Random,
    workload: Random,
    violation: Option<Violation>,
    calm: bool,
    over: bool,
    wakes: u64,
    summary: Summary,
    words: Option<Vec<(Time, String)>>,
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
            clients: vec![Client { number: 0, asked: None }; options.load.clients as usize],
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
            Event::Deliver { from, to, message } => {
                self.input(to, Input::Message { from, message });
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
            Event::Disk { node, boot } => self.disk_done(node, boot),
            Event::Think { client } => self.think(client),
            Event::Ask { node, attempt, command } => self.ask(node, attempt, command),
            Event::Answer { attempt, response } => self.answer(attempt, response),
            Event::Patience { attempt, command } => self.lose_patience(attempt, command),
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

    /// Something happens to a member; does what its Raft asks for.
    fn input(&mut self, node: NodeId, input: Input<Proposal<S::Command>>) {
        let time = self.time;
        let member = self.member(node);
        if member.paused {
            return member.inbox.push(input);
        }
        let now = member.clock.now(time);
        let Some(raft) = &mut member.raft else { return };
        raft.handle(now, input);
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
                let arrivals = self.network.send(self.time, node, to);
                for at in [arrivals.first, arrivals.second].into_iter().flatten() {
                    self.queue.push(at, Event::Deliver { from: node, to, message: message.clone() });
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
            // Clients notice by themselves that nobody answers; nobody reads, and nobody changes members.
            _ => {}
        }
    }

    fn apply(&mut self, node: NodeId, position: Position, payload: Payload<Proposal<S::Command>>) {
        let service = self.service;
        let member = self.member(node);
        member.applied = position;
        let Payload::Command(proposal) = payload else { return };
        let response = service.apply(&mut member.state, &proposal.command);
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
        if let Some(at) = self.network.send(self.time, node, to).first {
            self.queue.push(at, Event::Install { from: node, to, term, meta, state });
        }
        let over = self.time + self.options.election_timeout * 10;
        self.queue.push(over, Event::InstallOver { node, boot, to });
    }

    /// Gives a member's disk something to do.
    fn disk(&mut self, node: NodeId, job: Job<S>) {
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
        let input = member.job_done();
        if !member.jobs.is_empty() {
            self.begin_job(node);
        }
        if let Some(input) = input {
            self.input(node, input);
        }
    }

    fn wake(&mut self, node: NodeId, number: u64) {
        let member = self.member(node);
        if member.wake.is_some_and(|(_, scheduled)| scheduled == number) {
            member.wake = None;
            if !member.paused {
                self.input(node, Input::Wake);
            }
        }
    }

    fn schedule_wake(&mut self, node: NodeId) {
        let time = self.time;
        let member = self.member(node);
        let Some((at, _)) = member.raft.as_ref().and_then(Raft::deadline) else { return };
        let Some(at) = member.clock.reaches(time, at) else { return };
        if member.wake.is_some_and(|(scheduled, _)| scheduled <= at) {
            return;
        }
        self.wakes += 1;
        let number = self.wakes;
        self.member(node).wake = Some((at, number));
        self.queue.push(at, Event::Wake { node, number });
    }

    fn check_convergence(&self) -> Check {
        let applied = |member: &Member<S>| member.applied.index;
        let furthest = self.members.iter().map(applied).max().unwrap_or_default();
        for member in &self.members {
            let detail = || format!("n{} has applied {} of {furthest}", member.id, member.applied.index);
            demand(member.applied.index == furthest, "convergence after the storm", detail)?;
        }
        demand(furthest > Index(0), "service after the storm", || "nothing was ever committed".to_owned())
    }

    fn with_nemesis(&mut self, act: impl FnOnce(&mut Nemesis, Time, &mut Self)) {
        let time = self.time;
        let Some(mut nemesis) = self.nemesis.take() else { return };
        act(&mut nemesis, time, self);
        self.nemesis = Some(nemesis);
        self.schedule_nemesis();
    }

    fn schedule_nemesis(&mut self) {
        if let Some(at) = self.nemesis.as_ref().and_then(Nemesis::next_at) {
            self.queue.push(at.max(self.time), Event::Nemesis);
        }
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

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(words) = &mut self.words {
            words.push((self.time, line()));
        }
    }

    fn demand(&mut self, check: Check) {
        if let Err(violation) = check {
            self.violation.get_or_insert(violation);
        }
    }

    fn member(&mut self, node: NodeId) -> &mut Member<S> {
        &mut self.members[place(node)]
    }
}

/// Clients: one request at a time, sent again and again until it is answered, at another member each time.
impl<S: Service> Cluster<'_, S> {
    fn think(&mut self, client: u64) {
        if self.calm {
            return;
        }
        self.clients[client as usize].number += 1;
        let number = self.clients[client as usize].number;
        let command = self.service.draw(client, number, &mut self.workload);
        self.note(|| format!("client {client} asks for {command:?}"));
        let operation = self.history.invoke(client, self.time.0, command.clone());
        let attempt = Attempt { client, number, again: 0 };
        self.clients[client as usize].asked = Some((attempt, operation));
        self.send_attempt(attempt, command);
    }

    fn send_attempt(&mut self, attempt: Attempt, command: S::Command) {
        let node = NodeId(self.random.between(1, self.options.members));
        if let Some(at) = self.network.send_client(self.time, node) {
            self.queue.push(at, Event::Ask { node, attempt, command: command.clone() });
        }
        self.queue.push(self.time + self.options.load.patience / 4, Event::Patience { attempt, command });
    }

    /// A member that does not lead passes the question on to the one that does, as far as it knows.
    fn ask(&mut self, node: NodeId, attempt: Attempt, command: S::Command) {
        let member = self.member(node);
        if member.paused {
            return;
        }
        let Some(status) = member.raft.as_ref().map(Raft::status) else { return };
        if status.role != Role::Leader {
            let Some(leader) = status.leader else { return };
            if let Some(at) = self.network.send(self.time, node, leader).first {
                self.queue.push(at, Event::Ask { node: leader, attempt, command });
            }
            return;
        }
        member.waiting.insert(attempt);
        let proposal = Proposal { origin: node, boot: member.boot, attempt, command };
        self.input(node, Input::Propose(proposal));
    }

    fn answer(&mut self, attempt: Attempt, response: S::Response) {
        let client = &mut self.clients[attempt.client as usize];
        // An answer to an earlier attempt of the same request is as good as one to the last.
        let asked = client.asked.take_if(|(asked, _)| asked.number == attempt.number);
        let Some((_, operation)) = asked else { return };
        self.note(|| format!("client {} is answered {response:?}", attempt.client));
        self.history.ok(operation, self.time.0, response);
        self.summary.answered += 1;
        let think = self.random.exponential_duration(self.options.load.think);
        self.queue.push(self.time + think, Event::Think { client: attempt.client });
    }

    fn lose_patience(&mut self, attempt: Attempt, command: S::Command) {
        let client = &mut self.clients[attempt.client as usize];
        let Some((asked, _)) = client.asked.as_mut().filter(|(asked, _)| *asked == attempt) else { return };
        asked.again += 1;
        let attempt = *asked;
        self.note(|| format!("client {} asks again for {command:?}", attempt.client));
        self.send_attempt(attempt, command);
    }
}

impl<S: Service> World for Cluster<'_, S> {
    fn leader(&self) -> Option<NodeId> {
        let rafts = self.members.iter().filter_map(|member| member.raft.as_ref());
        let leaders = rafts.map(Raft::status).filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    fn network(&mut self, change: &mut dyn FnMut(&mut Network)) {
        change(&mut self.network);
    }

    fn crash(&mut self, node: NodeId) {
        self.member(node).crash();
    }

    fn start(&mut self, node: NodeId) {
        let (time, seed) = (self.time, self.options.seed);
        let config = self.options.replica_config(node).raft;
        let member = self.member(node);
        if member.raft.is_some() {
            return;
        }
        member.clock.restart(time);
        let seed = Random::keyed(seed, Stream::Members, node.0, member.boot).any();
        let now = member.clock.now(time);
        member.start(config, seed, now);
        self.input(node, Input::Wake);
    }

    fn pause(&mut self, node: NodeId) {
        self.member(node).paused = true;
    }

    fn resume(&mut self, node: NodeId) {
        let member = self.member(node);
        member.paused = false;
        let inbox = std::mem::take(&mut member.inbox);
        inbox.into_iter().for_each(|input| self.input(node, input));
        self.input(node, Input::Wake);
    }

    fn set_clock_rate(&mut self, node: NodeId, rate: Option<u64>) {
        let time = self.time;
        let member = self.member(node);
        member.clock.set_rate(time, rate.unwrap_or(member.clock_rate));
        member.wake = None;
        self.schedule_wake(node);
    }

    fn jump_clock(&mut self, node: NodeId, by: Duration) {
        let time = self.time;
        let member = self.member(node);
        member.clock.jump(time, by);
        member.wake = None;
        self.schedule_wake(node);
    }

    fn slow_disk(&mut self, node: NodeId, factor: u32, until: Time) {
        self.member(node).slower = (factor, until);
    }

    // What `own::options` rules out.
    fn slow_cpu(&mut self, _node: NodeId, _by: Duration) {}
    fn disconnect(&mut self, _node: NodeId) {}
    fn fail_disk(&mut self, _node: NodeId, _failure: DiskFailure) {}
    fn repair_disk(&mut self, _node: NodeId, _failure: DiskFailure) {}

    fn note(&mut self, line: FaultLine) {
        Cluster::note(self, || format!("nemesis: {line}"));
    }
}

/// Where a member is in the list of members.
fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// How long a cluster may take to come round, in election timeouts.
const CALM_TIMEOUTS: u32 = 60;

/// How much of the end of a run a failure shows.
const LINES_KEPT: usize = 25;
