//! The flight recorder in production: where recordings go, and when they are written.
//!
//! With `--flight-recorder SIZE`, everything that happens to the member's replica is kept in memory, in a ring
//! (`quorate_node::flight`). It becomes a file when the process gets SIGUSR1, when somebody posts to `/flight-recorder`,
//! and when the process panics. `quorate-sim replay-node FILE` replays it.
//!
//! **A recording holds the member's whole state and what clients have sent since**: every key and value. So the files
//! are readable by their owner only, and never leave the machine by themselves: a request is answered with a file's
//! name, not with its bytes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_node::FlightRecorder;
use quorate_node::flight::{Standing, Taken};

use crate::clock;

/// A member's flight recorder, and the folder of its recordings; cheap to clone.
#[derive(Clone, Debug)]
pub struct BlackBox {
    recorder: FlightRecorder,
    files: Arc<Files>,
}

#[derive(Debug)]
struct Files {
    folder: PathBuf,
    /// One recording is written at a time.
    busy: Mutex<()>,
    written: AtomicU64,
}

/// A recording that has been written.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Where it is.
    pub path: PathBuf,
    /// Where the replica stood.
    pub standing: Standing,
}

impl BlackBox {
    /// A recorder of about this many bytes, whose files go into a folder of the data directory. To be called in a tokio
    /// runtime.
    #[must_use]
    pub fn new(bytes_max: usize, data_dir: &Path) -> BlackBox {
        let runtime = tokio::runtime::Handle::current();
        // An old image of a large store is many small pieces of memory.
        let discard = move |leg| drop(runtime.spawn_blocking(move || drop(leg)));
        // Whoever asks for a recording is told its name, and may be anywhere.
        let folder = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned()).join(FOLDER);
        let files = Files { folder, busy: Mutex::new(()), written: AtomicU64::new(0) };
        BlackBox { recorder: FlightRecorder::new(bytes_max, discard), files: Arc::new(files) }
    }

    /// What the node writes.
    #[must_use]
    pub fn recorder(&self) -> FlightRecorder {
        self.recorder.clone()
    }

    /// Writes what is recorded at this moment into a file. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written, or nothing is recorded yet.
    pub fn save(&self, reason: &str) -> io::Result<Saved> {
        let _busy = self.files.busy.lock().unwrap_or_else(PoisonError::into_inner);
        self.files.write(self.recorder.take(), reason)
    }

    /// Writes what is recorded at this moment into a file, on a thread that may block.
    pub async fn save_aside(&self, reason: &'static str) -> io::Result<Saved> {
        let black_box = self.clone();
        let saved = tokio::task::spawn_blocking(move || black_box.save(reason)).await;
        let saved = saved.unwrap_or_else(|error| Err(io::Error::other(error)));
        report(&saved);
        saved
    }

    /// From now on, whatever panics in this process leaves a recording before it does what it did until now.
    pub fn save_on_panic(&self) {
        let usual = std::panic::take_hook();
        let black_box = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            // Another file may be in the making: this one does not wait, it has a name of its own.
            let taken = black_box.recorder.take_in_panic();
            report(&black_box.files.write(taken, &panic.to_string()));
            usual(panic);
        }));
    }
}

impl Files {
    fn write(&self, taken: Option<Taken>, reason: &str) -> io::Result<Saved> {
        let taken = taken.ok_or_else(|| io::Error::other("nothing is recorded at this moment"))?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let (now, number) = (clock::seconds_since_1970(), self.written.fetch_add(1, Ordering::Relaxed));
        let path = self.folder.join(format!("{now}-{}-{number:03}{ENDING}", std::process::id()));
        let unfinished = path.with_extension("unfinished");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        taken.write(reason, now, BufWriter::with_capacity(1 << 20, file))?;
        fs::rename(&unfinished, &path)?;
        self.forget_oldest()?;
        Ok(Saved { path, standing: taken.standing })
    }

    /// A member that panics again and again must not fill the disk.
    fn forget_oldest(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(ENDING) {
                found.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        found.sort();
        let surplus = found.len().saturating_sub(FILES_MAX);
        found.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn report(saved: &io::Result<Saved>) {
    match saved {
        Ok(Saved { path, standing }) => tracing::info!(
            file = %path.display(),
            applied = standing.applied.0,
            state = format!("{:016x}", standing.state_hash),
            "wrote a flight recording, with all keys and values; replay it with quorate-sim replay-node"
        ),
        Err(error) => tracing::error!(%error, "cannot write a flight recording"),
    }
}

/// The folder of recordings in a data directory.
const FOLDER: &str = "recordings";

/// How their names end.
const ENDING: &str = ".recording";

/// So many are kept; older ones are removed.
const FILES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::time::Duration;

    use quorate_node::flight::{Record, Recording};
    use quorate_node::testing::founder;
    use quorate_raft::{HardState, Instant, NodeId, SnapshotMeta, WriteId};
    use quorate_replica::{Config, Input, Replica, Saved};

    use super::*;

    fn replica() -> Replica {
        let config = Config {
            raft: quorate_raft::Config::new(NodeId(1)),
            snapshot_entries: 1_000,
            catchup_entries: 1_000,
            quota_bytes: 0,
            strict_reconfig_check: true,
            learners_max: 1,
            auto_promote: false,
            priority: 0,
            request_timeout: Duration::from_secs(7),
        };
        let saved = Saved {
            genesis: vec![founder(1, 1)],
            boot: 1,
            hard_state: HardState::default(),
            snapshot: SnapshotMeta::default(),
            chunks: Vec::new(),
            entries: Vec::new(),
        };
        Replica::recover(config, 7, Instant(0), saved).expect("there is no snapshot")
    }

    #[tokio::test]
    async fn a_panic_leaves_a_recording_that_ends_in_the_turn_that_panics() {
        let folder = tempfile::tempdir().expect("there is room");
        let black_box = BlackBox::new(1 << 20, folder.path());
        assert!(black_box.save("too early").is_err(), "nothing has begun");
        let mut replica = replica();
        let mut recorder = black_box.recorder().begin(&mut replica);
        black_box.save_on_panic();
        let flight = std::panic::catch_unwind(AssertUnwindSafe(move || {
            recorder.turn(Instant(1));
            recorder.input(&Input::Wake);
            replica.handle(Instant(1), Input::Wake);
            while let Some(output) = replica.poll_output() {
                recorder.output(&output);
            }
            recorder.end(&mut replica);
            // A disk that has done what it was not asked for.
            recorder.turn(Instant(2));
            recorder.input(&Input::Persisted(WriteId(99)));
            replica.handle(Instant(2), Input::Persisted(WriteId(99)));
        }));
        assert!(flight.is_err(), "it panics");
        drop(std::panic::take_hook());

        let files: Vec<_> = fs::read_dir(folder.path().join(FOLDER)).expect("it is there").collect();
        assert_eq!(files.len(), 1, "one panic, one file");
        let path = files[0].as_ref().expect("it can be read").path();
        let recording = Recording::read(&fs::read(path).expect("it can be read")).expect("it is whole");
        let reason = &recording.header.reason;
        assert!(reason.contains("only a write that was made can be durable"), "{reason}");
        let records: Vec<Record> = recording.records().map(|record| record.expect("it is sound")).collect();
        let last = &records[records.len() - 2..];
        let [Record::Turn(Instant(2)), Record::Input(input)] = last else { panic!("{last:?}") };
        assert!(matches!(**input, Input::Persisted(WriteId(99))), "{input:?}");
    }

    #[tokio::test]
    async fn only_so_many_recordings_are_kept() {
        let folder = tempfile::tempdir().expect("there is room");
        let black_box = BlackBox::new(1 << 20, folder.path());
        let _recorder = black_box.recorder().begin(&mut replica());
        let paths: Vec<PathBuf> =
            (0..FILES_MAX + 2).map(|_| black_box.save("a request").expect("there is room").path).collect();
        let kept: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(kept.iter().filter(|kept| **kept).count(), FILES_MAX, "{kept:?}");
        assert!(kept.last().is_some_and(|kept| *kept), "the newest is");
    }
}
