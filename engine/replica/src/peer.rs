//! What replicas say to each other.

use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_raft::{Position, Term};
use quorate_store::{Key, LeaseId};
use serde::{Deserialize, Serialize};

use crate::io::{RequestId, SharedProposal};
use crate::snapshots::SnapshotChunk;

/// A message from one replica to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Between the two Rafts.
    Raft(quorate_raft::Message<SharedProposal>),
    /// A follower passes clients' commands on to the leader. There is no reply: the origin answers when
    /// it applies the command itself.
    Forward(Vec<SharedProposal>),
    /// A follower passes keep-alives on to the leader.
    KeepAlive {
        /// The follower's request.
        id: RequestId,
        /// The lease.
        lease: LeaseId,
    },
    /// The leader's answer, given after a read round confirmed that it leads.
    KeptAlive {
        /// The follower's request.
        id: RequestId,
        /// Seconds from now, zero if there is no such lease.
        ttl: i64,
    },
    /// A follower asks how long a lease still lives.
    TimeToLive {
        /// The follower's request.
        id: RequestId,
        /// The lease.
        lease: LeaseId,
        /// Whether to list its keys.
        keys: bool,
    },
    /// The leader's answer.
    TimeToLiveReply {
        /// The follower's request.
        id: RequestId,
        /// Seconds left, or -1.
        ttl: i64,
        /// Seconds granted, or 0.
        granted_ttl: i64,
        /// Its keys, if asked for.
        keys: Vec<Key>,
    },
    /// The leader streams a snapshot.
    Chunk {
        /// The leader's term.
        term: Term,
        /// A piece of it.
        chunk: Arc<SnapshotChunk>,
    },
    /// The chunk is durable; the next one may come.
    ChunkAck {
        /// The snapshot.
        position: Position,
        /// The chunk's number.
        sequence: u32,
    },
    /// To a member that runs on an older copy of its data directory: this boot of it is known, and is
    /// later than its own.
    Disowned {
        /// The latest boot that is known; `None` if its log has lost what it had acknowledged.
        boot: Option<u64>,
    },
    /// The chunk does not continue a stream that the receiver knows: begin again.
    ChunkUnknown {
        /// The snapshot.
        position: Position,
        /// The chunk's number.
        sequence: u32,
    },
}
