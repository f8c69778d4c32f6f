//! What members say to each other.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::types::{Index, Position, ReadId, Term};

/// A message between two Rafts: the sender's term, and what it says.
///
/// Messages may be lost, delayed, duplicated and reordered; a receiver must survive any of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<C> {
    /// The sender's current term (for pre-votes, the term it would campaign in).
    pub term: Term,
    /// What it says.
    pub body: Body<C>,
}

/// What a message says. The raft crate's owner of this file refines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<C> {
    /// A member whose election timeout ran out asks whether it could win; changes no one's state.
    PreVote {
        /// The asker's last entry.
        last: Position,
    },
    /// The answer to `PreVote`.
    PreVoteReply {
        /// Whether the answerer would vote for the asker.
        granted: bool,
    },
    /// A candidate asks for a vote (Raft §5.2).
    Vote {
        /// The candidate's last entry.
        last: Position,
    },
    /// The answer to `Vote`, sent only when the vote is durable.
    VoteReply {
        /// Whether the candidate got the vote.
        granted: bool,
    },
    /// The leader replicates entries (Raft §5.3).
    Append {
        /// The entry before the first one here.
        previous: Position,
        /// Consecutive entries, possibly none.
        entries: Vec<Entry<C>>,
        /// The leader's commit index.
        commit: Index,
        /// The newest read round that this message may confirm.
        round: u64,
    },
    /// A follower holds the leader's log up to `matched`, durably.
    AppendAck {
        /// Everything up to here equals the leader's log and is on the follower's disk.
        matched: Index,
        /// The read round being confirmed.
        round: u64,
    },
    /// A follower's log does not contain `previous`.
    AppendReject {
        /// The `previous.index` that was refused.
        rejected: Index,
        /// Where the logs may agree at the latest.
        hint: Position,
        /// The read round being confirmed all the same.
        round: u64,
    },
    /// The leader is alive, and asks for confirmation that it still leads.
    Heartbeat {
        /// Capped so that the receiver is known to hold it.
        commit: Index,
        /// The newest read round.
        round: u64,
    },
    /// The receiver of a heartbeat still follows this leader.
    HeartbeatAck {
        /// The read round being confirmed.
        round: u64,
    },
    /// A follower asks the leader for a read index.
    ReadIndex {
        /// The follower's id for this batch of reads.
        id: ReadId,
    },
    /// The leader's answer, after a quorum confirmed that it leads.
    ReadIndexReply {
        /// The follower's id.
        id: ReadId,
        /// The read index.
        index: Index,
    },
}
