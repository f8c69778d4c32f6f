//! Files in production: one directory, used by one process at a time.
//!
//! Calls block. The node's two storage tasks therefore run on threads of their own ([`spawn`]), where there
//! is nothing else to hold up, and where a system call costs nothing but itself.

use std::fs::{self, DirBuilder, File as SystemFile, OpenOptions, TryLockError};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_node::{Clock, Disk, File};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::clock::SystemClock;

/// A data directory, locked for as long as any clone of this lives.
#[derive(Clone)]
pub struct FileDisk {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// The directory itself, to be synced.
    directory: SystemFile,
    /// Locked. The lock goes with the process, however it ends.
    _lock: SystemFile,
    clock: SystemClock,
    observe_sync: Box<ObserveSync>,
}

/// Is told the name of every file that is synced, and how long that took.
type ObserveSync = dyn Fn(&str, Duration) + Send + Sync;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// It does not exist and cannot be made.
    #[error("cannot create the data directory {}: {source}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It exists, but nothing can be made in it: it is read-only, full, or somebody else's.
    #[error("cannot write to the data directory {}: {source}", path.display())]
    Write {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "the data directory {} is in use by another process: stop that one, or give this one a directory of \
         its own",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
}

impl FileDisk {
    /// Creates the directory if need be, readable by its owner only, and locks it. `observe_sync` is told
    /// the name of every file that is synced and how long that took.
    ///
    /// # Errors
    /// When the directory cannot be created, written to or locked.
    pub fn open(
        path: &Path,
        observe_sync: impl Fn(&str, Duration) + Send + Sync + 'static,
    ) -> Result<FileDisk, DirectoryError> {
        let create = |source| DirectoryError::Create { path: path.to_owned(), source };
        let write = |source| DirectoryError::Write { path: path.to_owned(), source };
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(create)?;
            sync_parent(path).map_err(create)?;
        }
        let mode = fs::metadata(path).map_err(write)?.permissions().mode();
        if mode & 0o077 != 0 {
            let mode = format!("{:o}", mode & 0o777);
            let path = path.display().to_string();
            tracing::warn!(path, mode, "other users may read the data directory; 700 is recommended");
        }
        let lock = Self::options().create(true).open(path.join(LOCK_FILE)).map_err(write)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DirectoryError::Locked { path: path.to_owned() },
            TryLockError::Error(source) => write(source),
        })?;
        let shared = Shared {
            directory: SystemFile::open(path).map_err(write)?,
            path: path.to_owned(),
            _lock: lock,
            clock: SystemClock::new(),
            observe_sync: Box::new(observe_sync),
        };
        Ok(FileDisk { shared: Arc::new(shared) })
    }

    fn path(&self, name: &str) -> PathBuf {
        debug_assert!(!name.contains('/'), "names have no separators");
        self.shared.path.join(name)
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }

    fn file(&self, name: &str, file: SystemFile) -> io::Result<DiskFile> {
        let len = file.metadata()?.len();
        Ok(DiskFile { file, end: len, room: len, name: name.to_owned(), shared: self.shared.clone() })
    }
}

impl Disk for FileDisk {
    type File = DiskFile;

    async fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.shared.path)? {
            let entry = entry?;
            // A directory is not a file, and a name that is not text is none of ours.
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok().filter(|name| name != LOCK_FILE));
            }
        }
        names.sort();
        Ok(names)
    }

    async fn create(&self, name: &str) -> io::Result<DiskFile> {
        self.file(name, Self::options().create_new(true).open(self.path(name))?)
    }

    async fn open(&self, name: &str) -> io::Result<DiskFile> {
        self.file(name, Self::options().open(self.path(name))?)
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    async fn sync_dir(&self) -> io::Result<()> {
        self.shared.directory.sync_all()
    }
}

/// A file of a [`FileDisk`].
pub struct DiskFile {
    file: SystemFile,
    /// Where the next append goes.
    end: u64,
    /// The file's length on the disk; zeros from `end` on.
    room: u64,
    name: String,
    shared: Arc<Shared>,
}

impl File for DiskFile {
    async fn len(&self) -> io::Result<u64> {
        Ok(self.end)
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        self.room = self.room.max(self.end);
        Ok(())
    }

    async fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        // Written, not only allocated: filling an allocated hole changes metadata too.
        while self.room < self.end + bytes {
            let count = (self.end + bytes - self.room).min(ZEROS.len() as u64);
            self.file.write_all_at(&ZEROS[..count as usize], self.room)?;
            self.room += count;
        }
        Ok(())
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..len];
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    async fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        (self.end, self.room) = (self.end.min(len), len);
        Ok(())
    }

    async fn sync(&mut self) -> io::Result<()> {
        let before = self.shared.clock.now();
        // fdatasync: the length is among the metadata that it makes durable, times are not.
        self.file.sync_data()?;
        (self.shared.observe_sync)(&self.name, self.shared.clock.now().since(before));
        Ok(())
    }
}

/// Runs a task that blocks on a thread of its own. The receiver gets what it returns, or an error if it
/// panics.
///
/// # Errors
/// When the system has no thread to give.
pub fn spawn<F>(name: &str, task: F) -> io::Result<oneshot::Receiver<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Whoever asked may not want to know any more.
        let _ = sender.send(runtime.block_on(task));
    })?;
    Ok(receiver)
}

/// Makes a new directory's own entry durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => SystemFile::open(".")?.sync_all(),
        Some(parent) => SystemFile::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

pub(crate) const LOCK_FILE: &str = "lock";

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn open(path: &Path) -> FileDisk {
        FileDisk::open(path, |_, _| {}).expect("a fresh directory")
    }

    #[tokio::test]
    async fn files_are_what_the_trait_says() {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("a/b");
        let syncs = Arc::new(AtomicUsize::new(0));
        let counter = syncs.clone();
        let disk = FileDisk::open(&path, move |name, _| {
            assert_eq!(name, "one");
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .expect("it is made");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);

        let mut file = disk.create("one").await.expect("new");
        assert_eq!(disk.create("one").await.map(|_| ()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.append(b"0123456789").await.expect("room");
        file.truncate(4).await.expect("open");
        file.append(b"xy").await.expect("room");
        file.sync().await.expect("a disk");
        assert_eq!(syncs.load(Ordering::Relaxed), 1);
        let mut buffer = [0; 10];
        assert_eq!(file.read_at(2, &mut buffer).await.expect("open"), 4);
        assert_eq!(&buffer[..4], b"23xy");
        assert_eq!(file.len().await.expect("open"), 6);

        disk.create("two").await.expect("new");
        disk.rename("one", "two").await.expect("replaces");
        assert_eq!(disk.list().await.expect("readable"), ["two"], "the lock is not shown");
        let mut again = disk.open("two").await.expect("there");
        again.append(b"!").await.expect("at the end");
        assert_eq!(again.len().await.expect("open"), 7);
        disk.remove("two").await.expect("there");
        disk.sync_dir().await.expect("a disk");
        assert_eq!(disk.open("two").await.map(|_| ()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn room_is_not_seen_until_the_file_is_opened_again() {
        let directory = tempfile::tempdir().expect("there is room");
        let disk = open(directory.path());
        let mut file = disk.create("log").await.expect("new");
        file.append(b"one").await.expect("room");
        file.reserve(100_000).await.expect("room");
        file.append(b"two").await.expect("room");
        let mut buffer = [1; 8];
        assert_eq!(
            (file.len().await.expect("open"), file.read_at(0, &mut buffer).await.expect("open")),
            (6, 6)
        );
        assert_eq!(&buffer[..6], b"onetwo");
        let again = disk.open("log").await.expect("there");
        assert_eq!(again.len().await.expect("open"), 100_003);
        file.truncate(6).await.expect("open");
        file.append(b"!").await.expect("room");
        assert_eq!(disk.open("log").await.expect("there").len().await.expect("open"), 7);
    }

    #[test]
    fn a_directory_is_used_once_at_a_time() {
        let directory = tempfile::tempdir().expect("there is room");
        let disk = open(directory.path());
        let second = FileDisk::open(directory.path(), |_, _| {}).err().expect("locked");
        assert!(second.to_string().ends_with(
            "is in use by another process: stop that one, or give this one a directory of its own"
        ));
        drop(disk);
        open(directory.path());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().expect("there is room");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("there is room");
        let error = FileDisk::open(&file.join("data"), |_, _| {}).err().expect("a file has no files");
        assert!(error.to_string().starts_with("cannot create the data directory "), "{error}");
        assert!(error.to_string().contains("file/data: Not a directory"), "{error}");
    }

    #[tokio::test]
    async fn a_task_runs_on_its_own_thread() {
        let here = std::thread::current().id();
        let there = spawn("storage", async { std::thread::current().id() }).expect("a thread");
        assert_ne!(there.await.expect("it does not panic"), here);
    }
}
