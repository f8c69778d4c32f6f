//! When to take a snapshot, and how to send and receive one.

use alloc::vec::Vec;

use quorate_raft::SnapshotMeta;
use serde::{Deserialize, Serialize};

use crate::sessions::Session;

/// One piece of a snapshot, in a file and on the wire alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// What the whole snapshot covers; the same in every chunk.
    pub meta: SnapshotMeta,
    /// This chunk's number, from zero.
    pub sequence: u32,
    /// Whether it is the last one.
    pub last: bool,
    /// What it holds.
    pub body: ChunkBody,
}

/// What a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkBody {
    /// A part of the store.
    Store(quorate_store::SnapshotPart),
    /// The table that recognises commands that arrive twice; it is the last chunk.
    Sessions(Vec<Session>),
}
