//! For tests of this crate and others: a disk in memory that can lose power, and values to put on it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quorate_raft::{Configuration, Entry, Index, NodeId, Payload, Position, SnapshotMeta, Term};
use quorate_replica::{ChunkBody, Founder, RequestId, Saved, SharedProposal, SnapshotChunk};
use quorate_store::{Blob, Command, LeaseId, Put};

use crate::codec::{self, Kind};
use crate::env::{Disk, File};
use crate::error::Error;
use crate::establish::Identity;
use crate::limits;
use crate::meta::ClusterId;
use crate::question::Genesis;
use crate::recover;
use crate::snapshot_file::{self, SnapshotWriter};

/// An entry that puts a key.
#[must_use]
pub fn put(term: u64, index: u64, key: &str, value: &str) -> Entry<SharedProposal> {
    let command = Command::Put(Put {
        key: Blob::from(key),
        value: Some(Blob::from(value)),
        lease: Some(LeaseId::NONE),
        previous: false,
    });
    let id = RequestId { boot: 1, sequence: index };
    let payload = Payload::Command(SharedProposal::new(NodeId(1), id, command));
    Entry { term: Term(term), index: Index(index), payload }
}

/// A configuration of these voters.
#[must_use]
pub fn configuration(voters: &[u64]) -> Configuration {
    Configuration { voters: voters.iter().copied().map(NodeId).collect(), ..Configuration::default() }
}

/// Member `member` of the cluster `cluster` that these founders began, each with its id as its directory's number.
#[must_use]
pub fn identity(cluster: u64, member: u64, founders: &[u64]) -> Identity {
    Identity {
        cluster: ClusterId(cluster),
        member: NodeId(member),
        owner: member,
        name: format!("n{member}"),
        peer_urls: vec![format!("http://n{member}:2380")],
        genesis: Genesis::new(founders.iter().map(|id| founder(*id, *id)).collect()),
    }
}

/// A founder whose directory has this number.
#[must_use]
pub fn founder(id: u64, owner: u64) -> Founder {
    Founder { id: NodeId(id), owner, name: format!("n{id}"), peer_urls: vec![format!("http://n{id}:2380")] }
}

/// A frame with this body and a right checksum, whatever the body is.
#[must_use]
pub fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    codec::raw_frame(kind, body)
}

/// What a member finds in a directory: one of [`CLUSTER`] and [`MEMBER`].
pub fn recover(disk: &MemoryDisk) -> Result<Saved, Error> {
    let identity = identity(CLUSTER.0, MEMBER.0, &[1, 2, 3]);
    Ok(ready(recover::recover(disk, &identity, limits::SEGMENT_BYTES, false))?.saved)
}

/// What a snapshot file of [`CLUSTER`], [`MEMBER`] and [`SNAPSHOT`] with these bytes holds.
pub fn load_snapshot(bytes: &[u8]) -> Result<(SnapshotMeta, Vec<SnapshotChunk>), Error> {
    let disk = MemoryDisk::default();
    disk.install(&snapshot_file::snapshot_name(SNAPSHOT), bytes);
    ready(snapshot_file::load(&disk, (CLUSTER, MEMBER), SNAPSHOT))
}

/// The bytes of a snapshot file of [`CLUSTER`], [`MEMBER`] and [`SNAPSHOT`] with these bodies.
pub fn save_snapshot(bodies: &[ChunkBody]) -> Result<Vec<u8>, Error> {
    let disk = MemoryDisk::default();
    let mut writer = SnapshotWriter::new(disk.clone(), (CLUSTER, MEMBER), Vec::new());
    let meta = SnapshotMeta { position: SNAPSHOT, configuration: configuration(&[1, 2, 3]) };
    for (sequence, body) in (0..).zip(bodies) {
        let last = sequence as usize + 1 == bodies.len();
        let chunk = SnapshotChunk { meta: meta.clone(), sequence, last, body: body.clone() };
        ready(writer.write(&chunk))?;
    }
    Ok(disk.bytes(&snapshot_file::snapshot_name(SNAPSHOT)).expect("the last chunk completes the file"))
}

/// The cluster that these functions speak of.
pub const CLUSTER: ClusterId = ClusterId(7);
/// The member that these functions speak of.
pub const MEMBER: NodeId = NodeId(1);
/// The snapshot that these functions speak of.
pub const SNAPSHOT: Position = Position { term: Term(3), index: Index(300) };

/// The result of a future that never waits, as those of a [`MemoryDisk`] do not.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future waits for something"),
    }
}

/// A disk in memory. What is not synced is lost, or half lost, when the power goes.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// All files there ever were, by number.
    files: Vec<Content>,
    /// The directory as programs see it, and as it is on the platter.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of the directory since it was synced.
    unsynced: Vec<Change>,
    operations: usize,
    /// Whether there is room for nothing more.
    full: bool,
    /// Operations left before the power goes.
    power: Option<usize>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

/// What a power cut leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// Some sectors of a file, later ones without earlier ones too, and some changes of the directory: a
    /// function of this seed.
    Some(u64),
}

impl MemoryDisk {
    /// How many operations have changed or synced something.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.lock().operations
    }

    /// Cuts the power after so many more operations: all after them fail.
    pub fn cut_power_after(&self, operations: usize) {
        self.lock().power = Some(operations);
    }

    /// From now on there is no room for anything.
    pub fn fill(&self) {
        self.lock().full = true;
    }

    /// A disk as this one is for the next process after the present one was killed: what was not synced is
    /// still there, and may still be lost.
    #[must_use]
    pub fn after_kill(&self) -> MemoryDisk {
        let state = self.lock();
        let copy =
            |content: &Content| Content { bytes: content.bytes.clone(), durable: content.durable.clone() };
        let state = State {
            files: state.files.iter().map(copy).collect(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            unsynced: state.unsynced.clone(),
            operations: 0,
            power: None,
            full: state.full,
        };
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// A disk as this one is after the power has come back.
    #[must_use]
    pub fn after_power_cut(&self, survival: Survival) -> MemoryDisk {
        let state = self.lock();
        let mut random = Random(match survival {
            Survival::Some(seed) => seed,
            Survival::Nothing | Survival::Everything => 0,
        });
        let mut survives = || match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Some(_) => random.coin(),
        };
        let mut names = state.durable_names.clone();
        for change in &state.unsynced {
            if survives() {
                apply(&mut names, change);
            }
        }
        let mut files = Vec::new();
        for content in &state.files {
            let bytes = surviving_bytes(content, &mut survives);
            files.push(Content { durable: bytes.clone(), bytes });
        }
        let state = State { files, durable_names: names.clone(), names, ..State::default() };
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// A file's bytes, to look at.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|&file| state.files[file].bytes.clone())
    }

    /// Puts a file there as if it had always been there.
    pub fn install(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let file = state.files.len();
        state.files.push(Content { bytes: bytes.to_vec(), durable: bytes.to_vec() });
        state.names.insert(name.to_owned(), file);
        state.durable_names.insert(name.to_owned(), file);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; fails if there is no power for it.
    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if let Some(power) = &mut state.power {
            *power = power.checked_sub(1).ok_or_else(|| io::Error::other("the power is off"))?;
        }
        state.operations += 1;
        Ok(state)
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.operate()?;
        if !apply(&mut state.names, &change) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.unsynced.push(change);
        Ok(())
    }
}

/// Carries out a change of the directory, if what it changes is there.
fn apply(names: &mut BTreeMap<String, usize>, change: &Change) -> bool {
    match change {
        Change::Create(name, file) => {
            names.insert(name.clone(), *file);
            true
        }
        Change::Rename(from, to) => match names.remove(from) {
            Some(file) => {
                names.insert(to.clone(), file);
                true
            }
            None => false,
        },
        Change::Remove(name) => names.remove(name).is_some(),
    }
}

/// What is left of a file: its durable bytes, and of those written since, the sectors that survive. A lost
/// sector reads as zeros if a later one survives, and is not there if none does.
fn surviving_bytes(content: &Content, survives: &mut impl FnMut() -> bool) -> Vec<u8> {
    const SECTOR: usize = 64;
    let Content { bytes, durable } = content;
    if bytes.len() < durable.len() {
        // It was truncated, and that was not synced.
        return if survives() { bytes.clone() } else { durable.clone() };
    }
    let mut left = durable.clone();
    for (at, sector) in bytes.chunks(SECTOR).enumerate() {
        let start = at * SECTOR;
        let unchanged = durable.get(start..start + sector.len()).is_some_and(|old| old == sector);
        if !unchanged && survives() {
            left.resize(left.len().max(start + sector.len()), 0);
            left[start..start + sector.len()].copy_from_slice(sector);
        }
    }
    left
}

/// A few random bits (splitmix64), so that this module needs no dependency.
struct Random(u64);

impl Random {
    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    async fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    async fn create(&self, name: &str) -> io::Result<MemoryFile> {
        if self.lock().names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = {
            let mut state = self.lock();
            state.files.push(Content::default());
            state.files.len() - 1
        };
        self.change(Change::Create(name.to_owned(), file))?;
        Ok(MemoryFile { disk: self.clone(), file, end: 0 })
    }

    async fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let state = self.lock();
        let file = state.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { disk: self.clone(), file, end: state.files[file].bytes.len() })
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.change(Change::Remove(name.to_owned()))
    }

    async fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.operate()?;
        state.durable_names = state.names.clone();
        state.unsynced.clear();
        Ok(())
    }
}

/// Room that a file of a [`MemoryDisk`] makes at most.
const ROOM_BYTES_MAX: usize = 1000;

/// A file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    disk: MemoryDisk,
    file: usize,
    /// Where the next append goes; behind it there is room that was reserved.
    end: usize,
}

impl File for MemoryFile {
    async fn len(&self) -> io::Result<u64> {
        Ok(self.end as u64)
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.operate()?;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = &mut state.files[self.file].bytes;
        let end = self.end + bytes.len();
        content.resize(content.len().max(end), 0);
        content[self.end..end].copy_from_slice(bytes);
        self.end = end;
        Ok(())
    }

    /// Less than is asked for, so that a test's files stay small; it is only a hint.
    async fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let room = self.end + usize::try_from(bytes).unwrap_or(usize::MAX).min(ROOM_BYTES_MAX);
        let mut state = self.disk.operate()?;
        let content = &mut state.files[self.file].bytes;
        content.resize(content.len().max(room), 0);
        Ok(())
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.lock();
        let bytes = &state.files[self.file].bytes;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    async fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.disk.operate()?.files[self.file].bytes.truncate(len);
        self.end = self.end.min(len);
        Ok(())
    }

    async fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.operate()?;
        let content = &mut state.files[self.file];
        content.durable = content.bytes.clone();
        Ok(())
    }
}
