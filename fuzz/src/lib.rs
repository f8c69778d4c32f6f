//! Fuzz targets: functions over bytes that may do anything but panic.
//!
//! A target is one function of [`TARGETS`]. Three things run it:
//!
//! - `cargo test -p quorate-fuzz` replays the corpus in `corpus/<target>/` and some thousand variants of
//!   it, the same every time;
//! - `src/bin/<target>.rs` gives it to libFuzzer (README.md says how, with a stable toolchain);
//! - whoever found a crash puts the input into the corpus, named for what it does, and has a regression
//!   test.
//!
//! Random bytes do not get past a checksum, and what is behind it is what matters. So each target also
//! takes its input as the *inside* of a frame that it seals itself, or as damage to be done to something
//! whole; the first byte says which.
#![forbid(unsafe_code)]

mod history;
pub mod mutate;
mod node;
mod raft;

pub use history::history;
pub use node::{codec_message, snapshot_file, wal_recovery};
pub use raft::raft_messages;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus and its binary.
    pub name: &'static str,
    /// What is fuzzed.
    pub run: fn(&[u8]),
    /// Inputs to begin with, each with a name; the corpus holds them all.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All targets. A new one needs an entry here and a binary of its name.
pub const TARGETS: &[Target] = &[
    Target { name: "codec_message", run: codec_message, seeds: node::message_seeds },
    Target { name: "history", run: history, seeds: history::history_seeds },
    Target { name: "raft_messages", run: raft_messages, seeds: raft::raft_seeds },
    Target { name: "snapshot_file", run: snapshot_file, seeds: node::snapshot_seeds },
    Target { name: "wal_recovery", run: wal_recovery, seeds: node::wal_seeds },
];
