//! A leader: replicates its log, commits what a quorum holds, and confirms reads.

use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use super::transfer::Transfer;
use super::{PeerState, Raft, State};
use crate::entry::{Command, Configuration, Entry, Payload};
use crate::few::NodeMap;
use crate::io::Output;
use crate::log::Log;
use crate::message::{Body, Message};
use crate::progress::{Doubt, Need, Progress};
use crate::reads::{Reader, Reads};
use crate::types::{Index, Instant, NodeId, Position, ReadId, Term};

/// What belongs to a leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Leader {
    /// Everybody else who receives the log.
    pub(super) peers: NodeMap<Progress>,
    /// Those of them who are no members any more, and until when they are told; none: until an election timeout
    /// after that is committed.
    pub(super) leaving: Vec<(NodeId, Option<Instant>)>,
    /// Where the configuration is that `peers` follow.
    pub(super) synced: Option<Index>,
    /// The term of this leadership.
    pub(super) term: Term,
    /// The no-op that began it.
    pub(super) first: Index,
    /// To whom it is being handed over.
    pub(super) transfer: Option<Transfer>,
    /// When to send the next heartbeats.
    heartbeat_at: Instant,
    /// It is time for them.
    heartbeat_due: bool,
    /// The earliest time until which something is held back from a peer.
    held_until: Option<Instant>,
    reads: Reads,
}

impl Leader {
    /// When there is something to do even if nothing happens. A leader without peers sleeps.
    pub(super) fn heartbeat_at(&self) -> Option<Instant> {
        (!self.peers.is_empty()).then_some(self.heartbeat_at)
    }

    /// Everybody else who receives the log, and what is known of them.
    pub(super) fn peers(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.peers.iter()
    }

    /// When to send what is held back.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// The latest time by which a quorum had been heard of.
    pub(super) fn quorum_contact(&self, configuration: &Configuration, own: NodeId, now: Instant) -> Instant {
        let contact =
            |id| if id == own { now.0 } else { self.peers.get(id).map_or(0, |peer| peer.contact.0) };
        Instant(configuration.agreed(contact))
    }

    /// Takes a read, if there is room to wait.
    pub(super) fn join_read(&mut self, id: ReadId, reads_max: usize) -> bool {
        let room = self.reads.len() < reads_max;
        if room {
            self.reads.join(Reader::Local(id));
        }
        room
    }

    /// The owner's reads that wait.
    pub(super) fn into_reads(self) -> impl Iterator<Item = ReadId> {
        self.reads.into_local()
    }
}

impl<C: Command> Raft<C> {
    pub(super) fn become_leader(&mut self) {
        assert!(self.term.0 > 0, "nobody leads before the first election");
        assert!(self.vote == Some(self.config.id), "a leader voted for itself");
        assert!(self.disk.vote_is_durable(), "a leader's own vote is durable");
        let first = self.log.last().index.next();
        self.become_state(State::Leader(Leader {
            peers: NodeMap::new(),
            leaving: Vec::new(),
            synced: None,
            term: self.term,
            first,
            transfer: None,
            heartbeat_at: self.now + self.config.heartbeat_interval,
            heartbeat_due: false,
            held_until: None,
            reads: Reads::default(),
        }));
        self.sync_peers();
        // An entry of its own term, by which to commit what predecessors left (Raft §8, §5.4.2).
        self.append(Entry { term: self.term, index: first, payload: Payload::Noop });
    }

    /// Appends, and nothing else: everything proposed in a turn leaves together at its end.
    pub(super) fn on_propose(&mut self, command: C) {
        // One that hands over takes nothing more, so that its successor can catch up.
        if !matches!(&self.state, State::Leader(leader) if leader.transfer.is_none()) {
            return self.outputs.push_back(Output::Refused(command));
        }
        let index = self.log.last().index.next();
        self.append(Entry { term: self.term, index, payload: Payload::Command(command) });
    }

    /// Heartbeats; and a leader that has lost its quorum steps down, so that its clients look for
    /// another, and its own vote is free for one.
    pub(super) fn on_leader_wake(&mut self) {
        self.maybe_end_transfer();
        let State::Leader(leader) = &mut self.state else { return };
        if self.now < leader.heartbeat_at {
            return;
        }
        leader.heartbeat_at = self.now + self.config.heartbeat_interval;
        leader.heartbeat_due = true;
        if !self.hears_from_leadership() {
            let election_at = self.random_election_at();
            self.become_follower(None, election_at);
        }
    }

    pub(super) fn on_append_ack(&mut self, from: NodeId, matched: Index, round: u64) {
        let Some((peer, log)) = self.hear_peer(from, round, matched) else { return };
        peer.on_ack(matched, log);
    }

    pub(super) fn on_heartbeat_ack(&mut self, from: NodeId, matched: Index, round: u64) {
        let Some((peer, log)) = self.hear_peer(from, round, matched) else { return };
        peer.on_heartbeat_ack(matched, log);
    }

    pub(super) fn on_append_reject(&mut self, from: NodeId, rejected: Index, hint: Position, round: u64) {
        let Some((peer, log)) = self.hear_peer(from, round, Index(0)) else { return };
        match peer.on_reject(rejected, hint, round, log) {
            Doubt::None => {}
            Doubt::Suspect => {
                let State::Leader(leader) = &mut self.state else { return };
                leader.reads.open_round();
            }
            Doubt::Lost { had, has } => self.outputs.push_back(Output::PeerLostLog { peer: from, had, has }),
        }
    }

    /// Takes note of a sign of life from a follower of this term, and of the read round it confirms.
    fn hear_peer(&mut self, from: NodeId, round: u64, matched: Index) -> Option<(&mut Progress, &Log<C>)> {
        let State::Leader(leader) = &mut self.state else { return None };
        // A follower cannot hold, or have heard, what we never said.
        if matched > self.log.last().index || round > leader.reads.newest() {
            return None;
        }
        // One that has forgotten what it said may have forgotten a vote as well.
        let peer = leader.peers.get_mut(from).filter(|peer| peer.state() != PeerState::Lost)?;
        peer.contact = self.now;
        peer.round = peer.round.max(round);
        Some((peer, &self.log))
    }

    /// A follower asks for a read index.
    pub(super) fn on_read_index(&mut self, from: NodeId, request: u64) {
        let State::Leader(leader) = &mut self.state else { return };
        // If there is no room, the follower asks again.
        if leader.peers.get(from).is_some() && leader.reads.len() < self.config.reads_max {
            leader.reads.join(Reader::Peer(from, request));
        }
    }

    pub(super) fn on_snapshot_failed(&mut self, to: NodeId) {
        let State::Leader(leader) = &mut self.state else { return };
        if let Some(peer) = leader.peers.get_mut(to) {
            peer.on_snapshot_failed();
        }
    }

    /// What a leader does at the end of a turn, with what is committed and the configuration in force up to date.
    pub(super) fn lead(&mut self) {
        self.sync_peers();
        let State::Leader(leader) = &mut self.state else { return };
        // What predecessors committed is known only once an entry of this term is committed.
        if self.log.commit() >= leader.first {
            leader.reads.start_round(self.log.commit());
        }
        let heartbeat_due = mem::take(&mut leader.heartbeat_due);
        self.replicate(heartbeat_due);
        self.maybe_ask_transferee(heartbeat_due);
        self.maybe_resign();
    }

    /// Raft figure 2: an index is committed if a quorum holds it durably *and* its entry is of the
    /// current term (§5.4.2, figure 8). Our own disk counts like any other.
    pub(super) fn advance_commit(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        if self.log.commit() == self.log.last().index {
            return;
        }
        let matched = |id| {
            let peer = leader.peers.get(id).map_or(Index(0), |peer| peer.matched);
            if id == self.config.id { self.log.persisted().0 } else { peer.0 }
        };
        let agreed = Index(self.configuration().agreed(matched));
        if agreed > self.log.commit() && self.log.term_at(agreed) == Some(self.term) {
            self.log.commit_to(agreed);
        }
    }

    /// Tells every peer what it needs: entries, commits, read rounds, a sign of life.
    fn replicate(&mut self, heartbeat_due: bool) {
        let State::Leader(leader) = &mut self.state else { return };
        let configuration = self.memberships.latest();
        let round = leader.reads.newest();
        leader.held_until = None;
        for (to, peer) in leader.peers.iter_mut() {
            while let Some(need) = peer.next_need(&self.log, &self.config, round, self.now) {
                self.outputs.push_back(match need {
                    Need::Append(body) => Output::Send { to, message: Message { term: self.term, body } },
                    Need::Snapshot => Output::SnapshotNeeded { to },
                });
            }
            leader.held_until = [leader.held_until, peer.held_until].into_iter().flatten().min();
            // A learner's confirmation is worth nothing.
            let round_due = peer.round_sent < round && configuration.is_voter(to);
            if heartbeat_due || round_due {
                peer.round_sent = round;
                let body = Body::Heartbeat { commit: self.log.commit().min(peer.matched), round };
                self.outputs.push_back(Output::Send { to, message: Message { term: self.term, body } });
            }
        }
    }

    /// Answers the reads whose round a quorum has confirmed.
    pub(super) fn answer_reads(&mut self) {
        let State::Leader(leader) = &mut self.state else { return };
        if !leader.reads.has_rounds() {
            return;
        }
        let own = self.config.id;
        let round = |id| if id == own { u64::MAX } else { leader.peers.get(id).map_or(0, |peer| peer.round) };
        let confirmed = self.memberships.latest().agreed(round);
        while let Some((index, readers)) = leader.reads.next_confirmed(confirmed) {
            for reader in readers {
                self.outputs.push_back(match reader {
                    Reader::Local(id) => Output::ReadReady { id, index },
                    Reader::Peer(to, request) => Output::Send {
                        to,
                        message: Message { term: self.term, body: Body::ReadIndexReply { request, index } },
                    },
                });
            }
        }
    }
}
