//! Linearizable reads without log entries (thesis §6.4).
//!
//! A leader may answer a read from its state machine if, *after* the read arrived, a quorum confirmed
//! that it still leads, and everything committed when the read arrived has been applied. So:
//!
//! - Reads of one turn start one *round*: they share the commit index as their read index, and the
//!   round's number travels on the next message to every voter, which echoes it. An echo of a number
//!   confirms that round and all before it, never one after it.
//! - A new leader does not know what its predecessors committed until an entry of its own term is
//!   committed; until then reads are held, and no round starts.
//! - A follower asks its leader, which treats the question as a read of its own, and serves its reads
//!   from its own state machine at the index in the answer.
//! - When the leader or the term changes, everything that waits is dropped; the owner asks again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::{Index, Instant, NodeId, ReadId};

/// Who waits for a leader's confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reader {
    /// The owner of this Raft.
    Local(ReadId),
    /// A follower, and the number of its request.
    Peer(NodeId, u64),
}

/// A leader's reads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reads {
    /// The number of the newest round; zero before the first.
    newest: u64,
    /// Readers whose round has not started.
    waiting: Vec<Reader>,
    /// Rounds that are not confirmed, oldest first.
    rounds: VecDeque<Round>,
    /// How many readers wait, in `waiting` and `rounds` together.
    count: usize,
}

/// Reads that share one confirmation.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Round {
    number: u64,
    index: Index,
    readers: Vec<Reader>,
}

impl Reads {
    /// The number of the newest round.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// How many readers wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether there are rounds to confirm.
    pub(crate) fn has_rounds(&self) -> bool {
        !self.rounds.is_empty()
    }

    /// One more reader, for the next round.
    pub(crate) fn join(&mut self, reader: Reader) {
        self.waiting.push(reader);
        self.count += 1;
    }

    /// Starts a round for the readers that wait, if any, at this commit index.
    pub(crate) fn start_round(&mut self, commit: Index) {
        if self.waiting.is_empty() {
            return;
        }
        self.newest += 1;
        let readers = mem::take(&mut self.waiting);
        self.rounds.push_back(Round { number: self.newest, index: commit, readers });
    }

    /// Begins a round in which nobody waits: its number was never heard of before now, so whoever echoes it
    /// speaks of the present.
    pub(crate) fn open_round(&mut self) {
        self.newest += 1;
    }

    /// The next round that is confirmed now that a quorum has echoed `confirmed`: its readers, and
    /// their read index.
    pub(crate) fn next_confirmed(&mut self, confirmed: u64) -> Option<(Index, Vec<Reader>)> {
        if self.rounds.front()?.number > confirmed {
            return None;
        }
        let round = self.rounds.pop_front()?;
        self.count -= round.readers.len();
        Some((round.index, round.readers))
    }

    /// The owner's reads among those that wait, to be dropped because this member leads no more.
    /// (Followers notice for themselves.)
    pub(crate) fn into_local(self) -> impl Iterator<Item = ReadId> {
        let started = self.rounds.into_iter().flat_map(|round| round.readers);
        started.chain(self.waiting).filter_map(|reader| match reader {
            Reader::Local(id) => Some(id),
            Reader::Peer(..) => None,
        })
    }
}

/// A follower's reads: questions to the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Questions {
    /// Requests are numbered from here on. Random, so that the answer to a request of an earlier
    /// incarnation of this follower is not taken for an answer to one of this.
    base: u64,
    /// The number of the newest request.
    newest: u64,
    /// Reads without an answer, each with the request it first went with, oldest first.
    pending: VecDeque<(u64, ReadId)>,
    /// Reads joined since the last request.
    fresh: bool,
    /// When to ask again if there is no answer.
    retry_at: Instant,
}

impl Questions {
    /// No questions yet; `nonce` must be random.
    pub(crate) fn new(nonce: u64) -> Questions {
        let base = nonce / 2; // Leaves room to count.
        let pending = VecDeque::new();
        Questions { base, newest: base, pending, fresh: false, retry_at: Instant::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// One more read, for the next request.
    pub(crate) fn join(&mut self, id: ReadId) {
        self.pending.push_back((self.newest + 1, id));
        self.fresh = true;
    }

    /// The request to send now, if any. A repeated request covers all reads without an answer,
    /// because an index found later serves earlier reads as well.
    pub(crate) fn next_request(&mut self, now: Instant, retry: Duration) -> Option<u64> {
        if self.fresh {
            self.newest += 1;
            self.fresh = false;
        } else if self.retry_at().is_none_or(|at| now < at) {
            return None;
        }
        self.retry_at = now + retry;
        Some(self.newest)
    }

    /// When to ask again, if anything waits.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        (!self.pending.is_empty()).then_some(self.retry_at)
    }

    /// The next read that the answer to `request` serves.
    pub(crate) fn next_answered(&mut self, request: u64) -> Option<ReadId> {
        let ours = self.base < request && request <= self.newest;
        if !ours || self.pending.front()?.0 > request {
            return None;
        }
        self.pending.pop_front().map(|(_, id)| id)
    }

    /// All reads that wait, to be dropped.
    pub(crate) fn into_ids(self) -> impl Iterator<Item = ReadId> {
        self.pending.into_iter().map(|(_, id)| id)
    }
}
