//! The log in files.
//!
//! A segment is named `<sequence>-<first index>.wal`, both as sixteen hexadecimal digits, so that names
//! sort like segments. A new segment is written under a temporary name, with its header and the full hard
//! state, synced and renamed: whatever has the name of a segment has a whole header, and every segment can
//! be the first one. It is begun only when all before it is synced, so only the newest one can have a torn
//! tail.

use std::collections::VecDeque;
use std::fmt;

use quorate_raft::{HardState, Index, NodeId, Position};
use quorate_replica::Write;

use super::record::{self, Record, Scan, ScanError, SegmentEncoder, SegmentHeader};
use super::recovered::Recovered;
use crate::env::{Disk, File};
use crate::error::Error;
use crate::limits;
use crate::meta::{self, ClusterId};

/// The write-ahead log of one member.
///
/// An error leaves it in an unknown state; there is nothing to do then but to end the process.
pub(crate) struct Wal<D: Disk> {
    disk: D,
    owner: (ClusterId, NodeId),
    segment_bytes: u64,
    /// Segments that are complete, oldest first.
    closed: VecDeque<Segment>,
    current: Segment,
    file: D::File,
    encoder: SegmentEncoder,
    /// Up to where there is room in the file.
    reserved: u64,
    hard_state: HardState,
    /// The index that the next entry would have if it followed the last one.
    next_index: Index,
    /// Kept from batch to batch, so that it need not grow again.
    buffer: Vec<u8>,
}

/// A file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    name: SegmentName,
    /// The greatest index of any entry or snapshot in it; index zero if there is none.
    max_index: Index,
}

/// What the name of a file of the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    sequence: u64,
    first_index: Index,
}

impl SegmentName {
    /// Whether these bytes of the file are those of a new member's log to which nothing was ever written.
    pub fn is_untouched(self, bytes: &[u8]) -> bool {
        let nothing = [Record::HardState(HardState::default())];
        record::scan(bytes, true).is_ok_and(|scan| {
            self.sequence == 1 && scan.records == nothing && scan.valid_len == bytes.len() as u64
        })
    }

    fn parse(name: &str) -> Option<SegmentName> {
        let (sequence, first_index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let sequence = u64::from_str_radix(sequence, 16).ok()?;
        let first_index = Index(u64::from_str_radix(first_index, 16).ok()?);
        let parsed = SegmentName { sequence, first_index };
        // Only what we would have written ourselves: neither `+1` nor missing zeros.
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}{SUFFIX}", self.sequence, self.first_index.0)
    }
}

impl<D: Disk> Wal<D> {
    /// Makes the log of a new member, durably.
    pub async fn create(disk: &D, owner: (ClusterId, NodeId)) -> Result<(), Error> {
        begin_segment(disk, owner, 1, Index(1), 0, &HardState::default()).await?;
        Ok(())
    }

    /// Reads the log, cuts off a torn tail, and makes durable what is left: a process that was killed
    /// may have left whole writes that were never synced, and they are about to be believed.
    pub async fn open(
        disk: D,
        owner: (ClusterId, NodeId),
        segment_bytes: u64,
    ) -> Result<(Wal<D>, Recovered), Error> {
        let names = segment_names(&disk).await?;
        let mut recovered = Recovered::default();
        let mut closed = VecDeque::new();
        let mut previous: Option<(Segment, u64)> = None;
        let mut newest = None;
        for (at, name) in names.iter().enumerate() {
            let bytes = meta::read_file(&disk, &name.to_string()).await?;
            let scan = read_segment(&bytes, *name, owner, at + 1 == names.len())?;
            check_row(*name, &scan, previous)?;
            let segment = Segment { name: *name, max_index: max_index(&scan.records) };
            closed.extend(previous.map(|(segment, _)| segment));
            previous = Some((segment, bytes.len() as u64));
            let encoder = SegmentEncoder::resume(&scan);
            scan.records.into_iter().for_each(|record| recovered.apply(record));
            newest = Some((segment, encoder));
        }
        let (current, encoder) = newest.ok_or(Error::SegmentMissing { missing: 1 })?;
        let name = current.name.to_string();
        let mut file = disk.open(&name).await.map_err(Error::io("open", &name))?;
        let len = file.len().await.map_err(Error::io("measure", &name))?;
        if len > encoder.offset() {
            tracing::info!(file = name, from = len, to = encoder.offset(), "cutting off room or a torn tail");
            file.truncate(encoder.offset()).await.map_err(Error::io("truncate", &name))?;
        }
        file.sync().await.map_err(Error::io("sync", &name))?;
        let wal = Wal {
            disk,
            owner,
            segment_bytes,
            closed,
            current,
            file,
            encoder,
            reserved: 0,
            hard_state: recovered.hard_state(),
            next_index: recovered.next_index(),
            buffer: Vec::new(),
        };
        Ok((wal, recovered))
    }

    /// Encodes a write. It reaches the file with the next [`flush`](Wal::flush).
    pub fn stage(&mut self, write: &Write) -> Result<(), Error> {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(last) = write.entries.last() {
            self.note_index(last.index);
            self.next_index = last.index.next();
        }
        self.encoder
            .write(write.hard_state.as_ref(), &write.entries, &mut self.buffer)
            .map_err(|source| Error::Encode { file: self.current_name(), source })
    }

    /// How many bytes are staged.
    pub fn staged_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Puts what is staged into the file, with one append, and makes it durable if `sync`.
    pub async fn flush(&mut self, sync: bool) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            self.reserve().await?;
            let appended = self.file.append(&self.buffer).await;
            appended.map_err(|source| self.io("append to", source))?;
            self.buffer.clear();
            self.buffer.shrink_to(2 * limits::BATCH_BYTES);
        }
        if sync && !self.encoder.is_synced() {
            let synced = self.file.sync().await;
            synced.map_err(|source| self.io("sync", source))?;
            self.encoder.mark_synced();
        }
        Ok(())
    }

    /// Begins a new segment if the current one is long enough. Apart from [`flush`](Wal::flush), so that
    /// whoever waits for a write does not wait for this too.
    pub async fn rotate_if_full(&mut self) -> Result<(), Error> {
        assert!(self.buffer.is_empty(), "what is staged belongs to the current segment");
        if self.encoder.offset() >= self.segment_bytes { self.rotate().await } else { Ok(()) }
    }

    /// Sees to it that there is room for what is staged, a good piece at a time.
    async fn reserve(&mut self) -> Result<(), Error> {
        if self.encoder.offset() > self.reserved {
            let room = self.buffer.len() as u64 + limits::RESERVE_BYTES;
            let reserved = self.file.reserve(room).await;
            reserved.map_err(|source| self.io("make room in", source))?;
            self.reserved = self.encoder.offset() + limits::RESERVE_BYTES;
        }
        Ok(())
    }

    /// Notes that a snapshot is durable, then removes the segments whose entries are all below `keep_from`.
    ///
    /// The entry *at* `keep_from` is kept, if the log has it: its term tells whether the log agrees with a
    /// snapshot of that index.
    pub async fn note_snapshot(&mut self, position: Position, keep_from: Index) -> Result<(), Error> {
        assert!(keep_from <= position.index, "entries above the snapshot are needed");
        self.note_index(position.index);
        self.next_index = self.next_index.max(position.index.next());
        self.encoder
            .snapshot(position, &mut self.buffer)
            .map_err(|source| Error::Encode { file: self.current_name(), source })?;
        self.flush(true).await?;
        while self.closed.front().is_some_and(|oldest| oldest.max_index < keep_from) {
            let oldest = self.closed.pop_front().expect("there is one");
            let name = oldest.name.to_string();
            self.disk.remove(&name).await.map_err(Error::io("remove", &name))?;
            // One by one: after a crash, what is left must be a row without a hole.
            self.disk.sync_dir().await.map_err(Error::io("sync", "the data directory"))?;
        }
        Ok(())
    }

    /// Closes the current segment, at its very end, and begins the next one.
    async fn rotate(&mut self) -> Result<(), Error> {
        let truncated = self.file.truncate(self.encoder.offset()).await;
        truncated.map_err(|source| self.io("truncate", source))?;
        let synced = self.file.sync().await;
        synced.map_err(|source| self.io("sync", source))?;
        let previous_len = self.encoder.offset();
        let sequence = self.current.name.sequence + 1;
        let (segment, file, encoder) =
            begin_segment(&self.disk, self.owner, sequence, self.next_index, previous_len, &self.hard_state)
                .await?;
        self.closed.push_back(std::mem::replace(&mut self.current, segment));
        (self.file, self.encoder, self.reserved) = (file, encoder, 0);
        Ok(())
    }

    fn note_index(&mut self, index: Index) {
        self.current.max_index = self.current.max_index.max(index);
    }

    fn current_name(&self) -> String {
        self.current.name.to_string()
    }

    fn io(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::Io { action, file: self.current_name(), source }
    }
}

/// Makes a new segment, durably, and opens it.
async fn begin_segment<D: Disk>(
    disk: &D,
    (cluster, member): (ClusterId, NodeId),
    sequence: u64,
    first_index: Index,
    previous_len: u64,
    hard_state: &HardState,
) -> Result<(Segment, D::File, SegmentEncoder), Error> {
    let header = SegmentHeader { cluster, member, sequence, first_index, previous_len };
    let segment = Segment { name: SegmentName { sequence, first_index }, max_index: Index(0) };
    let name = segment.name.to_string();
    let mut bytes = Vec::new();
    let mut encoder = SegmentEncoder::begin(&header, &mut bytes);
    encoder
        .write(Some(hard_state), &[], &mut bytes)
        .map_err(|source| Error::Encode { file: name.clone(), source })?;
    meta::install_file(disk, TEMPORARY, &name, &bytes).await?;
    encoder.mark_synced();
    let file = disk.open(&name).await.map_err(Error::io("open", &name))?;
    Ok((segment, file, encoder))
}

/// Scans a segment and checks that it is the one that its name says, and ours.
fn read_segment(
    bytes: &[u8],
    name: SegmentName,
    owner: (ClusterId, NodeId),
    newest: bool,
) -> Result<Scan, Error> {
    let file = name.to_string();
    let scan = record::scan(bytes, newest).map_err(|error| match error {
        ScanError::Header(error) => Error::decode(&file, 0, error),
        ScanError::Damage { offset, what } => Error::Corrupt { file: file.clone(), offset, what },
    })?;
    let header = &scan.header;
    Error::check_owner(&file, (header.cluster, header.member), owner)?;
    if (header.sequence, header.first_index) != (name.sequence, name.first_index) {
        let what = format!("it is segment {:016x} by its header", header.sequence);
        return Err(Error::Corrupt { file, offset: 0, what });
    }
    Ok(scan)
}

/// Checks that a segment continues the one before it.
fn check_row(name: SegmentName, scan: &Scan, previous: Option<(Segment, u64)>) -> Result<(), Error> {
    let Some((previous, len)) = previous else { return Ok(()) };
    if name.sequence != previous.name.sequence + 1 {
        return Err(Error::SegmentMissing { missing: previous.name.sequence + 1 });
    }
    if scan.header.previous_len != len {
        return Err(Error::Corrupt {
            file: previous.name.to_string(),
            offset: len,
            what: format!("it was {} bytes long", scan.header.previous_len),
        });
    }
    Ok(())
}

fn max_index(records: &[Record]) -> Index {
    let index = |record: &Record| match record {
        Record::HardState(_) => None,
        Record::Entry(entry) => Some(entry.index),
        Record::Snapshot(position) => Some(position.index),
    };
    records.iter().filter_map(index).max().unwrap_or_default()
}

/// The segments that are there, oldest first.
pub(crate) async fn segment_names<D: Disk>(disk: &D) -> Result<Vec<SegmentName>, Error> {
    let names = disk.list().await.map_err(Error::io("list", "the data directory"))?;
    let mut segments: Vec<_> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.sort();
    Ok(segments)
}

const SUFFIX: &str = ".wal";
const TEMPORARY: &str = "wal.tmp";
