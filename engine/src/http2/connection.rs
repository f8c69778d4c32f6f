//! A connection: the task that moves bytes between a socket, its session and its calls.
//!
//! A turn reads once, takes every frame that is there, polls the calls that can go on, makes frames of
//! their replies and writes once. Nothing is read while the client does not take what is written, so
//! that what it asks of us (replies to PING, say) stays bounded.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use quorate_api::{Code, Error, Metadata};
use quorate_node::Clock;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, timeout};

use super::calls::Calls;
use super::head::Head;
use super::hpack::{self, STATUS_OK};
use super::reply::End;
use super::session::{Event, Session};
use crate::grpc::{self, Pipe, Status, UnaryReply};
use crate::http::{Options, State, endpoints};
use crate::metrics::Rpc;

/// Room for one read: many requests, or a few of the longest frames.
const READ_BYTES: usize = 64 * 1024;
/// With so much unwritten nothing more is read.
const UNWRITTEN_BYTES_MAX: usize = 512 * 1024;
/// Turns before other tasks have theirs.
const TURNS_MAX: usize = 16;
/// How long a client whose connection we end may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// `:status: 200` and `content-type: application/grpc`, encoded.
const GRPC_HEADERS: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// `grpc-status: 0`, encoded.
const GRPC_OK: &[u8] = b"\x00\x0bgrpc-status\x010";

/// Serves a client until it goes away, breaks the protocol, or the server stops.
pub(crate) async fn serve<C: Clock>(
    socket: TcpStream,
    state: Arc<State<C>>,
    options: Options,
    mut stopped: watch::Receiver<()>,
) -> io::Result<()> {
    let drain_max = options.drain_max;
    let mut connection = Connection::new(socket, state, options);
    let ended = tokio::select! {
        biased;
        ended = poll_fn(|context| connection.poll(context)) => ended,
        _ = stopped.changed() => {
            connection.session.drain();
            let drained = timeout(drain_max, poll_fn(|context| connection.poll(context))).await;
            drained.unwrap_or(Ok(()))
        }
    };
    connection.close().await;
    ended
}

struct Connection<C> {
    socket: TcpStream,
    state: Arc<State<C>>,
    options: Options,
    /// What has been read, from the first frame on that is not complete.
    input: BytesMut,
    session: Session<Call>,
    /// How much of the session's output is written.
    written: usize,
    calls: Calls<Outcome>,
    deadlines: BTreeSet<(Instant, u32)>,
    timer: Pin<Box<Sleep>>,
    now: Instant,
    calm_at: Instant,
    /// When the client was last heard of.
    heard_at: Instant,
    pinged_at: Option<Instant>,
    /// Taken from the session while they are handled.
    events: Vec<Event>,
}

/// What a stream is to us.
#[derive(Debug)]
struct Call {
    kind: Kind,
    /// Where it runs, when it does.
    slot: Option<usize>,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Kind {
    Unary(Rpc, Result<Metadata, Error>),
    Stream(Arc<Pipe>),
    /// Not gRPC: the method and the path.
    Plain(String, String),
}

/// How a call has ended.
enum Outcome {
    Unary(UnaryReply),
    Stream(Status),
    Plain(Response<Bytes>),
}

impl From<UnaryReply> for Outcome {
    fn from(reply: UnaryReply) -> Outcome {
        Outcome::Unary(reply)
    }
}

impl<C: Clock> Connection<C> {
    fn new(socket: TcpStream, state: Arc<State<C>>, options: Options) -> Connection<C> {
        let now = Instant::now();
        let session = Session::new(options.streams_max);
        let timer = Box::pin(tokio::time::sleep_until(now + options.keepalive_interval));
        Connection {
            socket,
            state,
            options,
            input: BytesMut::new(),
            session,
            written: 0,
            calls: Calls::new(),
            deadlines: BTreeSet::new(),
            timer,
            now,
            calm_at: now,
            heard_at: now,
            pinged_at: None,
            events: Vec::new(),
        }
    }

    /// Ready when the connection is to be closed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..TURNS_MAX {
            self.now = Instant::now();
            if self.now >= self.calm_at {
                self.session.calm();
                self.calm_at = self.now + Duration::from_secs(1);
            }
            let read = self.poll_read(context)?;
            if read == Poll::Ready(false) {
                return Poll::Ready(Ok(()));
            }
            let timed = self.poll_timer(context)?;
            let mut more = read.is_ready() || timed;
            more |= self.poll_calls(context);
            self.session.pump();
            more |= self.handle_events();
            let unwritten = !self.session.out.is_empty();
            let written = self.poll_write(context)?.is_ready();
            if written && self.session.is_drained() {
                return Poll::Ready(Ok(()));
            }
            // What has been written makes room for more.
            if !(more || (unwritten && written)) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and takes every frame: ready with whether the connection goes on, if there was something.
    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<bool>> {
        if self.session.out.len() - self.written > UNWRITTEN_BYTES_MAX {
            return Ok(Poll::Pending);
        }
        self.input.reserve(READ_BYTES);
        let read = pin!(self.socket.read_buf(&mut self.input)).poll(context);
        match read {
            Poll::Ready(Ok(0)) => return Ok(Poll::Ready(false)),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {
                // An idle connection keeps no buffers.
                if self.input.is_empty() && self.calls.is_idle() {
                    self.input = BytesMut::new();
                }
                return Ok(Poll::Pending);
            }
        }
        self.heard_at = self.now;
        self.pinged_at = None;
        let received = self.session.receive(&self.input);
        self.handle_events();
        match received {
            Ok(len) => self.input.advance(len),
            Err(reason) => {
                tracing::debug!(?reason, "a client broke the protocol");
                return Ok(Poll::Ready(false));
            }
        }
        Ok(Poll::Ready(true))
    }

    /// Does what the session has found out; false if that was nothing.
    fn handle_events(&mut self) -> bool {
        let mut any = false;
        while !self.session.events.is_empty() {
            any = true;
            let mut events = std::mem::take(&mut self.events);
            std::mem::swap(&mut events, &mut self.session.events);
            for event in events.drain(..) {
                match event {
                    Event::Request(id, head) => self.on_request(id, head),
                    Event::Data(id, len) => self.on_data(id, len, false),
                    Event::End(id) => self.on_data(id, 0, true),
                    Event::Drained(id) => self.on_drained(id),
                }
            }
            self.events = events;
        }
        // Their streams are gone, and nobody waits for them.
        while let Some((id, call)) = self.session.dropped.pop() {
            call.deadline.into_iter().for_each(|deadline| _ = self.deadlines.remove(&(deadline, id)));
            call.slot.into_iter().for_each(|slot| self.calls.cancel(slot));
        }
        any
    }

    fn on_request(&mut self, id: u32, head: Head) {
        if !self.session.streams.contains_key(&id) {
            return;
        }
        let deadline = head.timeout.filter(|_| head.is_grpc).and_then(|after| self.now.checked_add(after));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let mut slot = None;
        let kind = if head.is_grpc {
            let rpc = match grpc::route(&head.path) {
                Ok(rpc) => rpc,
                Err(status) => return self.send_status(id, &status),
            };
            let metadata = Metadata::parse(head.has_leader.as_deref(), head.client_api_version.as_deref());
            if rpc.is_stream() {
                let (pipe, running) = match grpc::stream(Arc::clone(&self.state), rpc, metadata) {
                    Ok(opened) => opened,
                    Err(status) => return self.send_status(id, &status),
                };
                self.session.send_headers(id, GRPC_HEADERS, false);
                slot = Some(self.calls.start(id, Box::pin(async { Outcome::Stream(running.await) })));
                Kind::Stream(pipe)
            } else {
                Kind::Unary(rpc, metadata)
            }
        } else {
            Kind::Plain(text(head.method), text(head.path))
        };
        self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        if let Some(stream) = self.session.streams.get_mut(&id) {
            stream.call = Some(Call { kind, slot, deadline });
        }
    }

    /// More of a request's body is here, or its end.
    fn on_data(&mut self, id: u32, len: usize, ended: bool) {
        let Some(stream) = self.session.streams.get_mut(&id) else { return };
        let Some(call) = &mut stream.call else { return };
        match &mut call.kind {
            Kind::Stream(pipe) => {
                let (pipe, slot) = (Arc::clone(pipe), call.slot);
                pipe.push(&self.session.take_body(id), ended);
                slot.into_iter().for_each(|slot| self.calls.poll_soon(slot));
                self.session.credit(id, pipe.take_credit());
            }
            Kind::Unary(..) if !ended => self.on_unary_data(id, len),
            Kind::Unary(rpc, metadata) => {
                let (rpc, metadata) = (*rpc, std::mem::replace(metadata, Ok(Metadata::default())));
                let body = self.session.take_body(id);
                let running = grpc::unary(Arc::clone(&self.state), rpc, metadata, body);
                self.start(id, running);
            }
            // Nobody reads the body of such a request.
            Kind::Plain(..) if !ended => {
                self.session.take_body(id);
                self.session.credit(id, len);
            }
            Kind::Plain(method, path) => {
                let (method, path) = (std::mem::take(method), std::mem::take(path));
                let state = Arc::clone(&self.state);
                let response = async move { endpoints::respond(&state, &method, &path).await };
                self.start(id, Box::pin(async { Outcome::Plain(response.await) }));
            }
        }
    }

    fn start(&mut self, id: u32, running: grpc::Running<Outcome>) {
        let slot = self.calls.start(id, running);
        if let Some(call) = self.session.streams.get_mut(&id).and_then(|stream| stream.call.as_mut()) {
            call.slot = Some(slot);
        }
    }

    /// A message that will be refused is refused by its header. Others have room until they are complete.
    fn on_unary_data(&mut self, id: u32, len: usize) {
        let body = self.session.body(id);
        match grpc::first_len(body, grpc::bytes_max(&self.state.api)) {
            Ok(whole) if whole.is_none_or(|whole| body.len() <= whole) => self.session.credit(id, len),
            // More than a message: room for it ends with the window.
            Ok(_) => {}
            Err(status) => self.send_status(id, &status),
        }
    }

    /// Polls the calls that can go on; false if there were none.
    fn poll_calls(&mut self, context: &Context<'_>) -> bool {
        self.calls.gather(context);
        let mut any = false;
        while let Some((id, slot, polled)) = self.calls.poll_next() {
            any = true;
            self.pass_responses(id, slot, polled.is_ready());
            if let Poll::Ready(outcome) = polled {
                self.on_outcome(id, outcome);
            }
        }
        any
    }

    /// Passes on what a streaming call has to say, as long as the client takes it.
    fn pass_responses(&mut self, id: u32, slot: usize, all: bool) {
        let Some(stream) = self.session.streams.get(&id) else { return };
        let Some(Call { kind: Kind::Stream(pipe), .. }) = &stream.call else { return };
        let pipe = Arc::clone(pipe);
        let mut passed = false;
        while all || self.session.streams.get(&id).is_some_and(|stream| stream.reply.is_drained()) {
            let Some(response) = pipe.pop() else { break };
            self.session.send_data(id, response);
            passed = true;
        }
        self.session.credit(id, pipe.take_credit());
        if passed && !all {
            // It may be waiting for room.
            self.calls.poll_soon(slot);
        }
    }

    fn on_drained(&mut self, id: u32) {
        let call = self.session.streams.get(&id).and_then(|stream| stream.call.as_ref());
        if let Some(slot) = call.and_then(|call| call.slot) {
            self.pass_responses(id, slot, false);
        }
    }

    fn on_outcome(&mut self, id: u32, outcome: Outcome) {
        self.take_call(id);
        match outcome {
            Outcome::Unary(Ok(message)) => {
                self.session.send_headers(id, GRPC_HEADERS, false);
                self.session.send_data(id, message);
                self.session.send_end(id, End::Trailers(Cow::Borrowed(GRPC_OK)));
            }
            Outcome::Unary(Err(status)) => self.send_status(id, &status),
            Outcome::Stream(status) => self.send_trailers(id, &status),
            Outcome::Plain(response) => self.send_response(id, response),
        }
    }

    /// Takes the call from its stream, which is about to be answered.
    fn take_call(&mut self, id: u32) -> Option<Call> {
        let call = self.session.streams.get_mut(&id)?.call.take()?;
        if let Some(deadline) = call.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(call)
    }

    /// Answers with a status only.
    fn send_status(&mut self, id: u32, status: &Status) {
        self.take_call(id);
        let mut block = GRPC_HEADERS.to_vec();
        status.write(&mut block);
        self.session.send_headers(id, &block, true);
    }

    fn send_trailers(&mut self, id: u32, status: &Status) {
        let mut block = Vec::new();
        status.write(&mut block);
        self.session.send_end(id, End::Trailers(Cow::Owned(block)));
    }

    fn send_response(&mut self, id: u32, response: Response<Bytes>) {
        let (head, body) = response.into_parts();
        let mut block = Vec::new();
        if head.status == http::StatusCode::OK {
            block.push(STATUS_OK);
        } else {
            hpack::write_field(&mut block, ":status", head.status.as_str());
        }
        for (name, value) in &head.headers {
            hpack::write_field(&mut block, name.as_str(), value.to_str().unwrap_or_default());
        }
        hpack::write_field(&mut block, "content-length", &body.len().to_string());
        self.session.send_headers(id, &block, false);
        self.session.send_data(id, body);
        self.session.send_end(id, End::Data);
    }

    /// What time has brought: calls that took too long, a client that may be gone.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        loop {
            let due = self.due();
            // Later is not worth the effort: it is looked at again when the timer fires.
            if due < self.timer.deadline() {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Ok(any);
            }
            any = true;
            self.now = Instant::now();
            self.expire();
            if self.now >= self.heard_at + self.options.keepalive_interval {
                match self.pinged_at {
                    None => {
                        self.session.ping();
                        self.pinged_at = Some(self.now);
                    }
                    Some(at) if self.now >= at + self.options.keepalive_timeout => {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    Some(_) => {}
                }
            }
            let due = self.due();
            self.timer.as_mut().reset(due);
        }
    }

    fn due(&self) -> Instant {
        let keepalive = match self.pinged_at {
            None => self.heard_at + self.options.keepalive_interval,
            Some(at) => at + self.options.keepalive_timeout,
        };
        self.deadlines.first().map_or(keepalive, |(at, _)| keepalive.min(*at))
    }

    fn expire(&mut self) {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > self.now {
                return;
            }
            self.deadlines.pop_first();
            let Some(call) = self.take_call(id) else { continue };
            call.slot.into_iter().for_each(|slot| self.calls.cancel(slot));
            let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
            match call.kind {
                Kind::Stream(_) => self.send_trailers(id, &status),
                Kind::Unary(..) | Kind::Plain(..) => self.send_status(id, &status),
            }
        }
    }

    /// Writes what there is: ready when nothing is left.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        while self.written < self.session.out.len() {
            let rest = &self.session.out[self.written..];
            match Pin::new(&mut self.socket).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => self.written += len,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        self.written = 0;
        self.session.out.clear();
        self.session.out.shrink_to(READ_BYTES);
        Ok(Poll::Ready(()))
    }

    /// Ends the connection so that the client can read why: a socket that is closed while there is something
    /// to be read takes what was written with it.
    async fn close(mut self) {
        // Nobody waits for them any more.
        self.calls = Calls::new();
        self.session.streams.clear();
        let farewell = async {
            self.socket.write_all(&self.session.out[self.written..]).await?;
            self.socket.shutdown().await?;
            let mut rest = vec![0; 4096];
            while self.socket.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether it works is the client's affair.
        let _ = timeout(LINGER, farewell).await;
    }
}
