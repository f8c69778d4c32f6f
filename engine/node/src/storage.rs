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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use quorate_raft::{HardState, NodeId, SnapshotMeta, Term};
    use quorate_replica::ChunkBody;

    use super::*;
    use crate::inbox::{Event, InboxReceiver, inbox};
    use crate::recover::{Recovery, recover};
    use crate::testing::{MemoryDisk, configuration, identity, put, ready};

    const COVERED: Position = Position { term: Term(1), index: Index(3) };

    fn start(disk: &MemoryDisk) -> Recovery<MemoryDisk> {
        ready(recover(disk, &identity(7, 1, &[1, 2, 3]), 500, false)).expect("nothing is wrong with the disk")
    }

    fn write(id: u64) -> Write {
        let hard_state = HardState { term: Term(1), vote: Some(NodeId(1)), commit: Index(id) };
        Write {
            id: WriteId(id),
            hard_state: Some(hard_state),
            entries: vec![put(1, id, "a key", "a value")],
            sync: true,
        }
    }

    fn chunk(sequence: u32, last: bool) -> Arc<SnapshotChunk> {
        let meta = SnapshotMeta { position: COVERED, configuration: configuration(&[1, 2, 3]) };
        Arc::new(SnapshotChunk { meta, sequence, last, body: ChunkBody::Sessions(Vec::new()) })
    }

    /// What has become of a task that has done all that it can; nothing, if it waits for more.
    fn poll<F: Future>(task: F) -> Option<F::Output> {
        match pin!(task).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// What the driver is told.
    fn told(mut receiver: InboxReceiver) -> Vec<Event> {
        std::iter::from_fn(|| receiver.receiver.try_recv().ok()).collect()
    }

    /// The log on one disk, with three entries, and snapshot files on another.
    fn two_disks() -> (MemoryDisk, MemoryDisk) {
        let (log, files) = (MemoryDisk::default(), MemoryDisk::default());
        start(&files);
        let mut recovery = start(&log);
        for id in 1..=3 {
            recovery.wal.stage(&write(id)).expect("small");
        }
        ready(recovery.wal.flush(true)).expect("there is power");
        (log, files)
    }

    /// Has a snapshot of two chunks written; says what the driver was told.
    fn save(log: &MemoryDisk, files: &MemoryDisk, power: impl FnOnce()) -> Vec<Event> {
        let (sender, receiver) = inbox();
        let (wal, writer) = (start(log).wal, start(files).snapshots);
        let (queue, storage, snapshots) = tasks(wal, writer, &sender);
        power();
        queue.save(chunk(0, false), Index(0)).expect("the task is there");
        queue.save(chunk(1, true), Index(0)).expect("the task is there");
        drop(queue);
        // Where the disk has failed, the task has ended with an error, and that is well.
        let _ = poll(snapshots.run());
        let _ = poll(storage.run());
        told(receiver)
    }

    #[test]
    fn the_log_hears_of_a_snapshot_when_its_file_is_durable() {
        let (log, files) = two_disks();
        let before = log.operations();
        let whole = save(&log, &files, || ());
        assert_eq!(whole.len(), 2, "{whole:?}");
        let (log_operations, mut survived) = (log.operations() - before, 0);
        assert!(log_operations > 0, "a snapshot is noted in the log");
        for power in 0.. {
            let (log, files) = two_disks();
            let mut quiet = 0;
            let told = save(&log, &files, || {
                quiet = log.operations();
                files.cut_power_after(power);
            });
            if told.len() == 2 {
                break;
            }
            assert_eq!(
                log.operations(),
                quiet,
                "the log was touched though the file's disk failed at {power}"
            );
            survived += 1;
        }
        assert!(survived > 3, "a file takes several operations");
    }

    #[test]
    fn a_snapshot_is_said_to_be_in_place_when_the_log_has_noted_it() {
        let (log, files) = two_disks();
        let told = save(&log, &files, || log.cut_power_after(0));
        let last = |event: &Event| matches!(event, Event::SnapshotSaved { sequence: 1, .. });
        assert!(!told.iter().any(last), "{told:?}");
    }

    #[test]
    fn an_append_that_fails_is_the_end() {
        let disk = MemoryDisk::default();
        let (sender, receiver) = inbox();
        let recovery = start(&disk);
        let (queue, storage, _snapshots) = tasks(recovery.wal, recovery.snapshots, &sender);
        disk.fill();
        queue.write(write(1)).expect("the task is there");
        let ended = poll(storage.run()).expect("the disk is full").expect_err("the disk is full");
        assert!(ended.to_string().contains("append to"), "{ended}");
        assert!(told(receiver).is_empty(), "nothing was written");
    }
}
