//! Snapshots in files.
//!
//! ```text
//!  snap-<index>-<term>   (sixteen hexadecimal digits each)
//!  +--------+---------+---------+- - - -+--------+
//!  | header | chunk 0 | chunk 1 |       | footer |     each a frame (see `codec`)
//!  +--------+---------+---------+- - - -+--------+
//! ```
//!
//! - The header says whose snapshot of what it is; every chunk repeats the position and has its own number
//!   and checksum, so pieces of different snapshots cannot mix; the footer has the number of chunks and a
//!   checksum over all of their frames.
//! - Chunks are appended to a temporary file and synced one by one. Behind the footer, the file is synced,
//!   renamed, and the directory synced: whatever has the name of a snapshot is a whole one.
//! - The two newest are kept. The log is kept back to the older one, so that a damaged newest snapshot
//!   costs time and not data.

use quorate_raft::{Index, NodeId, Position, SnapshotMeta, Term};
use quorate_replica::SnapshotChunk;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Frame, Kind};
use crate::env::{Disk, File};
use crate::error::Error;
use crate::limits;
use crate::meta::{self, ClusterId};

/// What a snapshot file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub cluster: ClusterId,
    pub member: NodeId,
    pub position: Position,
}

/// What a snapshot file ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotFooter {
    /// How many chunks there are.
    pub chunks: u32,
    /// crc32c of all their frames.
    pub checksum: u32,
}

/// Writes snapshot files, one at a time.
pub(crate) struct SnapshotWriter<D: Disk> {
    disk: D,
    owner: (ClusterId, NodeId),
    unfinished: Option<Unfinished<D::File>>,
    /// The usable files, oldest first.
    complete: Vec<Position>,
}

struct Unfinished<F> {
    meta: SnapshotMeta,
    file: F,
    footer: SnapshotFooter,
}

impl<D: Disk> SnapshotWriter<D> {
    /// A writer beside these usable files.
    pub fn new(disk: D, owner: (ClusterId, NodeId), mut complete: Vec<Position>) -> SnapshotWriter<D> {
        complete.sort_by_key(|position| position.index);
        SnapshotWriter { disk, owner, unfinished: None, complete }
    }

    /// Makes a chunk durable; after the last one, the file.
    ///
    /// Chunk zero abandons an unfinished file. Any other must be the next one of it: the replica sees to
    /// that, also for what a leader sends.
    pub async fn write(&mut self, chunk: &SnapshotChunk) -> Result<(), Error> {
        let mut buffer = Vec::new();
        if chunk.sequence == 0 {
            self.unfinished = None;
            let header =
                SnapshotHeader { cluster: self.owner.0, member: self.owner.1, position: chunk.meta.position };
            encode(Kind::SnapshotHeader, &header, &mut buffer)?;
            let file = meta::create_afresh(&self.disk, TEMPORARY).await?;
            let footer = SnapshotFooter { chunks: 0, checksum: 0 };
            self.unfinished = Some(Unfinished { meta: chunk.meta.clone(), file, footer });
        }
        let unfinished = self.unfinished.as_mut().expect("chunk zero comes first");
        assert_eq!(unfinished.footer.chunks, chunk.sequence, "chunks come in order");
        assert_eq!(unfinished.meta, chunk.meta, "chunks of one snapshot cover the same");

        let start = buffer.len();
        encode(Kind::SnapshotChunk, chunk, &mut buffer)?;
        unfinished.footer.chunks += 1;
        unfinished.footer.checksum = crc32c::crc32c_append(unfinished.footer.checksum, &buffer[start..]);
        if chunk.last {
            encode(Kind::SnapshotFooter, &unfinished.footer, &mut buffer)?;
        }
        unfinished.file.append(&buffer).await.map_err(Error::io("write", TEMPORARY))?;
        unfinished.file.sync().await.map_err(Error::io("sync", TEMPORARY))?;
        if chunk.last { self.finish(chunk.meta.position).await } else { Ok(()) }
    }

    /// Up to where the log may be dropped without cutting off the oldest snapshot kept: nowhere, as long as
    /// there is none to fall back on but the empty state that the log began with.
    pub fn fall_back(&self) -> Index {
        match &self.complete[..] {
            [] | [_] => Index(0),
            [oldest, ..] => oldest.index,
        }
    }

    /// Gives the file its name and removes those that are not needed any more.
    async fn finish(&mut self, position: Position) -> Result<(), Error> {
        self.unfinished = None;
        let name = snapshot_name(position);
        self.disk.rename(TEMPORARY, &name).await.map_err(Error::io("rename to", &name))?;
        self.disk.sync_dir().await.map_err(Error::io("sync", "the data directory"))?;

        self.complete.retain(|other| other.index != position.index);
        self.complete.push(position);
        self.complete.sort_by_key(|position| position.index);
        let superfluous = self.complete.len().saturating_sub(limits::SNAPSHOTS_KEPT);
        self.complete.drain(..superfluous);
        // Whatever is not among those kept goes, damaged ones included: they are of no use now. If one
        // comes back after a crash, it does no harm.
        for other in snapshot_positions(&self.disk).await? {
            if !self.complete.contains(&other) {
                let name = snapshot_name(other);
                self.disk.remove(&name).await.map_err(Error::io("remove", &name))?;
            }
        }
        Ok(())
    }
}

/// Reads a whole snapshot file and checks every byte of it.
pub(crate) async fn load<D: Disk>(
    disk: &D,
    owner: (ClusterId, NodeId),
    position: Position,
) -> Result<(SnapshotMeta, Vec<SnapshotChunk>), Error> {
    let name = snapshot_name(position);
    let mut reader = FrameReader::open(disk, &name).await?;
    let header: SnapshotHeader = reader.next(Kind::SnapshotHeader).await?.0;
    Error::check_owner(&name, (header.cluster, header.member), owner)?;
    if header.position != position {
        return Err(reader.corrupt(&format!("it is of {}, by its header", header.position)));
    }
    let mut chunks: Vec<SnapshotChunk> = Vec::new();
    let mut checksum = 0;
    loop {
        let (chunk, frame): (SnapshotChunk, _) = reader.next(Kind::SnapshotChunk).await?;
        checksum = crc32c::crc32c_append(checksum, frame);
        let expected = chunks.first().map_or(&chunk.meta, |first| &first.meta);
        if chunk.meta != *expected
            || chunk.meta.position != position
            || chunk.sequence as usize != chunks.len()
        {
            return Err(reader.corrupt("a chunk is not the one that should follow"));
        }
        let last = chunk.last;
        chunks.push(chunk);
        if last {
            break;
        }
    }
    let footer: SnapshotFooter = reader.next(Kind::SnapshotFooter).await?.0;
    if (footer.chunks as usize, footer.checksum) != (chunks.len(), checksum) {
        return Err(reader.corrupt("the chunks are not those that the footer counts"));
    }
    if reader.offset != reader.len {
        return Err(reader.corrupt("something follows the footer"));
    }
    Ok((chunks[0].meta.clone(), chunks))
}

/// The snapshot files that are there, oldest first.
pub(crate) async fn snapshot_positions<D: Disk>(disk: &D) -> Result<Vec<Position>, Error> {
    let names = disk.list().await.map_err(Error::io("list", "the data directory"))?;
    let mut positions: Vec<_> = names.iter().filter_map(|name| parse_name(name)).collect();
    positions.sort_by_key(|position| position.index);
    Ok(positions)
}

pub(crate) fn snapshot_name(position: Position) -> String {
    format!("{PREFIX}{:016x}-{:016x}", position.index.0, position.term.0)
}

fn parse_name(name: &str) -> Option<Position> {
    let (index, term) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let index = Index(u64::from_str_radix(index, 16).ok()?);
    let position = Position { term: Term(u64::from_str_radix(term, 16).ok()?), index };
    (snapshot_name(position) == name).then_some(position)
}

fn encode<T: Serialize>(kind: Kind, value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    codec::encode_frame(kind, value, out).map_err(|source| Error::Encode { file: TEMPORARY.into(), source })
}

/// Reads frames one after the other, so that no more than one of them is in memory twice.
struct FrameReader<F> {
    file: F,
    name: String,
    len: u64,
    offset: u64,
    buffer: Vec<u8>,
}

impl<F: File> FrameReader<F> {
    async fn open<D: Disk<File = F>>(disk: &D, name: &str) -> Result<FrameReader<F>, Error> {
        let file = disk.open(name).await.map_err(Error::io("open", name))?;
        let len = file.len().await.map_err(Error::io("measure", name))?;
        Ok(FrameReader { file, name: name.to_owned(), len, offset: 0, buffer: Vec::new() })
    }

    /// The next frame's value, and the frame itself.
    async fn next<T: for<'a> Deserialize<'a>>(&mut self, kind: Kind) -> Result<(T, &[u8]), Error> {
        let at = self.offset;
        self.fill(codec::HEADER_BYTES).await?;
        let (_, total) = codec::frame_header(&self.buffer)
            .map_err(|error| Error::decode(&self.name, at, error))?
            .expect("a whole header has been read");
        self.fill(total).await?;
        let value = codec::decode_frame(&self.buffer)
            .map(|frame| frame.expect("a whole frame has been read"))
            .and_then(|frame: Frame<'_>| frame.decode(kind))
            .map_err(|error| Error::decode(&self.name, at, error))?;
        self.offset += total as u64;
        Ok((value, &self.buffer))
    }

    /// Reads so many bytes at the offset, if the file has them: what a header claims costs no memory.
    async fn fill(&mut self, bytes: usize) -> Result<(), Error> {
        let short = CodecError::Length { found: (self.len - self.offset) as usize, expected: bytes };
        if self.len - self.offset < bytes as u64 {
            return Err(Error::decode(&self.name, self.offset, short));
        }
        self.buffer.resize(bytes, 0);
        let read = meta::read_full(&self.file, &self.name, self.offset, &mut self.buffer).await?;
        if read < bytes { Err(Error::decode(&self.name, self.offset, short)) } else { Ok(()) }
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::Corrupt { file: self.name.clone(), offset: self.offset, what: what.to_owned() }
    }
}

const PREFIX: &str = "snap-";
const TEMPORARY: &str = "snap.tmp";

#[cfg(test)]
mod tests {
    use quorate_replica::ChunkBody;
    use quorate_store::SnapshotPart;

    use super::*;
    use crate::testing::{load_snapshot, save_snapshot};

    /// The frames of a file: header, chunks, footer.
    fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let (_, len) = codec::frame_header(bytes).expect("it is whole").expect("it is whole");
            let (frame, rest) = bytes.split_at(len);
            frames.push(frame);
            bytes = rest;
        }
        frames
    }

    #[test]
    fn chunks_of_two_files_of_the_same_position_are_not_put_together() {
        let file = |versions: u64| {
            let end = ChunkBody::Store(SnapshotPart::End { versions });
            save_snapshot(&[ChunkBody::Sessions(Vec::new()), end]).expect("small")
        };
        let (one, other) = (file(1), file(2));
        assert!(load_snapshot(&one).is_ok() && load_snapshot(&other).is_ok());
        let mixed: Vec<&[u8]> = frames(&one)[..2]
            .iter()
            .chain(&frames(&other)[2..3])
            .chain(&frames(&one)[3..])
            .copied()
            .collect();
        let error = load_snapshot(&mixed.concat()).expect_err("a chunk is not its own").to_string();
        assert!(error.contains("footer"), "{error}");
    }
}
