//! Members of a service's cluster that come and go, and leadership that is moved.
//!
//! An operator asks the leader for one change after the other, as the nemesis says. What comes of it is seen in what members
//! apply: an added member is a machine with an empty disk that runs from the asking on, and hears of the cluster if it is taken in;
//! one that is removed is ended a moment after somebody has applied its removal. A change that was refused, or lost with its
//! leader, is given up after a while.

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

impl<S: Service> Cluster<'_, S> {
    /// Whether a fault makes sense now.
    pub(super) fn may_operate(&self, fault: &Fault) -> bool {
        let idle = self.change.is_none_or(|change| change.until <= self.time);
        match *fault {
            Fault::Add { .. } => idle && self.members.len() + 1 < MEMBERS_MAX,
            Fault::Promote => idle && !self.table().learners.is_empty(),
            // Two voters that are left cannot do without each other; the nemesis may impair one of three.
            Fault::Demote(Target::Node(node)) | Fault::Remove(Target::Node(node)) => {
                let table = self.table();
                idle && table.contains(node) && (!table.voters.contains(&node) || table.voters.len() > 3)
            }
            _ => fault.target().is_none_or(|target| match target {
                Target::Node(node) => self.members.get(place(node)).is_some_and(|member| !member.over),
                Target::Leader(_) => true,
            }),
        }
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
