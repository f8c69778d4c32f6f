//! The core depth: replicas and the log's record format, driven straight from an event queue.
//!
//! No executor, no tasks: every member is a [`quorate_replica::Replica`] in a slot, everything that happens to it is an event
//! with a time, and one step takes the next event, lets one member have one turn, and schedules what follows
//! from it. That makes it about as fast as the code under test, which is the point: deep bugs cost thousands
//! of seeds.
//!
//! A run has a storm, in which the nemesis does its work, and a calm, in which everything is undone and the
//! cluster has to come round (see `calm.rs`).

mod calm;
mod clients;
mod conditions;
mod convert;
mod delivery;
mod durable;
mod event;
mod flight;
mod guests;
mod life;
mod member;
mod operator;
mod script;
mod storage;
mod timers;
mod turn;
mod world;

use std::time::Duration;

use quorate_raft::{Configuration, NodeId, Position, SnapshotMeta};

use crate::coverage::Coverage;
use crate::env::network::{MEMBERS_MAX, Network};
use crate::history::Recorder;
use crate::invariants::{Check, Invariants, Liveness, Readings, Violation};
use crate::nemesis::{self, Nemesis};
use crate::options::Options;
use crate::queue::Queue;
use crate::random::{Random, Stream};
use crate::report::{Ended, Failure, Finished, Summary};
use crate::scenario::Scenario;
use crate::time::Time;
use crate::trace::{Event as Traced, Trace};
use crate::workload::Known;
use clients::{ClientSlot, WatcherSlot};
use event::Event;
pub use guests::Guests;
use member::Member;
use storage::{Decoded, Storage};
use timers::{Timer, Timers};

/// A run.
#[derive(Debug)]
pub struct Simulation {
    options: Options,
    time: Time,
    queue: Queue<Event>,
    timers: Timers,
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
    decoded: Decoded,
    wakes: u64,
    crashes: u64,
    /// How many events have happened.
    events: u64,
    /// The first broken property.
    violation: Option<Violation>,
    buffer: Vec<u8>,
    watch: Watch,
    guests: Guests,
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
    /// Every member flies with a flight recorder, whose recording must replay to where it stands when it ends.
    pub fly: bool,
}

/// Runs a plan to its end, or until a property is broken.
#[must_use]
pub fn execute(plan: &Plan<'_>, watch: Watch) -> Finished {
    host(plan, watch, Guests::default())
}

/// Runs a plan whose clients, if there are guests, are these; as many as its options say.
#[must_use]
pub fn host(plan: &Plan<'_>, watch: Watch, guests: Guests) -> Finished {
    let mut simulation = Simulation::new(plan, watch);
    if !guests.is_empty() {
        simulation.clients = ClientSlot::guests(&simulation.options);
        simulation.guests = guests;
    }
    let end = crate::report::catch_panic(|| {
        simulation.start_members();
        simulation.run();
    });
    if let Err(violation) = end {
        simulation.demand(Err(violation));
    }
    simulation.end_flights();
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
            timers: Timers::default(),
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
            invariants: Invariants::new(options),
            liveness: None,
            phase: calm::Phase::Storm,
            trace,
            coverage: Coverage::default(),
            codec_random: Random::new(options.seed, Stream::Codec),
            decoded: Decoded::default(),
            wakes: 0,
            crashes: 0,
            events: 0,
            violation: None,
            buffer: Vec::new(),
            watch,
            guests: Guests::default(),
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
        for slot in 0..self.guests.len() {
            self.guest_runs(slot as u32);
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
            if let Some((time, node, timer)) = self.timers.pop_before(self.queue.next_place()) {
                self.reach(time);
                match timer {
                    Timer::Turn => {
                        self.member(node).turn_scheduled = false;
                        self.turn(node);
                    }
                    Timer::Disk => self.disk_done(node),
                }
            } else {
                let Some((time, event)) = self.queue.pop() else { break };
                self.reach(time);
                self.step(event);
            }
        }
    }

    /// Something happens at this time.
    fn reach(&mut self, time: Time) {
        assert!(time >= self.time, "time goes back");
        self.time = time;
        self.events += 1;
        let check = self.invariants.on_event(time);
        self.demand(check);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, sent, message } => self.deliver(from, to, sent, message),
            Event::Wake { node, number } => self.wake(node, number),
            Event::Chunk { node, boot } => self.chunk_done(node, boot),
            Event::Client { slot } => self.client_asks(slot),
            Event::Guest { slot } => self.guest_wakes(slot),
            Event::Request { asker } => self.request_arrives(asker),
            Event::Answer { asker, outcome } => self.answer_arrives(asker, outcome),
            Event::Patience { slot } => self.patience_ends(slot),
            Event::WatchOpen { slot } => self.watch_opens(slot),
            Event::WatchRequest { asker } => self.watch_arrives(asker),
            Event::WatchResponse { asker, response } => self.watch_response(asker, response),
            Event::WatchCredit { asker, events } => self.watch_goes_on(asker, events),
            Event::WatchLost { asker } => self.watch_lost(asker),
            Event::Nemesis => self.nemesis_acts(),
            Event::Script { step } => self.script_acts(step),
            Event::Operator => self.operator_looks(),
            Event::Ended { node, boot } => self.member_ends(node, boot),
            Event::Phase(phase) => self.enter(phase),
        }
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
        let status = node.map(|node| &self.members[place(node)].status);
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
        let scenario = self.watch.scenario.then(|| self.as_scenario());
        let reached = self.coverage.reached();
        let true_clocks = nemesis::clocks_were_right(&self.options, self.faults_begun());
        let Simulation { options, time, recorder, trace, crashes, events, violation, .. } = self;
        let crashed = crashes > 0;
        Ended { options, scenario, violation, reached, time, events, trace, recorder, crashed, true_clocks }
            .judge()
    }
}

/// Where a member is in the list of members.
fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// How many of the last events a failure report can show.
const EVENTS_KEPT: usize = 64;

/// How long a client takes to notice that nobody listens.
const REFUSAL: Duration = Duration::from_millis(1);
