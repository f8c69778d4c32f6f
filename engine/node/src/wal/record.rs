//! The log's format, as functions over byte slices.
//!
//! A segment is a frame of kind `Segment` holding a [`SegmentHeader`], then records. Each begins at a
//! multiple of eight bytes; gaps are zero. Integers are little-endian.
//!
//! ```text
//!  0        4        8        12     13      14     16        24            24 + length
//!  +--------+--------+--------+------+-------+------+---------+---- ... ----+- - -+
//!  | header | body   | length | kind | flags | zero | synced  |    body     | zero|
//!  | crc32c | crc32c |        |      |       |      |         |             |     |
//!  +--------+--------+--------+------+-------+------+---------+---- ... ----+- - -+
//!   u32      u32      u32      u8     u8      u16    u64       bincode
//! ```
//!
//! | kind | body | meaning |
//! |---|---|---|
//! | 1 | `HardState` | replaces the hard state |
//! | 2 | `Entry<SharedProposal>` | an entry; replaces what is at its index and after it |
//! | 3 | `Position` | from here on a snapshot of this position is in place |
//!
//! - The header checksum covers the header's other twenty bytes, **and** the record's offset and the
//!   segment's header (that is the cluster, the member and the segment's number). A record that a disk has
//!   put in another place, or left over from another file, does not pass.
//! - The body checksum covers body and padding, and is itself covered by the header's.
//! - Flag 1 marks the last record of a write. Records after the last such flag are an incomplete write.
//! - `synced` is the offset up to which the segment was synced when the record was made (see the module
//!   above).

use quorate_raft::{Entry, HardState, Index, NodeId, Position};
use quorate_replica::SharedProposal;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{self, CodecError, Kind, u32_at, u64_at};
use crate::limits;
use crate::meta::ClusterId;

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub cluster: ClusterId,
    /// Whose log it is.
    pub member: NodeId,
    /// The segment's number; consecutive, from one.
    pub sequence: u64,
    /// The index that the log would have given to its next entry when the segment was begun.
    pub first_index: Index,
    /// How long the segment before this one is, so that one cut short is noticed; zero for the first.
    pub previous_len: u64,
}

/// One thing that the log remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The hard state from here on.
    HardState(HardState),
    /// An entry. It replaces an entry at its index and all after that.
    Entry(Entry<SharedProposal>),
    /// A snapshot of this position is durable. If the log holds no such entry, the snapshot has replaced
    /// the log.
    Snapshot(Position),
}

/// Encodes the records of one segment, in order.
///
/// It keeps what a record must say of its surroundings; the bytes go to the caller, who puts them at
/// [`offset`](SegmentEncoder::offset).
#[derive(Clone, Debug)]
pub struct SegmentEncoder {
    seed: u32,
    offset: u64,
    synced: u64,
}

impl SegmentEncoder {
    /// Begins a segment: appends its header.
    pub fn begin(header: &SegmentHeader, out: &mut Vec<u8>) -> SegmentEncoder {
        let start = out.len();
        codec::encode_frame(Kind::Segment, header, out).expect("a segment's header is a few bytes");
        let seed = crc32c::crc32c(&out[start..]);
        out.resize(start + align(out.len() - start), 0);
        SegmentEncoder { seed, offset: (out.len() - start) as u64, synced: 0 }
    }

    /// Goes on with a segment that has been scanned, cut to its valid length and synced.
    pub fn resume(scan: &Scan) -> SegmentEncoder {
        SegmentEncoder { seed: scan.seed, offset: scan.valid_len, synced: scan.valid_len }
    }

    /// Where the next record goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes note that everything encoded so far has been synced.
    pub fn mark_synced(&mut self) {
        self.synced = self.offset;
    }

    /// Whether something has been encoded since the last sync.
    pub fn is_synced(&self) -> bool {
        self.synced == self.offset
    }

    /// Appends the records of one write. It will be found whole or not at all.
    pub fn write(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry<SharedProposal>],
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        if let Some(hard_state) = hard_state {
            self.record(HARD_STATE, entries.is_empty(), hard_state, out)?;
        }
        for (i, entry) in entries.iter().enumerate() {
            self.record(ENTRY, i + 1 == entries.len(), entry, out)?;
        }
        Ok(())
    }

    /// Appends the note that a snapshot is in place.
    pub fn snapshot(&mut self, position: Position, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.record(SNAPSHOT, true, &position, out)
    }

    fn record<T: Serialize>(
        &mut self,
        kind: u8,
        last: bool,
        body: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let start = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        codec::encode_body(body, limits::RECORD_BODY_BYTES_MAX, out)?;
        let length = out.len() - start - RECORD_HEADER_BYTES;
        out.resize(start + align(out.len() - start), 0);

        let (header, body) = out[start..].split_at_mut(RECORD_HEADER_BYTES);
        let length = u32::try_from(length).expect("the limit is below 32 bits");
        header[4..8].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        header[8..12].copy_from_slice(&length.to_le_bytes());
        header[12] = kind;
        header[13] = if last { LAST_OF_WRITE } else { 0 };
        header[16..24].copy_from_slice(&self.synced.to_le_bytes());
        let checksum = header_checksum(self.seed, self.offset, header);
        header[0..4].copy_from_slice(&checksum.to_le_bytes());
        self.offset += (out.len() - start) as u64;
        Ok(())
    }
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Its header.
    pub header: SegmentHeader,
    /// The records of all whole writes.
    pub records: Vec<Record>,
    /// Where the last whole write ends. What follows is a torn tail, to be cut off.
    pub valid_len: u64,
    seed: u32,
}

/// Why a segment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScanError {
    /// Its header is damaged or of a newer version. A segment gets its name when its header is durable, so no
    /// crash leaves such a one.
    #[error(transparent)]
    Header(CodecError),
    /// A record is damaged that had been synced.
    #[error("record at byte {offset}: {what}")]
    Damage {
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

/// Reads a whole segment. A torn tail is legal only in the newest one: `newest` says whether this is it.
pub fn scan(bytes: &[u8], newest: bool) -> Result<Scan, ScanError> {
    let mut scan = Scan::begin(bytes)?;
    scan.extend(bytes, newest)?;
    Ok(scan)
}

impl Scan {
    /// Reads a segment's header, and no record.
    pub fn begin(bytes: &[u8]) -> Result<Scan, ScanError> {
        let (header, seed, start) = segment_header(bytes).map_err(ScanError::Header)?;
        Ok(Scan { header, records: Vec::new(), valid_len: start as u64, seed })
    }

    /// Goes on behind what was read before, and adds its records to those that are still here. `bytes` are the
    /// whole segment, unchanged up to `valid_len`. After an error the scan is of no use.
    pub fn extend(&mut self, bytes: &[u8], newest: bool) -> Result<(), ScanError> {
        self.extend_by(bytes, newest, |body| body.decode())
    }

    /// [`extend`](Scan::extend), with bodies decoded by the caller: who reads the logs of several members meets the same
    /// bodies in all of them.
    pub fn extend_by(
        &mut self,
        bytes: &[u8],
        newest: bool,
        mut decode: impl FnMut(&Body<'_>) -> Result<Record, CodecError>,
    ) -> Result<(), ScanError> {
        let seed = self.seed;
        let damage =
            |offset: usize, what: &str| ScanError::Damage { offset: offset as u64, what: what.to_owned() };
        let mut offset = usize::try_from(self.valid_len).expect("what was read was in memory");
        let (mut whole_records, mut whole_len) = (self.records.len(), offset);
        while offset < bytes.len() {
            let view = match record_at(bytes, seed, offset) {
                Ok(view) => view,
                Err(what) if !newest => return Err(damage(offset, what)),
                Err(what) => match synced_past(bytes, seed, offset) {
                    Some(witness) => {
                        let what = format!(
                            "{what}, yet the record at byte {witness} was written after it was synced"
                        );
                        return Err(damage(offset, &what));
                    }
                    None => break,
                },
            };
            self.records.push(decode(&view.body).map_err(|error| damage(offset, &error.to_string()))?);
            offset = view.end;
            if view.last {
                (whole_records, whole_len) = (self.records.len(), offset);
            }
        }
        if !newest && whole_len != bytes.len() {
            return Err(damage(whole_len, "the last write is incomplete, yet there is a later segment"));
        }
        self.records.truncate(whole_records);
        self.valid_len = whole_len as u64;
        Ok(())
    }
}

/// The header of a segment, the seed of its records' checksums, and where they begin.
fn segment_header(bytes: &[u8]) -> Result<(SegmentHeader, u32, usize), CodecError> {
    let short = CodecError::Length { found: bytes.len(), expected: codec::HEADER_BYTES };
    let frame = codec::decode_frame(bytes)?.ok_or(short)?;
    let header = frame.decode(Kind::Segment)?;
    let start = align(frame.len());
    if bytes.len() < start {
        return Err(CodecError::Length { found: bytes.len(), expected: start });
    }
    if bytes[frame.len()..start].iter().any(|&byte| byte != 0) {
        return Err(CodecError::Checksum);
    }
    Ok((header, crc32c::crc32c(&bytes[..frame.len()]), start))
}

/// A record in a slice, its checksums verified.
struct View<'a> {
    last: bool,
    body: Body<'a>,
    end: usize,
}

/// What a record says, encoded. Nothing else decides what it is decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// The record's kind.
    pub kind: u8,
    /// Its body.
    pub bytes: &'a [u8],
    /// The body's checksum.
    pub checksum: u32,
}

impl Body<'_> {
    /// Decodes it.
    pub fn decode(&self) -> Result<Record, CodecError> {
        match self.kind {
            HARD_STATE => codec::decode_body(self.bytes).map(Record::HardState),
            ENTRY => codec::decode_body(self.bytes).map(Record::Entry),
            SNAPSHOT => codec::decode_body(self.bytes).map(Record::Snapshot),
            kind => Err(CodecError::Body(format!("unknown kind of record {kind}"))),
        }
    }
}

fn record_at(bytes: &[u8], seed: u32, offset: usize) -> Result<View<'_>, &'static str> {
    let header = header_at(bytes, seed, offset).ok_or("its header is not whole")?;
    let length = u32_at(header, 8) as usize;
    if length > limits::RECORD_BODY_BYTES_MAX {
        return Err("it is longer than a record can be");
    }
    let body = offset + RECORD_HEADER_BYTES;
    let end = offset + align(RECORD_HEADER_BYTES + length);
    let padded = bytes.get(body..end).ok_or("its body is cut off")?;
    if crc32c::crc32c(padded) != u32_at(header, 4) {
        return Err("its body does not match its checksum");
    }
    let body = Body { kind: header[12], bytes: &padded[..length], checksum: u32_at(header, 4) };
    Ok(View { last: header[13] & LAST_OF_WRITE != 0, body, end })
}

/// The header of a record at this offset, if its checksum matches.
fn header_at(bytes: &[u8], seed: u32, offset: usize) -> Option<&[u8]> {
    let header = bytes.get(offset..)?.get(..RECORD_HEADER_BYTES)?;
    (header_checksum(seed, offset as u64, header) == u32_at(header, 0)).then_some(header)
}

/// Where a record behind `bad` says that `bad` was synced before that record was made, if any does.
fn synced_past(bytes: &[u8], seed: u32, bad: usize) -> Option<usize> {
    (bad + ALIGNMENT..bytes.len())
        .step_by(ALIGNMENT)
        .find(|&offset| header_at(bytes, seed, offset).is_some_and(|header| u64_at(header, 16) > bad as u64))
}

fn header_checksum(seed: u32, offset: u64, header: &[u8]) -> u32 {
    let mut covered = [0; 8 + RECORD_HEADER_BYTES - 4];
    covered[..8].copy_from_slice(&offset.to_le_bytes());
    covered[8..].copy_from_slice(&header[4..RECORD_HEADER_BYTES]);
    crc32c::crc32c_append(seed, &covered)
}

const fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}

const ALIGNMENT: usize = 8;
const RECORD_HEADER_BYTES: usize = 24;
const LAST_OF_WRITE: u8 = 1;
const HARD_STATE: u8 = 1;
const ENTRY: u8 = 2;
const SNAPSHOT: u8 = 3;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use quorate_raft::{Payload, Term};

    use super::*;
    use crate::testing::put;

    /// A segment of a few batches; for each write, where it ends and how many records there are by then.
    struct Sample {
        bytes: Vec<u8>,
        records: Vec<Record>,
        writes: Vec<(usize, usize)>,
        /// Where the last synced batch but one ends: damage before it must be told.
        provable: usize,
        header_len: usize,
    }

    fn sample() -> Sample {
        let header = SegmentHeader {
            cluster: ClusterId(7),
            member: NodeId(1),
            sequence: 3,
            first_index: Index(1),
            previous_len: 4096,
        };
        let mut bytes = Vec::new();
        let mut encoder = SegmentEncoder::begin(&header, &mut bytes);
        let header_len = bytes.len();
        let (mut records, mut writes, mut provable) = (Vec::new(), Vec::new(), 0);
        for batch in 1..=4u64 {
            for write in 1..=2u64 {
                let hard_state = (write == 1).then_some(HardState {
                    term: Term(batch),
                    vote: Some(NodeId(2)),
                    commit: Index(batch - 1),
                });
                let entries: Vec<_> =
                    (0..write).map(|i| put(batch, batch * 3 + write + i, "key", "a value")).collect();
                encoder.write(hard_state.as_ref(), &entries, &mut bytes).expect("small");
                records.extend(hard_state.map(Record::HardState));
                records.extend(entries.into_iter().map(Record::Entry));
                writes.push((bytes.len(), records.len()));
            }
            if batch < 4 {
                provable = bytes.len();
                encoder.mark_synced();
            }
        }
        Sample { bytes, records, writes, provable, header_len }
    }

    #[test]
    fn what_is_written_is_read() {
        let sample = sample();
        let scan = scan(&sample.bytes, true).expect("nothing is wrong");
        assert_eq!(scan.records, sample.records);
        assert_eq!(scan.valid_len, sample.bytes.len() as u64);
    }

    #[test]
    fn every_truncation_leaves_the_whole_writes_before_it() {
        let sample = sample();
        for len in 0..sample.bytes.len() {
            let result = scan(&sample.bytes[..len], true);
            if len < sample.header_len {
                assert!(matches!(result, Err(ScanError::Header(_))), "cut to {len}");
                continue;
            }
            let scan = result.unwrap_or_else(|error| panic!("cut to {len}: {error}"));
            let whole = sample.writes.iter().rfind(|(end, _)| *end <= len);
            let (end, count) = whole.copied().unwrap_or((sample.header_len, 0));
            assert_eq!(
                (scan.valid_len, &scan.records[..]),
                (end as u64, &sample.records[..count]),
                "cut to {len}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_one_in_a_synced_batch_is_not_taken_for_a_torn_tail() {
        let sample = sample();
        for bit in 0..sample.bytes.len() * 8 {
            let mut bytes = sample.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match scan(&bytes, true) {
                Err(_) => assert!(bit / 8 < sample.provable, "bit {bit} is in the unsynced tail"),
                Ok(scan) => {
                    assert!(bit / 8 >= sample.provable, "bit {bit} was synced");
                    assert!(scan.records.len() < sample.records.len(), "bit {bit} was not noticed");
                    assert_eq!(
                        scan.records,
                        sample.records[..scan.records.len()],
                        "bit {bit} gave wrong data"
                    );
                }
            }
            assert!(super::scan(&bytes, false).is_err(), "bit {bit}: only the newest segment may be torn");
        }
    }

    #[test]
    fn a_record_of_another_segment_or_another_place_does_not_pass() {
        let sample = sample();
        let other = SegmentHeader {
            cluster: ClusterId(7),
            member: NodeId(1),
            sequence: 4,
            first_index: Index(1),
            previous_len: 4096,
        };
        let mut transplanted = Vec::new();
        SegmentEncoder::begin(&other, &mut transplanted);
        assert_eq!(transplanted.len(), sample.header_len);
        transplanted.extend_from_slice(&sample.bytes[sample.header_len..]);
        assert_eq!(scan(&transplanted, true).expect("all torn").records, []);

        let first = sample.header_len..sample.writes[0].0;
        let mut repeated = sample.bytes[..first.end].to_vec();
        repeated.extend_from_slice(&sample.bytes[first.clone()]);
        assert_eq!(scan(&repeated, true).expect("torn").valid_len, first.end as u64);
    }

    #[test]
    fn a_tail_whose_sectors_arrived_out_of_order_is_torn_and_not_damaged() {
        let sample = sample();
        let mut bytes = sample.bytes.clone();
        bytes[sample.provable..sample.provable + 40].fill(0);
        let scan = scan(&bytes, true).expect("the last batch was not synced");
        assert_eq!(scan.valid_len, sample.provable as u64);
    }

    #[test]
    fn an_entry_too_large_is_refused_when_it_is_written() {
        let header = SegmentHeader {
            cluster: ClusterId(1),
            member: NodeId(1),
            sequence: 1,
            first_index: Index(1),
            previous_len: 0,
        };
        let mut bytes = Vec::new();
        let mut encoder = SegmentEncoder::begin(&header, &mut bytes);
        let value = "x".repeat(limits::RECORD_BODY_BYTES_MAX);
        let error = encoder.write(None, &[put(1, 1, "key", &value)], &mut bytes).expect_err("too long");
        assert!(matches!(error, CodecError::TooLong { .. }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_behind_a_header_never_panic(tail in vec(any::<u8>(), 0..300)) {
            let mut bytes = sample().bytes;
            bytes.truncate(sample().header_len);
            bytes.extend(tail);
            prop_assert_eq!(scan(&bytes, true).map(|scan| scan.records.len()), Ok(0));
        }

        #[test]
        fn any_lost_sectors_of_the_unsynced_tail_leave_whole_writes(lost in vec(any::<bool>(), 64)) {
            let sample = sample();
            let mut bytes = sample.bytes.clone();
            for (sector, _) in lost.iter().enumerate().filter(|(_, lost)| **lost) {
                let from = (sample.provable + sector * 16).min(bytes.len());
                let to = (from + 16).min(bytes.len());
                bytes[from..to].fill(0);
            }
            let scan = scan(&bytes, true).expect("nothing synced is touched");
            prop_assert!(scan.valid_len >= sample.provable as u64);
            prop_assert_eq!(&scan.records[..], &sample.records[..scan.records.len()]);
        }
    }

    #[test]
    fn a_noop_and_a_membership_entry_travel_too() {
        let header = SegmentHeader {
            cluster: ClusterId(1),
            member: NodeId(1),
            sequence: 1,
            first_index: Index(1),
            previous_len: 0,
        };
        let mut bytes = Vec::new();
        let mut encoder = SegmentEncoder::begin(&header, &mut bytes);
        let entries = [
            Entry { term: Term(1), index: Index(1), payload: Payload::Noop },
            Entry {
                term: Term(1),
                index: Index(2),
                payload: Payload::Membership(quorate_raft::Membership {
                    configuration: crate::testing::configuration(&[1, 2, 3]),
                    command: None,
                }),
            },
        ];
        encoder.write(None, &entries, &mut bytes).expect("small");
        let position = Position { term: Term(1), index: Index(2) };
        encoder.snapshot(position, &mut bytes).expect("small");
        let records = scan(&bytes, true).expect("whole").records;
        let mut expected: Vec<_> = entries.into_iter().map(Record::Entry).collect();
        expected.push(Record::Snapshot(position));
        assert_eq!(records, expected);
    }
}
