//! The boundary of a [`Replica`](crate::Replica): everything that can happen to it, and everything it
//! asks for.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use quorate_raft::{Entry, HardState, Index, NodeId, SnapshotMeta, Term, WriteId};
use quorate_store::{Command, Key, LeaseId, Query, Revision, WatchId, WatchRequest, WatchUpdate};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::peer::Message;
use crate::snapshots::SnapshotChunk;
use crate::status::Status;

/// A request of this member's, unique for ever: the boot number makes it so across restarts, the
/// sequence within one. Ids are given out in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// How many times this member has started.
    pub boot: u64,
    /// Counts requests since then, from one. The upper half of the numbers ([`RequestId::OWN_FROM`])
    /// is for commands that the replica makes up itself.
    pub sequence: u64,
}

impl RequestId {
    /// From here on, sequences belong to a replica's own commands: those that revoke leases and raise
    /// alarms. Clients' requests stay below.
    pub const OWN_FROM: u64 = 1 << 63;

    /// The id of a replica's own command.
    #[must_use]
    pub(crate) const fn own(boot: u64, count: u64) -> RequestId {
        RequestId { boot, sequence: RequestId::OWN_FROM | count }
    }

    /// Whether this is a command that a replica made up itself, so that no client waits for it.
    #[must_use]
    pub const fn is_own(self) -> bool {
        self.sequence >= RequestId::OWN_FROM
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = if self.is_own() { "own-" } else { "" };
        write!(f, "{}.{own}{}", self.boot, self.sequence & !RequestId::OWN_FROM)
    }
}

/// What the log carries: a command, and who waits for it.
///
/// The pair of `origin` and `id` lets every member recognise a command that arrives twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The member that took the request.
    pub origin: NodeId,
    /// Its number there.
    pub id: RequestId,
    /// What to do.
    pub command: Command,
}

/// A proposal as Raft carries it: shared by the log, the disk task, every peer's task and `apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedProposal(pub Arc<Proposal>);

impl SharedProposal {
    /// A proposal that nobody shares yet.
    #[must_use]
    pub fn new(origin: NodeId, id: RequestId, command: Command) -> SharedProposal {
        SharedProposal(Arc::new(Proposal { origin, id, command }))
    }
}

/// Everything that can happen to a replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// A client asks for something. Exactly one `Output::Respond` with this id follows, unless `Cancel`
    /// comes first.
    Request {
        /// Its number, greater than any before.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// The client has gone; its answer is not wanted any more (the command may still commit).
    Cancel {
        /// The request.
        id: RequestId,
    },
    /// A peer's message, decoded and therefore well formed.
    Message {
        /// The peer.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Every write up to and including this one is on stable storage.
    Persisted(WriteId),
    /// The snapshot file that this chunk belongs to is durable up to and including the chunk; for the
    /// last chunk, the file has its final name.
    SnapshotSaved {
        /// What the file covers.
        position: quorate_raft::Position,
        /// The chunk's number.
        sequence: u32,
    },
    /// A client watches.
    Watch {
        /// The watcher's number, never used before.
        watch: WatchId,
        /// What it wants.
        request: WatchRequest,
    },
    /// The watcher can take so many more events.
    Credit {
        /// The watcher.
        watch: WatchId,
        /// How many.
        events: u32,
    },
    /// The watcher wants to know how far it is.
    Progress {
        /// The watcher.
        watch: WatchId,
    },
    /// The watcher is gone.
    CancelWatch {
        /// The watcher.
        watch: WatchId,
    },
    /// `deadline()` has passed; nothing else happened.
    Wake,
}

/// What a client can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A question to the store.
    Query {
        /// The question.
        query: Query,
        /// How fresh the answer must be.
        consistency: Consistency,
    },
    /// A change.
    Command(Command),
    /// Lets a lease live for its full time again. The answer has a TTL of zero if there is no such lease.
    KeepAlive(LeaseId),
    /// How long a lease still lives: only the leader knows.
    TimeToLive {
        /// The lease.
        id: LeaseId,
        /// Whether to list its keys.
        keys: bool,
    },
    /// Makes another member the leader: this voter, or whichever has caught up best. Only the leader can. The
    /// answer comes when that member leads.
    MoveLeader {
        /// Who shall lead.
        to: Option<u64>,
    },
    /// A data directory wants to be the member with these peer URLs, for `Response::Joined`: the
    /// command `MemberJoin` with an id that has not been used yet.
    Join {
        /// The directory's number.
        owner: u64,
        /// The name it was started with.
        name: String,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
    },
    /// How this member is.
    Status,
}

/// How fresh the answer to a query must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// It reflects everything that was acknowledged anywhere before the question was asked.
    Linearizable,
    /// It is some earlier state, whatever this member has applied.
    Serializable,
}

/// The answer to a request, with what etcd's response header needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The store's revision when the answer was made.
    pub revision: Revision,
    /// The term of this member then.
    pub term: Term,
    /// The answer.
    pub body: Body,
}

/// The answer proper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// To a command or a query.
    Store(quorate_store::Response),
    /// To a keep-alive.
    KeptAlive {
        /// The lease.
        id: LeaseId,
        /// Its time to live in seconds from now, or zero if there is no such lease.
        ttl: i64,
    },
    /// To a question for the time to live.
    TimeToLive {
        /// The lease.
        id: LeaseId,
        /// Seconds left, or -1 if there is no such lease.
        ttl: i64,
        /// Seconds granted, or 0.
        granted_ttl: i64,
        /// Its keys, if asked for.
        keys: Vec<Key>,
    },
    /// To `Request::MoveLeader`.
    LeaderMoved {
        /// Who leads now.
        leader: NodeId,
    },
    /// To `Request::Status`.
    Status(Box<Status>),
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The store refused; nothing changed.
    #[error(transparent)]
    Store(#[from] quorate_store::Error),
    /// There was no leader for the whole time that a request may wait; nothing is known to have changed.
    #[error("no leader")]
    NoLeader,
    /// It took too long. A command may still take effect.
    #[error("request timed out")]
    Timeout,
    /// It took too long, and the leader changed meanwhile. A command may still take effect.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderChanged,
    /// Too many requests wait already; nothing changed.
    #[error("too many requests")]
    TooManyRequests,
    /// Only the leader can do this.
    #[error("not leader")]
    NotLeader,
    /// Who shall lead is no voter, or there is no other.
    #[error("bad leader transferee")]
    BadTransferee,
    /// The new leader has not come up in time; the old one may lead on.
    #[error("request timed out, leader transfer took too long")]
    TimeoutTransfer,
    /// The member is stopping, or is none any more. A command may still take effect.
    #[error("server stopped")]
    Stopped,
}

/// Everything a replica asks of the outside. Each may be carried out at once, in any order relative to
/// other kinds; within one kind (and one peer) in the order polled.
#[derive(Clone, Debug)]
pub enum Output {
    /// Tell a peer. It may be lost.
    Send {
        /// The peer.
        to: NodeId,
        /// What to say.
        message: Message,
    },
    /// Write to the log; `Input::Persisted` follows when it is durable.
    Persist(Write),
    /// Write the next chunk of a snapshot file; `Input::SnapshotSaved` follows. Chunk zero begins a
    /// new file (and abandons an unfinished one); after the last chunk the file gets its final name, and
    /// log entries up to `keep_after` may be dropped from the disk.
    SaveSnapshot {
        /// The chunk.
        chunk: Arc<SnapshotChunk>,
        /// What the log need not keep once the file is complete.
        keep_after: Index,
    },
    /// Answer a request.
    Respond {
        /// Which.
        id: RequestId,
        /// The answer.
        result: Result<Response, Error>,
    },
    /// Tell a watcher.
    Watch {
        /// Which.
        watch: WatchId,
        /// What.
        update: WatchUpdate,
    },
    /// These are the others, with their peer URLs: what is applied, and whoever a change that is still on its way
    /// would add or remove. Told at the start, and whenever it changes.
    Peers(Vec<(NodeId, Vec<String>)>),
    /// This member has been removed from the cluster. It is to end, and never to come back under this id.
    Removed,
    /// This member's data directory is an older copy of one that has since been in use: what the newer one has promised
    /// is not known here. It is to end, and its directory may only join anew. No further output follows.
    Disowned,
    /// Role, term, leader, quorum or membership changed: for logs, metrics, health.
    Changed(Box<Status>),
}

/// One batch for the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Consecutive, from one.
    pub id: WriteId,
    /// The term, vote and commit index, if any of them changed.
    pub hard_state: Option<HardState>,
    /// Consecutive entries; one at an index that is already in the log replaces it and all after it.
    pub entries: Vec<Entry<SharedProposal>>,
    /// False when only the commit index moved, so that the write may stay in the page cache.
    pub sync: bool,
}

/// A member that the cluster began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// Its id.
    pub id: NodeId,
    /// The number of its data directory, never zero.
    pub owner: u64,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
}

/// What a restarted member finds on its disk.
#[derive(Debug)]
pub struct Saved {
    /// The members that the cluster began with, the same at every member and for ever: from them follow the members
    /// and Raft's configuration at position zero.
    pub genesis: Vec<Founder>,
    /// How many times the member has started, this time included; made durable before anything else.
    pub boot: u64,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// What the newest valid snapshot covers. (At position zero, the genesis says what the configuration is.)
    pub snapshot: SnapshotMeta,
    /// Its chunks; none at position zero.
    pub chunks: Vec<SnapshotChunk>,
    /// The log after the snapshot.
    pub entries: Vec<Entry<SharedProposal>>,
}
