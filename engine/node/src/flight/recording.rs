//! A recording as a file.
//!
//! ```text
//!  RecordingHeader      which code recorded whom, when and why
//!  RecordingImage  *    the bytes of the image, a megabyte each
//!  RecordingTurns  *    records, as they were in the ring
//!  RecordingEnd         how much there is, and where the replica stood
//! ```
//!
//! All are frames of the [codec](crate::codec), so every damaged byte is noticed. The image is the replica's private
//! parts, whose encoding nobody keeps stable, and only the very same code takes the same decisions: so a recording is
//! read by the code that made it and by no other. The header's own encoding is kept stable, to be able to say so.

use std::{fmt, io};

use quorate_raft::{Instant, NodeId};
use quorate_replica::{Image, Input, Replica};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Digest;
use super::ring::{END, INPUT, Standing, TURN, Taken, WAKE};
use crate::codec::{self, CodecError, Kind, decode_body, encode_frame, raw_frame};

/// Who was recorded by what, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the program.
    pub version: String,
    /// The number of the code that a replica consists of.
    pub core: String,
    /// The member.
    pub member: NodeId,
    /// Seconds since 1970, by the clock of the machine, when the recording was written.
    pub written_at: u64,
    /// Why it was: a request, a signal, or a panic's text.
    pub reason: String,
}

/// What comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    /// Bytes of the image.
    image_bytes: u64,
    /// Bytes of all records.
    record_bytes: u64,
    standing: Standing,
}

/// A recording that has been read.
#[derive(Debug)]
pub struct Recording {
    /// Who was recorded by what, and why.
    pub header: Header,
    /// The replica as it was before the first turn.
    pub replica: Replica,
    /// Where it stood after the last turn that is over.
    pub standing: Standing,
    records: Vec<Vec<u8>>,
}

/// Something that was recorded.
#[derive(Clone, Debug)]
pub enum Record {
    /// A turn begins at this time.
    Turn(Instant),
    /// The replica is given this.
    Input(Box<Input>),
    /// The turn is over.
    End(Digest),
}

/// Why a recording cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordingError {
    /// It is something else.
    #[error(
        "this is not a recording: quorate writes one with --flight-recorder, on SIGUSR1 or when it panics"
    )]
    NotARecording,
    /// Its code is not ours.
    #[error(
        "recorded by quorate {version}, core {core}, and this is quorate {}, core {CORE}: only the code that recorded \
         can replay; build quorate-sim from the commit that the server was built from",
        VERSION
    )]
    OtherCode {
        /// The version that recorded.
        version: String,
        /// Its code.
        core: String,
    },
    /// It was written by a version that writes other files.
    #[error(
        "the file has a newer format than this program reads ({0}): use the quorate-sim of the server's version"
    )]
    NewerFormat(CodecError),
    /// It has no end.
    #[error("the recording is cut off at byte {offset}: copy it again, as a whole")]
    CutOff {
        /// How many bytes there are.
        offset: usize,
    },
    /// Bytes have changed.
    #[error("the recording is damaged at byte {offset}: {what}; copy it again")]
    Damaged {
        /// Where.
        offset: usize,
        /// How that shows.
        what: String,
    },
    /// What no recorder writes, behind right checksums.
    #[error("the recording makes no sense: {0}")]
    Senseless(String),
}

/// The version that this code belongs to.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// This code; see `build.rs`.
const CORE: &str = env!("QUORATE_CORE");

impl Taken {
    /// Writes it down. `written_at` are seconds since 1970.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, reason: &str, written_at: u64, mut out: impl io::Write) -> io::Result<()> {
        let header = Header {
            version: VERSION.to_owned(),
            core: CORE.to_owned(),
            member: self.image.status().raft.id,
            written_at,
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
        };
        let mut frame = Vec::new();
        encode_frame(Kind::RecordingHeader, &header, &mut frame).map_err(io::Error::other)?;
        out.write_all(&frame)?;
        let mut image = Frames { out: &mut out, kind: Kind::RecordingImage, open: Vec::new(), bytes: 0 };
        codec::encode_to(&*self.image, &mut image).map_err(io::Error::other)?;
        let image_bytes = image.finish()?;
        let mut record_bytes = 0;
        for piece in &self.pieces {
            out.write_all(&raw_frame(Kind::RecordingTurns, piece))?;
            record_bytes += piece.len() as u64;
        }
        let end = End { image_bytes, record_bytes, standing: self.standing };
        frame.clear();
        encode_frame(Kind::RecordingEnd, &end, &mut frame).map_err(io::Error::other)?;
        out.write_all(&frame)?;
        out.flush()
    }
}

/// Puts what is written into frames of bounded size.
struct Frames<'a, W> {
    out: &'a mut W,
    kind: Kind,
    open: Vec<u8>,
    bytes: u64,
}

impl<W: io::Write> Frames<'_, W> {
    /// Writes the last frame, and tells how many bytes there were.
    fn finish(mut self) -> io::Result<u64> {
        self.close()?;
        Ok(self.bytes)
    }

    fn close(&mut self) -> io::Result<()> {
        self.bytes += self.open.len() as u64;
        self.out.write_all(&raw_frame(self.kind, &self.open))?;
        self.open.clear();
        Ok(())
    }
}

impl<W: io::Write> io::Write for Frames<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(IMAGE_FRAME_BYTES - self.open.len());
        self.open.extend_from_slice(&bytes[..taken]);
        if self.open.len() == IMAGE_FRAME_BYTES {
            self.close()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recording {
    /// Reads a whole file.
    ///
    /// # Errors
    /// When it is none, is damaged or cut off, or was made by other code.
    pub fn read(bytes: &[u8]) -> Result<Recording, RecordingError> {
        let mut frames = Reader { bytes, at: 0 };
        let header: Header = frames.header()?;
        if header.core != CORE || header.version != VERSION {
            return Err(RecordingError::OtherCode { version: header.version, core: header.core });
        }
        let (mut image, mut records, mut record_bytes) = (Vec::new(), Vec::new(), 0);
        loop {
            let offset = frames.at;
            let frame = frames.next()?;
            match frame.kind {
                Kind::RecordingImage if records.is_empty() => image.extend_from_slice(frame.body),
                Kind::RecordingTurns => {
                    record_bytes += frame.body.len() as u64;
                    records.push(frame.body.to_vec());
                }
                Kind::RecordingEnd => {
                    let end: End =
                        frame.decode(Kind::RecordingEnd).map_err(|error| damaged(offset, &error))?;
                    if end.image_bytes != image.len() as u64 || end.record_bytes != record_bytes {
                        return Err(RecordingError::Damaged {
                            offset,
                            what: "frames are missing".to_owned(),
                        });
                    }
                    if frames.at != bytes.len() {
                        let what = "something follows the end".to_owned();
                        return Err(RecordingError::Damaged { offset: frames.at, what });
                    }
                    let senseless =
                        |error: &dyn fmt::Display| RecordingError::Senseless(format!("the image: {error}"));
                    let image: Image = decode_body(&image).map_err(|error| senseless(&error))?;
                    let replica = image.into_replica().map_err(|error| senseless(&error))?;
                    return Ok(Recording { header, replica, standing: end.standing, records });
                }
                kind => {
                    let what = format!("a frame of kind {kind:?} does not belong here");
                    return Err(RecordingError::Damaged { offset, what });
                }
            }
        }
    }

    /// What was recorded, from the beginning.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records { pieces: self.records.iter(), rest: &[] }
    }
}

/// What was recorded, one after the other. Ends after an error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    pieces: std::slice::Iter<'a, Vec<u8>>,
    rest: &'a [u8],
}

impl Iterator for Records<'_> {
    type Item = Result<Record, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.rest.is_empty() {
            self.rest = self.pieces.next()?;
        }
        let record = self.record();
        if record.is_err() {
            (self.pieces, self.rest) = ([].iter(), &[]);
        }
        Some(record)
    }
}

impl Records<'_> {
    fn record(&mut self) -> Result<Record, RecordingError> {
        let kind = self.array::<1>()?[0];
        Ok(match kind {
            TURN => Record::Turn(Instant(u64::from_le_bytes(self.array()?))),
            INPUT => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                let (body, rest) = self.rest.split_at_checked(length).ok_or_else(short)?;
                self.rest = rest;
                let input = decode_body(body)
                    .map_err(|error| RecordingError::Senseless(format!("an input: {error}")))?;
                Record::Input(Box::new(input))
            }
            WAKE => Record::Input(Box::new(Input::Wake)),
            END => Record::End(Digest(u64::from_le_bytes(self.array()?))),
            kind => return Err(RecordingError::Senseless(format!("a record of kind {kind}"))),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordingError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(*array)
    }
}

fn short() -> RecordingError {
    RecordingError::Senseless("a record goes on after its frame's end".to_owned())
}

fn damaged(offset: usize, error: &CodecError) -> RecordingError {
    RecordingError::Damaged { offset, what: error.to_string() }
}

/// Takes a file apart.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The first frame says whether this is a recording at all.
    fn header(&mut self) -> Result<Header, RecordingError> {
        match codec::frame_header(self.bytes) {
            Ok(Some((Kind::RecordingHeader, _))) => {}
            Ok(None) if !self.bytes.is_empty() => {
                return Err(RecordingError::CutOff { offset: self.bytes.len() });
            }
            Err(error @ CodecError::NewerFormat { kind: Kind::RecordingHeader, .. }) => {
                return Err(RecordingError::NewerFormat(error));
            }
            _ => return Err(RecordingError::NotARecording),
        }
        self.next()?.decode(Kind::RecordingHeader).map_err(|error| damaged(0, &error))
    }

    fn next(&mut self) -> Result<codec::Frame<'a>, RecordingError> {
        match codec::decode_frame(&self.bytes[self.at..]) {
            Ok(Some(frame)) => {
                self.at += frame.len();
                Ok(frame)
            }
            Ok(None) => Err(RecordingError::CutOff { offset: self.bytes.len() }),
            Err(error) => Err(damaged(self.at, &error)),
        }
    }
}

/// A panic's text is cut to this.
const REASON_CHARS_MAX: usize = 2000;

/// The image is cut into frames of this size.
const IMAGE_FRAME_BYTES: usize = 1 << 20;
