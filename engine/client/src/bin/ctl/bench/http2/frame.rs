//! Frames of HTTP/2 (RFC 9113 §4, §6) and the messages of gRPC within them: how they are written and read.

use super::{Broken, Event};

pub const FRAME_HEADER: usize = 9;
/// gRPC's own prefix of each message: a compression flag and the length.
pub const MESSAGE_HEADER: usize = 5;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

pub fn frame(kind: u8, flags: u8, stream: u32, length: usize, out: &mut Vec<u8>) {
    let length = (length as u32).to_be_bytes();
    let id = stream.to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags, id[0], id[1], id[2], id[3]]);
}

pub fn window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    frame(WINDOW_UPDATE, 0, stream, 4, out);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub fn message_header(length: usize, out: &mut Vec<u8>) {
    let length = (length as u32).to_be_bytes();
    out.extend_from_slice(&[0, length[0], length[1], length[2], length[3]]);
}

/// Reports the whole messages at the start of `data` and returns how many bytes they took.
pub fn messages(token: u32, data: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> usize {
    let mut at = 0;
    while let Some(header) = data.get(at..at + MESSAGE_HEADER) {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some(body) = data.get(at + MESSAGE_HEADER..at + MESSAGE_HEADER + length) else { break };
        on_event(Event::Message { token, body });
        at += MESSAGE_HEADER + length;
    }
    at
}

pub fn unpadded(flags: u8, payload: &[u8]) -> Result<&[u8], Broken> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let malformed = || Broken("the server sent a frame with more padding than bytes".into());
    let (&padding, rest) = payload.split_first().ok_or_else(malformed)?;
    let length = rest.len().checked_sub(usize::from(padding)).ok_or_else(malformed)?;
    Ok(&rest[..length])
}

pub fn integer(payload: &[u8]) -> Result<u32, Broken> {
    let bytes =
        payload.first_chunk().ok_or_else(|| Broken("the server sent a frame that is too short".into()))?;
    Ok(u32::from_be_bytes(*bytes))
}

pub fn code_name(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    NAMES.get(code as usize).map_or_else(|| format!("code {code}"), |name| (*name).to_owned())
}
