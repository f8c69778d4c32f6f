//! Everything that can happen to a [`Raft`](crate::Raft), and everything it asks for.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::entry::{Configuration, Entry};
use crate::membership::{Change, ChangeError};
use crate::message::Message;
use crate::types::{Index, NodeId, Position, ReadId, Term, WriteId};

/// Everything that can happen to a Raft.
#[derive(Clone, Debug)]
pub enum Input<C> {
    /// The owner wants `C` in the log. A leader appends it; anybody else answers with
    /// [`Output::Refused`], so the owner had better look at `status().role` first.
    Propose(C),
    /// The owner wants other members. A leader appends the resulting configuration, which is in force at once,
    /// together with `C`, which comes out with [`Output::Committed`]; or answers with
    /// [`Output::ChangeRefused`]. More than one voter at a time changes by a joint configuration, which the
    /// leader ends by itself.
    ChangeMembership {
        /// What to change, in this order, all in one step.
        changes: Vec<Change>,
        /// What the owner's state machine makes of it.
        command: C,
    },
    /// The owner, who leads, wants another to lead: this voter, or whichever is furthest. Proposals are refused
    /// until [`Output::TransferEnded`].
    Transfer {
        /// Who shall lead.
        to: Option<NodeId>,
    },
    /// The owner wants to read. [`Output::ReadReady`] or [`Output::ReadDropped`] with this id follows.
    /// Ids must not be used twice by one `Raft`.
    Read(ReadId),
    /// A peer's message.
    Message {
        /// The peer.
        from: NodeId,
        /// What it says.
        message: Message<C>,
    },
    /// Every write up to and including this one is on stable storage.
    Persisted(WriteId),
    /// The owner has a durable snapshot of everything up to its position; the log need not be kept
    /// up to (and including) `keep_after`, which is at most the snapshot's index.
    SnapshotTaken {
        /// What the snapshot covers.
        meta: SnapshotMeta,
        /// Entries at or below this index may be forgotten.
        keep_after: Index,
    },
    /// The owner can do without the entries up to this index: it has applied them, they are durable, and a peer
    /// that needs them can be sent a snapshot instead. Memory is freed; the disk keeps what it has until a
    /// snapshot is taken. What is not yet applied or durable is kept all the same.
    Forget(Index),
    /// A whole snapshot, streamed by `from` (the leader of `term`), is durable here. Raft decides
    /// whether it is news: [`Output::Restore`] follows if it holds what the log does not. In any case
    /// the present leader is told what this member has.
    SnapshotReceived {
        /// Who sent it.
        from: NodeId,
        /// The sender's term when it began to send.
        term: Term,
        /// What it covers.
        meta: SnapshotMeta,
    },
    /// Streaming a snapshot to this peer has ended without success, for whatever reason (the peer
    /// has restarted, say). It is needed again at the peer's next sign of life; until this input, or the
    /// peer's acknowledgement of the snapshot, the peer gets nothing but heartbeats.
    SnapshotFailed {
        /// The peer.
        to: NodeId,
    },
    /// `deadline()` has passed; nothing else happened.
    Wake,
}

/// Everything a Raft asks of its owner, in the order polled within one kind.
///
/// Appends, writes and read rounds are gathered while inputs are handled and made when outputs are
/// polled: any number of `handle` calls, then `poll_output` until `None`, is one *turn*, and one turn
/// produces at most one write and, per peer, one append that fits the limits.
#[derive(Clone, Debug)]
pub enum Output<C> {
    /// Send this to a peer. It may be lost, delayed, duplicated or reordered.
    Send {
        /// The peer.
        to: NodeId,
        /// What to say.
        message: Message<C>,
    },
    /// Make this durable, then say [`Input::Persisted`].
    Persist(Write<C>),
    /// These entries are committed; apply them in this order. Consecutive over the life of the Raft,
    /// from the recovered snapshot on.
    Committed(Vec<Entry<C>>),
    /// Whoever has applied everything up to `index` may answer the reads of this id.
    ReadReady {
        /// The id given with [`Input::Read`].
        id: ReadId,
        /// The read index.
        index: Index,
    },
    /// There is no leader, leadership has changed, or too many reads wait: whether the reads of this id
    /// could have been answered is not known. Ask again with a new id, when there is a leader.
    ReadDropped {
        /// The id given with [`Input::Read`].
        id: ReadId,
    },
    /// A proposal was not appended because this node does not lead, or is handing over; nothing happened.
    Refused(C),
    /// A change of the membership was not appended; nothing happened.
    ChangeRefused {
        /// As given with [`Input::ChangeMembership`].
        command: C,
        /// Why.
        reason: ChangeError,
    },
    /// Another configuration is in force in this member's log: its entry was appended, or one after it was
    /// truncated, or a snapshot has replaced the log. It may not be committed yet.
    ConfigurationChanged {
        /// The one in force.
        configuration: Configuration,
        /// What came with it, if it is known.
        command: Option<C>,
    },
    /// What [`Input::Transfer`] began is over.
    TransferEnded {
        /// Who was asked to lead; nobody if there was nobody to ask.
        to: Option<NodeId>,
        /// True: this member leads no more, and `to` is the likely winner. False: all is as before.
        ok: bool,
    },
    /// What this peer had durably acknowledged to this leader is not in its log any more: its disk was replaced
    /// by an older copy. It could forget votes and commits, so it must not take part under this id. Nothing
    /// it says counts from now on.
    PeerLostLog {
        /// The peer.
        peer: NodeId,
        /// The last index that it had acknowledged.
        had: Index,
        /// How far its log goes at most.
        has: Index,
    },
    /// This peer needs entries that the log no longer holds: stream it a snapshot of the applied
    /// state, beginning anew if one is already under way. Emitted once until `SnapshotFailed`, or until
    /// the peer acknowledges something that the log cannot continue.
    SnapshotNeeded {
        /// The peer.
        to: NodeId,
    },
    /// The received snapshot replaces the state machine's contents; committed entries continue after it.
    Restore(SnapshotMeta),
    /// Role, term or leader changed; read `status()`.
    RoleChanged,
}

/// One batch for the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<C> {
    /// Consecutive, from one.
    pub id: WriteId,
    /// The term, vote and commit index, if any of them changed.
    pub hard_state: Option<HardState>,
    /// Consecutive entries; one at an index that is already in the log replaces it and all after it.
    /// After a snapshot they may begin beyond the end of the log on disk: the snapshot covers the gap.
    pub entries: Vec<Entry<C>>,
    /// False when only the commit index moved, so that the write may stay in the page cache.
    pub sync: bool,
}

/// What a node must not forget (Raft figure 2), plus a hint of how far it may apply after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// The highest index known to be committed.
    pub commit: Index,
}

/// What a snapshot covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry it includes.
    pub position: Position,
    /// The cluster's configuration as of that entry.
    pub configuration: Configuration,
}

/// What a restarted node finds on its disk.
///
/// A new node starts from a snapshot at position zero that holds the initial configuration.
#[derive(Clone, Debug)]
pub struct Saved<C> {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The snapshot that the owner's state machine starts from.
    pub snapshot: SnapshotMeta,
    /// The log after the snapshot, without a gap. (If the log on disk begins after, or ends before,
    /// the entry that follows the snapshot, there is none.)
    pub entries: Vec<Entry<C>>,
}
