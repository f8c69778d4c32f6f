//! Raft as a pure state machine.
//!
//! Raft lets a group of members agree on a growing *log* of entries, although any minority of them may
//! crash, and messages may be lost, delayed, duplicated and reordered. Whoever applies the same log to
//! the same state machine gets the same state. The source is Ongaro and Ousterhout, "In Search of an
//! Understandable Consensus Algorithm" (cited as "Raft §"), and Ongaro's dissertation ("thesis §").
//!
//! # The idea, in the order in which to read the files
//!
//! Time is divided into *terms*, each of which has at most one *leader*, elected by a majority. The
//! leader adds entries to its log and copies them to the others. An entry that is durable at a majority
//! is *committed*: any majority that elects a later leader overlaps with that one, and no one votes for
//! a candidate whose log lacks what it has. So later leaders have every committed entry.
//!
//! - [`Input`] and [`Output`] (`io.rs`): all that can happen to a Raft, and all that it asks for.
//! - [`Body`] (`message.rs`): what members say to each other, and what a receiver may conclude.
//! - [`Raft`] (`raft.rs`): the rules about terms that hold in every role. Below it `candidate.rs`
//!   (elections), `leader.rs` (replication, commit), `follower.rs`, `change.rs` (the membership, as a leader
//!   changes it) and `transfer.rs` (a leader hands over).
//! - `log.rs`: the entries in memory, what of them is durable, committed, applied.
//! - `disk.rs`: what was handed to the disk, and messages that wait for it.
//! - `progress.rs`: what a leader knows of a peer's log, and what to send next.
//! - `reads.rs`: linearizable reads without log entries.
//! - `quorum.rs`, `membership.rs`, `membership/change.rs`: who takes part, how many are enough, and which
//!   configuration may follow which.
//!
//! # How to drive it
//!
//! A Raft has no clock, disk, network or thread. Its owner calls [`Raft::handle`] with whatever has
//! happened, any number of times, then [`Raft::poll_output`] until it is empty, and carries out what it
//! was given, in any order across kinds and in the given order within one kind: that is one *turn*. It
//! calls `handle` again at the latest at [`Raft::deadline`]. Outputs are made when they are polled, so
//! everything proposed in a turn shares one write and one message per peer. `examples/three_nodes.rs`
//! is a whole cluster on a page.
//!
//! The owner has no duties of ordering. Nothing is handed out before it is safe to carry out; that
//! waiting is done in here, because here it can be tested.
//!
//! Everything is deterministic: the same inputs at the same times, and the same seed, give the same
//! outputs.
//!
//! # Invariants
//!
//! Safety, whatever the schedule (`testing::Invariants` checks each at every step of every test):
//!
//! - *Election safety*: at most one leader per term. A vote is durable before anybody hears of it.
//! - *Log matching*: entries at the same position are equal, and so is everything before them. An
//!   append names the position before it; a conflict truncates, and nothing else does.
//! - *Leader completeness*: a leader has everything that was committed in earlier terms. Votes go only
//!   to candidates whose last position is at least the voter's.
//! - *State-machine safety*: nobody applies a different entry at the same index.
//! - *Commit*: an index is committed when a quorum holds it durably *and* its entry is of the
//!   leader's term (Raft figure 8). The leader's own disk counts like any other, no earlier.
//! - *Acknowledgements* speak only of what is on the speaker's disk, and of the present leader's log.
//! - *No forgotten terms*: no message leaves before its sender's term and vote are durable.
//! - *Durability of an entry* is that of the write that last carried it. An index proves nothing.
//! - *Reads* see everything whose commit anybody knew of before they were asked.
//! - *Configurations* that follow each other in a log have no disjoint quorums. One is in force as soon as it is in
//!   a log; the next is appended only when it, and an entry of the leader's own term, are committed.
//! - Terms and commit indexes never go down; nor do the match indexes of one leadership.
//!
//! Liveness and manners:
//!
//! - Whoever has heard from a leader within the election timeout helps nobody else to become one, and
//!   does not adopt a candidate's term; a leader with a quorum likewise (thesis §4.2.3). With *pre-vote*
//!   (thesis §9.6), a member that cannot win does not raise its term in the first place.
//! - A leader that has not heard from a quorum for an election timeout steps down (thesis §6.2). So
//!   under partial partitions, whoever can talk both ways with a quorum gets elected in the end, unless its log
//!   lacks what the others have committed and no leader is left to send it.
//! - A member that was removed disturbs nobody, whether it knows or not: it is told for a while; it asks before it
//!   raises its term; and a leader lets no newer term of one that is no member end its own.
//! - A leader that hands over is succeeded within one round trip, or leads on after an election timeout. One that
//!   is removed or demoted hands over when that is committed.
//! - A peer that refuses what it had acknowledged has lost its disk, or an old copy took its place: it counts no
//!   more, and the owner is told.
//! - Lost messages are repaired without memory of what was sent: heartbeats' answers say what a follower
//!   has verified, and an empty append at the end of what it should have is refused if it lacks something.
//! - Memory is bounded but for the log itself, which the owner compacts: appends in flight are numbers
//!   in a window, entries for slow peers stay in the log, reads and held messages have limits.
//!
//! # What differs from the paper
//!
//! - Replies to appends are not one per request: a follower acknowledges *state* (how far its log is
//!   known to match, durably) at the end of a turn and when its disk has made progress.
//! - A refused append carries a hint of position and term, and both sides skip whole terms, so that logs
//!   are brought in line in about one exchange per conflicting term (Raft §5.3, end).
//! - A leader sends entries while it writes them itself, and may commit them before its own disk has
//!   them (thesis §10.2.1).
//! - The commit index is saved as a hint, so that a restarted member need not wait to apply.
//! - A learner answers a request for a vote, because the candidate may know better than the learner
//!   whether it votes; a candidate counts voters only. And a learner's own vote goes to the leader it hears, so that
//!   it has none left for the same term when it is promoted.
//! - One voter more or less is one step; any other change goes through a joint configuration, which the leader ends
//!   by itself.
//!
//! # What is not implemented
//!
//! - *Priorities of leaders*: the owner looks at [`Raft::peers`] and hands over.
//! - *Telling whether a learner has caught up*: likewise for the owner to judge.
//! - *Reads by lease* (thesis §6.4.1): they trust clocks. Reads here cost one round of messages, shared
//!   by all reads of a turn.
//! - *Streaming of snapshots*: Raft says who needs one and decides whether a received one is news; its
//!   owner moves the bytes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod disk;
mod entry;
mod few;
mod io;
mod log;
mod membership;
mod message;
mod progress;
mod quorum;
mod raft;
mod reads;
#[cfg(feature = "testing")]
pub mod testing;
mod types;

pub use config::{Config, ConfigError};
pub use entry::{Command, Configuration, Entry, Membership, Payload};
pub use few::NodeSet;
pub use io::{HardState, Input, Output, Saved, SnapshotMeta, Write};
pub use membership::{Change, ChangeError};
pub use message::{Body, Message};
pub use raft::{PeerState, PeerStatus, Raft, Role, Status};
pub use types::{Index, Instant, NodeId, Position, ReadId, Term, WriteId};
