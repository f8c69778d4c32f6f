//! One member's disk: files in memory, and what a crash leaves of them.
//!
//! A file has the bytes that the running process sees, and the bytes that are durable. They are the same only
//! right after a sync. A crash keeps what is durable, and of the rest whatever it likes: nothing, everything,
//! or a part that ends in the middle of a record (a torn tail). Names have the same distinction: a file that
//! was created, renamed or removed since the last sync of the directory may be there or not, under either
//! name.
//!
//! What a process may rely on is therefore only what `File::sync` and `Disk::sync_dir` of `quorate_node::env`
//! promise. The disk is honest, though: what it says is durable stays durable.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::random::Random;

/// A file, whatever its name is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(u32);

/// Why the disk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// There is no file of this name.
    #[error("no such file")]
    NotFound,
    /// There is a file of this name already.
    #[error("file exists")]
    Exists,
}

/// What the process sees of a file, and what of that is durable.
#[derive(Clone, Debug, Default)]
struct File {
    /// What the process sees.
    bytes: Vec<u8>,
    /// How much of the beginning of `bytes` is durable.
    synced: usize,
    /// What followed that beginning when the file was last synced, cut away since: a crash may bring it back.
    cut: Vec<u8>,
}

impl File {
    /// Leaves what a crash might.
    fn crash(&mut self, random: &mut Random) {
        let unsynced = self.bytes.len() - self.synced;
        if !self.cut.is_empty() && random.chance(500_000) {
            // The truncation never reached the disk, and so did nothing written after it.
            self.bytes.truncate(self.synced);
            self.bytes.append(&mut self.cut);
        } else if unsynced > 0 {
            let kept = match random.below(4) {
                0 => 0,
                1 => unsynced,
                _ => random.below(unsynced as u64 + 1) as usize,
            };
            self.bytes.truncate(self.synced + kept);
            if random.chance(250_000) {
                self.lose_sectors(random);
            }
        }
        self.cut.clear();
        // The restarted process reads what is there; none of it can be lost without another write.
        self.synced = self.bytes.len();
    }

    /// Sectors reach the disk in any order: of those that were not synced, some read as zeros though later
    /// ones are there.
    fn lose_sectors(&mut self, random: &mut Random) {
        let mut at = self.synced;
        while at < self.bytes.len() {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(self.bytes.len());
            if random.chance(300_000) {
                self.bytes[at..end].fill(0);
            }
            at = end;
        }
    }
}

/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;

thread_local! {
    /// Memory of files of earlier runs: the next run's logs grow into it, rather than into pages that the
    /// kernel would have to clear first (an eighth of all the time of a sweep).
    static RECYCLED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn recycled() -> Vec<u8> {
    RECYCLED.with_borrow_mut(Vec::pop).unwrap_or_default()
}

impl Drop for Disk {
    fn drop(&mut self) {
        // While a thread ends its memory is gone already; then these are simply freed.
        let _ = RECYCLED.try_with(|recycled| {
            let mut recycled = recycled.borrow_mut();
            for file in &mut self.files {
                let mut bytes = std::mem::take(&mut file.bytes);
                if recycled.len() < RECYCLED_MAX && bytes.capacity() > SECTOR_BYTES {
                    bytes.clear();
                    recycled.push(bytes);
                }
            }
        });
    }
}

/// As many as a cluster has logs.
const RECYCLED_MAX: usize = 8;

/// A directory of files.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    /// The names that the process sees.
    names: BTreeMap<String, FileId>,
    /// The names as of the last sync of the directory.
    durable_names: BTreeMap<String, FileId>,
}

impl Disk {
    /// The names of all files, ascending.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// Creates an empty file.
    pub fn create(&mut self, name: &str) -> Result<FileId, DiskError> {
        if self.names.contains_key(name) {
            return Err(DiskError::Exists);
        }
        let id = FileId(u32::try_from(self.files.len()).expect("a simulation makes few files"));
        self.files.push(File { bytes: recycled(), ..File::default() });
        self.names.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Finds a file.
    pub fn open(&self, name: &str) -> Result<FileId, DiskError> {
        self.names.get(name).copied().ok_or(DiskError::NotFound)
    }

    /// Renames a file, replacing another.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let id = self.names.remove(from).ok_or(DiskError::NotFound)?;
        self.names.insert(to.to_owned(), id);
        Ok(())
    }

    /// Removes a name. Whoever has the file open can go on using it.
    pub fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.names.remove(name).map(|_| ()).ok_or(DiskError::NotFound)
    }

    /// Makes the names durable.
    pub fn sync_dir(&mut self) {
        self.durable_names.clone_from(&self.names);
        // Files that nobody can name any more need no bytes. (One that is still open reads as empty then; the
        // product never reads a file it has removed.)
        let mut named = vec![false; self.files.len()];
        for id in self.durable_names.values() {
            named[id.0 as usize] = true;
        }
        for (file, named) in self.files.iter_mut().zip(named) {
            if !named {
                *file = File::default();
            }
        }
    }

    /// The file's bytes as the process sees them.
    #[must_use]
    pub fn bytes(&self, file: FileId) -> &[u8] {
        &self.files[file.0 as usize].bytes
    }

    /// Writes at the end.
    pub fn append(&mut self, file: FileId, bytes: &[u8]) {
        self.files[file.0 as usize].bytes.extend_from_slice(bytes);
    }

    /// Changes some bytes of a file, durably, behind the back of whoever wrote them; gives those before.
    pub fn patch(&mut self, file: FileId, at: usize, bytes: &[u8]) -> Vec<u8> {
        let file = &mut self.files[file.0 as usize];
        file.synced = file.bytes.len();
        let place = &mut file.bytes[at..at + bytes.len()];
        let before = place.to_vec();
        place.copy_from_slice(bytes);
        before
    }

    /// The same with all bytes of a file, however many there are now.
    pub fn replace(&mut self, file: FileId, bytes: Vec<u8>) -> Vec<u8> {
        let file = &mut self.files[file.0 as usize];
        file.synced = bytes.len();
        std::mem::replace(&mut file.bytes, bytes)
    }

    /// Cuts the file to `length` bytes.
    pub fn truncate(&mut self, file: FileId, length: usize) {
        let file = &mut self.files[file.0 as usize];
        if length < file.synced {
            let mut cut = file.bytes[length..file.synced].to_vec();
            cut.append(&mut file.cut);
            file.cut = cut;
            file.synced = length;
        }
        file.bytes.truncate(length);
    }

    /// How many bytes the file has now: what a sync that begins now makes durable.
    #[must_use]
    pub fn length(&self, file: FileId) -> usize {
        self.files[file.0 as usize].bytes.len()
    }

    /// Makes the file's bytes durable, as far as `length`: those that were there when the sync began.
    pub fn sync(&mut self, file: FileId, length: usize) {
        let file = &mut self.files[file.0 as usize];
        file.synced = length.min(file.bytes.len()).max(file.synced);
        file.cut.clear();
    }

    /// The power fails. What is left is durable and is what the next process finds.
    pub fn crash(&mut self, random: &mut Random) {
        self.crash_names(random);
        for file in &mut self.files {
            file.crash(random);
        }
        self.durable_names.clone_from(&self.names);
    }

    /// Each name that changed since the last sync of the directory is as it was or as it is. A file that
    /// would end up without any name but was moved keeps its old one: a rename is atomic.
    fn crash_names(&mut self, random: &mut Random) {
        if self.names == self.durable_names {
            return;
        }
        let mut left = BTreeMap::new();
        let every: Vec<String> = self
            .names
            .keys()
            .chain(self.durable_names.keys())
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for name in every {
            let (now, before) = (self.names.get(&name), self.durable_names.get(&name));
            let chosen = if now == before || random.chance(500_000) { now } else { before };
            if let Some(&id) = chosen {
                left.insert(name, id);
            }
        }
        // A file renamed from A to B has at least one of the names, and only one.
        for (name, &id) in &self.durable_names {
            let moved = self.names.iter().find(|&(other, &at)| at == id && other != name);
            let Some((to, _)) = moved else { continue };
            let (has_old, has_new) = (left.get(name) == Some(&id), left.get(to) == Some(&id));
            if has_old == has_new {
                if has_new {
                    left.remove(name);
                } else {
                    left.insert(name.clone(), id);
                }
            }
        }
        self.names = left;
    }

    /// How many bytes all named files have.
    #[must_use]
    pub fn size(&self) -> usize {
        self.names.values().map(|id| self.files[id.0 as usize].bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn crashes(prepare: impl Fn(&mut Disk)) -> Vec<Disk> {
        let mut random = Random::new(11, Stream::Disk);
        let mut disk = Disk::default();
        prepare(&mut disk);
        (0..200)
            .map(|_| {
                let mut crashed = disk.clone();
                crashed.crash(&mut random);
                crashed
            })
            .collect()
    }

    fn content(disk: &Disk, name: &str) -> Option<Vec<u8>> {
        disk.open(name).ok().map(|file| disk.bytes(file).to_vec())
    }

    #[test]
    fn a_crash_loses_exactly_the_unsynced() {
        let left = crashes(|disk| {
            let file = disk.create("wal").expect("new");
            disk.append(file, b"durable ");
            disk.sync(file, 8);
            disk.sync_dir();
            disk.append(file, b"maybe");
        });
        let mut lengths = std::collections::BTreeSet::new();
        for disk in &left {
            let bytes = content(disk, "wal").expect("its name is durable");
            assert!(bytes.starts_with(b"durable "), "{bytes:?}");
            let tail = &bytes[8..];
            assert!(b"maybe".starts_with(tail) || tail.iter().all(|&byte| byte == 0), "{bytes:?}");
            lengths.insert(bytes.len());
        }
        assert_eq!(
            lengths.into_iter().collect::<Vec<_>>(),
            (8..=13).collect::<Vec<_>>(),
            "every tail is possible"
        );
    }

    #[test]
    fn what_was_appended_after_a_sync_began_is_not_made_durable_by_it() {
        let left = crashes(|disk| {
            let file = disk.create("wal").expect("new");
            disk.sync_dir();
            disk.append(file, b"one");
            let begun = disk.length(file);
            disk.append(file, b"two");
            disk.sync(file, begun);
        });
        assert!(left.iter().any(|disk| content(disk, "wal").as_deref() == Some(b"one")));
        assert!(left.iter().all(|disk| content(disk, "wal").expect("durable name").len() >= 3));
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_gone() {
        let left = crashes(|disk| {
            let file = disk.create("new").expect("new");
            disk.append(file, b"bytes");
            disk.sync(file, 5);
        });
        assert!(left.iter().any(|disk| content(disk, "new").is_none()));
        assert!(left.iter().any(|disk| content(disk, "new").is_some()));
    }

    #[test]
    fn a_rename_leaves_the_file_under_one_of_its_names() {
        let left = crashes(|disk| {
            let file = disk.create("snapshot.tmp").expect("new");
            disk.append(file, b"state");
            disk.sync(file, 5);
            disk.sync_dir();
            disk.rename("snapshot.tmp", "snapshot").expect("exists");
        });
        for disk in &left {
            let (old, new) = (content(disk, "snapshot.tmp"), content(disk, "snapshot"));
            assert!(old.is_some() != new.is_some(), "{old:?} {new:?}");
        }
        assert!(left.iter().any(|disk| content(disk, "snapshot").is_some()));
        assert!(left.iter().any(|disk| content(disk, "snapshot").is_none()));
    }

    #[test]
    fn a_truncation_that_was_not_synced_may_be_undone() {
        let left = crashes(|disk| {
            let file = disk.create("wal").expect("new");
            disk.append(file, b"abcdef");
            disk.sync(file, 6);
            disk.sync_dir();
            disk.truncate(file, 2);
            disk.append(file, b"XY");
        });
        assert!(left.iter().any(|disk| content(disk, "wal").as_deref() == Some(b"abcdef")));
        assert!(left.iter().any(|disk| content(disk, "wal").as_deref() == Some(b"abXY")));
        assert!(left.iter().all(|disk| content(disk, "wal").expect("durable name").starts_with(b"ab")));
    }

    #[test]
    fn a_synced_truncation_stays() {
        let left = crashes(|disk| {
            let file = disk.create("wal").expect("new");
            disk.append(file, b"abcdef");
            disk.sync(file, 6);
            disk.sync_dir();
            disk.truncate(file, 2);
            disk.sync(file, 2);
        });
        assert!(left.iter().all(|disk| content(disk, "wal").as_deref() == Some(b"ab")));
    }
}
