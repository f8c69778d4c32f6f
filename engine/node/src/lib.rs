//! A node is a replica plus I/O.
//!
//! [`quorate_replica::Replica`] is a member of the cluster as a pure value. This crate runs one: it gives
//! it time, messages and requests, and carries out what it asks for, over the four traits of [`Clock`],
//! [`Network`], [`Disk`] and [`File`]. It names no runtime, so the same compiled code serves clients on
//! tokio and is tortured in the simulator.
//!
//! ```text
//!   NodeHandle ─┐                       ┌─▶ Network     (encoding on the sender's own task)
//!   peers ──────┼─▶ inbox ─▶ driver ────┼─▶ Storage     the log: one append, one sync per batch
//!   storage ────┘      ▲     (Replica)  ├─▶ Snapshots   snapshot files, beside the log's queue
//!                      └── clock        └─▶ whoever asked, whoever watches
//! ```
//!
//! # What holds here
//!
//! - **One task owns the replica**; everything reaches it through one inbox, in one order, and no lock is
//!   held across a turn. Bytes are encoded and decoded on other tasks.
//! - **The driver decides nothing.** An output is asked for only when it may be carried out.
//! - **Request ids ascend** and are never used twice: the boot number is durable before the first one is
//!   given out.
//! - **A disk error ends the process.** No failed write or sync is tried again; starting again is the
//!   recovery path.
//! - **Recovery finds a prefix of the writes, and all that were synced**, or refuses with a reason and an
//!   advice. It never cuts off what may have been acknowledged (see `wal`).
//! - **No byte of a peer or a file is trusted**: lengths are checked before memory is taken, checksums
//!   before decoding, and nothing here panics on what it reads.
//!
//! # What is not here
//!
//! Sockets, files and threads (the adaptors in `engine/src`), TLS, and the meaning of requests
//! (`quorate-api`). Damaged records are found, but not fetched from peers.
#![forbid(unsafe_code)]

mod alone;
mod answering;
pub mod codec;
#[cfg(test)]
mod crash_points;
mod driver;
mod env;
mod error;
mod establish;
pub mod flight;
#[cfg(test)]
mod golden;
mod handle;
mod inbox;
pub mod limits;
mod meeting;
mod meta;
mod node;
mod question;
mod recover;
mod snapshot_file;
mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wal;

pub use answering::Answering;
pub use codec::{CodecError, Greeting, Hello, Verdict, decode_message, encode_message};
pub use driver::Driver;
pub use env::{Clock, Disk, File, Network};
pub use error::Error;
pub use establish::{Identity, Plan, establish};
pub use flight::FlightRecorder;
pub use handle::{NodeHandle, WatchStream};
pub use inbox::{Inbox, InboxReceiver, inbox};
pub use meeting::{Ending, Meeting};
pub use meta::{ClusterId, META_FILE, retire};
pub use node::{Config, Node};
pub use question::{
    Answer, Asked, Genesis, NoAnswer, Question, QuestionReceiver, Questions, decode_answer, decode_question,
    encode_answer, encode_question, questions,
};
pub use storage::{Snapshots, Storage};
