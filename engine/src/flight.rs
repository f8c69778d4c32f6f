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
        let folder = data_dir.join(FOLDER);
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
