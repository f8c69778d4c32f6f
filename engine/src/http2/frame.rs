//! Frames of HTTP/2 (RFC 9113 §4, §6): a header of nine bytes, then a payload.
//!
//! Here are only the shapes; what a frame does to a connection is in [`session`](super::session).

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame's header.
pub(crate) const HEADER_BYTES: usize = 9;
/// The longest payload, in both directions: every peer accepts it, and more would not be faster.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16_384;

/// Types of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Parameters of SETTINGS.
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    NoError = 0,
    Protocol = 1,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// What a peer did that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// It costs the connection.
    Connection(Reason),
    /// It costs this stream.
    Stream(u32, Reason),
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    /// The header at the beginning of these bytes, if it is all there.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
        let (&[a, b, c, kind, flags, w, x, y, z], _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([w, x, y, z]) & STREAM_ID_MAX;
        Some(Header { len, kind, flags, stream })
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding.
    pub(crate) fn unpadded(self, payload: &[u8]) -> Result<&[u8], Violation> {
        if !self.has(flag::PADDED) {
            return Ok(payload);
        }
        let violation = Violation::Connection(Reason::Protocol);
        let (&padding, rest) = payload.split_first().ok_or(Violation::Connection(Reason::FrameSize))?;
        let len = rest.len().checked_sub(usize::from(padding)).ok_or(violation)?;
        Ok(&rest[..len])
    }
}

/// The highest stream id, and the mask that takes the reserved bit away.
pub(crate) const STREAM_ID_MAX: u32 = (1 << 31) - 1;

/// The four bytes of a payload that consists of a number.
pub(crate) fn number(payload: &[u8]) -> Result<u32, Violation> {
    let bytes = payload.try_into().map_err(|_| Violation::Connection(Reason::FrameSize))?;
    Ok(u32::from_be_bytes(bytes))
}

/// The parameters of SETTINGS.
pub(crate) fn settings(payload: &[u8]) -> Result<impl Iterator<Item = (u16, u32)> + '_, Violation> {
    let (entries, []) = payload.as_chunks::<6>() else {
        return Err(Violation::Connection(Reason::FrameSize));
    };
    Ok(entries
        .iter()
        .map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))))
}

/// Appends a frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "what is longer is cut before");
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let [w, x, y, z] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, w, x, y, z]);
    out.extend_from_slice(payload);
}

pub(crate) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(6 * settings.len());
    for (parameter, value) in settings {
        payload.extend_from_slice(&parameter.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write(out, kind::SETTINGS, 0, 0, &payload);
}

pub(crate) fn write_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    write(out, kind::RST_STREAM, 0, stream, &(reason as u32).to_be_bytes());
}

pub(crate) fn write_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    write(out, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

pub(crate) fn write_goaway(out: &mut Vec<u8>, last_stream: u32, reason: Reason) {
    let [a, b, c, d] = last_stream.to_be_bytes();
    let [e, f, g, h] = (reason as u32).to_be_bytes();
    write(out, kind::GOAWAY, 0, 0, &[a, b, c, d, e, f, g, h]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_journey() {
        let mut out = Vec::new();
        write(&mut out, kind::DATA, flag::END_STREAM, 5, b"abc");
        let header = Header { len: 3, kind: kind::DATA, flags: flag::END_STREAM, stream: 5 };
        assert_eq!(Header::parse(&out), Some(header));
        assert_eq!(&out[HEADER_BYTES..], b"abc");
        assert_eq!(Header::parse(&out[..8]), None);
    }

    #[test]
    fn padding_is_cut_off() {
        let header = Header { len: 0, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(header.unpadded(&[2, 7, 0, 0]), Ok(&[7][..]));
        assert_eq!(header.unpadded(&[3, 7, 0]), Err(Violation::Connection(Reason::Protocol)));
        assert_eq!(header.unpadded(&[]), Err(Violation::Connection(Reason::FrameSize)));
    }
}
