//! The core depth: replicas and the log's record format, driven straight from an event queue.
//!
//! No executor, no tasks: every member is a [`Replica`] in a slot, everything that happens to it is an event
//! with a time, and one step takes the next event, lets one member have one turn, and schedules what follows
//! from it. That makes it about as fast as the code under test, which is the point: deep bugs cost thousands
//! of seeds.
//!
//! A run has a storm, in which the nemesis does its work, and a calm, in which everything is undone and the
//! cluster has to come round (see `calm.rs`).

mod calm;
mod clients;
mod convert;
mod member;
mod operator;
mod script;
mod storage;
mod world;

use std::time::Duration;

use quorate_raft::{Configuration, NodeId, Position, SnapshotMeta};
use quorate_replica::{Input, Message, Output, Replica};

use crate::coverage::Coverage;
use crate::env::network::{MEMBERS_MAX, Network};
use crate::history::Recorder;
use crate::invariants::{Check, Invariants, Liveness, Readings, Violation, Waiting};
use crate::nemesis::Nemesis;
use crate::options::Options;
use crate::queue::Queue;
use crate::random::{Random, Stream};
use crate::report::{Failure, Finished, Summary};
use crate::scenario::{Expect, Scenario};
use crate::time::Time;
use crate::trace::{Arrow, Event as Traced, Trace};
use crate::workload::{Known, Outcome};
use clients::{ClientSlot, WatcherSlot};
use member::{Asker, Member};
use storage::{Begun, Storage};

/// Something that is going to happen.
#[derive(Debug)]
enum Event {
    /// A message arrives.
    Deliver { from: NodeId, to: NodeId, sent: Time, message: Message },
    /// A member looks at what has arrived.
    Turn { node: NodeId, boot: u64 },
    /// A member's deadline may have passed.
    Wake { node: NodeId, number: u64 },
    /// A member's disk has done an append.
    Disk { node: NodeId, boot: u64 },
    /// A member's disk has written a snapshot chunk.
    Chunk { node: NodeId, boot: u64 },
    /// A client has thought.
    Client { slot: u32 },
    /// A client's request arrives.
    Request { asker: Asker },
    /// A client's answer arrives.
    Answer { asker: Asker, outcome: Outcome },
    /// A client has no more patience.
    Patience { asker: Asker },
    /// A watcher opens a stream.
    WatchOpen { slot: u32 },
    /// Its request arrives.
    WatchRequest { asker: Asker },
    /// A watcher receives something.
    WatchResponse { asker: Asker, response: quorate_jepsen::etcd::WatchResponse },
    /// A watcher's stream broke.
    WatchLost { asker: Asker },
    /// The nemesis is due.
    Nemesis,
    /// A line of a scenario is due.
    Script { step: usize },
    /// The operator looks after the members.
    Operator,
    /// A member that was removed is ended.
    Ended { node: NodeId, boot: u64 },
    /// The next phase begins.
    Phase(calm::Phase),
}

/// A run.
#[derive(Debug)]
pub struct Simulation {
    options: Options,
    time: Time,
    queue: Queue<Event>,
    members: Vec<Member>,
    network: Network,
    nemesis: Option<Nemesis>,
    /// What the nemesis has done, once it is gone.
    faults_begun: Vec<crate::nemesis::Step>,
    /// When the nemesis is scheduled.
    nemesis_at: Option<Time>,
    clients: Vec<ClientSlot>,
    watchers: Vec<WatcherSlot>,
    known: Known,
    recorder: Recorder,
    /// Which client asked whom, for each operation of the history.
    asked: Vec<(u32, NodeId)>,
    /// Who adds and removes members.
    operator: operator::Operator,
    /// What a scenario says.
    script: Option<script::Script>,
    invariants: Invariants,
    liveness: Option<Liveness>,
    phase: calm::Phase,
    trace: Trace,
    coverage: Coverage,
    codec_random: Random,
    wakes: u64,
    crashes: u64,
    /// The first broken property.
    violation: Option<Violation>,
    buffer: Vec<u8>,
    watch: Watch,
}

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub enum Plan<'a> {
    /// What the seed draws.
    Drawn(&'a Options),
    /// What a scenario says.
    Scripted(&'a Scenario),
}

/// How closely a run is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// Prints every event as it happens.
    pub print: bool,
    /// Keeps every event, for a picture of the run.
    pub record: bool,
    /// Writes down what happened as a scenario.
    pub scenario: bool,
}

/// Runs a plan to its end, or until a property is broken.
#[must_use]
pub fn execute(plan: &Plan<'_>, watch: Watch) -> Finished {
    let mut simulation = Simulation::new(plan, watch);
    let end = crate::report::catch_panic(|| {
        simulation.start_members();
        simulation.run();
    });
    if let Err(violation) = end {
        simulation.demand(Err(violation));
    }
    simulation.finish()
}

/// Runs a seed to its end. `print` prints every event.
pub fn run(options: &Options, print: bool) -> Result<Summary, Box<Failure>> {
    execute(&Plan::Drawn(options), Watch { print, ..Watch::default() }).into_result()
}

impl Simulation {
    fn new(plan: &Plan<'_>, watch: Watch) -> Simulation {
        let (options, script) = match plan {
            Plan::Drawn(options) => (*options, None),
            Plan::Scripted(scenario) => (&scenario.options, Some(script::Script::new(scenario))),
        };
        let mut nemesis = if script.is_some() { Nemesis::idle(options) } else { Nemesis::new(options) };
        if matches!(plan, Plan::Scripted(scenario) if !scenario.budget) {
            nemesis.without_budget();
        }
        let clock_random = &mut Random::new(options.seed, Stream::Clock);
        let configuration =
            Configuration { voters: options.member_ids().into_iter().collect(), ..Configuration::default() };
        let initial = SnapshotMeta { position: Position::default(), configuration };
        let member = |id: NodeId| {
            let storage = Storage::new(id, initial.clone(), options);
            Member::new(id, storage, options.clock_rate(clock_random))
        };
        let trace =
            if watch.record { Trace::complete(watch.print) } else { Trace::new(EVENTS_KEPT, watch.print) };
        Simulation {
            time: Time::ZERO,
            queue: Queue::default(),
            members: options.member_ids().into_iter().map(member).collect(),
            network: Network::new(options.network, Random::new(options.seed, Stream::Network)),
            nemesis: Some(nemesis),
            faults_begun: Vec::new(),
            nemesis_at: None,
            clients: ClientSlot::all(options, script.is_some()),
            watchers: WatcherSlot::all(options),
            asked: Vec::new(),
            operator: operator::Operator::new(options.member_ids()),
            script,
            known: Known::default(),
            recorder: Recorder::default(),
            invariants: Invariants::new(&options.member_ids()),
            liveness: None,
            phase: calm::Phase::Storm,
            trace,
            coverage: Coverage::default(),
            codec_random: Random::new(options.seed, Stream::Codec),
            wakes: 0,
            crashes: 0,
            violation: None,
            buffer: Vec::new(),
            watch,
            options: options.clone(),
        }
    }

    /// Starts all members, and schedules what the run begins with.
    fn start_members(&mut self) {
        for id in self.options.member_ids() {
            self.start_member(id);
        }
        for slot in 0..self.clients.len() {
            self.client_thinks(slot as u32);
        }
        self.begin_script();
        for slot in 0..self.watchers.len() {
            self.queue.push(self.time, Event::WatchOpen { slot: slot as u32 });
        }
        self.schedule_nemesis();
        self.schedule_phases();
    }

    /// Takes events until the end, or until a property is broken.
    fn run(&mut self) {
        while self.violation.is_none() && self.phase != calm::Phase::End {
            let Some((time, event)) = self.queue.pop() else { break };
            assert!(time >= self.time, "time goes back");
            self.time = time;
            let check = self.invariants.on_event(time);
            self.demand(check);
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, sent, message } => self.deliver(from, to, sent, message),
            Event::Turn { node, boot } => {
                if self.member(node).boot == boot {
                    self.member(node).turn_scheduled = false;
                    self.turn(node);
                }
            }
            Event::Wake { node, number } => self.wake(node, number),
            Event::Disk { node, boot } => self.disk_done(node, boot),
            Event::Chunk { node, boot } => self.chunk_done(node, boot),
            Event::Client { slot } => self.client_asks(slot),
            Event::Request { asker } => self.request_arrives(asker),
            Event::Answer { asker, outcome } => self.answer_arrives(asker, outcome),
            Event::Patience { asker } => self.patience_ends(asker),
            Event::WatchOpen { slot } => self.watch_opens(slot),
            Event::WatchRequest { asker } => self.watch_arrives(asker),
            Event::WatchResponse { asker, response } => self.watch_response(asker, response),
            Event::WatchLost { asker } => self.watch_lost(asker),
            Event::Nemesis => self.nemesis_acts(),
            Event::Script { step } => self.script_acts(step),
            Event::Operator => self.operator_looks(),
            Event::Ended { node, boot } => self.member_ends(node, boot),
            Event::Phase(phase) => self.enter(phase),
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, sent: Time, message: Message) {
        let delivered = self.network.connected(from, to) && self.member(to).is_up();
        let arrives = Some(self.time);
        self.trace.arrow(|| Arrow {
            sent,
            arrives,
            delivered,
            from,
            to,
            message: crate::messages::line(&message),
        });
        if !delivered {
            return;
        }
        let message =
            if self.codec_random.chance(self.options.codec) { self.recode(message) } else { message };
        let line = crate::messages::line(&message);
        self.input(to, Input::Message { from, message });
        self.note(Traced::Deliver { from, to, message: line }, Some(to));
    }

    /// A message goes through the product's encoding, and must be the same afterwards.
    fn recode(&mut self, message: Message) -> Message {
        self.buffer.clear();
        quorate_node::encode_message(&message, &mut self.buffer).expect("members send what can be encoded");
        let decoded = quorate_node::decode_message(&self.buffer).expect("what was encoded can be decoded");
        assert!(decoded == message, "a message changed on its way through the codec: {message:?}");
        decoded
    }

    /// Something happens to a member. It looks at it now, or, if it gathers inputs, a little later.
    fn input(&mut self, node: NodeId, input: Input) {
        let (time, delay) = (self.time, self.options.turn_delay);
        let member = self.member(node);
        if !member.is_up() {
            return;
        }
        let delay = delay + member.cpu_delay;
        member.inbox.push(input);
        if member.paused || member.turn_scheduled || member.in_turn {
            return;
        }
        if delay.is_zero() {
            self.turn(node);
        } else {
            member.turn_scheduled = true;
            let boot = member.boot;
            self.queue.push(time + delay, Event::Turn { node, boot });
        }
    }

    /// A member looks at what has arrived, and at its clock; then everything that it asks for is carried out.
    fn turn(&mut self, node: NodeId) {
        let time = self.time;
        let member = self.member(node);
        if member.paused {
            return;
        }
        member.in_turn = true;
        let now = member.clock.now(time);
        loop {
            let member = self.member(node);
            let mut inbox = std::mem::take(&mut member.inbox);
            let Some(replica) = &mut member.replica else { break };
            // Inputs first: what came while the member was stopped should be seen before deadlines are
            // judged.
            for input in inbox.drain(..) {
                replica.handle(now, input);
            }
            member.inbox = inbox;
            if replica.deadline().is_some_and(|(at, _)| at <= now) {
                replica.handle(now, Input::Wake);
            }
            while let Some(output) = self.member(node).replica.as_mut().and_then(Replica::poll_output) {
                self.perform(node, output);
            }
            if self.member(node).inbox.is_empty() {
                break;
            }
        }
        self.member(node).in_turn = false;
        self.start_disk(node);
        self.observe(node);
        self.schedule_wake(node);
    }

    fn perform(&mut self, node: NodeId, output: Output) {
        match output {
            Output::Send { to, message } => {
                let check = self.invariants.on_send(node, to, &message);
                self.demand(check);
                self.send(node, to, message);
            }
            Output::Persist(write) => {
                let readings = self.readings();
                let check = self.invariants.on_write(node, &write, &readings);
                self.demand(check);
                self.member(node).storage.enqueue(write);
            }
            Output::SaveSnapshot { chunk, keep_after: _ } => {
                let member = &mut self.members[place(node)];
                let boot = member.boot;
                if let Some(takes) = member.storage.enqueue_chunk(chunk, self.time) {
                    self.queue.push(self.time + takes, Event::Chunk { node, boot });
                }
            }
            Output::Respond { id, result } => self.respond(node, id, result),
            Output::Watch { watch, update } => self.tell_watcher(node, watch, update),
            Output::Removed => {
                let boot = self.member(node).boot;
                self.queue.push(self.time + operator::FAREWELL, Event::Ended { node, boot });
            }
            Output::Disowned => {
                let detail = format!("n{node} is taken for an old copy of itself");
                self.demand(Err(Violation { invariant: "identity", detail }));
            }
            Output::Peers(_) | Output::Changed(_) => {}
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let sent = self.time;
        let arrivals = self.network.send(sent, from, to);
        if let Some(at) = arrivals.second {
            self.queue.push(at, Event::Deliver { from, to, sent, message: message.clone() });
        }
        match arrivals.first {
            Some(at) => self.queue.push(at, Event::Deliver { from, to, sent, message }),
            None => self.trace.arrow(|| Arrow {
                sent,
                arrives: None,
                delivered: false,
                from,
                to,
                message: crate::messages::line(&message),
            }),
        }
    }

    fn start_disk(&mut self, node: NodeId) {
        let member = &mut self.members[place(node)];
        let boot = member.boot;
        match member.storage.begin(self.time) {
            Begun::Idle => {}
            Begun::Busy(takes) => self.queue.push(self.time + takes, Event::Disk { node, boot }),
            Begun::Failed => self.disk_fails(node),
        }
    }

    fn disk_done(&mut self, node: NodeId, boot: u64) {
        if self.member(node).boot != boot || !self.member(node).is_up() {
            return;
        }
        let Some(done) = self.member(node).storage.complete() else { return self.disk_fails(node) };
        if let Some(id) = done.persisted {
            self.invariants.on_persisted(node, id);
            self.input(node, Input::Persisted(id));
            self.note(Traced::Durable { node, write: id.0 }, Some(node));
        }
        for saved in done.snapshots {
            self.snapshot_saved(node, saved);
        }
        self.start_disk(node);
    }

    fn chunk_done(&mut self, node: NodeId, boot: u64) {
        let member = &mut self.members[place(node)];
        if member.boot != boot || !member.is_up() {
            return;
        }
        let (saved, next) = member.storage.complete_chunk(self.time);
        if let Some(takes) = next {
            self.queue.push(self.time + takes, Event::Chunk { node, boot });
        }
        if let Some(saved) = saved {
            self.snapshot_saved(node, saved);
        }
        self.start_disk(node);
    }

    fn snapshot_saved(&mut self, node: NodeId, saved: storage::SavedChunk) {
        let storage::SavedChunk { position, sequence, last } = saved;
        if last {
            self.invariants.on_snapshot_saved(node, position.index.0);
            if position.index.0 > self.member(node).status.applied {
                self.coverage.on_installed();
            }
        }
        self.input(node, Input::SnapshotSaved { position, sequence });
        self.note(Traced::SnapshotSaved { node, index: position.index, sequence }, Some(node));
    }

    /// Looks at where a member stands now, and at whether that may be.
    fn observe(&mut self, node: NodeId) {
        let time = self.time;
        let Simulation { members, invariants, nemesis, .. } = self;
        let member = &mut members[place(node)];
        let Some(replica) = &member.replica else { return };
        let now = replica.status().into();
        if now == member.status {
            return;
        }
        let before = std::mem::replace(&mut member.status, now);
        let leads = now.leader == node.0 && before.leader != node.0;
        if let Some(nemesis) = nemesis.as_mut().filter(|_| leads) {
            nemesis.on_leader(time, node);
        }
        let pending = replica.status().pending;
        let waiting = Waiting { pending, inbox: member.inbox.len(), scheduled: self.queue.len() };
        let askers = self.options.load.clients + MEMBERS_MAX as u64;
        let check = invariants.on_status(&before, &now, replica.store());
        let check = check.and_then(|()| invariants.on_waiting(node, waiting, askers));
        self.coverage.on_status(&before, &now, self.members.iter().map(|member| member.status));
        self.demand(check);
        self.schedule_nemesis();
        self.check_script();
    }

    fn wake(&mut self, node: NodeId, number: u64) {
        let time = self.time;
        let member = self.member(node);
        if member.wake.is_none_or(|(_, scheduled)| scheduled != number) {
            return;
        }
        member.wake = None;
        if member.paused || !member.is_up() {
            return;
        }
        if member.turn_scheduled {
            return;
        }
        let now = member.clock.now(time);
        let due = member.replica.as_ref().and_then(Replica::deadline).is_some_and(|(at, _)| at <= now);
        if due && !member.cpu_delay.is_zero() {
            member.turn_scheduled = true;
            let (at, boot) = (time + member.cpu_delay, member.boot);
            self.queue.push(at, Event::Turn { node, boot });
        } else if due {
            self.turn(node);
            self.note(Traced::Wake(node), Some(node));
        } else {
            self.schedule_wake(node);
        }
    }

    /// Schedules the member's next wake-up, unless an early enough one is scheduled already: one that turns
    /// out to be too early only looks again.
    fn schedule_wake(&mut self, node: NodeId) {
        let time = self.time;
        let member = self.member(node);
        let Some((at, _)) = member.replica.as_ref().and_then(Replica::deadline) else { return };
        let Some(at) = member.clock.reaches(time, at) else { return };
        if member.wake.is_some_and(|(scheduled, _)| scheduled <= at) {
            return;
        }
        self.wakes += 1;
        let number = self.wakes;
        self.member(node).wake = Some((at, number));
        self.queue.push(at, Event::Wake { node, number });
    }

    /// Schedules the nemesis, unless it is scheduled early enough.
    fn schedule_nemesis(&mut self) {
        let Some(at) = self.nemesis.as_ref().and_then(Nemesis::next_at) else { return };
        let at = at.max(self.time);
        if self.nemesis_at.is_none_or(|scheduled| at < scheduled) {
            self.nemesis_at = Some(at);
            self.queue.push(at, Event::Nemesis);
        }
    }

    fn nemesis_acts(&mut self) {
        if self.nemesis_at != Some(self.time) {
            return; // An earlier event has taken this one's place.
        }
        self.nemesis_at = None;
        let Some(mut nemesis) = self.nemesis.take() else { return };
        nemesis.step(self.time, self);
        self.nemesis = Some(nemesis);
        self.schedule_nemesis();
    }

    fn start_member(&mut self, node: NodeId) {
        let time = self.time;
        let (seed, config) = (self.options.seed, self.options.replica_config(node));
        let member = self.member(node);
        assert!(!member.is_up(), "n{node} is started while it runs");
        member.clock.restart(time);
        let saved = match member.storage.recover() {
            Ok(_) if member.storage.is_damaged() => return self.start_with_damage(node),
            Ok(saved) => saved,
            Err(_) if member.storage.is_damaged() => return,
            Err(detail) => return self.refuse_start(node, &detail),
        };
        member.boot = saved.boot;
        let boot = saved.boot;
        let now = member.clock.now(time);
        let seed = Random::keyed(seed, Stream::Members, node.0, boot).any();
        self.coverage.on_start(node, saved.snapshot.position.index.0, saved.entries.len());
        let check = self.invariants.on_start(node, &saved);
        self.demand(check);
        match Replica::recover(config, seed, now, saved) {
            Ok(replica) => self.member(node).replica = Some(replica),
            Err(error) => return self.refuse_start(node, &error.to_string()),
        }
        self.turn(node);
        self.note(Traced::Start { node, boot }, Some(node));
    }

    /// Bytes that a member had synced have changed, and it starts all the same.
    fn start_with_damage(&mut self, node: NodeId) {
        let detail = format!("n{node} starts from a log in which bytes that were synced have changed");
        self.demand(Err(Violation { invariant: "damage is noticed", detail }));
    }

    fn refuse_start(&mut self, node: NodeId, detail: &str) {
        let detail = format!("n{node} cannot start from what a crash has left on its disk: {detail}");
        self.demand(Err(Violation { invariant: "recovery", detail }));
    }

    /// What all clocks read, counted from the simulation's begin.
    fn readings(&self) -> Readings {
        let mut readings = [0; MEMBERS_MAX];
        for member in &self.members {
            readings[member.id.0 as usize] = member.clock.reading(self.time);
        }
        readings
    }

    /// Takes note of an event, with where a member stands after it.
    fn note(&mut self, event: Traced, node: Option<NodeId>) {
        let status = node.map(|node| self.members[place(node)].status);
        self.trace.record(self.time, event, status);
    }

    /// A property must hold; the first that does not ends the run.
    fn demand(&mut self, check: Check) {
        if let Err(violation) = check {
            self.violation.get_or_insert(violation);
        }
    }

    fn member(&mut self, node: NodeId) -> &mut Member {
        &mut self.members[place(node)]
    }

    /// Judges the history, and tells what became of the run.
    fn finish(self) -> Finished {
        let mut scenario = self.watch.scenario.then(|| self.as_scenario());
        let reached = self.coverage.reached();
        let Simulation { options, time, recorder, trace, crashes, mut violation, .. } = self;
        let summary = Summary {
            seed: options.seed,
            hash: trace.hash(),
            events: trace.events(),
            simulated: time.since(Time::ZERO),
            answered: recorder.answered(),
            unknown: recorder.unknown(),
        };
        let history = recorder.finish();
        let mut suspects = Vec::new();
        if violation.is_none()
            && let Err((found, operations)) = crate::history::judge_naming(&history, crashes > 0)
        {
            (violation, suspects) = (Some(found), operations);
        }
        if let (Some(violation), Some(scenario)) = (&violation, &mut scenario) {
            scenario.expect = Expect::Violation(violation.invariant.to_owned());
        }
        Finished { options, scenario, violation, suspects, reached, summary, trace, history }
    }
}

/// Where a member is in the list of members.
fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// How many of the last events a failure report can show.
const EVENTS_KEPT: usize = 200;

/// How long a client takes to notice that nobody listens.
const REFUSAL: Duration = Duration::from_millis(1);
