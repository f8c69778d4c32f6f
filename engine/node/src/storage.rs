//! The two tasks that own the files: one for the log, one for snapshots.
//!
//! **Group commit is a loop.** The storage task takes whatever writes have queued while it was busy,
//! appends them at once, syncs once, and says so with one `Persisted`. There is no timer: a lone write is
//! synced immediately, and under load batches grow by themselves to what one sync takes.
//!
//! Snapshot chunks go another way, so that a large file never stands in the log's queue. When one is
//! complete, the log hears of it, notes it, drops its own files that are not needed any more, and only then
//! the replica is told.
//!
//! **The first error ends the task**, and the caller must end the process: after a failed write or sync
//! nobody knows what is on the disk (Rebello et al., "Can Applications Recover from fsync Failures?", ATC
//! 2020). What is in memory must not be acted on any more; restarting is how the disk's contents are found
//! out.

use std::sync::Arc;

use quorate_raft::{Index, Position, WriteId};
use quorate_replica::{SnapshotChunk, Write};
use tokio::sync::mpsc;

use crate::env::Disk;
use crate::error::Error;
use crate::inbox::Inbox;
use crate::limits;
use crate::snapshot_file::SnapshotWriter;
use crate::wal::Wal;

/// The driver's end of both queues. Unbounded here: what waits is part of Raft's log, which is bounded there.
#[derive(Clone, Debug)]
pub(crate) struct StorageQueue {
    log: mpsc::UnboundedSender<LogJob>,
    snapshots: mpsc::UnboundedSender<SnapshotJob>,
}

/// A task has ended, with its error.
#[derive(Debug)]
pub(crate) struct StorageStopped;

impl StorageQueue {
    /// Queues a write for the log.
    pub fn write(&self, write: Write) -> Result<(), StorageStopped> {
        self.log.send(LogJob::Write(write)).map_err(|_| StorageStopped)
    }

    /// Queues a chunk for the snapshot file.
    pub fn save(&self, chunk: Arc<SnapshotChunk>, keep_after: Index) -> Result<(), StorageStopped> {
        self.snapshots.send(SnapshotJob { chunk, keep_after }).map_err(|_| StorageStopped)
    }
}

#[derive(Debug)]
enum LogJob {
    Write(Write),
    /// A snapshot file is complete.
    Snapshot {
        position: Position,
        /// The number of its last chunk.
        sequence: u32,
        /// Entries below this one are not needed.
        keep_from: Index,
    },
}

#[derive(Debug)]
struct SnapshotJob {
    chunk: Arc<SnapshotChunk>,
    keep_after: Index,
}

/// Makes the two tasks and the queue to them.
pub(crate) fn tasks<D: Disk>(
    wal: Wal<D>,
    snapshots: SnapshotWriter<D>,
    inbox: &Inbox,
) -> (StorageQueue, Storage<D>, Snapshots<D>) {
    let (log, log_jobs) = mpsc::unbounded_channel();
    let (snapshot_queue, snapshot_jobs) = mpsc::unbounded_channel();
    let storage = Storage { wal, jobs: log_jobs, inbox: inbox.clone() };
    let snapshots =
        Snapshots { writer: snapshots, jobs: snapshot_jobs, log: log.clone(), inbox: inbox.clone() };
    (StorageQueue { log, snapshots: snapshot_queue }, storage, snapshots)
}

/// The task that writes the log.
pub struct Storage<D: Disk> {
    wal: Wal<D>,
    jobs: mpsc::UnboundedReceiver<LogJob>,
    inbox: Inbox,
}

impl<D: Disk> Storage<D> {
    /// Runs until the driver is gone, or the disk fails.
    pub async fn run(mut self) -> Result<(), Error> {
        let mut jobs = Vec::new();
        while self.jobs.recv_many(&mut jobs, usize::MAX).await > 0 {
            let mut batch = Batch::default();
            for job in jobs.drain(..) {
                match job {
                    LogJob::Write(write) => {
                        self.wal.stage(&write)?;
                        batch.add(&write);
                        if self.wal.staged_bytes() >= limits::BATCH_BYTES {
                            self.commit(std::mem::take(&mut batch)).await?;
                        }
                    }
                    LogJob::Snapshot { position, sequence, keep_from } => {
                        self.commit(std::mem::take(&mut batch)).await?;
                        self.wal.note_snapshot(position, keep_from).await?;
                        self.inbox.snapshot_saved(position, sequence);
                    }
                }
            }
            self.commit(batch).await?;
        }
        Ok(())
    }

    /// Writes what is staged and says so.
    async fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        let Some(last) = batch.last else { return Ok(()) };
        self.wal.flush(batch.sync).await?;
        self.inbox.persisted(last);
        self.wal.rotate_if_full().await
    }
}

/// The writes that one append and one sync take.
#[derive(Debug, Default)]
struct Batch {
    last: Option<WriteId>,
    sync: bool,
}

impl Batch {
    fn add(&mut self, write: &Write) {
        assert!(self.last.is_none_or(|last| last.next() == write.id), "writes are consecutive");
        self.last = Some(write.id);
        self.sync |= write.sync;
    }
}

/// The task that writes snapshot files.
pub struct Snapshots<D: Disk> {
    writer: SnapshotWriter<D>,
    jobs: mpsc::UnboundedReceiver<SnapshotJob>,
    log: mpsc::UnboundedSender<LogJob>,
    inbox: Inbox,
}

impl<D: Disk> Snapshots<D> {
    /// Runs until the driver is gone, or the disk fails.
    pub async fn run(mut self) -> Result<(), Error> {
        while let Some(SnapshotJob { chunk, keep_after }) = self.jobs.recv().await {
            self.writer.write(&chunk).await?;
            let (position, sequence) = (chunk.meta.position, chunk.sequence);
            if chunk.last {
                let keep_from = keep_after.min(self.writer.fall_back());
                // If the log's task has ended, its error is the one that matters.
                let _ = self.log.send(LogJob::Snapshot { position, sequence, keep_from });
            } else {
                self.inbox.snapshot_saved(position, sequence);
            }
        }
        Ok(())
    }
}
