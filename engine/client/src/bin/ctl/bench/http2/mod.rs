//! gRPC over HTTP/2, the client's side, as a pure state machine: bytes in, events and bytes out.
//!
//! A general HTTP/2 library spends three to five microseconds of CPU on a small call. On a machine that it shares with
//! the servers, that is time taken from what is measured. A load generator knows its requests beforehand and hardly
//! looks at the responses, so that this connection gets by with a tenth: a request is two frames appended to the
//! output, a response is found by walking frame headers, and equal trailers are compared, not decoded.
//!
//! All of RFC 9113 that a server may demand of a client is kept: settings, both levels of flow control, the limit on
//! streams, pings, continuation frames, padding, resets and going away. Push and priorities are refused or ignored.

use std::collections::VecDeque;

use self::frame::{
    ACK, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FRAME_HEADER, GOAWAY, HEADER_TABLE_SIZE,
    HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MESSAGE_HEADER, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, code_name, frame, integer, message_header, messages,
    unpadded, window_update,
};
use super::hpack::{Method, RequestHeaders, read_trailers};

mod frame;
#[cfg(test)]
mod tests;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest window that there is; replenished long before it is used up.
const RECEIVE_WINDOW: u32 = (1 << 31) - 1;
const REPLENISH_AFTER: u32 = 1 << 30;
const DEFAULT_WINDOW: u32 = 65_535;

/// A stream of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(u32);

/// What the peer's bytes meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A gRPC message arrived on the stream that was opened with this token.
    Message { token: u32, body: &'a [u8] },
    /// The stream is over. `Ok` is gRPC's status 0.
    End { token: u32, result: Result<(), String> },
}

/// The connection cannot be used any more; whatever was under way has an unknown outcome.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// One connection to one server.
pub struct Connection {
    headers: RequestHeaders,
    peer: PeerSettings,
    /// Bytes for the peer, in order; the owner writes and removes them.
    pub output: Vec<u8>,
    /// The start of a frame whose end has not arrived.
    input: Vec<u8>,
    /// The oldest stream not yet closed, and all after it.
    streams: VecDeque<Stream>,
    first_id: u32,
    open_count: u32,
    /// What the peer still accepts on the whole connection.
    send_window: i64,
    /// Data that had no room in a window, in order.
    blocked: VecDeque<Blocked>,
    received_since_update: u32,
    /// A header block in pieces: its stream, flags and bytes so far.
    header_block: Option<(u32, u8, Vec<u8>)>,
    /// The last trailers that meant success.
    success: Vec<u8>,
    ready: bool,
    going_away: bool,
}

struct PeerSettings {
    initial_window: i64,
    frame_bytes_max: usize,
    streams_max: u32,
}

struct Stream {
    token: u32,
    open: bool,
    send_window: i64,
    received_since_update: u32,
    /// The start of a message whose end has not arrived.
    partial: Vec<u8>,
}

struct Blocked {
    id: u32,
    bytes: Vec<u8>,
    sent: usize,
    end: bool,
}

impl Connection {
    /// A connection that will say hello with its first output. Calls may follow once it `is_ready`.
    pub fn new(authority: &str) -> Self {
        let mut output = PREFACE.to_vec();
        let settings = [(HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, RECEIVE_WINDOW)];
        frame(SETTINGS, 0, 0, 6 * settings.len(), &mut output);
        for (setting, value) in settings {
            output.extend(setting.to_be_bytes());
            output.extend(value.to_be_bytes());
        }
        window_update(0, RECEIVE_WINDOW - DEFAULT_WINDOW, &mut output);
        Self {
            headers: RequestHeaders::new(authority, 4096),
            peer: PeerSettings {
                initial_window: i64::from(DEFAULT_WINDOW),
                frame_bytes_max: 16_384,
                streams_max: u32::MAX,
            },
            output,
            input: Vec::new(),
            streams: VecDeque::new(),
            first_id: 1,
            open_count: 0,
            send_window: i64::from(DEFAULT_WINDOW),
            blocked: VecDeque::new(),
            received_since_update: 0,
            header_block: None,
            success: Vec::new(),
            ready: false,
            going_away: false,
        }
    }

    /// The peer's settings have arrived.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Another stream may be opened now.
    pub fn can_open(&self) -> bool {
        self.ready
            && !self.going_away
            && self.open_count < self.peer.streams_max
            && self.next_id() < (1 << 31) - 2
    }

    /// The tokens of all streams that are still open.
    pub fn open_tokens(&self) -> impl Iterator<Item = u32> {
        self.streams.iter().filter(|stream| stream.open).map(|stream| stream.token)
    }

    /// Opens a stream with a first message; `end` says that no other will follow. `token` comes back in its events.
    pub fn open(&mut self, method: Method, token: u32, message: &[u8], end: bool) -> StreamId {
        assert!(self.can_open(), "the caller asks before it opens");
        let id = self.next_id();
        let window = self.peer.initial_window;
        self.streams.push_back(Stream {
            token,
            open: true,
            send_window: window,
            received_since_update: 0,
            partial: Vec::new(),
        });
        self.open_count += 1;
        let start = self.output.len();
        frame(HEADERS, END_HEADERS, id, 0, &mut self.output);
        self.headers.write(method, &mut self.output);
        let length = self.output.len() - start - FRAME_HEADER;
        self.output[start..start + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        self.send_message(id, message, end);
        StreamId(id)
    }

    /// Sends another message on a stream; if the peer has ended it meanwhile, its `End` event is on the way or was.
    pub fn send(&mut self, stream: StreamId, message: &[u8]) {
        self.send_message(stream.0, message, false);
    }

    fn next_id(&self) -> u32 {
        self.first_id + 2 * self.streams.len() as u32
    }

    fn stream_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let offset = id.checked_sub(self.first_id)?;
        self.streams.get_mut(offset as usize / 2)
    }

    fn send_message(&mut self, id: u32, message: &[u8], end: bool) {
        let length = MESSAGE_HEADER + message.len();
        let connection_window = self.send_window;
        let frame_bytes_max = self.peer.frame_bytes_max;
        let none_before = self.blocked.is_empty();
        let Some(stream) = self.stream_mut(id).filter(|stream| stream.open) else { return };
        let window = connection_window.min(stream.send_window);
        if none_before && length <= frame_bytes_max && length as i64 <= window {
            stream.send_window -= length as i64;
            self.send_window -= length as i64;
            frame(DATA, if end { END_STREAM } else { 0 }, id, length, &mut self.output);
            message_header(message.len(), &mut self.output);
            self.output.extend_from_slice(message);
        } else {
            let mut bytes = Vec::with_capacity(length);
            message_header(message.len(), &mut bytes);
            bytes.extend_from_slice(message);
            self.blocked.push_back(Blocked { id, bytes, sent: 0, end });
            self.send_blocked();
        }
    }

    /// Sends what the windows now have room for. Data waits in one line: a stream without room holds up the others,
    /// which costs nothing here, where all messages are alike.
    fn send_blocked(&mut self) {
        while let Some(mut blocked) = self.blocked.pop_front() {
            let connection_window = self.send_window;
            let frame_bytes_max = self.peer.frame_bytes_max;
            let Some(stream) = self.stream_mut(blocked.id).filter(|stream| stream.open) else {
                continue; // the peer has closed the stream meanwhile
            };
            let rest = blocked.bytes.len() - blocked.sent;
            let room = usize::try_from(connection_window.min(stream.send_window)).unwrap_or(0);
            let length = rest.min(room).min(frame_bytes_max);
            if length == 0 {
                self.blocked.push_front(blocked);
                return;
            }
            stream.send_window -= length as i64;
            self.send_window -= length as i64;
            let flags = if blocked.end && length == rest { END_STREAM } else { 0 };
            frame(DATA, flags, blocked.id, length, &mut self.output);
            self.output.extend_from_slice(&blocked.bytes[blocked.sent..blocked.sent + length]);
            blocked.sent += length;
            if length < rest {
                self.blocked.push_front(blocked);
            }
        }
    }

    /// Takes bytes of the peer and reports what they meant.
    pub fn receive(&mut self, bytes: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<(), Broken> {
        if self.input.is_empty() {
            let consumed = self.receive_frames(bytes, on_event)?;
            self.input.extend_from_slice(&bytes[consumed..]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let consumed = self.receive_frames(&input, on_event)?;
            input.drain(..consumed);
            self.input = input;
        }
        Ok(())
    }

    fn receive_frames(
        &mut self,
        bytes: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, Broken> {
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + FRAME_HEADER) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (kind, flags) = (header[3], header[4]);
            let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
            if length > 16_384 {
                return Err(Broken(format!(
                    "the server sent a frame of {length} bytes; is it an HTTP/2 server?"
                )));
            }
            let Some(payload) = bytes.get(at + FRAME_HEADER..at + FRAME_HEADER + length) else { break };
            self.receive_frame(kind, flags, id, payload, on_event)?;
            at += FRAME_HEADER + length;
        }
        Ok(at)
    }

    fn receive_frame(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Broken> {
        if self.header_block.is_some() && kind != CONTINUATION {
            return Err(Broken("the server interrupted a header block".into()));
        }
        match kind {
            DATA => self.receive_data(flags, id, payload, on_event)?,
            HEADERS => {
                let block = unpadded(flags, payload)?;
                let block = if flags & PRIORITY == 0 { block } else { block.get(5..).unwrap_or(&[]) };
                if flags & END_HEADERS != 0 {
                    self.receive_headers(flags, id, block, on_event);
                } else {
                    self.header_block = Some((id, flags, block.to_vec()));
                }
            }
            CONTINUATION => {
                let unexpected =
                    || Broken("the server continued a header block that it had not begun".into());
                let (id, first_flags, mut block) = self.header_block.take().ok_or_else(unexpected)?;
                block.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    self.receive_headers(first_flags, id, &block, on_event);
                } else if block.len() > 1 << 20 {
                    return Err(Broken("the server sent more than a megabyte of headers".into()));
                } else {
                    self.header_block = Some((id, first_flags, block));
                }
            }
            RST_STREAM => {
                let code = integer(payload)?;
                self.close(id, Err(format!("the server reset the stream (HTTP/2 error {code})")), on_event);
            }
            SETTINGS if flags & ACK == 0 => self.receive_settings(payload)?,
            PING if flags & ACK == 0 => {
                frame(PING, ACK, 0, payload.len(), &mut self.output);
                self.output.extend_from_slice(payload);
            }
            WINDOW_UPDATE => {
                let increment = i64::from(integer(payload)? & 0x7fff_ffff);
                if id == 0 {
                    self.send_window += increment;
                } else if let Some(stream) = self.stream_mut(id) {
                    stream.send_window += increment;
                }
                self.send_blocked();
            }
            GOAWAY => self.receive_goaway(payload)?,
            PUSH_PROMISE => return Err(Broken("the server pushes although that is switched off".into())),
            _ => {} // unknown frames are ignored (RFC 9113 §5.5)
        }
        Ok(())
    }

    fn receive_data(
        &mut self,
        flags: u8,
        id: u32,
        payload: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Broken> {
        self.received_since_update += payload.len() as u32;
        if self.received_since_update >= REPLENISH_AFTER {
            window_update(0, self.received_since_update, &mut self.output);
            self.received_since_update = 0;
        }
        let data = unpadded(flags, payload)?;
        let Some(stream) = self.stream_mut(id).filter(|stream| stream.open) else { return Ok(()) };
        stream.received_since_update += payload.len() as u32;
        if stream.partial.is_empty() {
            let consumed = messages(stream.token, data, on_event);
            stream.partial.extend_from_slice(&data[consumed..]);
        } else {
            stream.partial.extend_from_slice(data);
            let consumed = messages(stream.token, &stream.partial, on_event);
            stream.partial.drain(..consumed);
        }
        if stream.received_since_update >= REPLENISH_AFTER {
            let received = std::mem::take(&mut stream.received_since_update);
            window_update(id, received, &mut self.output);
        }
        if flags & END_STREAM != 0 {
            self.close(id, Err("the server ended the call without a gRPC status".into()), on_event);
        }
        Ok(())
    }

    fn receive_headers(&mut self, flags: u8, id: u32, block: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        if flags & END_STREAM == 0 {
            return; // a response begins; how it went is told at its end
        }
        if block == self.success.as_slice() && !block.is_empty() {
            self.close(id, Ok(()), on_event);
            return;
        }
        let result = match read_trailers(block) {
            Ok(trailers) => match (trailers.grpc_status, trailers.http_status) {
                (Some(0), _) => {
                    self.success = block.to_vec();
                    Ok(())
                }
                (Some(code), _) => Err(format!("{}: {}", code_name(code), trailers.grpc_message)),
                (None, Some(status)) => Err(format!("HTTP status {status} without a gRPC status")),
                (None, None) => Err("the server ended the call without a gRPC status".to_owned()),
            },
            Err(error) => Err(format!("the server's headers contain {}", error.0)),
        };
        self.close(id, result, on_event);
    }

    fn close(&mut self, id: u32, result: Result<(), String>, on_event: &mut impl FnMut(Event<'_>)) {
        let Some(stream) = self.stream_mut(id).filter(|stream| stream.open) else { return };
        stream.open = false;
        let token = stream.token;
        self.open_count -= 1;
        while self.streams.front().is_some_and(|stream| !stream.open) {
            self.streams.pop_front();
            self.first_id += 2;
        }
        on_event(Event::End { token, result });
    }

    fn receive_settings(&mut self, payload: &[u8]) -> Result<(), Broken> {
        for setting in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                HEADER_TABLE_SIZE if !self.ready => {
                    let authority = self.headers.authority().to_owned();
                    self.headers = RequestHeaders::new(&authority, value);
                }
                HEADER_TABLE_SIZE if value < 4096 => {
                    return Err(Broken("the server shrank its header table in mid-connection".into()));
                }
                MAX_CONCURRENT_STREAMS => self.peer.streams_max = value,
                INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.peer.initial_window;
                    self.peer.initial_window = i64::from(value);
                    for stream in &mut self.streams {
                        stream.send_window += change;
                    }
                }
                MAX_FRAME_SIZE => self.peer.frame_bytes_max = value as usize,
                _ => {}
            }
        }
        frame(SETTINGS, ACK, 0, 0, &mut self.output);
        self.ready = true;
        self.send_blocked();
        Ok(())
    }

    /// A server that goes away finishes what it has begun, unless it gives a reason.
    fn receive_goaway(&mut self, payload: &[u8]) -> Result<(), Broken> {
        self.going_away = true;
        let code = integer(payload.get(4..).unwrap_or(&[]))?;
        if code == 0 && self.open_count > 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(payload.get(8..).unwrap_or(&[])).into_owned();
        Err(Broken(
            format!("the server closed the connection (HTTP/2 error {code}) {text}").trim_end().to_owned(),
        ))
    }
}
