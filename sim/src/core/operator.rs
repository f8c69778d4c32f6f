//! Members that come and go, and leadership that is moved: what an operator and the machines' caretaker do.
//!
//! The operator does one thing after the other, as the nemesis says (`Fault::changes_members`), by asking some
//! member that is up. Whoever has been added and has no directory yet joins with an empty one: the operator asks
//! until the cluster has said which member the directory is, and only then is there a process. The same goes
//! for a directory that takes the place of a lost one.
//!
//! # What is survivable
//!
//! Changes need nothing but that their machines come back, and refusing what would cost a quorum is the product's
//! part (`strict_reconfig_check`). A lost disk, though, never comes back. So one is lost only
//!
//! - when nobody is on the way in or out: all members have a directory, every member that is up has the same
//!   configuration in force, no learner waits to vote, and the disk lost before has been replaced;
//! - when no change can surface late: every one that was asked for has been answered, and what was answered is
//!   never done again;
//! - when two other voters are left.
//!
//! While a lost disk is not replaced, nothing else is changed.
//!
//! # Seats
//!
//! Faults and clients name the members that the cluster began with. Each is a seat: whoever takes the place of a
//! member that is gone takes its seat, and what would have struck the old one strikes the new one.

use std::time::Duration;

use quorate_raft::NodeId;
use quorate_replica::{Body, Error, Input, Request, RequestId, Response};
use quorate_store::{Command, Member as Record, Members, Response as Reply};

use super::member::{Asker, Life, Member};
use super::storage::{self, Storage};
use super::{Event, Simulation, calm::Phase, place};
use crate::env::network::MEMBERS_MAX;
use crate::invariants::Violation;
use crate::nemesis::{Fault, Target};
use crate::time::Time;

/// The slot of the operator among those who ask.
pub const OPERATOR: u32 = u32::MAX;

/// What the operator is doing.
#[derive(Debug, Default)]
pub struct Operator {
    /// The latest request.
    serial: u64,
    /// The request that has no answer yet.
    open: Option<Open>,
    /// Requests that will never have one known: they may take effect at any time.
    unanswered: u64,
    /// The disk that was lost last, until its member is replaced.
    lost: Option<Lost>,
    /// Who sits in the place of each member that the cluster began with.
    seats: Vec<NodeId>,
    /// Whether it looks after the members from time to time.
    looks: bool,
}

#[derive(Clone, Debug)]
struct Open {
    /// The member that was asked.
    at: NodeId,
    until: Time,
    what: Asked,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Move,
    Add,
    Promote,
    /// Of a member that led then, or not.
    Demote {
        led: bool,
    },
    Remove {
        led: bool,
    },
    Join(NodeId),
    /// For the place of a member that lives, perhaps.
    Usurp(NodeId),
}

/// A disk that is lost.
#[derive(Clone, Debug)]
struct Lost {
    /// Its member's record.
    old: Record,
    /// The id of the member that takes its place.
    new: NodeId,
    /// There is an empty directory.
    ready: bool,
}

impl Operator {
    /// Who sits where in the beginning.
    pub fn new(founders: Vec<NodeId>) -> Operator {
        Operator { seats: founders, ..Operator::default() }
    }

    /// Who sits there now.
    pub fn occupant(&self, seat: NodeId) -> NodeId {
        self.seats.get(place(seat)).copied().unwrap_or(seat)
    }

    /// Whether somebody has a seat.
    pub fn is_seated(&self, node: NodeId) -> bool {
        self.seats.contains(&node)
    }
}

impl Simulation {
    /// Whether the operator waits for nothing: every change has an answer, whoever was added has joined, and a lost
    /// disk is replaced.
    pub(super) fn operator_is_idle(&self) -> bool {
        let Operator { open, lost, .. } = &self.operator;
        open.is_none() && lost.is_none() && self.members.iter().all(|member| member.life != Life::Expected)
    }

    /// The table of members, as whoever has applied most has it.
    pub(super) fn table(&self) -> Option<&Members> {
        let up = self.members.iter().filter_map(|member| member.replica.as_ref());
        up.max_by_key(|replica| replica.status().applied).map(|replica| replica.store().members())
    }

    /// Everybody who is part of the cluster and has a directory.
    pub(super) fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.life == Life::Present)
    }

    /// Whether a fault makes sense now, and can be survived.
    pub(super) fn may_operate(&self, fault: &Fault) -> bool {
        let Operator { open, lost, .. } = &self.operator;
        let idle = open.is_none() && lost.is_none();
        match *fault {
            Fault::Transfer(_) => open.is_none(),
            Fault::Add { .. } => idle && self.members.len() + 1 < MEMBERS_MAX,
            Fault::LostDisk(Target::Node(node)) | Fault::Impostor(Target::Node(node)) => {
                idle && self.members.len() + 1 < MEMBERS_MAX && self.may_lose_disk(node).unwrap_or(false)
            }
            Fault::Promote | Fault::Demote(_) | Fault::Remove(_) => idle,
            _ => fault.target().is_none_or(|target| match target {
                Target::Node(node) => {
                    self.members.get(place(node)).is_some_and(|it| it.life == Life::Present)
                }
                Target::Leader(_) => true,
            }),
        }
    }

    fn may_lose_disk(&self, node: NodeId) -> Option<bool> {
        let table = self.table()?;
        let record = table.get(node.0)?;
        let members = || table.iter().map(|member| NodeId(member.id));
        let settled = self.members.iter().filter_map(|member| member.replica.as_ref()).all(|replica| {
            let configuration = replica.raft().configuration();
            !configuration.is_joint()
                && configuration.voters.iter().copied().eq(table.voters().map(|it| NodeId(it.id)))
                && configuration.learners.iter().copied().eq(table.learners().map(|it| NodeId(it.id)))
        });
        let all_there = members().all(|id| self.members[place(id)].life == Life::Present);
        let started = table.iter().all(Record::is_started);
        let waits = table.learners().any(|learner| learner.auto_promote);
        let enough = record.learner || table.voters().count() > 2;
        Some(settled && all_there && started && !waits && enough && self.operator.unanswered == 0)
    }

    /// The operator does something.
    pub(super) fn operate_now(&mut self, fault: Fault) {
        let Some(table) = self.table() else { return };
        let leader = crate::nemesis::World::leader(self);
        let led = |node: NodeId| leader == Some(node);
        let (request, what) = match fault {
            Fault::Transfer(to) => (Request::MoveLeader { to: to.map(|to| to.0) }, Asked::Move),
            Fault::Add { learner } => {
                let id = self.expect_member();
                let peer_urls = vec![storage::peer_url(id)];
                // Every other learner gets its vote by itself.
                let auto_promote = learner && id.0 % 2 == 1;
                let command = Command::MemberAdd { id: id.0, peer_urls, learner, auto_promote };
                (Request::Command(command), Asked::Add)
            }
            Fault::Promote => {
                let Some(id) = table.learners().find(|it| it.is_started()).map(|it| it.id) else { return };
                (Request::Command(Command::MemberPromote { id }), Asked::Promote)
            }
            Fault::Demote(Target::Node(node)) => {
                (Request::Command(Command::MemberDemote { id: node.0 }), Asked::Demote { led: led(node) })
            }
            Fault::Remove(Target::Node(node)) => {
                (Request::Command(Command::MemberRemove { id: node.0 }), Asked::Remove { led: led(node) })
            }
            Fault::Impostor(Target::Node(node)) => {
                let Some(Record { name, peer_urls, .. }) = table.get(node.0).cloned() else { return };
                let new = self.expect_member();
                (
                    Request::Command(Command::MemberJoin { id: new.0, owner: new.0, name, peer_urls }),
                    Asked::Usurp(new),
                )
            }
            _ => return,
        };
        let wants_leader =
            matches!(what, Asked::Move | Asked::Remove { led: true } | Asked::Demote { led: true });
        // Every other change is asked for where it is decided.
        let at_leader = wants_leader || self.operator.serial.is_multiple_of(2);
        self.operator_asks(request, what, leader.filter(|_| at_leader));
    }

    /// Another id is used: its member is expected.
    fn expect_member(&mut self) -> NodeId {
        let id = NodeId(self.members.len() as u64 + 1);
        let storage = Storage::new(id, self.members[0].storage.initial().clone(), &self.options);
        let mut member = Member::new(id, storage, crate::env::clock::TRUE_RATE);
        member.life = Life::Expected;
        self.members.push(member);
        id
    }

    fn operator_asks(&mut self, request: Request, what: Asked, at: Option<NodeId>) {
        self.look_soon();
        let up: Vec<NodeId> = self.present().filter(|it| it.is_up()).map(|it| it.id).collect();
        self.operator.serial += 1;
        let serial = self.operator.serial;
        let Some(node) = at.or_else(|| up.get(serial as usize % up.len().max(1)).copied()) else { return };
        self.operator.open =
            Some(Open { at: node, until: self.time + self.options.request_timeout * 2, what });
        let id = self.member(node).admit(Asker { slot: OPERATOR, serial });
        self.input(node, Input::Request { id, request });
    }

    /// A member's process is over: the operator's connection to it breaks.
    pub(super) fn operator_hears_of_the_end(&mut self, node: NodeId) {
        let now = self.time;
        if let Some(open) = self.operator.open.as_mut().filter(|open| open.at == node) {
            open.until = now;
        }
    }

    /// The operator has an answer.
    pub(super) fn operator_told(&mut self, _id: RequestId, serial: u64, result: &Result<Response, Error>) {
        if serial != self.operator.serial {
            return;
        }
        let Some(Open { what, .. }) = self.operator.open.take() else { return };
        let known = matches!(result, Ok(_) | Err(Error::Store(_) | Error::NotLeader | Error::BadTransferee));
        let lasting = !matches!(what, Asked::Move | Asked::Join(_));
        self.operator.unanswered += u64::from(lasting && !known);
        let Ok(response) = result else { return self.check_script() };
        match (what, &response.body) {
            (Asked::Move, _) => self.coverage.on_moved(),
            (Asked::Promote, _) => self.coverage.on_promoted(),
            (Asked::Demote { led }, _) => self.coverage.on_voter_less(false, led),
            (Asked::Remove { led }, _) => self.coverage.on_voter_less(true, led),
            (Asked::Join(asker) | Asked::Usurp(asker), Body::Store(Reply::Joined { id })) => {
                assert_eq!(*id, asker.0, "a directory is the member whose place it asked for");
                self.joined(asker);
            }
            _ => {}
        }
        self.check_script();
    }

    /// A directory knows which member it is: its process starts.
    fn joined(&mut self, node: NodeId) {
        if self.member(node).life != Life::Expected {
            return;
        }
        let free = (0..self.operator.seats.len())
            .find(|seat| self.members[place(self.operator.seats[*seat])].life == Life::Over);
        if let Some(seat) = free {
            self.operator.seats[seat] = node;
        }
        self.member(node).life = Life::Present;
        if self.violation.is_none() {
            self.start_member(node);
        }
        let time = self.time;
        if let Some(nemesis) = &mut self.nemesis {
            nemesis.on_joined(time);
        }
        self.schedule_nemesis();
    }

    /// A member loses its disk; its process and its id are over.
    pub(super) fn disk_is_lost(&mut self, node: NodeId) {
        let Some(old) = self.table().and_then(|table| table.get(node.0)).cloned() else { return };
        crate::nemesis::World::crash(self, node);
        self.member(node).life = Life::Over;
        let new = self.expect_member();
        self.operator.lost = Some(Lost { old, new, ready: false });
        self.look_soon();
    }

    /// There is an empty directory in its place.
    pub(super) fn disk_is_replaced(&mut self) {
        if let Some(lost) = &mut self.operator.lost {
            lost.ready = true;
        }
    }

    /// A member was told that it has been removed: its process ends, for good.
    pub(super) fn member_ends(&mut self, node: NodeId, boot: u64) {
        let member = self.member(node);
        if member.boot == boot && member.life == Life::Present {
            crate::nemesis::World::crash(self, node);
            self.member(node).life = Life::Over;
        }
    }

    fn look_soon(&mut self) {
        if !self.operator.looks {
            self.operator.looks = true;
            self.queue.push(self.time + self.options.election_timeout, Event::Operator);
        }
    }

    /// The operator looks after the members, from time to time.
    pub(super) fn operator_looks(&mut self) {
        if self.phase == Phase::End {
            return;
        }
        self.queue.push(self.time + self.options.election_timeout, Event::Operator);
        self.end_who_was_removed();
        if let Some(open) = self.operator.open.take_if(|open| open.until <= self.time) {
            // (A directory that asks again is the same directory.)
            let lasting = !matches!(open.what, Asked::Move | Asked::Join(_));
            self.operator.unanswered += u64::from(lasting);
        }
        if self.operator.open.is_none() {
            self.have_directories_join();
        }
        self.note_replacement();
        self.check_script();
    }

    /// Peers refuse a member that they know to be removed; when it hears that, it ends.
    fn end_who_was_removed(&mut self) {
        let up: Vec<NodeId> = self.present().filter(|it| it.is_up() && !it.paused).map(|it| it.id).collect();
        for &node in &up {
            let refuses = |other: &&NodeId| {
                let replica = self.members[place(**other)].replica.as_ref();
                self.network.connected(node, **other)
                    && self.network.connected(**other, node)
                    && replica.is_some_and(|replica| replica.store().members().is_removed(node.0))
            };
            if up.iter().any(|other| refuses(&other)) {
                let boot = self.member(node).boot;
                self.member_ends(node, boot);
            }
        }
    }

    fn have_directories_join(&mut self) {
        let Some(table) = self.table() else { return };
        let awaited =
            |id: u64| self.members.get(place(NodeId(id))).is_some_and(|it| it.life == Life::Expected);
        let added = table.iter().find(|it| !it.is_started() && awaited(it.id)).cloned();
        let lost = self.operator.lost.as_ref().filter(|lost| lost.ready && awaited(lost.new.0)).cloned();
        // Who owns its record already, while the answer that says so was lost.
        let owner = table.iter().map(|it| it.id).find(|id| awaited(*id));
        if let Some(Record { id, peer_urls, .. }) = added {
            let request = Request::Join { owner: id, name: format!("m{id}"), peer_urls };
            self.operator_asks(request, Asked::Join(NodeId(id)), None);
        } else if let Some(id) = owner {
            self.joined(NodeId(id));
        } else if let Some(Lost { old, new, .. }) = lost {
            // `Request::Join` would draw an id; here ids are small numbers.
            let (name, peer_urls) = (old.name, old.peer_urls);
            let command = Command::MemberJoin { id: new.0, owner: new.0, name, peer_urls };
            self.operator_asks(Request::Command(command), Asked::Join(new), None);
        }
    }

    /// A lost disk is replaced when who came for it is as much as who was lost.
    fn note_replacement(&mut self) {
        let (Some(lost), Some(table)) = (&self.operator.lost, self.table()) else { return };
        let replaced = table.get(lost.new.0).is_some_and(|new| new.learner == lost.old.learner);
        if !replaced && !table.is_removed(lost.new.0) {
            return;
        }
        if replaced && !lost.old.learner {
            self.coverage.on_replaced();
        }
        self.operator.lost = None;
    }

    /// Whoever is a member in the end has a directory and runs.
    pub(super) fn check_members(&self) -> Result<(), Violation> {
        let late = |detail: String| Err(Violation { invariant: "liveness", detail });
        let Some(table) = self.table() else { return Ok(()) };
        let present = |id: u64| self.members[place(NodeId(id))].life == Life::Present;
        if let Some(member) = table.iter().find(|it| !it.is_started() || !present(it.id)) {
            return late(format!("n{} is a member in the end and has not joined", member.id));
        }
        if let Some(member) = self.present().find(|it| table.get(it.id.0).is_none()) {
            return late(format!("n{} is no member in the end and goes on", member.id));
        }
        match &self.operator.lost {
            Some(lost) => {
                late(format!("n{} has not taken the place of n{} in the end", lost.new, lost.old.id))
            }
            None => Ok(()),
        }
    }
}

/// How long a member that was removed goes on, before whoever runs it ends it.
pub const FAREWELL: Duration = Duration::from_millis(2);
