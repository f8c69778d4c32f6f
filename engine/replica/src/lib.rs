//! One cluster member as a pure value: agreement (`quorate-raft`), state (`quorate-store`), and the
//! clients that are owed an answer.
//!
//! # The contract
//!
//! A [`Replica`] has four methods. [`handle`](Replica::handle) takes note of something that happened;
//! [`poll_output`](Replica::poll_output) says what to do about it; [`deadline`](Replica::deadline) says when to
//! come back at the latest; [`status`](Replica::status) says how things are. There is nothing else: no clock, no
//! socket, no file, no thread, no randomness but a seed. Whoever drives a replica (`quorate-node` with
//! real I/O, the simulator with none) may call `handle` any number of times and then polls until `None`;
//! that is one *turn*, and costs one log write, one append per peer and one read round, however much
//! happened in it.
//!
//! The driver may carry out outputs at once and in any order between kinds. **No output is emitted
//! before its precondition holds**: a vote waits inside until it is durable, an answer until its
//! command is committed and applied, a read until leadership is confirmed. The driver may lose messages,
//! delay, repeat and reorder them. It must not lose writes that it has reported as persisted.
//!
//! Between two turns a replica is a plain value, and can be cloned, or turned into bytes and back, as a whole, even while it
//! goes on: an *image* (`image.rs`). The same inputs, given to an image, lead to the same outputs. That is what the flight
//! recorder of `quorate-node` rests upon. (An image belongs to one version of the code; what lasts is in snapshots and the log.)
//!
//! # A request's way
//!
//! ```text
//!  Input::Request ─► route.rs ──────────────► Raft ──────► apply.rs ─► Output::Respond
//!                    │    command, at leader  │  committed             (at the origin)
//!                    │                        │
//!                    ├─ command, at follower ─┼─► Message::Forward ─► the leader's Raft
//!                    │                        │
//!                    └─ query, lease ─────────┴─► read round ─► answer.rs ─► Output::Respond
//! ```
//!
//! A command is answered where it was asked, when its origin applies it; the leader does not reply.
//! Queries and questions about leases leave no trace in the log: a read round proves that the leader
//! leads, and tells how far to apply before looking.
//!
//! # Invariants, and where they are argued
//!
//! - No command takes effect twice, and no live one is skipped, however often it is sent: `sessions.rs`.
//! - Every request is answered once, and within its time: the oldest is always the first to time out
//!   (`pending.rs`). A command whose fate is not known is never reported as failed or done.
//! - An acknowledged keep-alive is never followed by an early expiry: `leases.rs`.
//! - A snapshot gets its final name only when it is whole, and never takes state back: `transfer.rs`.
//! - The table of members always agrees with Raft's configuration; a refused change of it has no effect later:
//!   `membership.rs`.
//! - A member that runs on an older copy of its data directory falls silent as soon as it can know: `identity.rs`.
//! - Everything that waits is bounded: `limits.rs`.
//!
//! # What is not here
//!
//! Reads by lease (every linearizable read costs a round), users and permissions, checkpoints of leases'
//! remaining time.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod apply;
mod config;
mod identity;
mod image;
mod io;
mod leadership;
mod leases;
mod limits;
mod membership;
mod peer;
mod pending;
mod reads;
mod replica;
mod route;
mod sessions;
mod size;
mod snapshots;
mod status;
mod transfer;

pub use config::Config;
pub use image::Image;
pub use io::{
    Body, Consistency, Error, Founder, Input, Output, Proposal, Request, RequestId, Response, Saved,
    SharedProposal, Write,
};
pub use peer::Message;
pub use replica::Replica;
pub use sessions::Session;
pub use snapshots::{ChunkBody, SnapshotChunk};
pub use status::Status;
