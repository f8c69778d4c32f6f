//! Snapshots: what they are made of, when one is taken, and how it gets to the disk.
//!
//! A snapshot is the store and the table of sessions at one applied index, in chunks of bounded size.
//! The store's cursor pins a revision, so that a snapshot is of one moment although it takes many turns;
//! the sessions are few and copied when it begins. One chunk is on its way to the disk at a time, the
//! next is made when that one is durable: a snapshot never takes more memory than a chunk.
//!
//! There is one snapshot file in the making at a time. A member that is being sent a snapshot
//! (`transfer.rs`) gives up its own; there is no point in covering less.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_raft::{Index, NodeId, Position, SnapshotMeta};
use quorate_store::{ImportError, SnapshotCursor, Store};
use serde::{Deserialize, Serialize};

use crate::io::Output;
use crate::limits::{CHUNK_BYTES, LOG_ENTRIES_MIN, LOG_SLACK, SNAPSHOT_LOG_BYTES_MAX};
use crate::replica::Replica;
use crate::sessions::{Session, Sessions};
use crate::transfer::{Incoming, Outgoing};

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

/// A snapshot being read out, chunk by chunk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Export {
    pub(crate) meta: SnapshotMeta,
    cursor: SnapshotCursor,
    sessions: Vec<Session>,
    next: u32,
}

impl Export {
    /// Begins to read out the present state, which is that at `meta`.
    pub(crate) fn open(meta: SnapshotMeta, store: &mut Store, sessions: &Sessions) -> Export {
        Export { meta, cursor: store.open_snapshot(), sessions: sessions.export(), next: 0 }
    }

    /// The next chunk. Not to be called after the last one.
    pub(crate) fn next(&mut self, store: &Store) -> Arc<SnapshotChunk> {
        let part = store.next_part(&mut self.cursor, CHUNK_BYTES);
        let last = part.is_none();
        let body = match part {
            Some(part) => ChunkBody::Store(part),
            None => ChunkBody::Sessions(core::mem::take(&mut self.sessions)),
        };
        let sequence = self.next;
        self.next += 1;
        Arc::new(SnapshotChunk { meta: self.meta.clone(), sequence, last, body })
    }

    /// Lets the store forget the revision that was pinned.
    pub(crate) fn close(self, store: &mut Store) {
        store.close_snapshot(self.cursor);
    }
}

/// What the chunks of a whole snapshot hold.
pub(crate) fn assemble(
    meta: &SnapshotMeta,
    chunks: impl IntoIterator<Item = SnapshotChunk>,
) -> Result<(Store, Sessions), ImportError> {
    let mut parts = Vec::new();
    let mut sessions = None;
    for (number, chunk) in chunks.into_iter().enumerate() {
        if chunk.meta != *meta || chunk.sequence as usize != number || sessions.is_some() {
            return Err(ImportError("chunks of different snapshots, or out of order"));
        }
        match chunk.body {
            ChunkBody::Store(part) if !chunk.last => parts.push(part),
            ChunkBody::Sessions(table) if chunk.last => sessions = Some(Sessions::import(table)?),
            ChunkBody::Store(_) | ChunkBody::Sessions(_) => {
                return Err(ImportError("the sessions and only they make the last chunk"));
            }
        }
    }
    let sessions = sessions.ok_or(ImportError("the last chunk is missing"))?;
    Ok((Store::import(parts)?, sessions))
}

/// The snapshots that a replica has to do with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshots {
    /// What the newest durable one covers.
    pub(crate) durable: Index,
    /// Bytes of commands applied since the last one was begun.
    pub(crate) log_bytes: u64,
    /// The log in memory begins after this, or later.
    cut: Index,
    /// The one that this member is taking.
    own: Option<Own>,
    /// The one that a leader is sending.
    pub(crate) incoming: Option<Incoming>,
    /// A whole one from the leader, until Raft has judged it.
    pub(crate) received: Option<(SnapshotMeta, Store, Sessions)>,
    /// Those that this leader is sending.
    pub(crate) outgoing: BTreeMap<NodeId, Outgoing>,
    /// Peers that wait for their turn to be sent one.
    pub(crate) queued: BTreeSet<NodeId>,
    /// The chunk that is on its way to the disk.
    saving: Option<Saving>,
    /// Tells the files in the making apart, whatever they cover.
    files: u64,
    /// How many from leaders were damaged.
    pub(crate) refused: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Own {
    file: u64,
    export: Export,
    /// Entries up to here need not be kept once the file is complete.
    keep_after: Index,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saving {
    file: u64,
    position: Position,
    sequence: u32,
    last: bool,
}

impl Snapshots {
    pub(crate) fn new(durable: Index) -> Snapshots {
        Snapshots { durable, cut: durable, ..Snapshots::default() }
    }

    /// A number for a file that is being begun.
    pub(crate) fn next_file(&mut self) -> u64 {
        self.files += 1;
        self.files
    }

    /// Whether a whole store is here that is not the replica's own yet.
    pub(crate) fn holds_a_store(&self) -> bool {
        self.received.is_some() || self.incoming.as_ref().is_some_and(Incoming::is_whole)
    }

    /// Whether the disk can take a chunk. Waiting for the one before, even if its file has been given
    /// up, keeps acknowledgements from being taken for those of another file.
    pub(crate) fn disk_is_free(&self) -> bool {
        self.saving.is_none()
    }
}

/// Taking snapshots of this member's own state, and the disk's side of all of them.
impl Replica {
    /// Begins a snapshot if the log has grown enough since the last one: by `snapshot_entries`, and by as much as the
    /// snapshot will write. So snapshots write no more than the log does, however large the store is; with a count
    /// alone, a large store would be written again and again.
    pub(crate) fn maybe_take_snapshot(&mut self) {
        let snapshots = &self.snapshots;
        let busy = snapshots.own.is_some() || snapshots.incoming.is_some() || !snapshots.disk_is_free();
        // (A snapshot from the leader may be durable before its entries are applied.)
        let entries = self.applied.index.0.saturating_sub(snapshots.durable.0);
        let worthwhile = snapshots.log_bytes >= self.store.size_bytes();
        let due = (entries >= self.config.snapshot_entries.max(1) && worthwhile)
            || snapshots.log_bytes >= SNAPSHOT_LOG_BYTES_MAX;
        if busy || !due || entries == 0 {
            return;
        }
        let export = Export::open(self.applied_meta(), &mut self.store, &self.sessions);
        let file = self.snapshots.next_file();
        self.snapshots.own = Some(Own { file, export, keep_after: Index(0) });
        self.snapshots.log_bytes = 0;
        self.save_own_chunk();
    }

    /// Lets Raft forget entries that only a member that lags far would ask for; it will be sent a snapshot. The
    /// disk keeps them until a snapshot is durable, for this member's own restart.
    pub(crate) fn maybe_cut_log(&mut self) {
        let (applied, catchup) = (self.applied.index.0, self.config.catchup_entries);
        if applied - self.snapshots.cut.0 < LOG_SLACK * catchup.max(LOG_ENTRIES_MIN) {
            return;
        }
        let cut = keep_after(self.applied, catchup, &self.snapshots.outgoing);
        if cut > self.snapshots.cut {
            self.snapshots.cut = cut;
            self.raft_handle(quorate_raft::Input::Forget(cut));
        }
    }

    /// What a snapshot of the present state covers.
    pub(crate) fn applied_meta(&self) -> SnapshotMeta {
        SnapshotMeta { position: self.applied, configuration: self.configuration.clone() }
    }

    fn save_own_chunk(&mut self) {
        let Some(own) = &mut self.snapshots.own else { return };
        let chunk = own.export.next(&self.store);
        let (file, position) = (own.file, chunk.meta.position);
        if chunk.last {
            own.keep_after = keep_after(position, self.config.catchup_entries, &self.snapshots.outgoing);
        }
        let keep_after = own.keep_after;
        self.save_chunk(file, chunk, keep_after);
    }

    /// Gives a chunk to the disk.
    pub(crate) fn save_chunk(&mut self, file: u64, chunk: Arc<SnapshotChunk>, keep_after: Index) {
        assert!(self.snapshots.disk_is_free(), "one chunk at a time is on its way to the disk");
        let (position, sequence, last) = (chunk.meta.position, chunk.sequence, chunk.last);
        self.snapshots.saving = Some(Saving { file, position, sequence, last });
        self.outputs.push_back(Output::SaveSnapshot { chunk, keep_after });
    }

    /// A chunk is durable.
    pub(crate) fn on_snapshot_saved(&mut self, position: Position, sequence: u32) {
        let expected = self.snapshots.saving.take_if(|it| it.position == position && it.sequence == sequence);
        let Some(saved) = expected else { return };
        let own = self.snapshots.own.as_ref().is_some_and(|own| own.file == saved.file);
        match (own, saved.last) {
            (true, true) => self.finish_own_snapshot(),
            (true, false) => self.save_own_chunk(),
            (false, _) => self.on_incoming_saved(saved.file, saved.last),
        }
        if self.snapshots.disk_is_free() {
            self.save_incoming_chunk();
        }
    }

    fn finish_own_snapshot(&mut self) {
        let own = self.snapshots.own.take().expect("it has just been found");
        let meta = own.export.meta.clone();
        own.export.close(&mut self.store);
        assert!(meta.position.index > self.snapshots.durable, "snapshots move forward");
        self.snapshots.durable = meta.position.index;
        let keep_after = own.keep_after;
        self.raft_handle(quorate_raft::Input::SnapshotTaken { meta, keep_after });
    }

    /// Gives up the snapshot that is being taken, if any.
    pub(crate) fn abandon_own_snapshot(&mut self) {
        if let Some(own) = self.snapshots.own.take() {
            own.export.close(&mut self.store);
        }
    }
}

/// Up to where the log may be forgotten: all but the last `catchup` entries up to `position`, and nothing that a peer will need after the snapshot that it is being sent.
fn keep_after(position: Position, catchup: u64, outgoing: &BTreeMap<NodeId, Outgoing>) -> Index {
    let catchup = position.index.0.saturating_sub(catchup);
    let needed = outgoing.values().map(|outgoing| outgoing.position.index.0).min();
    Index(needed.map_or(catchup, |needed| needed.min(catchup)))
}
