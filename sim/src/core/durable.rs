//! What a member's disk is busy with, and what the member hears when it is done.

use quorate_raft::NodeId;
use quorate_replica::Input;

use super::storage::{Begun, SavedChunk};
use super::timers::Timer;
use super::{Event, Simulation, place};
use crate::trace::Event as Traced;

impl Simulation {
    pub(super) fn start_disk(&mut self, node: NodeId) {
        match self.members[place(node)].storage.begin(self.time) {
            Begun::Idle => {}
            Begun::Busy(takes) => self.timers.set(node, Timer::Disk, self.time + takes, &mut self.queue),
            Begun::Failed => self.disk_fails(node),
        }
    }

    pub(super) fn disk_done(&mut self, node: NodeId) {
        let Some(done) = self.member(node).storage.complete() else { return self.disk_fails(node) };
        if let Some(id) = done.persisted {
            self.invariants.on_persisted(node, id);
            self.input(node, Input::Persisted(id));
            self.note(Traced::Durable { node, write: id.0 }, Some(node));
        }
        for saved in done.snapshots {
            self.snapshot_saved(node, saved);
        }
        self.start_disk(node);
    }

    pub(super) fn chunk_done(&mut self, node: NodeId, boot: u64) {
        let member = &mut self.members[place(node)];
        if member.boot != boot || !member.is_up() {
            return;
        }
        let (saved, next) = member.storage.complete_chunk(self.time);
        if let Some(takes) = next {
            self.queue.push(self.time + takes, Event::Chunk { node, boot });
        }
        if let Some(saved) = saved {
            self.snapshot_saved(node, saved);
        }
        self.start_disk(node);
    }

    fn snapshot_saved(&mut self, node: NodeId, saved: SavedChunk) {
        let SavedChunk { position, sequence, last } = saved;
        if last {
            self.invariants.on_snapshot_saved(node, position.index.0);
            if position.index.0 > self.member(node).status.applied {
                self.coverage.on_installed();
                if let Some(nemesis) = &mut self.nemesis {
                    nemesis.on_installed(self.time, node);
                }
                self.schedule_nemesis();
            }
        }
        self.input(node, Input::SnapshotSaved { position, sequence });
        self.note(Traced::SnapshotSaved { node, index: position.index, sequence }, Some(node));
    }
}
