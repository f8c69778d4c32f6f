//! Members of a service's cluster that come and go, and leadership that is moved.
//!
//! An operator asks the leader for one change after the other, as the nemesis says. What comes of it is seen in what members
//! apply: an added member is a machine with an empty disk that runs from the asking on, and hears of the cluster if it is taken in;
//! one that is removed is ended a moment after somebody has applied its removal. A change that was refused, or lost with its
//! leader, is given up after a while.
//!
//! A lost disk does not come back. So one is lost only when all members hold all that there is, nobody is on the way in or out, and two
//! other voters are left; and until a new member has taken its place, in two changes that the operator asks for until they are done,
//! nothing else is changed. What would have struck the old member then strikes the new one.

use quorate_raft::{Change as Step, Configuration, Input, NodeId, Position, SnapshotMeta};

use super::Service;
use super::cluster::{Cluster, Event, place};
use super::member::{Attempt, Member, Proposal};
use crate::env::clock::TRUE_RATE;
use crate::env::network::MEMBERS_MAX;
use crate::nemesis::{Fault, Target, World};
use crate::time::Time;

/// A change that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// When the operator gives it up.
    until: Time,
}

/// A disk that was lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// Who had it.
    node: NodeId,
    /// Who takes the place, once the old member has no part in the cluster any more.
    heir: Option<NodeId>,
}

impl<S: Service> Cluster<'_, S> {
    /// Whether the operator has nothing to wait for.
    fn is_idle(&self) -> bool {
        self.lost.is_none() && self.change.is_none_or(|change| change.until <= self.time)
    }

    /// Whether a fault makes sense now.
    pub(super) fn may_operate(&self, fault: &Fault) -> bool {
        let idle = self.is_idle();
        match *fault {
            Fault::Add { .. } => idle && self.members.len() + 1 < MEMBERS_MAX,
            Fault::Promote => idle && !self.table().learners.is_empty(),
            // Two voters that are left cannot do without each other; the nemesis may impair one of three.
            Fault::Demote(Target::Node(node)) | Fault::Remove(Target::Node(node)) => {
                let table = self.table();
                idle && table.contains(node) && (!table.voters.contains(&node) || table.voters.len() > 3)
            }
            Fault::LostDisk(Target::Node(node)) => idle && self.may_lose_disk(node),
            _ => fault.target().is_none_or(|target| match target {
                Target::Node(node) => self.members.get(place(node)).is_some_and(|member| !member.over),
                Target::Leader(_) => true,
            }),
        }
    }

    fn may_lose_disk(&self, node: NodeId) -> bool {
        let table = self.table();
        let end = self.members.iter().map(|member| member.applied.index).max();
        let settled = |member: &Member<S>| {
            let last = member.raft.as_ref().map(|raft| raft.status().last.index);
            last == end && Some(member.applied.index) == end && member.configuration == *table
        };
        let mut present = self.members.iter().filter(|member| !member.over);
        let room = self.members.len() + 1 < MEMBERS_MAX;
        let whole = !table.is_joint() && table.learners.is_empty() && table.voters.len() > 2;
        let all_in = present.all(|member| table.voters.contains(&member.id) && settled(member));
        room && whole && all_in && table.voters.contains(&node)
    }

    /// Who has taken the place of a member that the cluster began with.
    pub(super) fn sits_for(&self, seat: NodeId) -> NodeId {
        self.seats.get(place(seat)).copied().unwrap_or(seat)
    }

    /// A member is gone with its disk.
    pub(super) fn disk_is_lost(&mut self, node: NodeId) {
        let member = self.member(node);
        member.crash();
        member.over = true;
        self.lost = Some(Lost { node, heir: None });
    }

    /// There is a new disk: the operator sees to it that somebody takes the place.
    pub(super) fn operator_looks(&mut self) {
        let Some(lost) = self.lost else { return };
        let waits = self.change.is_some_and(|change| change.until > self.time);
        let table = self.table();
        if let Some(heir) = lost.heir.filter(|heir| table.voters.contains(heir)) {
            self.lost = None;
            self.seats.iter_mut().filter(|seat| **seat == lost.node).for_each(|seat| *seat = heir);
            return;
        }
        if !waits && table.contains(lost.node) {
            self.propose(Step::Remove(lost.node));
        } else if !waits {
            let heir = lost.heir.unwrap_or_else(|| self.add_machine());
            self.lost = Some(Lost { heir: Some(heir), ..lost });
            self.propose(Step::AddVoter(heir));
        }
        self.queue.push(self.time + self.options.election_timeout / 2, Event::Operator);
    }

    /// Who takes part, as whoever has applied most knows.
    fn table(&self) -> &Configuration {
        let furthest = self.members.iter().max_by_key(|member| member.applied.index);
        &furthest.expect("a cluster has members").configuration
    }

    /// The operator does something.
    pub(super) fn operate_now(&mut self, fault: Fault) {
        let step = match fault {
            Fault::Transfer(to) => return self.tell_leader(Input::Transfer { to }),
            Fault::Add { learner } => {
                let id = self.add_machine();
                if learner { Step::AddLearner(id) } else { Step::AddVoter(id) }
            }
            Fault::Promote => match self.table().learners.first() {
                Some(learner) => Step::AddVoter(*learner),
                None => return,
            },
            Fault::Demote(Target::Node(node)) => Step::Demote(node),
            Fault::Remove(Target::Node(node)) => Step::Remove(node),
            _ => return,
        };
        self.propose(step);
    }

    fn propose(&mut self, step: Step) {
        self.change = Some(Change { until: self.time + self.options.election_timeout * 4 });
        let attempt = Attempt { client: u64::MAX, number: 0, again: 0 };
        let command = Proposal { origin: NodeId(0), boot: 0, attempt, command: None };
        self.tell_leader(Input::ChangeMembership { changes: vec![step], command });
    }

    fn tell_leader(&mut self, input: Input<Proposal<S::Command>>) {
        if let Some(leader) = World::leader(self) {
            self.input(leader, input);
        }
    }

    /// There is another machine, on which nothing ever ran.
    fn add_machine(&mut self) -> NodeId {
        let id = NodeId(self.members.len() as u64 + 1);
        let nobody = SnapshotMeta { position: Position::default(), configuration: Configuration::default() };
        self.members.push(Member::new(self.service, id, &nobody, TRUE_RATE));
        World::start(self, id);
        id
    }

    /// A member has applied a change: whoever takes no part any more is going to end.
    pub(super) fn membership_applied(&mut self, node: NodeId) {
        let configuration = self.member(node).configuration.clone();
        self.note(|| format!("n{node} has applied members: {configuration}"));
        self.change = None;
        for member in &self.members {
            let founder = member.id.0 <= self.options.members;
            let was_in = founder || member.applied.index.0 > 0;
            if was_in && !member.over && !configuration.contains(member.id) && !configuration.is_joint() {
                self.queue.push(self.time + self.options.election_timeout, Event::Farewell(member.id));
            }
        }
    }

    /// A member that was removed ends, unless that was undone: then it takes part as far as all know.
    pub(super) fn end_for_good(&mut self, node: NodeId) {
        if !self.table().contains(node) {
            let member = self.member(node);
            member.crash();
            member.over = true;
        }
    }
}
