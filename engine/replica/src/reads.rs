//! Linearizable reads: a read round proves that the leader leads, and tells up to which index to apply.
//!
//! Everything that wants such a proof in a turn shares one round (one [`ReadId`]): queries, and on the
//! leader also keep-alives, questions for a lease's time to live, and leases whose time is up. When
//! Raft cannot tell whether a round was confirmed, its readers are asked for anew in another round.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_raft::{Index, Instant, NodeId, ReadId, Term};
use quorate_store::LeaseId;
use serde::{Deserialize, Serialize};

use crate::io::RequestId;

/// Somebody who waits for a read round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reader {
    /// A client's query.
    Query(RequestId),
    /// A question about a lease, on the leader.
    Lease(LeaseAsk),
    /// A lease whose time is up, on the leader.
    Expired(LeaseId),
}

/// A question about a lease that only the leader can answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseAsk {
    /// Who asks.
    pub(crate) asker: Asker,
    /// About which lease.
    pub(crate) lease: LeaseId,
    /// What.
    pub(crate) question: LeaseQuestion,
}

/// What is asked about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeaseQuestion {
    /// To let it live for its full time again.
    KeepAlive,
    /// How long it lives, with or without its keys.
    TimeToLive { keys: bool },
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asker {
    /// A client of this member.
    Client(RequestId),
    /// A peer, for a client of its own.
    Peer(NodeId, RequestId),
}

/// One confirmed round: its readers, and the leadership under which they asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// The term in which the round was begun.
    pub(crate) term: Term,
    /// How often leadership had changed then.
    pub(crate) epoch: u64,
    pub(crate) readers: Vec<Reader>,
}

/// The rounds of one replica.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reads {
    /// The id of the latest round.
    latest: ReadId,
    /// Will be part of the next round.
    waiting: Vec<Reader>,
    /// Handed to Raft.
    asked: BTreeMap<ReadId, Round>,
    /// Confirmed; may be answered once everything up to the index is applied.
    confirmed: BTreeMap<(Index, ReadId), Round>,
    /// No round before this: the last one was dropped although nothing is known to have changed.
    pause_until: Option<Instant>,
}

impl Reads {
    /// Lets somebody take part in the next round.
    pub(crate) fn push(&mut self, reader: Reader) {
        self.waiting.push(reader);
    }

    /// Whether anybody waits for a round.
    pub(crate) fn are_wanted(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins a round if anybody waits for one; its id is for Raft.
    pub(crate) fn begin(&mut self, now: Instant, term: Term, epoch: u64) -> Option<ReadId> {
        if self.pause_until.is_some_and(|until| now < until) || self.waiting.is_empty() {
            return None;
        }
        self.pause_until = None;
        let id = self.latest.next();
        self.latest = id;
        let readers = core::mem::take(&mut self.waiting);
        self.asked.insert(id, Round { term, epoch, readers });
        Some(id)
    }

    /// Raft has confirmed a round.
    pub(crate) fn confirm(&mut self, id: ReadId, index: Index) {
        if let Some(round) = self.asked.remove(&id) {
            self.confirmed.insert((index, id), round);
        }
    }

    /// Raft has lost track of a round.
    pub(crate) fn drop_round(&mut self, id: ReadId) -> Option<Round> {
        self.asked.remove(&id)
    }

    /// No new round before `until`.
    pub(crate) fn pause(&mut self, until: Instant) {
        self.pause_until = Some(until);
    }

    /// Leadership is known anew: a pause has no point.
    pub(crate) fn resume(&mut self) {
        self.pause_until = None;
    }

    /// The next round that may be answered by a member that has applied everything up to `applied`.
    pub(crate) fn pop_confirmed(&mut self, applied: Index) -> Option<Round> {
        let first = self.confirmed.first_entry()?;
        (first.key().0 <= applied).then(|| first.remove())
    }

    /// When a round that was put off shall begin.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pause_until.filter(|_| !self.waiting.is_empty())
    }
}
