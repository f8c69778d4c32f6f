//! One cluster member as a pure value.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod io;
mod limits;
mod peer;
mod replica;
mod sessions;
mod snapshots;
mod status;

pub use config::Config;
pub use io::{
    Body, Consistency, Error, Input, Output, Proposal, Request, RequestId, Response, Saved, SharedProposal,
    Write,
};
pub use peer::Message;
pub use replica::Replica;
pub use sessions::Session;
pub use snapshots::{ChunkBody, SnapshotChunk};
pub use status::Status;
