//! The one door between values and bytes, for peers and for files.
//!
//! # Bodies
//!
//! A value becomes bytes through serde and bincode 1.3.3 with variable-length little-endian integers. That
//! release is complete and will not change; what it does with hostile input depends on how it is called, so
//! it is called here only, and only this way:
//!
//! - **from slices, never from a reader**: a slice's length bounds every allocation, a reader's does not;
//! - **with `DefaultOptions` and a limit**, which reject trailing bytes; the free functions accept them;
//! - **no recursive type, no collection of zero-sized values, no hash map, no float, no `usize`** in
//!   anything that is encoded: the first overflows the stack, the second spins, the others differ between
//!   machines or runs;
//! - **enum variants and fields are only ever added at the end, with a new format number**: the golden
//!   bytes in `tests/golden/` show when an encoding has moved.
//!
//! A `Blob` is copied once, out of the slice into its own allocation.
//!
//! # Frames
//!
//! Everything but the log's records travels in a frame. Integers are little-endian.
//!
//! ```text
//!  0        4        6        8        12       16             16 + length
//!  +--------+--------+--------+--------+--------+---- ... ----+
//!  | "QUOR" | format | kind   | length | crc32c |    body     |
//!  +--------+--------+--------+--------+--------+---- ... ----+
//!   u32      u16      u16      u32      u32      bincode
//! ```
//!
//! `format` numbers the encodings of one kind, from one; a greater one than ours was written by a newer
//! version. `length` is checked against [`limits::FRAME_BODY_BYTES_MAX`] before anything is allocated. The
//! checksum covers the twelve bytes before it and the body.

use bincode::Options;
use quorate_raft::NodeId;
use quorate_replica::Message;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;
use crate::meta::ClusterId;

/// The first words between two members on a new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The fingerprint of what the sender's cluster began with. A cluster that was lost as a whole and began anew has
    /// the same id; its members must not talk to one that is left of the old.
    pub genesis: u64,
    /// The sender.
    pub from: NodeId,
    /// Whom it believes to talk to.
    pub to: NodeId,
    /// Where the sender is reached: the other side may not have heard of it yet, and can answer all the same.
    pub peer_urls: Vec<String>,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Who answers, so that the other side can say what is wrong, too.
    pub hello: Hello,
    /// Whether messages may follow.
    pub verdict: Verdict,
}

/// Whether a member takes messages from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It does.
    Welcome,
    /// The hello is for another cluster, or another member.
    WrongPlace,
    /// The one who says hello was removed from the cluster, for ever.
    Removed,
}

/// Appends a peer's message as one frame.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode_frame(Kind::Message, message, out)
}

/// Reads a message that is exactly one frame.
pub fn decode_message(bytes: &[u8]) -> Result<Message, CodecError> {
    decode_whole(Kind::Message, bytes)
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// [`Hello`].
    Hello = 1,
    /// A [`Message`].
    Message = 2,
    /// The file that says whose a data directory is.
    Meta = 3,
    /// The beginning of a log segment.
    Segment = 4,
    /// The beginning of a snapshot file.
    SnapshotHeader = 5,
    /// A piece of a snapshot file.
    SnapshotChunk = 6,
    /// The end of a snapshot file.
    SnapshotFooter = 7,
    /// [`Greeting`].
    Greeting = 8,
    /// A [`Question`](crate::Question).
    Question = 9,
    /// An [`Answer`](crate::Answer).
    Answer = 10,
    /// The file of a data directory that is no member's yet.
    Owner = 11,
    /// The beginning of a [recording](crate::flight::Recording).
    RecordingHeader = 12,
    /// A piece of a recording's image.
    RecordingImage = 13,
    /// Records of a recording.
    RecordingTurns = 14,
    /// The end of a recording.
    RecordingEnd = 15,
}

impl Kind {
    /// The newest format of this kind that is known here, and the one that is written.
    #[must_use]
    pub const fn format(self) -> u16 {
        match self {
            Kind::Hello => 2,
            Kind::Message | Kind::Greeting => 1,
            Kind::Question | Kind::Answer => 1,
            Kind::Meta => 2,
            Kind::Owner => 1,
            Kind::Segment => 1,
            Kind::SnapshotHeader | Kind::SnapshotChunk | Kind::SnapshotFooter => 1,
            Kind::RecordingHeader | Kind::RecordingImage | Kind::RecordingTurns | Kind::RecordingEnd => 1,
        }
    }

    fn from_u16(kind: u16) -> Option<Kind> {
        const ALL: [Kind; 15] = [
            Kind::Hello,
            Kind::Message,
            Kind::Meta,
            Kind::Segment,
            Kind::SnapshotHeader,
            Kind::SnapshotChunk,
            Kind::SnapshotFooter,
            Kind::Greeting,
            Kind::Question,
            Kind::Answer,
            Kind::Owner,
            Kind::RecordingHeader,
            Kind::RecordingImage,
            Kind::RecordingTurns,
            Kind::RecordingEnd,
        ];
        ALL.into_iter().find(|known| *known as u16 == kind)
    }
}

/// A frame in a slice, its checksum verified.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// The encoded value.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes the whole frame takes.
    #[must_use]
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Never: a frame has a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Decodes the body, if the frame is of this kind.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self, kind: Kind) -> Result<T, CodecError> {
        if self.kind != kind {
            return Err(CodecError::WrongKind { found: self.kind, expected: kind });
        }
        decode_body(self.body)
    }
}

/// How many bytes a frame's header takes.
pub const HEADER_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"QUOR";

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// They do not begin like a frame.
    #[error("no frame begins here")]
    Magic,
    /// A frame of a kind that is not known here.
    #[error("unknown kind of frame {0}")]
    UnknownKind(u16),
    /// A frame of another kind than expected.
    #[error("found a frame of kind {found:?} where one of kind {expected:?} should be")]
    WrongKind {
        /// What is there.
        found: Kind,
        /// What should be.
        expected: Kind,
    },
    /// A format from the future.
    #[error("format {found} of kind {kind:?} is newer than {supported}")]
    NewerFormat {
        /// Of what.
        kind: Kind,
        /// The format found.
        found: u16,
        /// The newest one known here.
        supported: u16,
    },
    /// Longer than allowed.
    #[error("{length} bytes where at most {max} are allowed")]
    TooLong {
        /// The length, claimed or true.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes end within the frame, or go on after it.
    #[error("the frame takes {expected} bytes and {found} are there")]
    Length {
        /// The bytes given.
        found: usize,
        /// What the frame takes.
        expected: usize,
    },
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The body is not an encoded value of its type.
    #[error("the body cannot be decoded: {0}")]
    Body(String),
}

/// Appends a value as one frame. On an error, `out` is as before.
pub(crate) fn encode_frame<T: Serialize>(kind: Kind, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if let Err(error) = encode_body(value, limits::FRAME_BODY_BYTES_MAX, out) {
        out.truncate(start);
        return Err(error);
    }
    seal(kind, &mut out[start..]);
    Ok(())
}

/// A frame with this body, whatever it is; not longer than [`limits::FRAME_BODY_BYTES_MAX`].
pub(crate) fn raw_frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    frame.extend_from_slice(body);
    seal(kind, &mut frame);
    frame
}

/// Fills in the header of a frame whose body is there.
fn seal(kind: Kind, frame: &mut [u8]) {
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    let length = u32::try_from(body.len()).expect("the limit is below 32 bits");
    header[0..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&kind.format().to_le_bytes());
    header[6..8].copy_from_slice(&(kind as u16).to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), body);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
}

/// A [`Hello`] as one frame.
#[must_use]
pub fn encode_hello(hello: &Hello) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(Kind::Hello, hello, &mut out).expect("a hello is short");
    out
}

/// A [`Greeting`] as one frame.
#[must_use]
pub fn encode_greeting(greeting: &Greeting) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(Kind::Greeting, greeting, &mut out).expect("a greeting is short");
    out
}

/// The frame that `bytes` begin with; `None` if more bytes are needed to tell. This is how a stream is
/// taken apart: what is wrong is found as early as its bytes are there, before a buffer grows for them.
pub fn decode_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, CodecError> {
    let Some((kind, total)) = frame_header(bytes)? else { return Ok(None) };
    let Some(frame) = bytes.get(..total) else { return Ok(None) };
    let (header, body) = frame.split_at(HEADER_BYTES);
    if crc32c::crc32c_append(crc32c::crc32c(&header[..12]), body) != u32_at(header, 12) {
        return Err(CodecError::Checksum);
    }
    Ok(Some(Frame { kind, body }))
}

/// The kind and the whole length of the frame that `bytes` begin with; `None` if there are fewer bytes
/// than a header.
pub fn frame_header(bytes: &[u8]) -> Result<Option<(Kind, usize)>, CodecError> {
    let magic = bytes.len().min(MAGIC.len());
    if bytes[..magic] != MAGIC[..magic] {
        return Err(CodecError::Magic);
    }
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let format = u16::from_le_bytes([header[4], header[5]]);
    let kind = u16::from_le_bytes([header[6], header[7]]);
    let kind = Kind::from_u16(kind).ok_or(CodecError::UnknownKind(kind))?;
    if format > kind.format() {
        return Err(CodecError::NewerFormat { kind, found: format, supported: kind.format() });
    }
    let length = u32_at(header, 8) as usize;
    if length > limits::FRAME_BODY_BYTES_MAX {
        return Err(CodecError::TooLong { length, max: limits::FRAME_BODY_BYTES_MAX });
    }
    Ok(Some((kind, HEADER_BYTES + length)))
}

/// A value that is exactly one frame of this kind.
pub(crate) fn decode_whole<'a, T: Deserialize<'a>>(kind: Kind, bytes: &'a [u8]) -> Result<T, CodecError> {
    let length = CodecError::Length { found: bytes.len(), expected: HEADER_BYTES };
    let (_, expected) = frame_header(bytes)?.ok_or(length)?;
    if expected != bytes.len() {
        return Err(CodecError::Length { found: bytes.len(), expected });
    }
    let frame = decode_frame(bytes)?.expect("all its bytes are there");
    if frame.kind != kind {
        return Err(CodecError::WrongKind { found: frame.kind, expected: kind });
    }
    decode_body(frame.body)
}

/// Appends an encoded value. On an error, what was appended is not meaningful.
pub(crate) fn encode_body<T: Serialize>(value: &T, max: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    // Without a limit here: bincode would walk the value once more to measure it beforehand.
    bincode::DefaultOptions::new()
        .serialize_into(&mut *out, value)
        .map_err(|error| CodecError::Body(error.to_string()))?;
    let length = out.len() - start;
    if length > max { Err(CodecError::TooLong { length, max }) } else { Ok(()) }
}

/// Writes an encoded value of any length.
pub(crate) fn encode_to<T: Serialize>(value: &T, out: impl std::io::Write) -> Result<(), CodecError> {
    let encoded = bincode::DefaultOptions::new().serialize_into(out, value);
    encoded.map_err(|error| CodecError::Body(error.to_string()))
}

/// Decodes a value that takes all of `bytes`.
pub(crate) fn decode_body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    bincode::DefaultOptions::new()
        .with_limit(bytes.len() as u64)
        .deserialize(bytes)
        .map_err(|error| CodecError::Body(error.to_string()))
}

/// A little-endian number in a slice that is known to hold it.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A little-endian number in a slice that is known to hold it.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_replica::RequestId;
    use quorate_store::LeaseId;

    use super::*;

    fn message() -> Message {
        Message::KeepAlive { id: RequestId { boot: 3, sequence: 70_000 }, lease: LeaseId(-1) }
    }

    fn frame() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_message(&message(), &mut bytes).expect("it is small");
        bytes
    }

    /// Changes one header field and repairs the checksum.
    fn forged(at: usize, value: u16) -> Vec<u8> {
        let mut bytes = frame();
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[HEADER_BYTES..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_stream_is_taken_apart_byte_by_byte() {
        let bytes = frame();
        for end in 0..bytes.len() {
            assert!(decode_frame(&bytes[..end]).expect("nothing is wrong yet").is_none(), "at {end}");
        }
        let two = [&bytes[..], &bytes[..]].concat();
        let first = decode_frame(&two).expect("whole").expect("whole");
        assert_eq!(first.len(), bytes.len());
        assert_eq!(first.decode::<Message>(Kind::Message), Ok(message()));
        assert_eq!(
            decode_message(&two),
            Err(CodecError::Length { found: two.len(), expected: bytes.len() }),
            "trailing bytes are refused"
        );
    }

    #[test]
    fn the_length_is_checked_when_the_header_is_there() {
        let mut bytes = frame();
        bytes.truncate(HEADER_BYTES);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let max = limits::FRAME_BODY_BYTES_MAX;
        assert_eq!(decode_frame(&bytes).err(), Some(CodecError::TooLong { length: u32::MAX as usize, max }));
    }

    #[test]
    fn a_newer_format_an_unknown_kind_and_a_wrong_kind_are_told_apart() {
        let newer = CodecError::NewerFormat { kind: Kind::Message, found: 2, supported: 1 };
        assert_eq!(decode_message(&forged(4, 2)), Err(newer));
        assert_eq!(decode_message(&forged(6, 99)), Err(CodecError::UnknownKind(99)));
        let wrong = CodecError::WrongKind { found: Kind::Meta, expected: Kind::Message };
        assert_eq!(decode_message(&forged(6, Kind::Meta as u16)), Err(wrong));
    }

    #[test]
    fn a_body_with_trailing_or_missing_bytes_is_refused() {
        let mut body = Vec::new();
        encode_body(&message(), limits::FRAME_BODY_BYTES_MAX, &mut body).expect("it is small");
        assert_eq!(decode_body::<Message>(&body), Ok(message()));
        assert!(decode_body::<Message>(&body[..body.len() - 1]).is_err());
        body.push(0);
        assert!(decode_body::<Message>(&body).is_err());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_a_frame_is_noticed(bit in 0..frame().len() * 8) {
            let mut bytes = frame();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_message(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = decode_body::<Message>(&bytes) {
                let mut again = Vec::new();
                encode_body(&message, limits::FRAME_BODY_BYTES_MAX, &mut again).expect("it came from fewer bytes");
                prop_assert_eq!(decode_body::<Message>(&again), Ok(message));
            }
        }
    }
}
