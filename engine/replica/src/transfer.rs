//! Snapshots between members: the leader streams one to a peer that needs entries the log has lost.
//!
//! The stream is stop-and-wait: the receiver writes a chunk to its disk, acknowledges it when it is
//! durable, and only then the next one is sent. A repeated chunk that is durable is acknowledged again.
//!
//! A chunk that is not acknowledged within an election timeout is sent again, and so on as long as the peer is heard
//! of. While it is not, the stream rests; the first sign of life wakes it, so that **a broken
//! connection costs one chunk**. The rest is bounded (`CHUNK_PATIENCE`), because a stream pins the state that it
//! exports and the log after it: a peer that is gone must not cost the others anything. Then Raft is told that it
//! failed, and decides anew. If others wait for the place, the patience is less.
//!
//! A receiver that cannot take a chunk, because it has been restarted or has given the stream up, says so, and the leader
//! begins again at once. Chunk zero begins a new stream; everything else that does not continue the
//! present one changes nothing.
//!
//! What arrives is put together before its last chunk is written, so that a damaged snapshot never
//! gets its final name on the disk, and is never acknowledged.

use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_raft::{Index, Instant, NodeId, Position, Role, SnapshotMeta, Term};
use quorate_store::Store;
use serde::{Deserialize, Serialize};

use crate::io::Output;
use crate::limits::{CHUNK_PATIENCE, CHUNK_PATIENCE_IN_QUEUE, SNAPSHOT_PEERS_MAX};
use crate::peer::Message;
use crate::replica::Replica;
use crate::sessions::Sessions;
use crate::snapshots::{Export, SnapshotChunk, assemble};

/// A snapshot on its way to a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    /// What it covers.
    pub(crate) position: Position,
    /// Where the next chunk comes from; `None` when the last one has been acknowledged.
    export: Option<Export>,
    /// The chunk that waits for its acknowledgement.
    chunk: Arc<SnapshotChunk>,
    sent_at: Instant,
    /// When the peer last got ahead.
    acknowledged_at: Instant,
    /// Whether the peer has said anything since the chunk was last sent.
    heard: bool,
}

/// A snapshot on its way from the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Incoming {
    file: u64,
    from: NodeId,
    term: Term,
    meta: SnapshotMeta,
    /// How many chunks have been taken in; at most one more than are saved.
    taken: u32,
    /// How many chunks are durable.
    saved: u32,
    /// The chunks so far.
    chunks: Vec<Arc<SnapshotChunk>>,
    /// The chunk that the disk has no time for yet.
    held: Option<Arc<SnapshotChunk>>,
    /// What they make together, when all are here.
    whole: Option<(Store, Sessions)>,
    heard_at: Instant,
}

/// Sending.
impl Replica {
    /// Raft says that a peer needs a snapshot.
    pub(crate) fn on_snapshot_needed(&mut self, to: NodeId) {
        self.stop_sending(to);
        self.snapshots.queued.insert(to);
    }

    /// Begins to send to those who wait for it, as long as there are not too many.
    fn send_to_queued(&mut self) {
        while self.snapshots.outgoing.len() < SNAPSHOT_PEERS_MAX
            && let Some(to) = self.snapshots.queued.pop_first()
        {
            let mut export = Export::open(self.applied_meta(), &mut self.store, &self.sessions);
            let (position, chunk) = (export.meta.position, export.next(&self.store));
            let (sent_at, acknowledged_at) = (self.now, self.now);
            let outgoing =
                Outgoing { position, export: Some(export), chunk, sent_at, acknowledged_at, heard: true };
            self.snapshots.outgoing.insert(to, outgoing);
            self.send_chunk(to);
        }
    }

    fn send_chunk(&mut self, to: NodeId) {
        let term = self.raft.status().term;
        let outgoing = self.snapshots.outgoing.get_mut(&to).expect("the caller has found it");
        outgoing.sent_at = self.now;
        outgoing.heard = false;
        let message = Message::Chunk { term, chunk: outgoing.chunk.clone() };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// A peer has a chunk on its disk.
    pub(crate) fn on_chunk_ack(&mut self, from: NodeId, position: Position, sequence: u32) {
        let Some(outgoing) = self.snapshots.outgoing.get_mut(&from) else { return };
        if outgoing.position != position || outgoing.chunk.sequence != sequence {
            return;
        }
        let Some(export) = &mut outgoing.export else { return };
        outgoing.acknowledged_at = self.now;
        if !outgoing.chunk.last {
            outgoing.chunk = export.next(&self.store);
            return self.send_chunk(from);
        }
        // The peer's Raft will now tell ours. Should that get lost, the silence ends the stream.
        let export = outgoing.export.take().expect("it has just been used");
        export.close(&mut self.store);
    }

    /// A peer cannot take the chunk that it was sent: it does not know the stream, so another is begun.
    pub(crate) fn on_chunk_unknown(&mut self, from: NodeId, position: Position, sequence: u32) {
        let outgoing = self.snapshots.outgoing.get(&from);
        if outgoing.is_some_and(|it| it.position == position && it.chunk.sequence == sequence && sequence > 0)
        {
            self.give_up_sending(from);
        }
    }

    /// A peer has said something.
    pub(crate) fn note_sign_of_life(&mut self, from: NodeId) {
        if let Some(outgoing) = self.snapshots.outgoing.get_mut(&from) {
            outgoing.heard = true;
        }
    }

    /// Sends again what was not acknowledged in time, gives up, and lets others have their turn.
    pub(crate) fn continue_sending(&mut self) {
        if self.snapshots.outgoing.is_empty() && self.snapshots.queued.is_empty() {
            return;
        }
        let now = self.now;
        let peers: Vec<NodeId> = self.snapshots.outgoing.keys().copied().collect();
        for to in peers {
            let outgoing = &self.snapshots.outgoing[&to];
            if self.peer(to.0).is_none() {
                // It has been removed.
                self.stop_sending(to);
            } else if self.give_up_at(outgoing) <= now {
                self.give_up_sending(to);
            } else if self.send_again_at(outgoing).is_some_and(|at| at <= now) {
                self.send_chunk(to);
            }
        }
        self.send_to_queued();
    }

    /// When a chunk that is not acknowledged is sent again, if the peer lives.
    fn send_again_at(&self, outgoing: &Outgoing) -> Option<Instant> {
        let waits = outgoing.heard && outgoing.export.is_some();
        waits.then(|| outgoing.sent_at + self.patience())
    }

    /// When there is no more point in waiting. (A peer that has everything has only to say so.)
    fn give_up_at(&self, outgoing: &Outgoing) -> Instant {
        let patience = match outgoing.export {
            None => 1,
            Some(_) if self.snapshots.queued.is_empty() => CHUNK_PATIENCE,
            Some(_) => CHUNK_PATIENCE_IN_QUEUE,
        };
        outgoing.acknowledged_at + self.patience() * patience
    }

    fn give_up_sending(&mut self, to: NodeId) {
        self.stop_sending(to);
        self.raft_handle(quorate_raft::Input::SnapshotFailed { to });
    }

    fn stop_sending(&mut self, to: NodeId) {
        let export = self.snapshots.outgoing.remove(&to).and_then(|outgoing| outgoing.export);
        if let Some(export) = export {
            export.close(&mut self.store);
        }
    }

    /// This member leads no more.
    pub(crate) fn stop_sending_all(&mut self) {
        self.snapshots.queued.clear();
        while let Some((_, outgoing)) = self.snapshots.outgoing.pop_first() {
            if let Some(export) = outgoing.export {
                export.close(&mut self.store);
            }
        }
    }
}

/// Receiving.
impl Replica {
    /// A chunk has come.
    pub(crate) fn on_chunk(&mut self, from: NodeId, term: Term, chunk: Arc<SnapshotChunk>) {
        let status = self.raft.status();
        if status.term != term || status.leader != Some(from) || status.role == Role::Leader {
            return;
        }
        let position = chunk.meta.position;
        if position.index <= self.applied.index {
            // Everything it holds is here already: Raft tells the leader's so.
            let meta = chunk.meta.clone();
            return self.raft_handle(quorate_raft::Input::SnapshotReceived { from, term, meta });
        }
        let continues = self.snapshots.incoming.as_ref().is_some_and(|it| it.continues(from, term, &chunk));
        if !continues && !self.begin_incoming(from, term, &chunk) {
            let whole = self.snapshots.incoming.as_ref().is_some_and(Incoming::is_whole);
            if chunk.sequence > 0 && !whole {
                self.send(from, Message::ChunkUnknown { position, sequence: chunk.sequence });
            }
            return;
        }
        let incoming = self.snapshots.incoming.as_mut().expect("it goes on or has just begun");
        incoming.heard_at = self.now;
        let sequence = chunk.sequence;
        if sequence < incoming.saved {
            return self.acknowledge_chunk(from, position, sequence);
        }
        if sequence != incoming.taken || incoming.taken != incoming.saved {
            return;
        }
        incoming.taken += 1;
        incoming.chunks.push(chunk.clone());
        incoming.held = Some(chunk);
        if incoming.assemble_if_whole().is_err() {
            self.snapshots.incoming = None;
            self.snapshots.refused += 1;
            return;
        }
        if self.snapshots.disk_is_free() {
            self.save_incoming_chunk();
        }
    }

    /// Takes chunk zero for the beginning of a snapshot, unless a whole one is about to be durable.
    fn begin_incoming(&mut self, from: NodeId, term: Term, chunk: &SnapshotChunk) -> bool {
        let whole = self.snapshots.incoming.as_ref().is_some_and(Incoming::is_whole);
        if chunk.sequence != 0 || whole {
            return false;
        }
        self.abandon_own_snapshot();
        self.snapshots.incoming = Some(Incoming {
            file: self.snapshots.next_file(),
            from,
            term,
            meta: chunk.meta.clone(),
            taken: 0,
            saved: 0,
            chunks: Vec::new(),
            held: None,
            whole: None,
            heard_at: self.now,
        });
        true
    }

    /// Gives the chunk that was held back to the disk.
    pub(crate) fn save_incoming_chunk(&mut self) {
        let Some(incoming) = &mut self.snapshots.incoming else { return };
        let Some(chunk) = incoming.held.take() else { return };
        let file = incoming.file;
        // Nothing that the snapshot covers will be asked of this member's log.
        let keep_after = if chunk.last { incoming.meta.position.index } else { Index(0) };
        self.save_chunk(file, chunk, keep_after);
    }

    /// A chunk of a file that is not this member's own is durable.
    pub(crate) fn on_incoming_saved(&mut self, file: u64, last: bool) {
        let Some(incoming) = self.snapshots.incoming.as_mut().filter(|incoming| incoming.file == file) else {
            return;
        };
        let (from, position, sequence) = (incoming.from, incoming.meta.position, incoming.saved);
        incoming.saved += 1;
        assert_eq!(incoming.saved, incoming.taken, "one chunk at a time");
        self.acknowledge_chunk(from, position, sequence);
        if last {
            self.snapshots.durable = self.snapshots.durable.max(position.index);
            let incoming = self.snapshots.incoming.take().expect("it has just been found");
            let (store, sessions) = incoming.whole.expect("the last chunk is saved only of a whole one");
            let (term, meta) = (incoming.term, incoming.meta);
            self.snapshots.received = Some((meta.clone(), store, sessions));
            self.raft_handle(quorate_raft::Input::SnapshotReceived { from, term, meta });
        }
    }

    fn acknowledge_chunk(&mut self, to: NodeId, position: Position, sequence: u32) {
        self.outputs.push_back(Output::Send { to, message: Message::ChunkAck { position, sequence } });
    }

    /// Forgets a half-received snapshot of a leader that has been replaced. One that is only silent may come back.
    pub(crate) fn drop_incoming_of_others(&mut self) {
        let Some(incoming) = &self.snapshots.incoming else { return };
        let status = self.raft.status();
        if status.term != incoming.term || status.leader.is_some_and(|leader| leader != incoming.from) {
            self.drop_incoming();
        }
    }

    /// Forgets a half-received snapshot.
    fn drop_incoming(&mut self) {
        // A whole one is about to be durable, and good whoever leads: it holds committed entries only.
        self.snapshots.incoming.take_if(|incoming| !incoming.is_whole());
    }

    /// Forgets a half-received snapshot that nobody continues, or that holds nothing new any more.
    pub(crate) fn drop_useless_incoming(&mut self) {
        let Some(incoming) = &self.snapshots.incoming else { return };
        let overtaken = incoming.meta.position.index <= self.applied.index;
        if overtaken || self.incoming_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.drop_incoming();
        }
    }

    fn incoming_deadline(&self) -> Option<Instant> {
        let incoming = self.snapshots.incoming.as_ref().filter(|incoming| !incoming.is_whole())?;
        // Longer than the leader tries.
        Some(incoming.heard_at + self.patience() * (CHUNK_PATIENCE + 1))
    }

    /// When the earliest stream, in either direction, has been silent for too long.
    pub(crate) fn transfer_deadline(&self) -> Option<Instant> {
        let next = |it: &Outgoing| {
            self.send_again_at(it).map_or(self.give_up_at(it), |at| at.min(self.give_up_at(it)))
        };
        if self.snapshots.outgoing.is_empty() && self.snapshots.incoming.is_none() {
            return None;
        }
        let outgoing = self.snapshots.outgoing.values().map(next).min();
        [outgoing, self.incoming_deadline()].into_iter().flatten().min()
    }
}

impl Incoming {
    /// Whether a chunk belongs to this stream. Chunk zero of the same snapshot begins it again when later
    /// ones are here already: the leader has started over.
    fn continues(&self, from: NodeId, term: Term, chunk: &SnapshotChunk) -> bool {
        let same = self.from == from && self.term == term && self.meta == chunk.meta;
        same && (chunk.sequence > 0 || self.taken <= 1)
    }

    /// Whether all of it is here, and fits together.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    fn assemble_if_whole(&mut self) -> Result<(), quorate_store::ImportError> {
        if self.chunks.last().is_some_and(|chunk| chunk.last) {
            let chunks = core::mem::take(&mut self.chunks);
            let chunks = chunks.into_iter().map(Arc::unwrap_or_clone);
            self.whole = Some(assemble(&self.meta, chunks)?);
        }
        Ok(())
    }
}
