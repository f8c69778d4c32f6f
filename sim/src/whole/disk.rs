//! A member's disk, as one life of the member sees it: it forgets what was not synced, and can fail.
//!
//! A handle belongs to a life. When that life is over nothing of it reaches the disk any more, although madsim runs
//! the destructors of whatever it kills.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_node::{File, META_FILE};
use quorate_sim::env::disk::{Disk, DiskError, FileId};
use quorate_sim::nemesis::DiskFailure;
use quorate_sim::options::DiskSpeed;
use quorate_sim::random::Random;
use quorate_sim::time::Time;

use super::clock::{lock, now};
use super::durable::Durable;

/// A member's disk.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<DiskInner>>,
    /// The life that it is open for.
    life: u64,
}

struct DiskInner {
    disk: Disk,
    random: Random,
    /// How many things that take time the disk has done in this millisecond.
    moment: (u64, u64),
    speed: DiskSpeed,
    slower: (u32, Time),
    /// What comes on top of everything, because the processor is busy.
    delay: Duration,
    life: u64,
    failure: Option<DiskFailure>,
    damage: Option<Damage>,
    /// What an onlooker knows to be on it.
    durable: Durable,
}

/// Bytes that have changed.
struct Damage {
    file: FileId,
    before: Vec<u8>,
    refused: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(speed: DiskSpeed, random: Random) -> SimDisk {
        let inner = DiskInner {
            disk: Disk::default(),
            random,
            moment: (0, 0),
            speed,
            slower: (1, Time::ZERO),
            delay: Duration::ZERO,
            life: 0,
            failure: None,
            damage: None,
            durable: Durable::default(),
        };
        SimDisk { inner: Arc::new(Mutex::new(inner)), life: 0 }
    }

    /// The disk for whoever starts now.
    pub fn open_for_life(&self) -> SimDisk {
        SimDisk { life: lock(&self.inner).life, ..self.clone() }
    }

    /// The power fails.
    pub fn crash(&self) {
        let DiskInner { disk, random, life, .. } = &mut *lock(&self.inner);
        *life += 1;
        disk.crash(&mut random.at(CRASHES | *life));
    }

    /// The process ends. What it has written stays in the machine's memory, unless the kernel has dropped it because
    /// a sync failed.
    pub fn process_over(&self) {
        let lost = lock(&self.inner).failure == Some(DiskFailure::FailedSync);
        if lost {
            self.crash();
        } else {
            lock(&self.inner).life += 1;
        }
    }

    /// Makes the disk so many times slower, until then.
    pub fn set_slower(&self, factor: u32, until: Time) {
        lock(&self.inner).slower = (factor, until);
    }

    /// Makes everything that takes time take so much longer.
    pub fn set_delay(&self, delay: Duration) {
        lock(&self.inner).delay = delay;
    }

    /// From now on the disk fails in this way. False if there are no bytes that it could damage.
    pub fn fail(&self, failure: DiskFailure) -> bool {
        let inner = &mut *lock(&self.inner);
        match failure {
            DiskFailure::Full | DiskFailure::FailedSync | DiskFailure::ReadErrors => {
                inner.failure = Some(failure);
                true
            }
            DiskFailure::BitRot | DiskFailure::Misdirected => inner.damage_something(failure),
        }
    }

    /// The disk is as it should be again.
    pub fn repair(&self, failure: DiskFailure) {
        let inner = &mut *lock(&self.inner);
        match failure {
            DiskFailure::Full | DiskFailure::FailedSync | DiskFailure::ReadErrors => inner.failure = None,
            DiskFailure::BitRot | DiskFailure::Misdirected => {
                if let Some(Damage { file, before, .. }) = inner.damage.take() {
                    inner.disk.replace(file, before);
                }
            }
        }
    }

    /// Whether somebody who needs the disk now must expect errors.
    pub fn is_failing(&self) -> bool {
        let inner = lock(&self.inner);
        inner.failure.is_some() || inner.damage.is_some()
    }

    /// Whether bytes have changed without which nobody may start.
    pub fn must_be_refused(&self) -> bool {
        lock(&self.inner).damage.as_ref().is_some_and(|damage| damage.refused)
    }

    /// Looks at what is on it for sure.
    pub fn with_durable<T>(&self, look: impl FnOnce(&mut Durable) -> T) -> T {
        look(&mut lock(&self.inner).durable)
    }

    async fn busy(&self) -> io::Result<()> {
        let takes = lock(&self.inner).duration();
        madsim::time::sleep(takes).await;
        let failing = lock(&self.inner).failure == Some(DiskFailure::FailedSync);
        if failing { Err(io::Error::other(IO_ERROR)) } else { Ok(()) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> io::Result<T> {
        self.with_inner(|inner| act(&mut inner.disk))
    }

    fn with_inner<T>(&self, act: impl FnOnce(&mut DiskInner) -> T) -> io::Result<T> {
        let inner = &mut *lock(&self.inner);
        if inner.life == self.life {
            Ok(act(inner))
        } else {
            Err(io::Error::other("whoever opened this disk is no more"))
        }
    }
}

impl DiskInner {
    /// The source of whatever befalls the disk now. It does not depend on all that the disk has done before, so that a run
    /// that is told as a scenario, or made smaller, meets much the same disk.
    fn dice(&mut self) -> Random {
        let millisecond = now().0 / 1_000_000;
        if self.moment.0 != millisecond {
            self.moment = (millisecond, 0);
        }
        self.moment.1 += 1;
        self.random.at(millisecond << 16 | self.moment.1)
    }

    fn duration(&mut self) -> Duration {
        let usual = self.speed.sync + self.dice().exponential_duration(self.speed.jitter) + self.delay;
        let (factor, until) = self.slower;
        usual + (usual * (factor - 1)).min(until.since(now()))
    }

    /// Changes bytes of a file that is complete: a closed segment of the log, a snapshot, the meta file. (No member
    /// can tell a rotted end of its log from a torn one.)
    fn damage_something(&mut self, failure: DiskFailure) -> bool {
        if self.damage.is_some() {
            return false;
        }
        let names = self.disk.list();
        let newest = names.iter().rfind(|name| name.ends_with(".wal"));
        let whole = |name: &&String| {
            Some(*name) != newest
                && WHOLE.iter().any(|(begin, end)| name.starts_with(begin) && name.ends_with(end))
        };
        let candidates: Vec<&String> = names.iter().filter(whole).collect();
        if candidates.is_empty() {
            return false;
        }
        let mut dice = self.dice();
        let name = candidates[dice.below(candidates.len() as u64) as usize];
        let Ok(file) = self.disk.open(name) else { return false };
        let bytes = self.disk.bytes(file);
        let mut damaged = bytes.to_vec();
        let sectors = (bytes.len() / SECTOR) as u64;
        if failure == DiskFailure::BitRot && !bytes.is_empty() {
            damaged[dice.below(bytes.len() as u64) as usize] ^= 1 << dice.below(8);
        } else if sectors > 1 {
            let (from, to) = (dice.below(sectors) as usize, dice.below(sectors) as usize);
            damaged.copy_within(from * SECTOR..(from + 1) * SECTOR, to * SECTOR);
        }
        if damaged == bytes {
            return false;
        }
        // A damaged snapshot is passed over if the log reaches back to the one before.
        let refused = name.ends_with(".wal") || name == META_FILE;
        let before = self.disk.replace(file, damaged);
        self.damage = Some(Damage { file, before, refused });
        true
    }
}

/// What a disk says that fails.
pub const IO_ERROR: &str = "input/output error";

/// How the names of files begin and end that are complete when they have them.
const WHOLE: [(&str, &str); 3] = [("", ".wal"), ("snapshot-", ""), (META_FILE, META_FILE)];

/// What is drawn for a crash is drawn apart from what is drawn for a moment.
const CRASHES: u64 = 1 << 63;

/// What a misdirected write overwrites.
const SECTOR: usize = 512;

fn refuse(error: DiskError) -> io::Error {
    match error {
        DiskError::NotFound => io::Error::new(io::ErrorKind::NotFound, error),
        DiskError::Exists => io::Error::new(io::ErrorKind::AlreadyExists, error),
    }
}

impl quorate_node::Disk for SimDisk {
    type File = SimFile;

    async fn list(&self) -> io::Result<Vec<String>> {
        self.with(|disk| disk.list())
    }

    async fn create(&self, name: &str) -> io::Result<SimFile> {
        let id = self.with(|disk| disk.create(name))?.map_err(refuse)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    async fn open(&self, name: &str) -> io::Result<SimFile> {
        let id = self.with(|disk| disk.open(name))?.map_err(refuse)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|disk| disk.rename(from, to))?.map_err(refuse)
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|disk| disk.remove(name))?.map_err(refuse)
    }

    async fn sync_dir(&self) -> io::Result<()> {
        self.busy().await?;
        self.with(Disk::sync_dir)
    }
}

/// An open file.
pub struct SimFile {
    disk: SimDisk,
    id: FileId,
}

impl File for SimFile {
    async fn len(&self) -> io::Result<u64> {
        self.disk.with(|disk| disk.length(self.id) as u64)
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let full = lock(&self.disk.inner).failure == Some(DiskFailure::Full);
        if full {
            // Some of it still fits.
            let room = lock(&self.disk.inner).dice().below(bytes.len() as u64 + 1) as usize;
            self.disk.with(|disk| disk.append(self.id, &bytes[..room]))?;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
        }
        self.disk.with(|disk| disk.append(self.id, bytes))
    }

    async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let failing = lock(&self.disk.inner).failure == Some(DiskFailure::ReadErrors);
        if failing {
            return Err(io::Error::other(IO_ERROR));
        }
        self.disk.with(|disk| {
            let bytes = disk.bytes(self.id);
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let count = buffer.len().min(bytes.len() - from);
            buffer[..count].copy_from_slice(&bytes[from..from + count]);
            count
        })
    }

    async fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).expect("a simulated file fits memory");
        self.disk.with(|disk| disk.truncate(self.id, len))
    }

    async fn sync(&mut self) -> io::Result<()> {
        let length = self.disk.with(|disk| disk.length(self.id))?;
        self.disk.busy().await?;
        self.disk.with_inner(|DiskInner { disk, durable, .. }| {
            disk.sync(self.id, length);
            let bytes = disk.bytes(self.id);
            durable.on_sync(self.id, &bytes[..length.min(bytes.len())]);
        })
    }
}
