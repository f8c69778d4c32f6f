//! Every schedule of a small cluster, up to a bound: a model checker whose model is the real code.
//!
//! A state is a whole [`Cluster`], the messages in flight and what the invariants have seen included. From each
//! state, everything that can happen is tried: any message in flight arrives (in any order; one that never does is
//! lost), a write becomes durable, a member times out, crashes with all or some of its writes and starts again, a
//! command or a change of the membership is proposed. Each of the latter kinds happens a limited number of times, so
//! that there is an end. States that differ in nothing but clocks and random numbers are the same, and are
//! continued once. The [`Invariants`](super::Invariants) panic if anything is violated.
//!
//! Clocks move by time-outs only. So a member hears from a leader exactly as long as it follows one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use super::Cluster;
use crate::{Body, Change, Command, Configuration, Input, NodeId, Role};

/// How much may happen in one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget {
    /// Actions altogether.
    pub steps: u32,
    /// Election timeouts.
    pub timeouts: u32,
    /// Heartbeats.
    pub heartbeats: u32,
    /// Crashes, each followed by a restart.
    pub crashes: u32,
    /// Messages that arrive, and will arrive again.
    pub duplicates: u32,
    /// Commands proposed.
    pub commands: u32,
    /// Changes of the membership proposed, of those given.
    pub changes: u32,
}

/// A search.
#[derive(Debug)]
pub struct Explorer<C> {
    /// What a proposal is.
    command: C,
    /// What may be changed.
    changes: Vec<Vec<Change>>,
    /// States, and what was left when they were continued. (One that comes again with more left is continued again.)
    seen: BTreeMap<u64, Vec<Budget>>,
    /// Actions tried.
    pub transitions: u64,
    /// Schedules that ended because nothing was left to do.
    pub ends: u64,
    /// The highest commit index reached.
    pub commit: u64,
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Action {
    Deliver { place: usize, again: bool },
    Persist(NodeId),
    Timeout(NodeId),
    Heartbeat(NodeId),
    Crash { id: NodeId, survive: usize },
    Propose(NodeId),
    Change(NodeId, usize),
}

impl<C: Command + PartialEq + fmt::Debug> Explorer<C> {
    /// A search in which these may be proposed.
    pub fn new(command: C, changes: Vec<Vec<Change>>) -> Explorer<C> {
        let seen = BTreeMap::new();
        Explorer { command, changes, seen, transitions: 0, ends: 0, commit: 0 }
    }

    /// Tries all schedules of a new cluster.
    ///
    /// # Panics
    /// If any of them violates an invariant.
    pub fn explore(&mut self, voters: u64, spare: u64, pre_vote: bool, budget: Budget) {
        let configuration =
            Configuration { voters: (1..=voters).map(NodeId).collect(), ..Configuration::default() };
        let mut cluster = Cluster::new(1, &configuration, |config| config.pre_vote = pre_vote);
        (voters + 1..=voters + spare).for_each(|id| cluster.join(NodeId(id)));
        // At first nothing can happen but that somebody times out, and all are alike: let it be the first.
        cluster.timeout(NodeId(1));
        let members = cluster.members.keys().map(|&id| (id, member_fingerprint(&cluster, id))).collect();
        let left = Budget { timeouts: budget.timeouts - 1, steps: budget.steps - 1, ..budget };
        self.visit(&cluster, &members, left);
    }

    /// How many different states were found.
    pub fn states(&self) -> usize {
        self.seen.len()
    }

    /// Continues a state, of whose members the fingerprints are given.
    fn visit(&mut self, cluster: &Cluster<C>, members: &BTreeMap<NodeId, u64>, budget: Budget) {
        let covered = self.seen.entry(fingerprint(cluster, members)).or_default();
        if covered.iter().any(|before| before.covers(&budget)) {
            return;
        }
        covered.retain(|before| !budget.covers(before));
        covered.push(budget);
        self.commit = self.commit.max(cluster.invariants.committed().0);
        let Some(steps) = budget.steps.checked_sub(1) else { return };
        let actions = self.actions(cluster, &budget);
        self.ends += u64::from(actions.is_empty());
        for action in actions {
            let mut next = cluster.clone();
            let mut left = Budget { steps, ..budget };
            let id = self.act(&mut next, &mut left, &action);
            self.transitions += 1;
            let mut members = members.clone();
            members.insert(id, member_fingerprint(&next, id));
            self.visit(&next, &members, left);
        }
    }

    /// Everything that can happen.
    fn actions(&self, cluster: &Cluster<C>, budget: &Budget) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut distinct = BTreeSet::new();
        for place in 0..cluster.network.len() {
            if distinct.insert(message_fingerprint(cluster, place)) {
                actions.push(Action::Deliver { place, again: false });
                if budget.duplicates > 0 {
                    actions.push(Action::Deliver { place, again: true });
                }
            }
        }
        for (&id, member) in &cluster.members {
            let raft = member.raft.as_ref().expect("who crashes starts again");
            if !member.writes.is_empty() {
                actions.push(Action::Persist(id));
            }
            if budget.crashes > 0 {
                actions.extend((0..=member.writes.len()).map(|survive| Action::Crash { id, survive }));
            }
            if raft.status().role != Role::Leader {
                let due = raft.deadline().is_some_and(|(_, why)| why == "election");
                actions.extend((due && budget.timeouts > 0).then_some(Action::Timeout(id)));
                continue;
            }
            actions.extend((budget.heartbeats > 0).then_some(Action::Heartbeat(id)));
            actions.extend((budget.commands > 0).then_some(Action::Propose(id)));
            if budget.changes > 0 {
                actions.extend((0..self.changes.len()).map(|which| Action::Change(id, which)));
            }
        }
        actions
    }

    /// Makes something happen. Returns to whom: nobody else has changed.
    fn act(&self, cluster: &mut Cluster<C>, budget: &mut Budget, action: &Action) -> NodeId {
        match *action {
            Action::Deliver { place, again } => {
                if again {
                    budget.duplicates -= 1;
                    let copy = cluster.network[place].clone();
                    cluster.network.push(copy);
                }
                let to = cluster.network[place].to;
                cluster.deliver(place);
                to
            }
            Action::Persist(id) => {
                cluster.persist(id, usize::MAX);
                id
            }
            Action::Timeout(id) => {
                budget.timeouts -= 1;
                cluster.timeout(id);
                id
            }
            Action::Heartbeat(id) => {
                budget.heartbeats -= 1;
                cluster.timeout(id);
                id
            }
            Action::Crash { id, survive } => {
                budget.crashes -= 1;
                cluster.crash(id, survive, 0);
                cluster.restart(id);
                id
            }
            Action::Propose(id) => {
                budget.commands -= 1;
                cluster.handle(id, Input::Propose(self.command.clone()));
                id
            }
            Action::Change(id, which) => {
                budget.changes -= 1;
                let changes = self.changes[which].clone();
                cluster.handle(id, Input::ChangeMembership { changes, command: self.command.clone() });
                id
            }
        }
    }
}

impl Budget {
    /// Whether whoever has this much left can do everything that one with `other` can.
    fn covers(&self, other: &Budget) -> bool {
        self.steps >= other.steps
            && self.timeouts >= other.timeouts
            && self.heartbeats >= other.heartbeats
            && self.crashes >= other.crashes
            && self.duplicates >= other.duplicates
            && self.commands >= other.commands
            && self.changes >= other.changes
    }
}

/// What distinguishes a state from others, in one number.
fn fingerprint<C: Command + PartialEq + fmt::Debug>(
    cluster: &Cluster<C>,
    members: &BTreeMap<NodeId, u64>,
) -> u64 {
    let mut all = Fingerprint::default();
    members.values().for_each(|&member| all.word(member));
    all.add(&cluster.invariants);
    let messages = (0..cluster.network.len()).map(|place| message_fingerprint(cluster, place));
    let mut messages: Vec<u64> = messages.collect();
    messages.sort_unstable();
    messages.into_iter().for_each(|message| all.word(message));
    all.hash
}

/// What distinguishes a member's state from others.
fn member_fingerprint<C: Command + PartialEq + fmt::Debug>(cluster: &Cluster<C>, id: NodeId) -> u64 {
    let member = cluster.members.get(&id).expect("something has happened to a member");
    let mut one = Fingerprint::default();
    one.add(&(&member.raft, &member.disk, &member.writes, member.applied));
    one.hash
}

/// What distinguishes a message in flight from others. Of the random number of a campaign, only whether it is the
/// present one of its candidate.
fn message_fingerprint<C: Command + PartialEq + fmt::Debug>(cluster: &Cluster<C>, place: usize) -> u64 {
    let envelope = &cluster.network[place];
    let campaign = match envelope.message.body {
        Body::PreVote { campaign, .. } => Some((envelope.from, campaign)),
        Body::PreVoteReply { campaign, .. } => Some((envelope.to, campaign)),
        _ => None,
    };
    let mut one = Fingerprint::default();
    one.add(envelope);
    let present = campaign.map(|(candidate, campaign)| {
        let raft = cluster.members.get(&candidate).and_then(|member| member.raft.as_ref());
        raft.is_some_and(|raft| raft.campaign() == Some(campaign))
    });
    one.add(&present);
    one.hash
}

/// Hashes what `Debug` shows, but for times and random numbers.
struct Fingerprint {
    hash: u64,
    /// The number that follows is a time.
    time: bool,
}

impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint { hash: 0xcbf2_9ce4_8422_2325, time: false }
    }
}

impl Fingerprint {
    fn word(&mut self, word: u64) {
        word.to_le_bytes().into_iter().for_each(|byte| self.byte(byte));
    }

    fn byte(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    fn add(&mut self, value: &impl fmt::Debug) {
        write!(self, "{value:?};").expect("hashing does not fail");
    }
}

impl fmt::Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let number = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
        if number && (self.time || text.len() > 10) {
            self.time = false;
            return Ok(());
        }
        self.time |= text == "Instant";
        text.bytes().for_each(|byte| self.byte(byte));
        Ok(())
    }
}
