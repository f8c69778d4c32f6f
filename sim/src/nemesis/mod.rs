//! Who breaks things: a schedule of faults, drawn before the run begins.
//!
//! The schedule is data, and says of every fault when it begins, how long it lasts and whom it strikes, so
//! that it can be printed, replayed, written into a scenario file and made smaller. Whom it strikes may be "the leader", which
//! is decided when the fault begins; and a new leader may be struck right after its election, which is where
//! bugs like to live.
//!
//! The same nemesis serves both depths of simulation: what it does, it does to a [`World`]. When the storm is
//! over, everything it did is undone.

mod fault;
mod plan;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use quorate_raft::NodeId;

pub use fault::{DiskFailure, Fault, Target};

use crate::env::clock::TRUE_RATE;
use crate::env::network::{LinkSet, Network, Quality};
use crate::fault_budget::{FaultBudget, NodeSet};
use crate::options::Options;
use crate::random::{Random, Stream};
use crate::time::Time;

/// What the nemesis can lay hands on.
pub trait World {
    /// Who leads, as far as the members know; the one of the highest term if several think so.
    fn leader(&self) -> Option<NodeId>;
    /// Does something to the links.
    fn network(&mut self, change: &mut dyn FnMut(&mut Network));
    /// Takes a member's power away: what it has not synced is lost.
    fn crash(&mut self, node: NodeId);
    /// Starts a crashed member.
    fn start(&mut self, node: NodeId);
    /// Stops a member as a stopped virtual machine is: it does nothing, and what arrives waits.
    fn pause(&mut self, node: NodeId);
    /// Lets it go on.
    fn resume(&mut self, node: NodeId);
    /// Sets the rate of a member's clock; `None` is its usual one.
    fn set_clock_rate(&mut self, node: NodeId, rate: Option<u64>);
    /// Moves a member's clock forward.
    fn jump_clock(&mut self, node: NodeId, by: Duration);
    /// Makes a member's disk so many times slower, until then.
    fn slow_disk(&mut self, node: NodeId, factor: u32, until: Time);
    /// Lets a member look at what arrives only after this time; zero undoes it.
    fn slow_cpu(&mut self, node: NodeId, by: Duration);
    /// Breaks every connection between clients and a member, once.
    fn disconnect(&mut self, node: NodeId);
    /// Lets a member's disk fail in this way from now on. The failure may end the member's process.
    fn fail_disk(&mut self, node: NodeId, failure: DiskFailure);
    /// The disk is as it should be again; a member that is down because of it starts.
    fn repair_disk(&mut self, node: NodeId, failure: DiskFailure);
    /// Whether a fault can be survived now and makes sense; for those that are about members and leadership.
    fn admits(&self, _fault: &Fault) -> bool {
        true
    }
    /// Who has taken the place of a member that the cluster began with: itself, unless it has lost its disk.
    fn occupant(&self, seat: NodeId) -> NodeId {
        seat
    }
    /// Who is there besides.
    fn extras(&self) -> Vec<NodeId> {
        Vec::new()
    }
    /// An operator does this: a fault that `changes_members`, or a transfer.
    fn operate(&mut self, _fault: Fault) {}
    /// A member loses its disk and its power.
    fn lose_disk(&mut self, _node: NodeId) {}
    /// An empty directory takes its place.
    fn replace_disk(&mut self, _node: NodeId) {}
    /// A fault began or ended.
    fn note(&mut self, line: FaultLine);
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it begins.
    pub at: Time,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// A fault that began or ended, for the trace.
#[derive(Clone, Copy, Debug)]
pub struct FaultLine {
    /// Whether it began.
    pub began: bool,
    /// What it is.
    pub fault: Fault,
    /// The member it strikes, if one.
    pub node: Option<NodeId>,
}

/// The schedule, and what is broken now.
#[derive(Debug)]
pub struct Nemesis {
    plan: VecDeque<Step>,
    active: Vec<Active>,
    budget: FaultBudget,
    quality: Quality,
    hunt: u32,
    cut_at_commit: u32,
    left_behind: u32,
    crash_at_snapshot: u32,
    rash_changes: u32,
    election_timeout: Duration,
    faults_lasting: Duration,
    /// What has begun so far, aimed at whom it struck.
    begun: Vec<Step>,
    /// When every fault has to end.
    storm_ends: Time,
    random: Random,
}

#[derive(Debug)]
struct Active {
    until: Time,
    fault: Fault,
    node: Option<NodeId>,
    impaired: NodeSet,
}

impl Nemesis {
    /// The nemesis of a run: draws the whole schedule.
    #[must_use]
    pub fn new(options: &Options) -> Nemesis {
        let mut nemesis = Nemesis::idle(options);
        nemesis.plan = plan::draw(options, &mut nemesis.random);
        nemesis.hunt = options.faults.hunt;
        nemesis.cut_at_commit = options.faults.cut_at_commit;
        nemesis.left_behind = options.faults.left_behind;
        nemesis.crash_at_snapshot = options.faults.crash_at_snapshot;
        nemesis.rash_changes = options.faults.rash_changes;
        nemesis
    }

    /// A nemesis that does nothing by itself: somebody else says what (see [`strike`](Nemesis::strike)).
    #[must_use]
    pub fn idle(options: &Options) -> Nemesis {
        Nemesis {
            plan: VecDeque::new(),
            active: Vec::new(),
            budget: FaultBudget::new(options.members),
            quality: options.network,
            hunt: 0,
            cut_at_commit: 0,
            left_behind: 0,
            crash_at_snapshot: 0,
            rash_changes: 0,
            election_timeout: options.election_timeout,
            faults_lasting: options.faults.duration,
            begun: Vec::new(),
            storm_ends: Time::ZERO + options.storm,
            random: Random::new(options.seed, Stream::Nemesis),
        }
    }

    /// Lets the nemesis impair as many members as it likes, whatever becomes of the cluster.
    pub fn without_budget(&mut self) {
        self.budget = self.budget.unlimited();
    }

    /// What has begun so far, aimed at whom it struck.
    #[must_use]
    pub fn begun(&self) -> &[Step] {
        &self.begun
    }

    /// Whether there is a fault now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.active.is_empty()
    }

    /// Begins a fault now, once those that end now have ended. False if the budget does not allow it.
    pub fn strike(&mut self, time: Time, lasts: Duration, fault: Fault, world: &mut dyn World) -> bool {
        self.end_due(time, world);
        self.begin(time, Step { at: time, lasts, fault }, world)
    }

    /// Ends every fault of this name now; every fault, if `None`.
    pub fn heal(&mut self, name: Option<&str>, world: &mut dyn World) {
        let healed = |active: &Active| name.is_none_or(|name| active.fault.name() == name);
        while let Some(position) = self.active.iter().position(healed) {
            if let Fault::Clog { links } = self.active[position].fault {
                world.network(&mut |network| network.unclog(links));
            }
            self.end(position, world);
        }
    }

    /// The schedule that is left.
    pub fn plan(&self) -> impl Iterator<Item = &Step> {
        self.plan.iter()
    }

    /// When `step` has to be called next.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        let begins = self.plan.front().map(|step| step.at);
        let ends = self.active.iter().map(|active| active.until).min();
        match (begins, ends) {
            (Some(begins), Some(ends)) => Some(begins.min(ends)),
            (at, None) | (None, at) => at,
        }
    }

    /// Ends and begins what is due.
    pub fn step(&mut self, time: Time, world: &mut dyn World) {
        self.end_due(time, world);
        while self.plan.front().is_some_and(|step| step.at <= time) {
            let step = self.plan.pop_front().expect("just seen");
            self.begin(time, step, world);
        }
    }

    /// A member became leader: perhaps it is struck about one round trip later, or left behind in a while.
    pub fn on_leader(&mut self, time: Time, node: NodeId) {
        if self.hunt > 0 && self.random.chance(self.hunt) {
            self.strike_soon(time, node);
        }
        if self.left_behind > 0 && self.random.chance(self.left_behind) {
            self.leave_behind(time, node);
        }
        if self.rash_changes > 0 && self.random.chance(self.rash_changes) {
            // A learner is what a leader can add before it has heard of anybody.
            self.change_soon(time, Fault::Add { learner: true });
        }
    }

    /// A member has joined: perhaps it gets a vote before it has anything.
    pub fn on_joined(&mut self, time: Time) {
        if self.rash_changes > 0 && self.random.chance(self.rash_changes) {
            self.change_soon(time, Fault::Promote);
        }
    }

    fn change_soon(&mut self, time: Time, fault: Fault) {
        let at = time + self.random.exponential_duration(self.quality.delay);
        self.schedule(Step { at, lasts: self.election_timeout, fault });
    }

    /// A leader has committed something for the first time in its term: perhaps it is cut off before it can say so.
    pub fn on_first_commit(&mut self, time: Time, node: NodeId) {
        if self.cut_at_commit > 0 && self.random.chance(self.cut_at_commit) {
            let target = Target::Node(node);
            let fault = Fault::Isolate { target, inbound: true, outbound: true, clients: false };
            let lasts = self.random.exponential_duration(self.faults_lasting);
            self.schedule(Step { at: time, lasts, fault });
        }
    }

    /// A snapshot that a member was sent is on its disk: perhaps it loses power before anything that comes after it
    /// is there, too.
    pub fn on_installed(&mut self, time: Time, node: NodeId) {
        if self.crash_at_snapshot > 0 && self.random.chance(self.crash_at_snapshot) {
            let at = time + self.random.exponential_duration(self.quality.delay);
            let lasts = self.random.exponential_duration(self.election_timeout);
            self.schedule(Step { at, lasts, fault: Fault::Crash(Target::Node(node)) });
        }
    }

    fn strike_soon(&mut self, time: Time, node: NodeId) {
        let round_trip = (self.quality.delay + self.quality.jitter) * 2;
        let target = Target::Node(node);
        let fault = match self.random.below(3) {
            0 => Fault::Crash(target),
            1 => Fault::Pause { target, frozen_clock: self.random.chance(300_000) },
            _ => Fault::Isolate {
                target,
                inbound: true,
                outbound: self.random.chance(500_000),
                clients: false,
            },
        };
        let at = time + self.random.exponential_duration(round_trip);
        let lasts = self.random.exponential_duration(self.faults_lasting);
        self.schedule(Step { at, lasts, fault });
    }

    /// What the leader hears from its peers comes late or never, its clock goes slowly or stands still, and
    /// clients reach it all the time. The others elect another one meanwhile.
    fn leave_behind(&mut self, time: Time, node: NodeId) {
        // Before it has done anything, or in the middle of its work.
        let after = self.random.pick(&[self.quality.delay * 4, self.election_timeout * 3]);
        let at = time + self.random.exponential_duration(after);
        let lasts = self.random.duration(self.election_timeout * 2, self.election_timeout * 12);
        let target = Target::Node(node);
        let rate = self.random.pick(&[0, 0, TRUE_RATE / 10, TRUE_RATE / 2]);
        self.schedule(Step {
            at,
            lasts: lasts + self.election_timeout,
            fault: Fault::ClockRate { target, rate },
        });
        let others: Vec<NodeId> =
            (1..=self.budget.members()).map(NodeId).filter(|other| *other != node).collect();
        let (to, from) = (LinkSet::between(&others, &[node]), LinkSet::between(&[node], &others));
        let both = |inbound| Fault::Isolate { target, inbound, outbound: true, clients: false };
        let fault = match self.random.below(4) {
            0 => both(true),
            1 => Fault::Clog { links: to.and(from) },
            2 => Fault::Clog { links: from },
            _ => {
                // It is heard no more, and hears later what was said before: while what it asks is lost, answers
                // arrive to what it had asked.
                let soon = at + self.random.exponential_duration(self.quality.delay * 4);
                self.schedule(Step { at: soon, lasts: lasts + self.election_timeout, fault: both(false) });
                Fault::Clog { links: to }
            }
        };
        self.schedule(Step { at, lasts, fault });
    }

    fn schedule(&mut self, step: Step) {
        let place = self.plan.partition_point(|other| other.at <= step.at);
        self.plan.insert(place, step);
    }

    /// The storm is over: undoes everything and forgets the rest of the schedule.
    pub fn finish(&mut self, world: &mut dyn World) {
        self.plan.clear();
        (self.hunt, self.cut_at_commit, self.left_behind, self.crash_at_snapshot) = (0, 0, 0, 0);
        self.rash_changes = 0;
        while !self.active.is_empty() {
            self.end(0, world);
        }
    }

    fn end_due(&mut self, time: Time, world: &mut dyn World) {
        while let Some(position) = self.active.iter().position(|active| active.until <= time) {
            self.end(position, world);
        }
    }

    fn begin(&mut self, time: Time, step: Step, world: &mut dyn World) -> bool {
        let lasts = step.lasts;
        let fault = step.fault.seated(|seat| world.occupant(seat));
        let node = fault.target().map(|target| match target {
            Target::Node(node) => node,
            Target::Leader(otherwise) => world.leader().unwrap_or(otherwise),
        });
        let impaired = fault.impaired(node);
        let aimed = node.map_or(fault, |node| fault.aimed_at(node));
        if !world.admits(&aimed) || !self.budget.admit(impaired) {
            return false;
        }
        let until = (time + lasts).min(self.storm_ends);
        self.begun.push(Step { at: time, lasts: until.since(time), fault: aimed });
        world.note(FaultLine { began: true, fault, node });
        self.apply(fault, node, until, world);
        self.active.push(Active { until, fault, node, impaired });
        true
    }

    fn end(&mut self, position: usize, world: &mut dyn World) {
        let Active { fault, node, impaired, .. } = self.active.remove(position);
        self.budget.release(impaired);
        world.note(FaultLine { began: false, fault, node });
        self.undo(fault, node, world);
    }

    fn apply(&mut self, fault: Fault, node: Option<NodeId>, until: Time, world: &mut dyn World) {
        let struck = || node.expect("this kind of fault strikes a member");
        match fault {
            Fault::Cut { links, .. } => world.network(&mut |network| network.cut(links)),
            Fault::Isolate { inbound, outbound, clients, .. } => world.network(&mut |network| {
                network.cut(isolation(struck(), inbound, outbound));
                if clients {
                    network.cut_clients(struck());
                }
            }),
            Fault::Clog { links } => world.network(&mut |network| network.clog(links, until)),
            Fault::Lossy(quality) => world.network(&mut |network| network.set_quality(quality)),
            Fault::Meddle(meddling) => world.network(&mut |network| network.begin_meddling(meddling)),
            Fault::Crash(_) => world.crash(struck()),
            Fault::PowerLoss => {
                for id in self.everybody(world) {
                    world.crash(id);
                }
            }
            Fault::Pause { frozen_clock, .. } => {
                world.pause(struck());
                if frozen_clock {
                    world.set_clock_rate(struck(), Some(0));
                }
            }
            Fault::ClockRate { rate, .. } => world.set_clock_rate(struck(), Some(rate)),
            Fault::ClockJump { by, .. } => world.jump_clock(struck(), by),
            Fault::SlowDisk { factor, .. } => world.slow_disk(struck(), factor, until),
            Fault::SlowCpu { by, .. } => world.slow_cpu(struck(), by),
            Fault::Disconnect(_) => world.disconnect(struck()),
            Fault::Disk { failure, .. } => world.fail_disk(struck(), failure),
            Fault::LostDisk(_) => world.lose_disk(struck()),
            Fault::Transfer(_)
            | Fault::Add { .. }
            | Fault::Promote
            | Fault::Demote(_)
            | Fault::Remove(_)
            | Fault::Impostor(_) => {
                world.operate(node.map_or(fault, |node| fault.aimed_at(node)));
            }
        }
    }

    fn undo(&mut self, fault: Fault, node: Option<NodeId>, world: &mut dyn World) {
        let struck = || node.expect("this kind of fault strikes a member");
        match fault {
            Fault::Cut { links, .. } => world.network(&mut |network| network.mend(links)),
            Fault::Isolate { inbound, outbound, clients, .. } => world.network(&mut |network| {
                network.mend(isolation(struck(), inbound, outbound));
                if clients {
                    network.mend_clients(struck());
                }
            }),
            // These end by themselves.
            Fault::Clog { .. }
            | Fault::ClockJump { .. }
            | Fault::SlowDisk { .. }
            | Fault::Disconnect(_)
            | Fault::Transfer(_)
            | Fault::Add { .. }
            | Fault::Promote
            | Fault::Demote(_)
            | Fault::Remove(_)
            | Fault::Impostor(_) => {}
            Fault::LostDisk(_) => world.replace_disk(struck()),
            Fault::Lossy(_) => {
                let quality = self.quality;
                world.network(&mut |network| network.set_quality(quality));
            }
            Fault::Meddle(meddling) => world.network(&mut |network| network.end_meddling(meddling)),
            Fault::Crash(_) => self.start_if_nothing_keeps_it_down(struck(), world),
            Fault::PowerLoss => {
                for id in self.everybody(world) {
                    self.start_if_nothing_keeps_it_down(id, world);
                }
            }
            Fault::Pause { frozen_clock, .. } => {
                if frozen_clock {
                    world.set_clock_rate(struck(), None);
                }
                if !self.active.iter().any(|other| other.pauses(struck())) {
                    world.resume(struck());
                }
            }
            Fault::ClockRate { .. } => world.set_clock_rate(struck(), None),
            Fault::SlowCpu { .. } => world.slow_cpu(struck(), Duration::ZERO),
            Fault::Disk { failure, .. } => {
                world.repair_disk(struck(), failure);
                self.start_if_nothing_keeps_it_down(struck(), world);
            }
        }
    }

    /// Two crashes of one member may overlap: it starts when the last of them is over.
    fn start_if_nothing_keeps_it_down(&self, node: NodeId, world: &mut dyn World) {
        if !self.active.iter().any(|other| other.keeps_down(node)) {
            world.start(node);
        }
    }

    fn everybody(&self, world: &dyn World) -> Vec<NodeId> {
        let seated = (1..=self.budget.members()).map(|seat| world.occupant(NodeId(seat)));
        seated.chain(world.extras()).collect()
    }
}

impl Active {
    fn keeps_down(&self, node: NodeId) -> bool {
        match self.fault {
            Fault::Crash(_) | Fault::Disk { .. } => self.node == Some(node),
            Fault::PowerLoss => true,
            _ => false,
        }
    }

    fn pauses(&self, node: NodeId) -> bool {
        matches!(self.fault, Fault::Pause { .. }) && self.node == Some(node)
    }
}

impl FaultLine {
    /// A number that differs between different lines, mostly.
    #[must_use]
    pub fn number(&self) -> u64 {
        let node = self.node.map_or(0, |node| node.0);
        u64::from(self.began) | node << 1 | (self.fault.name().len() as u64) << 8
    }
}

impl fmt::Display for FaultLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.node.map_or(self.fault, |node| self.fault.aimed_at(node));
        write!(f, "{fault} {}", if self.began { "begins" } else { "ends" })
    }
}

/// Whether no member's clock has ever run fast, in a run with these faults.
#[must_use]
pub fn clocks_were_right(options: &Options, begun: &[Step]) -> bool {
    let fast = |step: &Step| match step.fault {
        Fault::ClockRate { rate, .. } => rate > TRUE_RATE,
        Fault::ClockJump { .. } => true,
        _ => false,
    };
    options.clock_spread == 0 && !begun.iter().any(fast)
}

/// The links of one member, in one direction or both, to every other possible member.
fn isolation(node: NodeId, inbound: bool, outbound: bool) -> LinkSet {
    let others: Vec<NodeId> = (1..crate::env::network::MEMBERS_MAX as u64).map(NodeId).collect();
    let none = LinkSet::none();
    let to = if inbound { LinkSet::between(&others, &[node]) } else { none };
    let from = if outbound { LinkSet::between(&[node], &others) } else { none };
    to.and(from)
}
