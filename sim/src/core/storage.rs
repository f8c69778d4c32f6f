//! One member's log and snapshots on its simulated disk.
//!
//! As in the node's storage task, everything queued becomes one append and one sync; snapshot chunks take a
//! way of their own, and a complete snapshot is noted in the log before the replica hears of it. The log is
//! real: every write goes through the product's record format into the bytes of a file, a crash tears those
//! bytes, and recovery scans what is left. Only the files' bookkeeping (several segments, pruning, snapshot
//! files) is left to the whole depth.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use quorate_node::wal::Recovered;
use quorate_node::wal::record::{self, Body, Record, Scan, SegmentEncoder, SegmentHeader};
use quorate_node::{ClusterId, CodecError};
use quorate_raft::{Index, NodeId, Position, SnapshotMeta, WriteId};
use quorate_replica::{Founder, Saved, SnapshotChunk, Write};

use crate::env::disk::{Disk, FileId};
use crate::nemesis::DiskFailure;
use crate::options::{DiskSpeed, Options};
use crate::random::{Random, Stream};
use crate::time::Time;

/// A member's storage.
#[derive(Debug)]
pub struct Storage {
    disk: Disk,
    log: FileId,
    encoder: SegmentEncoder,
    buffer: Vec<u8>,
    queued: Vec<Job>,
    flight: Option<Flight>,
    /// What the member starts from if there is no snapshot.
    initial: SnapshotMeta,
    /// The newest complete snapshot.
    snapshot: Vec<Arc<SnapshotChunk>>,
    /// The one that is being written.
    unfinished: Vec<Arc<SnapshotChunk>>,
    chunks: VecDeque<Arc<SnapshotChunk>>,
    boots: u64,
    speed: DiskSpeed,
    slower: (u32, Time),
    seed: u64,
    member: NodeId,
    /// How many things that take time the disk has done in this millisecond.
    moment: (u64, u64),
    /// What is wrong with the disk now: a full one, or one that fails to sync.
    failure: Option<DiskFailure>,
    /// Where the log is damaged, and what was there before.
    undamaged: Option<(usize, Vec<u8>)>,
    /// How long the log was when it was last synced.
    synced: usize,
    /// The log up to here is followed by a durable record that says that it was synced before.
    witnessed: usize,
    /// Where each append begins, and how long it is.
    appends: Vec<(usize, usize)>,
    /// What the log was found to hold when the member last started, and how far that was. It is not read again:
    /// what was synced then has not changed, unless `undamaged` says so.
    known: Option<(Scan, Recovered)>,
}

/// Entries that were decoded before, in whosever log, by the checksums of their bodies: all members' logs hold the same
/// entries, and the same bytes are always decoded to the same.
#[derive(Debug, Default)]
pub struct Decoded(HashMap<u32, (u8, Box<[u8]>, Record)>);

impl Decoded {
    fn decode(&mut self, body: &Body<'_>) -> Result<Record, CodecError> {
        match self.0.get(&body.checksum) {
            Some((kind, bytes, record)) if *kind == body.kind && **bytes == *body.bytes => Ok(record.clone()),
            _ => {
                let record = body.decode()?;
                if let Record::Entry(_) = record {
                    self.0.insert(body.checksum, (body.kind, body.bytes.into(), record.clone()));
                }
                Ok(record)
            }
        }
    }
}

/// What became of the attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// There was nothing to do, or the disk is busy.
    Idle,
    /// It takes so long.
    Busy(Duration),
    /// The disk refuses: the process ends.
    Failed,
}

/// Something for the log.
#[derive(Debug)]
enum Job {
    Write(Write),
    /// A snapshot file is complete.
    Snapshot(SavedChunk),
}

/// A chunk of a snapshot file that is durable.
#[derive(Clone, Copy, Debug)]
pub struct SavedChunk {
    /// What the file covers.
    pub position: Position,
    /// The chunk's number.
    pub sequence: u32,
    /// Whether it is the file's last.
    pub last: bool,
}

/// An append (and perhaps a sync) that the disk is busy with.
#[derive(Debug, Default)]
struct Flight {
    done: Done,
    /// How long the file was when the sync began; `None` if nothing has to be synced.
    sync: Option<usize>,
    /// How much of the log its records say was synced before them.
    witness: usize,
}

/// What an append has made durable.
#[derive(Debug, Default)]
pub struct Done {
    /// Every write up to this one.
    pub persisted: Option<WriteId>,
    /// The notes that these snapshots are in place.
    pub snapshots: Vec<SavedChunk>,
}

const LOG: &str = "log";
const CLUSTER: ClusterId = ClusterId(7);

/// How long an append takes that need not be synced.
const APPEND: Duration = Duration::from_micros(2);

impl Storage {
    /// The empty disk of a new member.
    #[must_use]
    pub fn new(member: NodeId, initial: SnapshotMeta, options: &Options) -> Storage {
        let mut disk = Disk::default();
        let log = disk.create(LOG).expect("the disk is empty");
        let header =
            SegmentHeader { cluster: CLUSTER, member, sequence: 1, first_index: Index(1), previous_len: 0 };
        let mut bytes = Vec::new();
        let encoder = SegmentEncoder::begin(&header, &mut bytes);
        disk.append(log, &bytes);
        disk.sync(log, bytes.len());
        disk.sync_dir();
        Storage {
            disk,
            log,
            encoder,
            buffer: Vec::new(),
            queued: Vec::new(),
            flight: None,
            initial,
            snapshot: Vec::new(),
            unfinished: Vec::new(),
            chunks: VecDeque::new(),
            boots: 0,
            speed: options.disk,
            slower: (1, Time::ZERO),
            seed: options.seed,
            member,
            moment: (0, 0),
            failure: None,
            undamaged: None,
            synced: 0,
            witnessed: 0,
            appends: Vec::new(),
            known: None,
        }
    }

    /// What every member of the cluster begins with.
    pub fn initial(&self) -> &SnapshotMeta {
        &self.initial
    }

    /// Takes a write. Whoever calls looks at [`begin`](Storage::begin) when the turn is over.
    pub fn enqueue(&mut self, write: Write) {
        self.queued.push(Job::Write(write));
    }

    /// Makes the disk so many times slower than it is, until then.
    pub fn set_slower(&mut self, factor: u32, until: Time) {
        self.slower = (factor, until);
    }

    /// Begins to write everything queued, if the disk has nothing to do.
    pub fn begin(&mut self, time: Time) -> Begun {
        if self.flight.is_some() || self.queued.is_empty() {
            return Begun::Idle;
        }
        let mut done = Done::default();
        let mut sync = false;
        self.buffer.clear();
        for job in self.queued.drain(..) {
            let encoded = match job {
                Job::Write(write) => {
                    sync |= write.sync;
                    done.persisted = Some(write.id);
                    self.encoder.write(write.hard_state.as_ref(), &write.entries, &mut self.buffer)
                }
                Job::Snapshot(saved) => {
                    sync = true;
                    done.snapshots.push(saved);
                    self.encoder.snapshot(saved.position, &mut self.buffer)
                }
            };
            encoded.expect("no workload makes entries that do not fit a record");
        }
        if self.failure == Some(DiskFailure::Full) {
            // Some of it still fits.
            let room = self.dice(time).below(self.buffer.len() as u64 + 1) as usize;
            self.disk.append(self.log, &self.buffer[..room]);
            return Begun::Failed;
        }
        self.appends.push((self.disk.length(self.log), self.buffer.len()));
        self.disk.append(self.log, &self.buffer);
        let length = sync.then(|| self.disk.length(self.log));
        self.flight = Some(Flight { done, sync: length, witness: self.synced });
        Begun::Busy(if sync { self.duration(time) } else { APPEND })
    }

    /// The disk has done what it was busy with. `None` if it failed to sync: the process ends.
    pub fn complete(&mut self) -> Option<Done> {
        let flight = self.flight.take().expect("the disk was busy");
        if let Some(length) = flight.sync {
            if self.failure == Some(DiskFailure::FailedSync) {
                return None;
            }
            self.disk.sync(self.log, length);
            self.encoder.mark_synced();
            self.synced = length;
            self.witnessed = flight.witness;
        }
        Some(flight.done)
    }

    /// Takes a chunk of a snapshot file; says how long writing it takes, if nothing is before it.
    pub fn enqueue_chunk(&mut self, chunk: Arc<SnapshotChunk>, time: Time) -> Option<Duration> {
        self.chunks.push_back(chunk);
        (self.chunks.len() == 1).then(|| self.duration(time))
    }

    /// The first chunk is durable. Gives it, unless it is a file's last and has to be noted in the log first;
    /// and says how long the next one takes, if there is one.
    pub fn complete_chunk(&mut self, time: Time) -> (Option<SavedChunk>, Option<Duration>) {
        let chunk = self.chunks.pop_front().expect("a chunk was being written");
        let saved = SavedChunk { position: chunk.meta.position, sequence: chunk.sequence, last: chunk.last };
        if chunk.sequence == 0 {
            self.unfinished.clear();
        }
        assert_eq!(self.unfinished.len(), chunk.sequence as usize, "chunks are written in order");
        self.unfinished.push(chunk);
        if saved.last {
            self.snapshot = std::mem::take(&mut self.unfinished);
            self.queued.push(Job::Snapshot(saved));
        }
        let next = (!self.chunks.is_empty()).then(|| self.duration(time));
        ((!saved.last).then_some(saved), next)
    }

    /// The power fails.
    pub fn crash(&mut self, time: Time) {
        self.stop();
        let mut random = Random::keyed(self.seed, Stream::Disk, self.member.0 | 1 << 32, time.0);
        self.disk.crash(&mut random);
    }

    /// The process ends; what it has written stays in the machine's memory.
    pub fn stop(&mut self) {
        self.queued.clear();
        self.flight = None;
        self.chunks.clear();
        self.unfinished.clear();
    }

    /// From now on the disk fails in this way. The member is down if bytes are damaged by it; false if there
    /// are none that could be.
    pub fn fail(&mut self, failure: DiskFailure, time: Time) -> bool {
        let mut random = Random::keyed(self.seed, Stream::Disk, self.member.0 | 2 << 32, time.0);
        let bytes = self.disk.bytes(self.log);
        let until = self.witnessed.min(bytes.len()) as u64;
        match failure {
            DiskFailure::Full | DiskFailure::FailedSync => self.failure = Some(failure),
            DiskFailure::ReadErrors => {}
            DiskFailure::BitRot | DiskFailure::Misdirected => {
                if until < SECTOR as u64 * 2 || self.undamaged.is_some() {
                    return false;
                }
                let (at, damaged) = if failure == DiskFailure::BitRot {
                    let (bit, at) = (random.below(8), random.below(until) as usize);
                    (at, vec![bytes[at] ^ 1 << bit])
                } else if let Some((from, to, length)) = self.alike(until as usize, &mut random) {
                    (to, bytes[from..from + length].to_vec())
                } else {
                    let sectors = until / SECTOR as u64;
                    let (from, to) = (random.below(sectors) as usize, random.below(sectors) as usize);
                    (to * SECTOR, bytes[from * SECTOR..(from + 1) * SECTOR].to_vec())
                };
                // Gaps between records and sectors that are alike change nothing, or nothing that matters.
                if bytes[at..at + damaged.len()] == damaged {
                    return false;
                }
                let before = self.disk.patch(self.log, at, &damaged);
                self.undamaged = Some((at, before));
            }
        }
        true
    }

    /// Two appends of the same length, for every other misdirected write: each is whole by itself, and one of them is
    /// in a place that is not its own.
    fn alike(&self, until: usize, random: &mut Random) -> Option<(usize, usize, usize)> {
        let whole = self.appends.partition_point(|(at, length)| at + length <= until);
        if whole == 0 || random.chance(500_000) {
            return None;
        }
        let (from, length) = self.appends[random.below(whole as u64) as usize];
        let others = || self.appends[..whole].iter().filter(|(at, other)| *other == length && *at != from);
        let chosen = random.below(others().count().max(1) as u64) as usize;
        others().nth(chosen).map(|(to, _)| (from, *to, length))
    }

    /// The disk is as it should be again.
    pub fn repair(&mut self) {
        self.failure = None;
        if let Some((at, bytes)) = self.undamaged.take() {
            self.disk.patch(self.log, at, &bytes);
        }
    }

    /// Whether what was not synced is lost when the process ends: the kernel has dropped it when the sync
    /// failed.
    #[must_use]
    pub fn loses_unsynced(&self) -> bool {
        self.failure == Some(DiskFailure::FailedSync)
    }

    /// Whether bytes that were synced have changed.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.undamaged.is_some()
    }

    /// What a starting member finds. `decoded` are entries that somebody has met before.
    pub fn recover(&mut self, decoded: &mut Decoded) -> Result<Saved, String> {
        let bytes = self.disk.bytes(self.log);
        if let (Some((at, _)), Some((scan, _))) = (&self.undamaged, &self.known)
            && *at as u64 >= scan.valid_len
        {
            // What was read before is as it was; what follows it is damaged.
            let rest = scan.clone().extend_by(bytes, true, |body| decoded.decode(body));
            rest.map_err(|error| error.to_string())?;
        }
        let known = if self.is_damaged() { None } else { self.known.take() };
        let (mut scan, mut recovered) = match known {
            Some(known) => known,
            None => (Scan::begin(bytes).map_err(|error| error.to_string())?, Recovered::default()),
        };
        let read = scan.extend_by(bytes, true, |body| decoded.decode(body));
        read.map_err(|error| error.to_string())?;
        debug_assert!(
            record::scan(bytes, true).is_ok_and(|whole| whole.valid_len == scan.valid_len),
            "what was read before is read again to the same end"
        );
        self.encoder = SegmentEncoder::resume(&scan);
        let valid = usize::try_from(self.encoder.offset()).expect("it fits memory");
        scan.records.drain(..).for_each(|record| recovered.apply(record));
        self.disk.truncate(self.log, valid);
        self.appends.retain(|(at, length)| at + length <= valid);
        self.disk.sync(self.log, valid);
        (self.synced, self.witnessed) = (valid, 0);
        self.boots += 1;
        let snapshot = self.snapshot.first().map_or_else(|| self.initial.clone(), |chunk| chunk.meta.clone());
        let found = recovered.so_far(snapshot.position).map_err(|error| error.to_string())?;
        self.known = Some((scan, recovered));
        let (hard_state, entries) = found;
        let chunks = self.snapshot.iter().map(|chunk| (**chunk).clone()).collect();
        let founder =
            |id| Founder { id, owner: id.0, name: format!("m{}", id.0), peer_urls: vec![peer_url(id)] };
        let genesis = self.initial.configuration.voters.iter().copied().map(founder).collect();
        Ok(Saved { genesis, boot: self.boots, hard_state, snapshot, chunks, entries })
    }

    /// What is drawn for the next thing that the disk does: it depends on the time and on nothing else.
    fn dice(&mut self, time: Time) -> Random {
        let millisecond = time.0 >> 20;
        if self.moment.0 != millisecond {
            self.moment = (millisecond, 0);
        }
        self.moment.1 += 1;
        Random::keyed(self.seed, Stream::Disk, self.member.0, millisecond << 16 | self.moment.1)
    }

    fn duration(&mut self, time: Time) -> Duration {
        let usual = self.speed.sync + self.dice(time).exponential_duration(self.speed.jitter);
        let (factor, until) = self.slower;
        // What the disk is busy with when it becomes fast again, it finishes fast.
        usual + (usual * (factor - 1)).min(until.since(time))
    }
}

/// Where a member's peers reach it.
pub fn peer_url(id: NodeId) -> String {
    format!("sim:{}", id.0)
}

/// What a misdirected write overwrites.
const SECTOR: usize = 512;
