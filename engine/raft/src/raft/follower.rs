//! A follower: takes entries from the leader, and acknowledges them when they are durable.

use alloc::vec::Vec;
use core::mem;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Raft, State};
use crate::entry::{Command, Entry};
use crate::io::{Output, SnapshotMeta};
use crate::message::Body;
use crate::reads::Questions;
use crate::types::{Index, Instant, NodeId, Position, ReadId, Term};

/// What belongs to a follower. Begins anew with every term and every leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Follower {
    /// The leader of the current term, if known.
    pub(super) leader: Option<NodeId>,
    /// When it was last heard of.
    pub(super) contact: Instant,
    /// When to start an election, unless the leader is heard of before.
    pub(super) election_at: Instant,
    /// The log equals the leader's up to here, durable or not. What is committed always does.
    matched: Index,
    /// The newest read round of the leader that was heard of, and the newest confirmed.
    round: u64,
    round_confirmed: u64,
    /// An append taught us something that is not yet wholly acknowledged.
    unanswered: bool,
    /// Entries have become durable since the last acknowledgement was considered.
    pub(super) disk_moved: bool,
    /// This member's own reads.
    pub(super) questions: Questions,
}

impl Follower {
    pub(super) fn new(
        leader: Option<NodeId>,
        now: Instant,
        election_at: Instant,
        commit: Index,
        nonce: u64,
    ) -> Follower {
        Follower {
            leader,
            contact: now,
            election_at,
            matched: commit,
            round: 0,
            round_confirmed: 0,
            unanswered: false,
            disk_moved: false,
            questions: Questions::new(nonce),
        }
    }

    /// Takes a read, if there is a leader to ask and room to wait.
    pub(super) fn join_read(&mut self, id: ReadId, reads_max: usize) -> bool {
        let room = self.leader.is_some() && self.questions.len() < reads_max;
        if room {
            self.questions.join(id);
        }
        room
    }
}

impl<C: Command> Raft<C> {
    pub(super) fn become_follower(&mut self, leader: Option<NodeId>, election_at: Instant) {
        let follower = self.new_follower(leader, election_at);
        self.become_state(State::Follower(follower));
    }

    pub(super) fn new_follower(&mut self, leader: Option<NodeId>, election_at: Instant) -> Follower {
        Follower::new(leader, self.now, election_at, self.log.commit(), self.random.next_u64())
    }

    /// Takes note of a sign of life from the leader of the current term; whoever was a candidate has
    /// lost. `None` if the sender cannot be the leader: then this member knows better.
    fn hear_leader(&mut self, from: NodeId) -> Option<&mut Follower> {
        match &self.state {
            State::Follower(Follower { leader: Some(leader), .. }) if *leader != from => return None,
            State::Leader(_) => return None,
            State::Follower(Follower { leader: Some(_), .. }) => {}
            _ => {
                let election_at = self.now;
                self.become_follower(Some(from), election_at);
            }
        }
        // A learner never gave anybody its vote. If it becomes a voter in this term, and restarts, it must not
        // help somebody else to win the same term.
        if self.vote.is_none() && !self.is_voter() {
            self.vote_for(from);
        }
        let election_at = self.random_election_at();
        let State::Follower(follower) = &mut self.state else { unreachable!("became a follower") };
        follower.contact = self.now;
        follower.election_at = election_at;
        Some(follower)
    }

    /// Raft figure 2, AppendEntries.
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        previous: Position,
        entries: Vec<Entry<C>>,
        commit: Index,
        round: u64,
    ) {
        let Some(follower) = self.hear_leader(from) else { return };
        let matched = follower.matched;
        // What is committed here is in every later leader's log, even if it was forgotten here.
        if previous.index > self.log.commit() && !self.log.contains(previous) {
            let hint = self.log.common_at_most(previous);
            return self.send(from, Body::AppendReject { rejected: previous.index, hint, round });
        }
        let has_entries = !entries.is_empty();
        let last_new = entries.last().map_or(previous.index, |entry| entry.index);
        self.merge(matched, entries);
        let last_new = last_new.min(self.log.last().index);
        // Not further than this message goes: what follows in our log may not be the leader's.
        self.log.commit_to(commit.min(last_new));
        let State::Follower(follower) = &mut self.state else { unreachable!("just heard the leader") };
        follower.unanswered |= has_entries || last_new > follower.matched;
        follower.matched = follower.matched.max(last_new);
        follower.round = follower.round.max(round);
    }

    /// Adds the leader's entries to a log that contains their predecessor, but for those `matched`
    /// already. Only an entry that conflicts truncates: the message may be old, and the log may rightly
    /// be longer.
    fn merge(&mut self, matched: Index, entries: Vec<Entry<C>>) {
        for entry in entries {
            if entry.index <= matched || self.log.contains(entry.position()) {
                continue;
            }
            // No leader's log has decreasing terms.
            if self.log.term_at(entry.index.prev()).is_none_or(|term| term > entry.term) {
                return;
            }
            if entry.index <= self.log.last().index {
                self.log.truncate(entry.index);
                self.memberships.on_truncate(entry.index);
            }
            self.append(entry);
        }
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, commit: Index, round: u64) {
        let Some(follower) = self.hear_leader(from) else { return };
        // The leader has capped it by what it knows of us; whether that still holds we know better.
        let commit = commit.min(follower.matched);
        follower.round_confirmed = follower.round_confirmed.max(round);
        let matched = follower.matched.min(self.log.persisted());
        self.log.commit_to(commit);
        self.send(from, Body::HeartbeatAck { matched, round });
    }

    pub(super) fn on_snapshot_received(&mut self, from: NodeId, term: Term, meta: SnapshotMeta) {
        self.maybe_step_down(term);
        if term == self.term {
            // A sign of life, no more: whatever term it is from, what it covers is committed.
            let _ = self.hear_leader(from);
        }
        let position = meta.position;
        let State::Follower(_) = self.state else { return };
        if position.term > self.term {
            return; // No leader's log has entries of a later term.
        }
        if position.index > self.log.commit() {
            if self.log.contains(position) {
                // The entries after it may be acknowledged: they stay.
                self.log.commit_to(position.index);
                self.log.on_snapshot(position.index);
            } else {
                self.log.restore(position);
                self.memberships.restore(position.index, meta.configuration.clone());
                self.outputs.push_back(Output::Restore(meta));
            }
        }
        let State::Follower(follower) = &mut self.state else { return };
        follower.matched = follower.matched.max(self.log.commit()).min(self.log.last().index);
        follower.unanswered = true;
    }

    pub(super) fn on_read_index_reply(&mut self, from: NodeId, request: u64, index: Index) {
        let State::Follower(follower) = &mut self.state else { return };
        if follower.leader != Some(from) {
            return;
        }
        while let Some(id) = follower.questions.next_answered(request) {
            self.outputs.push_back(Output::ReadReady { id, index });
        }
    }

    /// What a follower owes its leader at the end of a turn: one acknowledgement for all appends, and
    /// one question for all reads.
    pub(super) fn follow(&mut self) {
        let State::Follower(follower) = &mut self.state else { return };
        let Some(leader) = follower.leader else { return };
        // Durable, and therefore what the leader may count.
        let durable = follower.matched.min(self.log.persisted());
        let all = durable == follower.matched;
        let disk_moved = mem::take(&mut follower.disk_moved);
        let confirms = follower.round > follower.round_confirmed;
        let acknowledges = follower.unanswered && (all || disk_moved);
        let request = follower.questions.next_request(self.now, self.config.heartbeat_interval);
        let round = follower.round;
        // While the term is not durable, an acknowledgement would only be held: make it later.
        if (confirms || acknowledges) && self.disk.vote_is_durable() {
            follower.round_confirmed = round;
            follower.unanswered &= !all;
            self.send(leader, Body::AppendAck { matched: durable, round });
        }
        if let Some(request) = request {
            self.send(leader, Body::ReadIndex { request });
        }
    }
}
