//! What must never be false. One property per file, each with its source.
//!
//! The properties of the log are checked after every event, at a cost that does not grow with the log:
//! `Logs` mirrors what every member's log and disk hold as one chained hash per entry, so that "the same
//! log up to here" is the comparison of two numbers.
//!
//! What clients see (linearizability, revisions, watch streams) is judged at the end of a run by
//! `quorate_jepsen`.

mod answered;
mod asked_around;
mod bounded;
mod candidacy;
mod confirmed_reads;
mod durability;
mod earlier_boots;
mod elected_by_quorum;
mod election_safety;
mod follows_who_leads;
mod good_faith;
mod hand_over;
mod leader_completeness;
mod leading;
mod lease_existence;
mod lease_expiry;
mod leases_seen;
mod liveness;
pub mod locks;
mod log_matching;
mod logs;
mod membership_in_force;
mod monotonic;
mod own_revocations;
mod own_term;
mod reconfiguration;
mod removed_members;
mod revisions;
mod snapshot_equivalence;
mod state_hash;
mod state_machine_safety;
mod storm;
mod up_to_date_votes;
mod vote_once;

use quorate_jepsen::etcd::{Request, Response};
use quorate_raft::{Body, Instant, NodeId, Role, WriteId};
use quorate_replica::{Message, Replica, Saved, Write};

pub use bounded::{Waiting, check as check_waiting};
pub use lease_expiry::Readings;
pub use leases_seen::{AskedAt, LeasesSeen, leases_end, no_lease_is_left};
pub use liveness::{Liveness, Member, TIMEOUTS_MAX, converged};
use logs::Logs;
pub use reconfiguration::Leader;

use crate::options::Options;
use crate::time::Time;
use crate::trace::StatusLine;

/// A property that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub detail: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// Whether a property holds.
pub type Check = Result<(), Violation>;

/// A broken property.
fn broken(invariant: &'static str, detail: impl FnOnce() -> String) -> Check {
    Err(Violation { invariant, detail: detail() })
}

/// The properties that can be seen from outside, for where members' logs cannot be looked into.
#[derive(Debug, Default)]
pub struct WireInvariants {
    elections: election_safety::ElectionSafety,
    votes: vote_once::VoteOnce,
}

impl WireInvariants {
    /// A member says this to a peer. Whoever replicates in a term leads in it.
    pub fn on_send(&mut self, from: NodeId, to: NodeId, message: &Message) -> Check {
        let Message::Raft(message) = message else { return Ok(()) };
        match message.body {
            Body::VoteReply { granted: true } => self.votes.on_vote(from, to, message.term),
            Body::Append { .. } | Body::Heartbeat { .. } => self.elections.on_leader(from, message.term.0),
            _ => Ok(()),
        }
    }

    /// A member stood there, and says that it stands here.
    pub fn on_status(&mut self, before: &StatusLine, now: &StatusLine) -> Check {
        monotonic::on_status(before, now)
    }
}

/// All properties that are checked while a run goes on.
#[derive(Debug)]
pub struct Invariants {
    logs: Logs,
    elections: election_safety::ElectionSafety,
    votes: vote_once::VoteOnce,
    up_to_date: up_to_date_votes::UpToDateVotes,
    asked_around: asked_around::AskedAround,
    follows: follows_who_leads::FollowsWhoLeads,
    reads: confirmed_reads::ConfirmedReads,
    leading: leading::Leading,
    hand_over: hand_over::HandOver,
    matching: log_matching::LogMatching,
    hashes: state_hash::StateHash,
    snapshots: snapshot_equivalence::SnapshotEquivalence,
    revisions: revisions::Revisions,
    leases: lease_expiry::LeaseExpiry,
    existence: lease_existence::LeaseExistence,
    removed: removed_members::RemovedMembers,
    boots: earlier_boots::EarlierBoots,
    answered: answered::Answered,
    storm: storm::Storm,
    now: Time,
}

impl Invariants {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(options: &Options) -> Invariants {
        Invariants {
            logs: Logs::new(&options.member_ids()),
            asked_around: asked_around::AskedAround::new(options.pre_vote),
            follows: follows_who_leads::FollowsWhoLeads::default(),
            reads: confirmed_reads::ConfirmedReads::default(),
            leading: leading::Leading::new(options.election_timeout),
            elections: election_safety::ElectionSafety::default(),
            votes: vote_once::VoteOnce::default(),
            up_to_date: up_to_date_votes::UpToDateVotes::default(),
            hand_over: hand_over::HandOver::default(),
            matching: log_matching::LogMatching::default(),
            hashes: state_hash::StateHash::default(),
            snapshots: snapshot_equivalence::SnapshotEquivalence::default(),
            revisions: revisions::Revisions::default(),
            leases: lease_expiry::LeaseExpiry::default(),
            existence: lease_existence::LeaseExistence::default(),
            removed: removed_members::RemovedMembers::default(),
            boots: earlier_boots::EarlierBoots::default(),
            answered: answered::Answered::new(options.election_timeout),
            storm: storm::Storm::default(),
            now: Time::ZERO,
        }
    }

    /// A member loses power.
    pub fn on_crash(&mut self, node: NodeId) {
        self.logs.crash(node);
        self.follows.on_crash(node);
        self.reads.on_crash(node);
        self.leading.on_crash(node);
        self.on_unrest();
    }

    /// A member starts from this.
    pub fn on_start(&mut self, node: NodeId, saved: &Saved) -> Check {
        self.on_unrest();
        let before = self.logs.take(node);
        self.up_to_date.on_start(node, saved);
        self.logs.recover(node, saved)?;
        durability::after_restart(&self.logs, node, &before)?;
        self.matching.check(&self.logs, node, quorate_raft::Index(1))
    }

    /// A member, whose commit index is there, writes this. `reading` is its clock's now.
    pub fn on_write(
        &mut self,
        node: NodeId,
        write: &Write,
        commit: u64,
        leader: Leader<'_>,
        reading: impl Fn() -> u64,
    ) -> Check {
        self.up_to_date.on_write(&self.logs, node, write, leader.replica)?;
        self.logs.write(node, write)?;
        own_term::on_write(&self.logs, node, write, commit)?;
        self.leases.on_write(node, write, reading);
        self.existence.on_write(write);
        self.removed.on_write(write);
        self.boots.on_write(write);
        reconfiguration::on_write(node, write, leader)?;
        match write.entries.first() {
            Some(first) => self.matching.check(&self.logs, node, first.index),
            None => Ok(()),
        }
    }

    /// A member is told that its writes are durable.
    pub fn on_persisted(&mut self, node: NodeId, id: WriteId) {
        self.logs.persisted(node, id);
    }

    /// A member's snapshot file is complete and durable.
    pub fn on_snapshot_saved(&mut self, node: NodeId, index: u64) {
        self.logs.snapshot_saved(node, index);
    }

    /// A client's read, of this number, arrives at a member.
    pub fn on_read(&mut self, node: NodeId, number: u64, now: Time) {
        self.reads.on_read(node, number, now);
    }

    /// A client's question about a lease, of this number, arrives at a member that leads in this term.
    pub fn on_lease_asked(&mut self, node: NodeId, number: u64, term: u64, now: Time) {
        self.reads.on_lease_asked(node, number, term, now);
    }

    /// A member, which stood there before this turn, answers a client's request, well or with an error.
    pub fn on_answered(&mut self, node: NodeId, number: u64, status: &StatusLine, well: bool) -> Check {
        self.reads.on_answered(&self.logs, node, number, status, well)
    }

    /// A request that was made then is given up now, at a member that has no excuse but what happened before.
    pub fn on_silence(&self, node: NodeId, asked: Time) -> Check {
        self.answered.on_silence(node, asked, self.now)
    }

    /// Something happens that is an excuse for being slow: a fault begins or ends.
    pub fn on_unrest(&mut self) {
        self.answered.on_unrest(self.now);
    }

    /// A member says this to a peer now.
    pub fn on_send(&mut self, from: NodeId, to: NodeId, now: Time, message: &Message) -> Check {
        let Message::Raft(message) = message else { return own_revocations::on_send(from, to, message) };
        self.reads.on_send(&self.logs, from, to, now, message)?;
        self.asked_around.on_send(&self.logs, from, message)?;
        match message.body {
            Body::VoteReply { granted: true } => {
                self.votes.on_vote(from, to, message.term)?;
                durability::vote(&self.logs, from, to, message.term)
            }
            Body::Vote { last, transfer } => {
                self.up_to_date.on_ask(from, message.term, last);
                self.hand_over.on_vote(from, message.term, transfer)
            }
            Body::CampaignNow => self.hand_over.on_campaign_now(&self.logs, from, to, message.term),
            Body::AppendAck { matched, .. } => {
                durability::acknowledgement(&self.logs, from, to, message.term, matched)
            }
            _ => Ok(()),
        }
    }

    /// What one member said to another then has arrived.
    pub fn on_deliver(&mut self, from: NodeId, to: NodeId, sent: Time, now: Time, message: &Message) {
        let Message::Raft(message) = message else { return };
        self.follows.on_deliver(from, to, message);
        self.asked_around.on_deliver(from, to, message);
        self.reads.on_deliver(from, to, sent, now, message);
    }

    /// A member after a turn, by whose clock it is now.
    pub fn on_turn(&mut self, node: NodeId, replica: &Replica, line: &StatusLine, now: Instant) -> Check {
        self.follows.on_turn(node, line)?;
        self.leading.on_turn(node, replica.raft(), now)
    }

    /// A member stands here after an event; before it, it stood there. It can be looked into.
    pub fn on_status(&mut self, before: &StatusLine, now: &StatusLine, replica: &Replica) -> Check {
        let node = NodeId(now.node);
        monotonic::on_status(before, now)?;
        if (now.term, now.leader) != (before.term, before.leader) {
            self.on_unrest();
        }
        if (now.last, now.last_term) != (before.last, before.last_term) {
            self.logs.on_last(node, now);
            membership_in_force::check(&self.logs, node, replica.raft().configuration())?;
        }
        candidacy::on_status(&self.logs, before, now)?;
        own_term::on_status(&self.logs, before, now)?;
        if now.role == Role::Leader && (before.role != Role::Leader || before.term != now.term) {
            self.elections.on_leader(node, now.term)?;
            elected_by_quorum::on_leader(&self.logs, &self.votes, node, now.term)?;
            leader_completeness::on_leader(&self.logs, node, now.term)?;
        }
        self.logs.on_role(node, now);
        if now.commit > before.commit {
            let first = self.logs.chosen_len();
            state_machine_safety::on_commit(&mut self.logs, node, before.commit, now)?;
            durability::commit(&self.logs, node, first)?;
            self.leases.on_chosen(now.commit, &self.logs)?;
        }
        if now.applied > before.applied {
            let store = replica.store();
            self.hashes.on_applied(node, now.applied, store.state_hash())?;
            self.revisions.on_applied(node, before, now)?;
            self.snapshots.on_applied(node, now.applied, || store.content_hash())?;
            self.removed.on_applied(node, &self.logs, before, now)?;
            self.boots.on_applied(node, &self.logs, before, now)?;
            good_faith::after_turn(node, replica)?;
        }
        Ok(())
    }

    /// A member after its turn, in a world of so many clients.
    pub fn on_waiting(&self, node: NodeId, waiting: Waiting, askers: u64) -> Check {
        bounded::check(node, waiting, askers)
    }

    /// An event happens.
    pub fn on_event(&mut self, time: Time) -> Check {
        self.now = time;
        self.storm.on_event(time)
    }

    /// A client was told that a lease lives for so many seconds; when it asked, the clocks read this.
    pub fn on_lease_renewed(&mut self, lease: i64, ttl: i64, readings: &Readings) -> Check {
        self.leases.on_renewed(lease, ttl, readings)
    }

    /// A client that asked this then is answered now.
    pub fn on_answer(&mut self, request: &Request, asked: Time, now: Time, response: &Response) -> Check {
        self.existence.on_answer(request, asked, now, response)
    }

    /// The highest index known to be chosen.
    #[must_use]
    pub fn chosen(&self) -> u64 {
        self.logs.chosen_len()
    }
}
