//! One connection's side of HTTP/2, without the connection: bytes in, events and bytes out.
//!
//! [`Session::receive`] takes what has arrived and appends to `events` what it means; whoever runs the
//! requests answers through [`reply`](super::reply). Replies and everything the protocol itself has to say
//! are appended to `out`. There are no clocks and no sockets here, so that every sequence of bytes can be
//! tried.
//!
//! What a client can make us hold is bounded: bodies by `BUFFERED_BYTES_MAX`, header blocks by
//! `BLOCK_BYTES_MAX`, streams by what SETTINGS say, replies that it does not take by `UNSENT_BYTES_MAX`
//! (new requests are refused above it). Frames that make work and bring nothing are counted
//! against [`PATIENCE`]; it is spent by "rapid reset" (CVE-2023-44487) and by floods of empty frames.

use std::collections::{HashMap, VecDeque};

use super::flow::{ReceiveWindow, SendWindow};
use super::frame::{self, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, Reason, Violation, flag, kind, setting};
use super::head::{Collector, HEADER_LIST_BYTES_MAX, Head};
use super::hpack::Decoder;
use super::reply::Outgoing;

/// What a client may send ahead on one stream: a request of usual size without waiting.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What it may send ahead on all of them.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes of all bodies that have arrived and not been taken.
const BUFFERED_BYTES_MAX: usize = 64 << 20;
/// Bytes of replies that the client has not made room for.
pub(super) const UNSENT_BYTES_MAX: usize = 64 << 20;
/// An encoded header block, with all its continuations.
const BLOCK_BYTES_MAX: usize = 2 * HEADER_LIST_BYTES_MAX;
/// Frames without use that are put up with between two calls of [`Session::calm`].
const PATIENCE: u32 = 10_000;
/// Streams that we have reset and may still hear of.
const RESETS_REMEMBERED: usize = 128;

/// What has happened to a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A request has begun.
    Request(u32, Head),
    /// So many bytes more of its body are here.
    Data(u32, usize),
    /// It is complete.
    End(u32),
    /// The reply has been taken: there is room for more of it.
    Drained(u32),
}

/// A connection, with a `T` for each of its streams.
#[derive(Debug)]
pub(super) struct Session<T> {
    pub(super) streams: HashMap<u32, Stream<T>>,
    pub(super) events: Vec<Event>,
    /// What the streams held that are gone.
    pub(super) dropped: Vec<(u32, T)>,
    /// What is to be written.
    pub(super) out: Vec<u8>,
    pub(super) outgoing: Outgoing,
    decoder: Decoder,
    receive: ReceiveWindow,
    /// The window of streams to come.
    pub(super) send_window_initial: u32,
    buffered_bytes: usize,
    streams_max: usize,
    preface_left: &'static [u8],
    settled: bool,
    /// A header block whose end has not arrived.
    partial: Option<Partial>,
    last_stream: u32,
    draining: bool,
    recently_reset: VecDeque<u32>,
    patience: u32,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream<T> {
    /// Whoever runs the request keeps this.
    pub(super) call: Option<T>,
    /// What has arrived of the body and has not been taken.
    body: Vec<u8>,
    receive: ReceiveWindow,
    /// The client has said all.
    pub(super) ended: bool,
    pub(super) reply: super::reply::Reply,
}

#[derive(Debug)]
struct Partial {
    stream: u32,
    end_stream: bool,
    block: Vec<u8>,
}

impl<T> Session<T> {
    pub(super) fn new(streams_max: u32) -> Session<T> {
        let mut out = Vec::new();
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, streams_max),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (setting::MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES_MAX as u32),
        ];
        frame::write_settings(&mut out, &settings);
        frame::write_window_update(&mut out, 0, CONNECTION_WINDOW_BYTES - 65_535);
        Session {
            streams: HashMap::new(),
            events: Vec::new(),
            dropped: Vec::new(),
            out,
            outgoing: Outgoing::default(),
            decoder: Decoder::default(),
            receive: ReceiveWindow::new(CONNECTION_WINDOW_BYTES),
            send_window_initial: 65_535,
            buffered_bytes: 0,
            streams_max: streams_max as usize,
            preface_left: frame::PREFACE,
            settled: false,
            partial: None,
            last_stream: 0,
            draining: false,
            recently_reset: VecDeque::new(),
            patience: PATIENCE,
        }
    }

    /// Takes whole frames from the beginning of `input` and says how many bytes that were. After a
    /// violation the connection is to be closed when `out` has been written.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<usize, Reason> {
        let mut rest = input;
        if !self.preface_left.is_empty() {
            let len = self.preface_left.len().min(rest.len());
            if rest[..len] != self.preface_left[..len] {
                return Err(self.fail(Reason::Protocol));
            }
            (self.preface_left, rest) = (&self.preface_left[len..], &rest[len..]);
        }
        while let Some(header) = Header::parse(rest) {
            if header.len > PAYLOAD_BYTES_MAX {
                return Err(self.fail(Reason::FrameSize));
            }
            let Some(payload) = rest.get(HEADER_BYTES..HEADER_BYTES + header.len) else { break };
            match self.on_frame(header, payload) {
                Ok(()) => {}
                Err(Violation::Stream(stream, reason)) => self.reset(stream, reason),
                Err(Violation::Connection(reason)) => return Err(self.fail(reason)),
            }
            rest = &rest[HEADER_BYTES + header.len..];
        }
        Ok(input.len() - rest.len())
    }

    fn fail(&mut self, reason: Reason) -> Reason {
        frame::write_goaway(&mut self.out, self.last_stream, reason);
        reason
    }

    fn on_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if !self.settled && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(Violation::Connection(Reason::Protocol));
        }
        // Nothing may come between the parts of a header block (§6.10).
        let expected = self.partial.as_ref().map(|partial| partial.stream);
        if expected != (header.kind == kind::CONTINUATION).then_some(header.stream) {
            return Err(Violation::Connection(Reason::Protocol));
        }
        match header.kind {
            kind::DATA => self.on_data(header, payload),
            kind::HEADERS => self.on_headers(header, payload),
            kind::CONTINUATION => self.on_continuation(header, payload),
            kind::RST_STREAM => self.on_reset(header, payload),
            kind::SETTINGS => self.on_settings(header, payload),
            kind::PING => self.on_ping(header, payload),
            kind::WINDOW_UPDATE => self.on_window_update(header, payload),
            kind::PUSH_PROMISE => Err(Violation::Connection(Reason::Protocol)),
            kind::GOAWAY if header.stream != 0 => Err(Violation::Connection(Reason::Protocol)),
            // The client opens no more streams; those that are open go on.
            kind::GOAWAY if payload.len() >= 8 => Ok(()),
            kind::GOAWAY => Err(Violation::Connection(Reason::FrameSize)),
            kind::PRIORITY if header.stream == 0 => Err(Violation::Connection(Reason::Protocol)),
            kind::PRIORITY if payload.len() != 5 => Err(Violation::Stream(header.stream, Reason::FrameSize)),
            // Priorities are deprecated; unknown frames are to be ignored.
            _ => self.endure(),
        }
    }

    fn on_headers(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if header.stream.is_multiple_of(2) {
            return Err(Violation::Connection(Reason::Protocol));
        }
        let mut block = header.unpadded(payload)?;
        if header.has(flag::PRIORITY) {
            block = block.get(5..).ok_or(Violation::Connection(Reason::FrameSize))?;
        }
        let end_stream = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.on_block(header.stream, block, end_stream);
        }
        self.partial = Some(Partial { stream: header.stream, end_stream, block: block.to_vec() });
        Ok(())
    }

    fn on_continuation(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        self.endure()?;
        let mut partial = self.partial.take().ok_or(Violation::Connection(Reason::Protocol))?;
        if partial.block.len() + payload.len() > BLOCK_BYTES_MAX {
            return Err(Violation::Connection(Reason::EnhanceYourCalm));
        }
        partial.block.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            return self.on_block(partial.stream, &partial.block, partial.end_stream);
        }
        self.partial = Some(partial);
        Ok(())
    }

    /// A whole header block: it begins a stream, or ends a request as trailers.
    fn on_block(&mut self, id: u32, block: &[u8], end_stream: bool) -> Result<(), Violation> {
        // First of all, whatever comes of it, because it may change the decoder's table.
        let mut collector = Collector::default();
        self.decoder
            .decode(block, |name, value| collector.field(name, value))
            .map_err(|_| Violation::Connection(Reason::Compression))?;
        if id <= self.last_stream {
            return self.on_trailers(id, end_stream);
        }
        if self.draining {
            // The client knows from GOAWAY that these are not looked at.
            return self.endure();
        }
        self.last_stream = id;
        if self.streams.len() >= self.streams_max || self.outgoing.unsent_bytes() > UNSENT_BYTES_MAX {
            self.endure()?;
            return Err(Violation::Stream(id, Reason::RefusedStream));
        }
        if collector.is_too_large() {
            return Err(Violation::Stream(id, Reason::EnhanceYourCalm));
        }
        let head = collector.finish().ok_or(Violation::Stream(id, Reason::Protocol))?;
        let stream = Stream {
            call: None,
            body: Vec::new(),
            receive: ReceiveWindow::new(STREAM_WINDOW_BYTES),
            ended: end_stream,
            reply: super::reply::Reply::new(SendWindow::new(self.send_window_initial)),
        };
        self.streams.insert(id, stream);
        self.events.push(Event::Request(id, head));
        if end_stream {
            self.events.push(Event::End(id));
        }
        Ok(())
    }

    fn on_trailers(&mut self, id: u32, end_stream: bool) -> Result<(), Violation> {
        match self.streams.get_mut(&id) {
            Some(stream) if stream.ended => Err(Violation::Stream(id, Reason::StreamClosed)),
            Some(_) if !end_stream => Err(Violation::Stream(id, Reason::Protocol)),
            Some(stream) => {
                stream.ended = true;
                self.events.push(Event::End(id));
                Ok(())
            }
            // Sent before the client knew.
            None if self.recently_reset.contains(&id) => self.endure(),
            None => Err(Violation::Connection(Reason::StreamClosed)),
        }
    }

    fn on_data(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let id = header.stream;
        if self.is_idle(id) {
            return Err(Violation::Connection(Reason::Protocol));
        }
        if !self.receive.take(payload.len()) {
            return Err(Violation::Connection(Reason::FlowControl));
        }
        // At once: were it withheld until bodies are taken, many that are half here could block each other.
        if let Some(increment) = self.receive.give_back(payload.len()) {
            frame::write_window_update(&mut self.out, 0, increment);
        }
        let data = header.unpadded(payload)?;
        if data.is_empty() && !header.has(flag::END_STREAM) {
            self.endure()?;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            self.endure()?;
            // What was sent before the client knew of our reset is no violation.
            let known = self.draining || self.recently_reset.contains(&id);
            return if known { Ok(()) } else { Err(Violation::Stream(id, Reason::StreamClosed)) };
        };
        if stream.ended {
            return Err(Violation::Stream(id, Reason::StreamClosed));
        }
        if !stream.receive.take(payload.len()) {
            return Err(Violation::Stream(id, Reason::FlowControl));
        }
        if self.buffered_bytes + data.len() > BUFFERED_BYTES_MAX {
            return Err(Violation::Stream(id, Reason::EnhanceYourCalm));
        }
        self.buffered_bytes += data.len();
        stream.body.extend_from_slice(data);
        stream.ended = header.has(flag::END_STREAM);
        self.events.push(if stream.ended { Event::End(id) } else { Event::Data(id, data.len()) });
        self.credit(id, payload.len() - data.len());
        Ok(())
    }

    fn on_reset(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        frame::number(payload)?;
        if self.is_idle(header.stream) {
            return Err(Violation::Connection(Reason::Protocol));
        }
        if self.forget(header.stream) { self.endure() } else { Ok(()) }
    }

    fn on_settings(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if header.stream != 0 {
            return Err(Violation::Connection(Reason::Protocol));
        }
        if header.has(flag::ACK) {
            let valid = payload.is_empty();
            return if valid { self.endure() } else { Err(Violation::Connection(Reason::FrameSize)) };
        }
        self.settled = true;
        self.endure()?;
        let mut window = None;
        for (parameter, value) in frame::settings(payload)? {
            match parameter {
                setting::INITIAL_WINDOW_SIZE if value > frame::STREAM_ID_MAX => {
                    return Err(Violation::Connection(Reason::FlowControl));
                }
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                    return Err(Violation::Connection(Reason::Protocol));
                }
                setting::ENABLE_PUSH if value > 1 => return Err(Violation::Connection(Reason::Protocol)),
                // Our frames are never longer than every client takes, nor do our headers use its table.
                _ => {}
            }
        }
        // Once per frame: it touches every stream.
        if let Some(window) = window {
            self.change_initial_window(window)?;
        }
        frame::write(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn on_ping(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        if header.stream != 0 {
            return Err(Violation::Connection(Reason::Protocol));
        }
        if payload.len() != 8 {
            return Err(Violation::Connection(Reason::FrameSize));
        }
        self.endure()?;
        if !header.has(flag::ACK) {
            frame::write(&mut self.out, kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    fn on_window_update(&mut self, header: Header, payload: &[u8]) -> Result<(), Violation> {
        let increment = frame::number(payload)? & frame::STREAM_ID_MAX;
        let id = header.stream;
        if id != 0 && self.is_idle(id) {
            return Err(Violation::Connection(Reason::Protocol));
        }
        if increment == 0 {
            let stream = Violation::Stream(id, Reason::Protocol);
            return Err(if id == 0 { Violation::Connection(Reason::Protocol) } else { stream });
        }
        self.widen(id, increment)
    }

    /// Whether a stream has not been opened, by its id.
    fn is_idle(&self, id: u32) -> bool {
        // Ours would be even, and we open none. Those after GOAWAY are not looked at.
        id == 0 || id.is_multiple_of(2) || (id > self.last_stream && !self.draining)
    }

    /// Bears a frame that makes work and brings nothing.
    fn endure(&mut self) -> Result<(), Violation> {
        self.patience = self.patience.checked_sub(1).ok_or(Violation::Connection(Reason::EnhanceYourCalm))?;
        Ok(())
    }

    /// Patience comes back with time: to be called once in a second.
    pub(super) fn calm(&mut self) {
        self.patience = PATIENCE;
    }

    /// What is here of a request's body, which becomes the caller's.
    pub(super) fn take_body(&mut self, id: u32) -> Vec<u8> {
        let body = self.streams.get_mut(&id).map(|stream| std::mem::take(&mut stream.body));
        let body = body.unwrap_or_default();
        self.buffered_bytes -= body.len();
        body
    }

    /// What is here of a request's body.
    pub(super) fn body(&self, id: u32) -> &[u8] {
        self.streams.get(&id).map_or(&[], |stream| &stream.body)
    }

    /// Lets the client send so many bytes more on a stream.
    pub(super) fn credit(&mut self, id: u32, len: usize) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(increment) = stream.receive.give_back(len)
            && !stream.ended
        {
            frame::write_window_update(&mut self.out, id, increment);
        }
    }

    /// Ends a stream and all that belongs to it.
    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        self.forget(id);
        frame::write_reset(&mut self.out, id, reason);
        if self.recently_reset.len() == RESETS_REMEMBERED {
            self.recently_reset.pop_front();
        }
        self.recently_reset.push_back(id);
    }

    /// Drops a stream with what it holds; false if there was none.
    pub(super) fn forget(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.remove(&id) else { return false };
        self.buffered_bytes -= stream.body.len();
        self.outgoing.forget(id, &stream.reply);
        self.dropped.extend(stream.call.map(|call| (id, call)));
        true
    }

    /// Asks the client to open no more streams.
    pub(super) fn drain(&mut self) {
        if !self.draining {
            self.draining = true;
            frame::write_goaway(&mut self.out, self.last_stream, Reason::NoError);
        }
    }

    /// Whether all is said.
    pub(super) fn is_drained(&self) -> bool {
        self.draining && self.streams.is_empty()
    }

    /// Asks the client whether it lives.
    pub(super) fn ping(&mut self) {
        frame::write(&mut self.out, kind::PING, 0, 0, b"quorate!");
    }
}
