//! The sending half of a session: replies, cut to frames and to the client's windows.
//!
//! Most replies are short and find room, so they are written as they are made. What finds none waits with
//! its stream, and streams that have something to send take turns, a frame each.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::flow::SendWindow;
use super::frame::{self, PAYLOAD_BYTES_MAX, Reason, Violation, flag, kind};
use super::session::{Event, Session};

/// What is written ahead: more is not made into frames before this has gone.
const OUT_BYTES: usize = 256 * 1024;

/// What all streams share.
#[derive(Debug)]
pub(super) struct Outgoing {
    window: SendWindow,
    /// Streams that have something to send and room in their own windows.
    turns: VecDeque<u32>,
    unsent_bytes: usize,
}

/// What a stream has still to send.
#[derive(Debug)]
pub(super) struct Reply {
    window: SendWindow,
    queue: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    /// Whether it is in `turns`.
    in_turn: bool,
}

/// How a reply ends.
#[derive(Debug)]
pub(super) enum End {
    /// With these trailers, encoded.
    Trailers(Cow<'static, [u8]>),
    /// With its last byte.
    Data,
}

impl Default for Outgoing {
    fn default() -> Outgoing {
        Outgoing { window: SendWindow::DEFAULT, turns: VecDeque::new(), unsent_bytes: 0 }
    }
}

impl Outgoing {
    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    pub(super) fn forget(&mut self, id: u32, reply: &Reply) {
        self.unsent_bytes -= reply.bytes;
        if reply.in_turn {
            self.turns.retain(|turn| *turn != id);
        }
    }
}

impl Reply {
    pub(super) fn new(window: SendWindow) -> Reply {
        Reply { window, queue: VecDeque::new(), bytes: 0, end: None, in_turn: false }
    }

    /// Whether nothing waits.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<T> Session<T> {
    /// Begins a reply with these headers, encoded. Headers alone are all of it if `end` says so.
    pub(super) fn send_headers(&mut self, id: u32, block: &[u8], end: bool) {
        if !self.streams.contains_key(&id) {
            return;
        }
        let end_stream = if end { flag::END_STREAM } else { 0 };
        frame::write(&mut self.out, kind::HEADERS, flag::END_HEADERS | end_stream, id, block);
        if end {
            self.close(id);
        }
    }

    pub(super) fn send_data(&mut self, id: u32, data: Bytes) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let reply = &mut stream.reply;
        let room = reply.window.available().min(self.outgoing.window.available());
        let short = data.len() <= room.min(PAYLOAD_BYTES_MAX);
        if short && reply.queue.is_empty() && self.outgoing.turns.is_empty() && self.out.len() < OUT_BYTES {
            reply.window.take(data.len());
            self.outgoing.window.take(data.len());
            frame::write(&mut self.out, kind::DATA, 0, id, &data);
            return;
        }
        if data.is_empty() {
            return;
        }
        reply.bytes += data.len();
        self.outgoing.unsent_bytes += data.len();
        reply.queue.push_back(data);
        if !reply.in_turn && reply.window.available() > 0 {
            reply.in_turn = true;
            self.outgoing.turns.push_back(id);
        }
    }

    /// Ends a reply when all that was sent before has gone.
    pub(super) fn send_end(&mut self, id: u32, end: End) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.reply.queue.is_empty() {
            self.write_end(id, &end);
        } else {
            stream.reply.end = Some(end);
        }
    }

    fn write_end(&mut self, id: u32, end: &End) {
        match end {
            End::Trailers(block) => {
                let flags = flag::END_HEADERS | flag::END_STREAM;
                frame::write(&mut self.out, kind::HEADERS, flags, id, block);
            }
            End::Data => frame::write(&mut self.out, kind::DATA, flag::END_STREAM, id, &[]),
        }
        self.close(id);
    }

    /// Our side of a stream is done. What the client has still to say on it is not wanted (§8.1).
    fn close(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|stream| stream.ended) {
            self.forget(id);
        } else {
            self.reset(id, Reason::NoError);
        }
    }

    /// Makes frames of what waits, as far as there is room.
    pub(super) fn pump(&mut self) {
        while self.out.len() < OUT_BYTES && self.outgoing.window.available() > 0 {
            let Some(id) = self.outgoing.turns.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let reply = &mut stream.reply;
            reply.in_turn = false;
            let room = reply.window.available().min(self.outgoing.window.available());
            let Some(front) = reply.queue.front_mut() else { continue };
            let len = front.len().min(room).min(PAYLOAD_BYTES_MAX);
            if len == 0 {
                continue;
            }
            frame::write(&mut self.out, kind::DATA, 0, id, &front[..len]);
            front.advance(len);
            if front.is_empty() {
                reply.queue.pop_front();
            }
            reply.window.take(len);
            reply.bytes -= len;
            self.outgoing.window.take(len);
            self.outgoing.unsent_bytes -= len;
            if !reply.queue.is_empty() {
                if reply.window.available() > 0 {
                    reply.in_turn = true;
                    self.outgoing.turns.push_back(id);
                }
            } else if let Some(end) = reply.end.take() {
                self.write_end(id, &end);
            } else {
                self.events.push(Event::Drained(id));
            }
        }
    }

    /// The client has made room, on a stream or on all of them (zero).
    pub(super) fn widen(&mut self, id: u32, increment: u32) -> Result<(), Violation> {
        if id == 0 {
            let valid = self.outgoing.window.change(i64::from(increment));
            return if valid { Ok(()) } else { Err(Violation::Connection(Reason::FlowControl)) };
        }
        self.widen_stream(id, i64::from(increment), Violation::Stream(id, Reason::FlowControl))
    }

    fn widen_stream(&mut self, id: u32, by: i64, otherwise: Violation) -> Result<(), Violation> {
        // A stream that is gone needs no room.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let reply = &mut stream.reply;
        if !reply.window.change(by) {
            return Err(otherwise);
        }
        if !reply.queue.is_empty() && !reply.in_turn && reply.window.available() > 0 {
            reply.in_turn = true;
            self.outgoing.turns.push_back(id);
        }
        Ok(())
    }

    /// New SETTINGS change the windows of streams that are open, too (§6.9.2).
    pub(super) fn change_initial_window(&mut self, size: u32) -> Result<(), Violation> {
        let by = i64::from(size) - i64::from(self.send_window_initial);
        self.send_window_initial = size;
        let mut ids: Vec<u32> = self.streams.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter()
            .try_for_each(|id| self.widen_stream(id, by, Violation::Connection(Reason::FlowControl)))
    }
}
