//! Raft as a pure state machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod disk;
mod entry;
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
pub use entry::{Command, Configuration, Entry, Payload};
pub use io::{HardState, Input, Output, Saved, SnapshotMeta, Write};
pub use message::{Body, Message};
pub use raft::{Raft, Role, Status};
pub use types::{Index, Instant, NodeId, Position, ReadId, Term, WriteId};
