//! Makes a failing schedule smaller: fewer faults, requests, members, options out of the ordinary, less time.
//!
//! Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002): leave
//! out a part, run, and if the same property is still violated, the part did not matter. Parts are halves
//! first, then ever smaller ones, until no single line can be left out.
//!
//! Leaving something out changes what happens afterwards: the jitter of elections, who is asked when. That
//! changes as little as possible (see [`crate::random`]), and where a part can be left out under another
//! seed only, another seed is taken: what counts is that the result fails, not that it is the same run.
//!
//! What is run is what a reader of the file will run: every candidate is written down and read again first.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_jepsen::etcd::Request;
use quorate_raft::NodeId;

use crate::core::{self, Plan, Watch};
use crate::env::network::Quality;
use crate::fault_budget::NodeSet;
use crate::nemesis::{Fault, Target};
use crate::random::{Random, Stream};
use crate::scenario::{self, Action, Expect, Operation, Scenario, Step, When, plain_options};
use crate::time::Time;

/// How small a schedule has to be before the search stops early.
pub const FAULTS_WANTED: usize = 10;
/// How small a schedule has to be before the search stops early.
pub const OPERATIONS_WANTED: usize = 20;

/// A search for a smaller schedule.
#[derive(Debug)]
pub struct Shrinker<C, R> {
    /// Runs a schedule; which property it violates.
    run: R,
    best: Scenario,
    invariant: String,
    runs: u64,
    time_is_up: C,
    random: Random,
    /// How many other seeds a smaller schedule is tried with.
    tries: u64,
    /// Whether to stop when it is small enough.
    small_enough: bool,
}

/// Runs a schedule at the core depth; which property it violates.
#[must_use]
pub fn at_core(scenario: &Scenario) -> Option<String> {
    let finished = core::execute(&Plan::Scripted(scenario), Watch::default());
    Some(finished.violation?.invariant.to_owned())
}

impl<C: Fn() -> bool, R: FnMut(&Scenario) -> Option<String>> Shrinker<C, R> {
    /// Begins with a schedule that violates a property when it is run so. `None` if it does not.
    pub fn new(scenario: &Scenario, mut run: R, time_is_up: C) -> Option<Shrinker<C, R>> {
        let scenario = as_read(scenario)?;
        let invariant = run(&scenario)?;
        let random = Random::new(scenario.options.seed, Stream::Nemesis);
        let best = Scenario { expect: Expect::Violation(invariant.clone()), ..scenario };
        Some(Shrinker { run, best, invariant, runs: 1, time_is_up, random, tries: 0, small_enough: false })
    }

    /// The smallest schedule that was found, and how many runs that took.
    #[must_use]
    pub fn finish(self) -> (Scenario, u64) {
        (self.best, self.runs)
    }

    /// Searches until nothing gets smaller or the time is up; or, if that is wanted, until it is small enough.
    pub fn search(&mut self, small_enough: bool) {
        self.small_enough = small_enough;
        self.shorten();
        // What makes every further run shorter comes first.
        self.plainer_options();
        self.fewer_members();
        self.leave_out(COARSE, |step| matches!(step.action, Action::Operation(_) | Action::Fault { .. }));
        for tries in [0, 2, 6] {
            self.tries = tries;
            self.gather();
            loop {
                let before = size(&self.best);
                self.pass();
                if size(&self.best) >= before || self.is_over() {
                    break;
                }
            }
        }
        self.thin_out();
        self.tries = 0;
        self.pass();
        self.tidy();
    }

    /// Tries everything once.
    fn pass(&mut self) {
        self.drop_clients();
        self.leave_out(FINE, |step| matches!(step.action, Action::Operation(_)));
        self.leave_out(FINE, |step| matches!(step.action, Action::Fault { .. }));
        self.fewer_members();
        self.plainer_options();
        self.shorten();
    }

    /// Runs a candidate, under other seeds too if that is allowed; keeps it if it fails in the same way.
    fn attempt(&mut self, mut candidate: Scenario) -> bool {
        let seed = candidate.options.seed;
        for number in 0..=self.tries {
            if self.is_over() {
                return false;
            }
            if number > 0 {
                candidate.options.seed = seed ^ self.random.below(1 << 32);
            }
            let Some(written) = as_read(&candidate) else { return false };
            self.runs += 1;
            if (self.run)(&written).is_some_and(|invariant| invariant == self.invariant) {
                self.best = written;
                return true;
            }
        }
        false
    }

    /// Leaves out what comes after the violation: the first part of the schedule, as small as may be.
    fn shorten(&mut self) {
        let mut low = 0;
        while low < self.best.steps.len() && !self.is_over() {
            let kept = low + (self.best.steps.len() - low) / 2;
            let mut candidate = self.best.clone();
            candidate.steps.truncate(kept);
            end_storm_after_the_last(&mut candidate);
            if !self.attempt(candidate) {
                low = kept + 1;
            }
        }
        let mut candidate = self.best.clone();
        end_storm_after_the_last(&mut candidate);
        if candidate.options.storm < self.best.options.storm {
            self.attempt(candidate);
        }
    }

    /// Leaves out lines of one kind, in ever smaller parts: stretches of time, down to so small a share of them.
    fn leave_out(&mut self, finest: usize, kind: impl Fn(&Step) -> bool) {
        let places = |scenario: &Scenario| -> Vec<usize> {
            (0..scenario.steps.len()).filter(|at| kind(&scenario.steps[*at])).collect()
        };
        let lines = places(&self.best).len();
        let smallest = (lines / finest).max(1);
        let mut part = lines.div_ceil(2);
        while part >= smallest {
            let mut from = 0;
            loop {
                let places = places(&self.best);
                if from >= places.len() || self.is_over() {
                    break;
                }
                let out: BTreeSet<usize> =
                    places[from..(from + part).min(places.len())].iter().copied().collect();
                if !self.attempt(without(&self.best, |at, _| out.contains(&at))) {
                    from += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }

    /// Many writes become one line that says how many there are: some bugs need a long history, and do not mind which.
    fn gather(&mut self) {
        for parts in [1, 2, 4, 8] {
            let write = |step: &Step| matches!(&step.action, Action::Operation(it) if is_write(it));
            let writes: Vec<usize> =
                (0..self.best.steps.len()).filter(|at| write(&self.best.steps[*at])).collect();
            if self.best.operations() <= OPERATIONS_WANTED || writes.len() < MANY || self.is_over() {
                return;
            }
            let mut candidate = self.best.clone();
            let clients = candidate.options.load.clients;
            let mut heads = BTreeSet::new();
            for (number, part) in writes.chunks(writes.len().div_ceil(parts)).enumerate() {
                heads.insert(part[0]);
                if let Action::Operation(first) = &mut candidate.steps[part[0]].action {
                    first.times = part.len() as u32;
                    first.client = clients + number as u64;
                }
            }
            let candidate = without(&candidate, |at, step| write(step) && !heads.contains(&at));
            if self.attempt(candidate) {
                self.fewer_times();
                return;
            }
        }
    }

    /// What is asked many times is asked less often.
    fn fewer_times(&mut self) {
        for at in 0..self.best.steps.len() {
            loop {
                let mut candidate = self.best.clone();
                match &mut candidate.steps[at].action {
                    Action::Operation(operation) if operation.times > 1 => operation.times /= 2,
                    _ => break,
                }
                if !self.attempt(candidate) {
                    break;
                }
            }
        }
    }

    /// Leaves out all that one client asks.
    fn drop_clients(&mut self) {
        let client = |step: &Step| match &step.action {
            Action::Operation(operation) => Some(operation.client),
            _ => None,
        };
        let clients: BTreeSet<u64> = self.best.steps.iter().filter_map(client).collect();
        for out in clients {
            self.attempt(without(&self.best, |_, step| client(step) == Some(out)));
        }
    }

    /// A smaller cluster.
    fn fewer_members(&mut self) {
        for members in [1, 3, 5] {
            if members < self.best.options.members && self.attempt(with_members(&self.best, members)) {
                return;
            }
        }
    }

    /// Whatever is out of the ordinary becomes ordinary.
    fn plainer_options(&mut self) {
        let plain = plain_options();
        let changes: [fn(&mut crate::options::Options, &crate::options::Options); 11] = [
            |options, _| options.load.watchers = 0,
            |options, _| options.network.loss = 0,
            |options, _| options.network.duplication = 0,
            |options, _| options.network.reordering = 0,
            |options, plain| options.clock_spread = plain.clock_spread,
            |options, plain| options.turn_delay = plain.turn_delay,
            |options, plain| options.snapshot_entries = plain.snapshot_entries,
            |options, plain| options.append_bytes_max = plain.append_bytes_max,
            |options, plain| options.inflight_max = plain.inflight_max,
            |options, plain| options.pre_vote = plain.pre_vote,
            |options, plain| options.codec = plain.codec,
        ];
        for change in changes {
            let mut candidate = self.best.clone();
            change(&mut candidate.options, &plain);
            if candidate.options != self.best.options {
                self.attempt(candidate);
            }
        }
    }

    /// Where no single line can be left out, several together may be, under another seed.
    fn thin_out(&mut self) {
        self.tries = 0;
        let mut fruitless = 0;
        while !self.is_over() && fruitless < FRUITLESS_MAX && !self.is_small() {
            let share = self.random.pick(&[50_000, 150_000, 400_000]);
            let mut random = self.random.clone();
            let mut candidate = without(&self.best, |_, _| random.chance(share));
            self.random = random;
            candidate.options.seed = self.random.below(1 << 32);
            fruitless = if self.attempt(candidate) { 0 } else { fruitless + 1 };
        }
    }

    fn is_over(&self) -> bool {
        (self.time_is_up)() || self.small_enough && self.is_small()
    }

    fn is_small(&self) -> bool {
        self.best.faults() <= FAULTS_WANTED && self.best.operations() <= OPERATIONS_WANTED
    }

    /// Rounds times, and numbers clients from zero: for readers.
    fn tidy(&mut self) {
        let mut clients: Vec<u64> = Vec::new();
        let mut candidate = self.best.clone();
        for step in &mut candidate.steps {
            if let Action::Operation(operation) = &mut step.action {
                let place = clients.iter().position(|client| *client == operation.client);
                operation.client = place.unwrap_or_else(|| {
                    clients.push(operation.client);
                    clients.len() - 1
                }) as u64;
            }
        }
        candidate.options.load.clients = (clients.len() as u64).max(1);
        self.attempt(candidate);
        for unit in [1_000_000, 1_000] {
            let mut candidate = self.best.clone();
            round(&mut candidate, unit);
            if self.attempt(candidate) {
                return;
            }
        }
    }
}

/// Whether a schedule violates anything when it is written down, read again and run.
pub fn fails_as_written(scenario: &Scenario, mut run: impl FnMut(&Scenario) -> Option<String>) -> bool {
    as_read(scenario).is_some_and(|written| run(&written).is_some())
}

/// A schedule as it is after it was written down and read again; none if no reader would take it.
fn as_read(scenario: &Scenario) -> Option<Scenario> {
    scenario::parse(&scenario.to_string()).ok()
}

/// What gets smaller.
fn size(scenario: &Scenario) -> (usize, u64, Duration) {
    (scenario.steps.len(), scenario.options.members, scenario.options.storm)
}

/// Whether somebody writes a key, once.
fn is_write(operation: &Operation) -> bool {
    matches!(operation, Operation { times: 1, request: Request::Put(put), .. } if put.lease == 0)
}

fn without(scenario: &Scenario, mut out: impl FnMut(usize, &Step) -> bool) -> Scenario {
    let steps = scenario.steps.iter().enumerate().filter(|(at, step)| !out(*at, step));
    let steps = steps.map(|(_, step)| step.clone()).collect();
    Scenario { steps, ..scenario.clone() }
}

/// The storm ends soon after the last line.
fn end_storm_after_the_last(scenario: &mut Scenario) {
    let timeout = scenario.options.election_timeout;
    let ends = scenario.steps.iter().map(|step| match (&step.when, &step.action) {
        (When::At(at), Action::Fault { lasts: Some(lasts), .. }) => *at + (*lasts).min(timeout * 10),
        (When::At(at), _) => *at,
        _ => Time::ZERO,
    });
    let last = ends.max().unwrap_or_default() + timeout;
    scenario.options.storm = scenario.options.storm.min(last.since(Time::ZERO));
}

/// The same in a smaller cluster: what concerns members that are no more is left out, and clients ask others.
fn with_members(scenario: &Scenario, members: u64) -> Scenario {
    let stays = |node: NodeId| node.0 <= members;
    let mut smaller = scenario.clone();
    smaller.options.members = members;
    smaller.steps.retain_mut(|step| match &mut step.action {
        Action::Operation(operation) => {
            if let Some(Target::Node(node)) = &mut operation.member {
                *node = NodeId((node.0 - 1) % members + 1);
            }
            true
        }
        Action::Fault { fault, .. } => match fault {
            Fault::Cut { links, impaired } => {
                *links = links.among(members);
                *impaired = NodeSet::of(&impaired.members().filter(|node| stays(*node)).collect::<Vec<_>>());
                !links.is_empty()
            }
            Fault::Clog { links } => {
                *links = links.among(members);
                !links.is_empty()
            }
            Fault::Transfer(Some(to)) => stays(*to),
            fault => match fault.target() {
                Some(Target::Node(node)) => stays(node),
                _ => true,
            },
        },
        Action::Heal(_) | Action::Require(..) | Action::Never(..) | Action::Watcher(..) => true,
    });
    smaller
}

fn round(scenario: &mut Scenario, unit: u64) {
    let rounded = |nanos: u64| (nanos / unit).max(1) * unit;
    let duration = |lasts: Duration| Duration::from_nanos(rounded(crate::time::nanos(lasts)));
    for step in &mut scenario.steps {
        if let When::At(at) = &mut step.when {
            *at = Time(rounded(at.0));
        }
        if let Action::Fault { lasts: Some(lasts), .. } = &mut step.action {
            *lasts = duration(*lasts);
        }
    }
    let options = &mut scenario.options;
    options.storm = duration(options.storm) + Duration::from_nanos(unit);
    let Quality { delay, jitter, .. } = options.network;
    options.network.delay = Duration::from_micros((delay.as_micros() as u64).max(1));
    options.network.jitter = Duration::from_micros((jitter.as_micros() as u64).max(1));
}

/// Stretches of time are left out down to this share of all lines; or to single lines.
const COARSE: usize = 32;
const FINE: usize = usize::MAX;

/// So many writes are worth a line that stands for all of them.
const MANY: usize = 40;

/// So many attempts in a row that lead nowhere end the search.
const FRUITLESS_MAX: u32 = 2_000;
