//! Who breaks things: a schedule of faults, drawn before the run begins.
//!
//! The schedule is data, and says of every fault when it begins, how long it lasts and whom it strikes, so
//! that it can be printed, replayed and (some day) made smaller. Whom it strikes may be "the leader", which
//! is decided when the fault begins; and a new leader may be struck right after its election, which is where
//! bugs like to live.
//!
//! The same nemesis serves both depths of simulation: what it does, it does to a [`World`]. When the storm is
//! over, everything it did is undone.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use quorate_raft::NodeId;

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
    /// A fault began or ended.
    fn note(&mut self, line: FaultLine);
}

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This member.
    Node(NodeId),
    /// Whoever leads when the fault begins (this member, if nobody does).
    Leader(NodeId),
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These links are cut, so that these members are cut off from a majority (none of them, if the set is
    /// empty).
    Cut {
        /// The links.
        links: LinkSet,
        /// Whom it impairs.
        impaired: NodeSet,
    },
    /// One member is cut off from its peers, in one direction or both, and perhaps from clients.
    Isolate {
        /// Who.
        target: Target,
        /// It hears nothing.
        inbound: bool,
        /// It is not heard.
        outbound: bool,
        /// Clients do not reach it.
        clients: bool,
    },
    /// These links keep everything and deliver it at the end.
    Clog {
        /// The links.
        links: LinkSet,
    },
    /// All links lose, duplicate, reorder and delay more than usual.
    Lossy(Quality),
    /// A member loses power.
    Crash(Target),
    /// All members lose power.
    PowerLoss,
    /// A member is stopped; its clock runs on, or stands still as well.
    Pause {
        /// Who.
        target: Target,
        /// Whether its clock stands still.
        frozen_clock: bool,
    },
    /// A clock runs at another rate.
    ClockRate {
        /// Whose.
        target: Target,
        /// In millionths.
        rate: u64,
    },
    /// A clock jumps forward.
    ClockJump {
        /// Whose.
        target: Target,
        /// How far.
        by: Duration,
    },
    /// A disk is slow.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How many times slower.
        factor: u32,
    },
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
    faults_lasting: Duration,
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
        let mut random = Random::new(options.seed, Stream::Nemesis);
        let plan = draw_plan(options, &mut random);
        Nemesis {
            plan,
            active: Vec::new(),
            budget: FaultBudget::new(options.members),
            quality: options.network,
            hunt: options.faults.hunt,
            faults_lasting: options.faults.duration,
            storm_ends: Time::ZERO + options.storm,
            random,
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
        while let Some(position) = self.active.iter().position(|active| active.until <= time) {
            self.end(position, world);
        }
        while self.plan.front().is_some_and(|step| step.at <= time) {
            let step = self.plan.pop_front().expect("just seen");
            self.begin(time, step, world);
        }
    }

    /// A member became leader: perhaps it is struck about one round trip later.
    pub fn on_leader(&mut self, time: Time, node: NodeId) {
        if self.hunt == 0 || !self.random.chance(self.hunt) {
            return;
        }
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
        let place = self.plan.partition_point(|step| step.at <= at);
        self.plan.insert(place, Step { at, lasts, fault });
    }

    /// The storm is over: undoes everything and forgets the rest of the schedule.
    pub fn finish(&mut self, world: &mut dyn World) {
        self.plan.clear();
        self.hunt = 0;
        while !self.active.is_empty() {
            self.end(0, world);
        }
    }

    fn begin(&mut self, time: Time, step: Step, world: &mut dyn World) {
        let Step { lasts, fault, .. } = step;
        let node = fault.target().map(|target| match target {
            Target::Node(node) => node,
            Target::Leader(otherwise) => world.leader().unwrap_or(otherwise),
        });
        let impaired = fault.impaired(node);
        if !self.budget.admit(impaired) {
            return;
        }
        let until = (time + lasts).min(self.storm_ends);
        world.note(FaultLine { began: true, fault, node });
        self.apply(fault, node, until, world);
        self.active.push(Active { until, fault, node, impaired });
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
            Fault::Crash(_) => world.crash(struck()),
            Fault::PowerLoss => {
                for id in 1..=self.budget_members() {
                    world.crash(NodeId(id));
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
            Fault::Clog { .. } | Fault::ClockJump { .. } | Fault::SlowDisk { .. } => {}
            Fault::Lossy(_) => {
                let quality = self.quality;
                world.network(&mut |network| network.set_quality(quality));
            }
            Fault::Crash(_) => self.start_if_nothing_keeps_it_down(struck(), world),
            Fault::PowerLoss => {
                for id in 1..=self.budget_members() {
                    self.start_if_nothing_keeps_it_down(NodeId(id), world);
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
        }
    }

    /// Two crashes of one member may overlap: it starts when the last of them is over.
    fn start_if_nothing_keeps_it_down(&self, node: NodeId, world: &mut dyn World) {
        if !self.active.iter().any(|other| other.keeps_down(node)) {
            world.start(node);
        }
    }

    fn budget_members(&self) -> u64 {
        self.budget.members()
    }
}

impl Active {
    fn keeps_down(&self, node: NodeId) -> bool {
        match self.fault {
            Fault::Crash(_) => self.node == Some(node),
            Fault::PowerLoss => true,
            _ => false,
        }
    }

    fn pauses(&self, node: NodeId) -> bool {
        matches!(self.fault, Fault::Pause { .. }) && self.node == Some(node)
    }
}

impl Fault {
    fn target(&self) -> Option<Target> {
        match *self {
            Fault::Isolate { target, .. }
            | Fault::Crash(target)
            | Fault::Pause { target, .. }
            | Fault::ClockRate { target, .. }
            | Fault::ClockJump { target, .. }
            | Fault::SlowDisk { target, .. } => Some(target),
            Fault::Cut { .. } | Fault::Clog { .. } | Fault::Lossy(_) | Fault::PowerLoss => None,
        }
    }

    /// Whom it impairs, for the fault budget.
    fn impaired(&self, node: Option<NodeId>) -> NodeSet {
        let struck = node.map_or(NodeSet::default(), |node| NodeSet::of(&[node]));
        match *self {
            Fault::Cut { impaired, .. } => impaired,
            Fault::Isolate { .. }
            | Fault::Crash(_)
            | Fault::Pause { .. }
            | Fault::SlowDisk { .. }
            | Fault::ClockRate { rate: 0, .. } => struck,
            // A wrong clock or a bad link is no excuse for not serving.
            Fault::Clog { .. }
            | Fault::Lossy(_)
            | Fault::PowerLoss
            | Fault::ClockRate { .. }
            | Fault::ClockJump { .. } => NodeSet::default(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Fault::Cut { .. } => "cut",
            Fault::Isolate { .. } => "isolate",
            Fault::Clog { .. } => "clog",
            Fault::Lossy(_) => "lossy",
            Fault::Crash(_) => "crash",
            Fault::PowerLoss => "power-loss",
            Fault::Pause { .. } => "pause",
            Fault::ClockRate { .. } => "clock-rate",
            Fault::ClockJump { .. } => "clock-jump",
            Fault::SlowDisk { .. } => "slow-disk",
        }
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
        write!(f, "{} {}", self.fault.name(), if self.began { "begins" } else { "ends" })?;
        if let Some(node) = self.node {
            write!(f, ": n{node}")?;
        }
        match self.fault {
            Fault::Cut { links, .. } | Fault::Clog { links } => write!(f, ": {links}"),
            Fault::Isolate { inbound, outbound, clients, .. } => {
                let list = [(inbound, "in"), (outbound, "out"), (clients, "clients")];
                list.iter().filter(|(on, _)| *on).try_for_each(|(_, name)| write!(f, " {name}"))
            }
            Fault::Lossy(quality) => write!(
                f,
                ": loss={} duplication={} reordering={}",
                quality.loss, quality.duplication, quality.reordering
            ),
            Fault::ClockRate { rate, .. } => write!(f, " rate={rate}"),
            Fault::ClockJump { by, .. } => write!(f, " by={by:?}"),
            Fault::SlowDisk { factor, .. } => write!(f, " factor={factor}"),
            Fault::Pause { frozen_clock: true, .. } => f.write_str(" with its clock"),
            Fault::Pause { .. } | Fault::Crash(_) | Fault::PowerLoss => Ok(()),
        }
    }
}

/// The links of one member, in one direction or both, to every other possible member.
fn isolation(node: NodeId, inbound: bool, outbound: bool) -> LinkSet {
    let others: Vec<NodeId> = (1..crate::env::network::MEMBERS_MAX as u64).map(NodeId).collect();
    let none = LinkSet::none();
    let to = if inbound { LinkSet::between(&others, &[node]) } else { none };
    let from = if outbound { LinkSet::between(&[node], &others) } else { none };
    to.and(from)
}

fn draw_plan(options: &Options, random: &mut Random) -> VecDeque<Step> {
    let mut plan = VecDeque::new();
    let mut at = Time::ZERO + options.election_timeout * 3;
    let end = Time::ZERO + options.storm;
    while at < end {
        let Some(kind) = random.weighted(&options.faults.weights) else { break };
        let fault = draw_fault(crate::options::FAULTS[kind], options, random);
        let lasts = random.exponential_duration(options.faults.duration);
        plan.push_back(Step { at, lasts, fault });
        at += random.exponential_duration(options.faults.interval);
    }
    plan
}

fn draw_fault(kind: &str, options: &Options, random: &mut Random) -> Fault {
    let mut members = options.member_ids();
    random.shuffle(&mut members);
    let one = members[0];
    let target = if random.chance(500_000) { Target::Leader(one) } else { Target::Node(one) };
    let minority = ((members.len() - 1) / 2).max(1).min(members.len());
    let (few, many) = members.split_at(random.between(1, minority as u64) as usize);
    let impaired = NodeSet::of(few);
    let (there, back) = (LinkSet::between(few, many), LinkSet::between(many, few));
    match kind {
        "partition" => Fault::Cut { links: there.and(back), impaired },
        "one-way" => Fault::Cut { links: if random.chance(500_000) { there } else { back }, impaired },
        "bridge" => Fault::Cut { links: bridge(&members), impaired: NodeSet::default() },
        "isolate" => Fault::Isolate {
            target,
            inbound: random.chance(700_000),
            outbound: random.chance(700_000),
            clients: random.chance(300_000),
        },
        "clog" => Fault::Clog { links: if random.chance(500_000) { there } else { back } },
        "lossy" => Fault::Lossy(Quality {
            loss: random.below(300_000) as u32,
            duplication: random.below(300_000) as u32,
            reordering: random.below(500_000) as u32,
            ..options.network
        }),
        "crash" => Fault::Crash(target),
        "power-loss" => Fault::PowerLoss,
        "pause" => Fault::Pause { target, frozen_clock: random.chance(300_000) },
        "clock-rate" => Fault::ClockRate {
            target,
            rate: random.pick(&[0, TRUE_RATE / 2, TRUE_RATE / 10 * 9, TRUE_RATE * 2]),
        },
        "clock-jump" => {
            Fault::ClockJump { target, by: random.exponential_duration(options.election_timeout * 3) }
        }
        "slow-disk" => Fault::SlowDisk { target, factor: random.pick(&[10, 100, 1_000]) },
        other => unreachable!("{other} is not in the list of faults"),
    }
}

/// Two halves that do not hear each other, and one member that hears both.
fn bridge(members: &[NodeId]) -> LinkSet {
    let (left, right) = members[1..].split_at((members.len() - 1) / 2);
    LinkSet::between(left, right).and(LinkSet::between(right, left))
}
