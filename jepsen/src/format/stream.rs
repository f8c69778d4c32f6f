//! Reading histories from files and pipes, packed or not, without keeping their text.
//!
//! Formats of lines are read a megabyte at a time, so that only what they say is kept. Of the others the whole
//! text is needed: their values go over many lines.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use super::lines::{EtcdReader, NamedReader};
use super::{Format, FormatError, ReadOptions, Recording, detect, read};

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What reads the bytes failed.
    #[error(transparent)]
    Io(io::Error),
    /// What unpacks them did.
    #[error("expected a whole gzip file: {0}")]
    Packed(io::Error),
    /// The text is no history.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Reads a history in any format, packed by gzip or not; `None` recognizes the format.
pub fn read_from(
    mut input: impl Read,
    format: Option<Format>,
    options: ReadOptions,
) -> Result<Recording, ReadError> {
    let mut beginning = Vec::new();
    input.by_ref().take(GZIP.len() as u64).read_to_end(&mut beginning).map_err(ReadError::Io)?;
    let is_packed = beginning == GZIP;
    let input = io::Cursor::new(beginning).chain(input);
    if is_packed {
        Chunks::new(MultiGzDecoder::new(input), ReadError::Packed).read(format, options)
    } else {
        Chunks::new(input, ReadError::Io).read(format, options)
    }
}

/// Reads a history of lines piece by piece, packed by gzip or not; `None` recognizes the format. `visit` says whether
/// it wants more. Nothing is kept.
pub fn read_pieces(
    mut input: impl Read,
    format: Option<Format>,
    visit: &mut dyn FnMut(Recording) -> bool,
) -> Result<(), ReadError> {
    let mut beginning = Vec::new();
    input.by_ref().take(GZIP.len() as u64).read_to_end(&mut beginning).map_err(ReadError::Io)?;
    let is_packed = beginning == GZIP;
    let input = io::Cursor::new(beginning).chain(input);
    if is_packed {
        Chunks::new(MultiGzDecoder::new(input), ReadError::Packed).give(format, visit)
    } else {
        Chunks::new(input, ReadError::Io).give(format, visit)
    }
}

/// What files begin with that are packed by gzip.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Text that comes in pieces.
struct Chunks<R> {
    input: R,
    wrong: fn(io::Error) -> ReadError,
    bytes: Vec<u8>,
    is_at_end: bool,
    /// How many lines have been given out.
    lines: usize,
    /// Whether what is there is given out at once.
    is_eager: bool,
}

impl<R: Read> Chunks<R> {
    fn new(input: R, wrong: fn(io::Error) -> ReadError) -> Self {
        Chunks { input, wrong, bytes: Vec::new(), is_at_end: false, lines: 0, is_eager: false }
    }

    fn read(mut self, named: Option<Format>, options: ReadOptions) -> Result<Recording, ReadError> {
        self.fill(CHUNK)?;
        let valid = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&self.bytes[..error.valid_up_to()]).unwrap_or_default(),
        };
        match named.or_else(|| detect(valid)) {
            Some(Format::Etcd) => {
                let mut reader = EtcdReader::default();
                self.for_each_piece(|text| reader.read(text))?;
                Ok(Recording::Etcd(Box::new(reader.finish())))
            }
            Some(Format::Lines) => {
                let mut reader = NamedReader::default();
                self.for_each_piece(|text| reader.read(text))?;
                Ok(Recording::Named(reader.finish()))
            }
            // What was recognized by the beginning may be something else as a whole.
            _ => {
                self.fill(usize::MAX)?;
                Ok(read(text(&self.bytes, 0)?, named, options)?)
            }
        }
    }

    fn give(
        mut self,
        named: Option<Format>,
        visit: &mut dyn FnMut(Recording) -> bool,
    ) -> Result<(), ReadError> {
        self.is_eager = true;
        while !self.is_at_end && !self.bytes.contains(&b'\n') {
            self.fill(self.bytes.len() + CHUNK)?;
        }
        let valid = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&self.bytes[..error.valid_up_to()]).unwrap_or_default(),
        };
        let mut goes_on = true;
        match named.or_else(|| detect(valid)) {
            Some(Format::Etcd) => {
                let mut reader = EtcdReader::default();
                self.for_each_piece(|text| {
                    if goes_on {
                        reader.read(text)?;
                        goes_on = visit(Recording::Etcd(Box::new(reader.take())));
                    }
                    Ok(())
                })
            }
            Some(Format::Lines) => {
                let mut reader = NamedReader::default();
                self.for_each_piece(|text| {
                    if goes_on {
                        reader.read(text)?;
                        goes_on = visit(Recording::Named(reader.take()));
                    }
                    Ok(())
                })
            }
            _ => {
                let why = "expected lines of JSON, one operation each: other formats are judged as a whole, without --stream \
                           (quorate-jepsen convert makes lines of them)";
                Err(FormatError::at_line(1, why).into())
            }
        }
    }

    /// Reads until there are so many bytes, or no more; an eager reader is content with less.
    fn fill(&mut self, count: usize) -> Result<(), ReadError> {
        let missing = count.saturating_sub(self.bytes.len());
        if self.is_eager && missing > 0 && !self.is_at_end {
            let before = self.bytes.len();
            self.bytes.resize(before + missing.min(CHUNK), 0);
            let read = loop {
                match self.input.read(&mut self.bytes[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read.map_err(self.wrong)?,
                }
            };
            self.bytes.truncate(before + read);
            self.is_at_end = read == 0;
            return Ok(());
        }
        if missing > 0 && !self.is_at_end {
            let read = self.input.by_ref().take(missing as u64).read_to_end(&mut self.bytes);
            self.is_at_end = read.map_err(self.wrong)? < missing;
        }
        Ok(())
    }

    /// Calls `visit` with all of the text, whole lines at a time.
    fn for_each_piece(
        &mut self,
        mut visit: impl FnMut(&str) -> Result<(), FormatError>,
    ) -> Result<(), ReadError> {
        let mut size = CHUNK;
        loop {
            self.fill(size)?;
            let newline = self.bytes.iter().rposition(|byte| *byte == b'\n');
            let end =
                if self.is_at_end { self.bytes.len() } else { newline.map_or(0, |newline| newline + 1) };
            // A line that does not fit is read in greater pieces.
            size = if end == 0 { size.saturating_mul(2) } else { CHUNK };
            let piece = text(&self.bytes[..end], self.lines)?;
            visit(piece)?;
            self.lines += piece.bytes().filter(|byte| *byte == b'\n').count();
            self.bytes.drain(..end);
            if self.is_at_end && self.bytes.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Bytes as text; or in which line, behind so many others, they are not.
fn text(bytes: &[u8], lines: usize) -> Result<&str, FormatError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = lines + good.iter().filter(|byte| **byte == b'\n').count() + 1;
        FormatError::at_line(line, "expected text in UTF-8")
    })
}

/// How much is read at once.
const CHUNK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(count: usize, width: usize) -> String {
        let line = |number: usize| {
            let value = "v".repeat(width);
            format!("{{\"process\":0,\"call\":{number},\"f\":\"write\",\"value\":\"{value}\"}}\n")
        };
        (0..count).map(line).collect()
    }

    #[test]
    fn what_comes_in_pieces_is_what_comes_at_once() {
        for text in
            [lines(3, 1), lines(40_000, 20), lines(3, 3 << 20), String::from("{:process 0, :type :invoke}")]
        {
            let whole = read(&text, None, ReadOptions::default()).expect("a history");
            let pieces = read_from(text.as_bytes(), None, ReadOptions::default()).expect("the same");
            assert!(pieces == whole);
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text.as_bytes()).expect("memory is large enough");
            let packed = packed.finish().expect("memory is large enough");
            let unpacked = read_from(packed.as_slice(), None, ReadOptions::default()).expect("the same");
            assert!(unpacked == whole);
            let cut = read_from(&packed[..packed.len() - 4], None, ReadOptions::default());
            assert!(matches!(cut, Err(ReadError::Packed(_))), "{cut:?}");
        }
    }

    #[test]
    fn errors_name_the_line_in_the_whole_text() {
        let mut text = lines(40_000, 40);
        text.push_str("{\"process\":0,\"call\":x}");
        let error = read_from(text.as_bytes(), None, ReadOptions::default()).expect_err("a bad line");
        assert_eq!(error.to_string(), "40001:21: expected value");
        let mut bytes = lines(40_000, 40).into_bytes();
        bytes.push(0xff);
        let error = read_from(bytes.as_slice(), None, ReadOptions::default()).expect_err("no text");
        assert_eq!(error.to_string(), "40001:1: expected text in UTF-8");
    }
}
