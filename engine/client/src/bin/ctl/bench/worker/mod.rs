//! One thread of load: a few connections, polled together, each with many calls under way.
//!
//! A turn reads what has arrived, starts a new call for each one that ended (closed loop) or is due (open loop), and
//! then writes each connection's requests with one system call. The clock is read once per batch of responses.
//! There is no runtime and no task per request: the thread does next to nothing but the system calls.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::calls::{Calls, Slot, WATCH_TOKEN, WatchSpread};
use self::link::{CONNECT_TIMEOUT, Link, connect};
use super::generator::{Call, Generator, Kind, Stage};
use super::hpack::Method;
use super::http2::{Broken, Connection, StreamId};
use super::options::{Plan, Workload};
use super::tally::Tally;
use crate::failure::Failure;

mod calls;
mod link;

const READ_BYTES: usize = 256 * 1024;
/// How long a lost connection waits before it is tried again, and for how long it is tried.
const RECONNECT_AFTER: u64 = 200_000_000;
const RECONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// How long answers may still come when no more calls are started.
const DRAIN: u64 = 5_000_000_000;
/// Preloading does not depend on how many requests shall be in flight later.
const PRELOAD_IN_FLIGHT: u32 = 256;

/// What the workers of a run have in common.
pub struct Shared {
    /// All times are nanoseconds since this moment.
    epoch: Instant,
    /// A worker could not get ready.
    pub failed: AtomicBool,
    /// Answered calls, for the progress display.
    pub answered: AtomicU64,
    /// Events that the answered puts must cause.
    events_expected: AtomicU64,
    /// Events that have come.
    pub events_received: AtomicU64,
    /// Workers whose calls have all been answered.
    finished: AtomicU32,
    /// When the last answer or event came.
    pub ended_at: AtomicU64,
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
    pub fn new() -> Self {
        Self {
            epoch: Instant::now(),
            failed: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            events_expected: AtomicU64::new(0),
            events_received: AtomicU64::new(0),
            finished: AtomicU32::new(0),
            ended_at: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since the epoch.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Events that have not come although their puts were answered.
    pub fn events_outstanding(&self) -> u64 {
        let received = self.events_received.load(Ordering::Relaxed);
        self.events_expected.load(Ordering::Relaxed).saturating_sub(received)
    }
}

/// When calls are started, and which of them count.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Calls that are started from here on are measured; nothing is before the start.
    pub measure_from: u64,
    /// No call is started from here on.
    pub until: u64,
    /// No more calls than these are started.
    pub calls: u64,
    /// Nanoseconds between two calls of this worker, if the loop is open.
    pub interval: Option<f64>,
}

/// One thread's load.
pub struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    thread: u32,
    links: Vec<Link>,
    calls: Calls,
    read_buffer: Vec<u8>,
    goal: Goal,
    started: u64,
    begun_at: u64,
    /// Slots without a call.
    free: Vec<u32>,
}

impl<'a> Worker<'a> {
    /// Connects, and puts on the servers what the workload needs to find there.
    pub fn prepare(plan: &'a Plan, shared: &'a Shared, thread: u32, preload: bool) -> Result<Self, Failure> {
        let links = (0..plan.connections)
            .filter(|connection| connection % plan.threads == thread)
            .map(|connection| {
                Link::open(&plan.endpoints[connection as usize % plan.endpoints.len()].authority)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let is_watch = plan.workload == Workload::Watch;
        let calls = Calls {
            generator: Generator::new(plan, thread),
            slots: Vec::new(),
            tally: Tally::new(),
            ended: Vec::new(),
            measure_from: 0,
            wants_revision: plan.workload == Workload::Txn,
            watchers_created: 0,
            events_received: 0,
            events_expected: 0,
            watch_spread: WatchSpread { watchers: 0, keys: plan.keys },
        };
        let mut worker = Self {
            plan,
            shared,
            thread,
            links,
            calls,
            read_buffer: vec![0; READ_BYTES],
            goal: Goal { measure_from: 0, until: 0, calls: 0, interval: None },
            started: 0,
            begun_at: 0,
            free: Vec::new(),
        };
        worker.await_ready()?;
        if preload {
            let keys = worker.calls.generator.keys();
            worker.run_stage(Stage::Preload, PRELOAD_IN_FLIGHT.div_ceil(plan.threads), keys)?;
        }
        if plan.workload == Workload::LeaseKeepAlive {
            worker.run_stage(Stage::GrantLeases, worker.in_flight(), u64::from(worker.in_flight()))?;
        }
        if is_watch {
            worker.create_watchers()?;
        }
        worker.calls.generator.begin(Stage::Load);
        Ok(worker)
    }

    /// This worker's share of the requests in flight.
    fn in_flight(&self) -> u32 {
        share(u64::from(self.plan.in_flight), self.plan.threads, self.thread) as u32
    }

    fn await_ready(&mut self) -> Result<(), Failure> {
        let deadline = self.shared.now() + CONNECT_TIMEOUT.as_nanos() as u64;
        while let Some(link) = self.links.iter().find(|link| !link.connection.is_ready()) {
            if link.socket.is_none() || self.shared.now() > deadline {
                let reason =
                    self.calls.tally.errors.pop_first().map_or("no answer".to_owned(), |(text, _)| text);
                return Err(Failure::connection(format!("{} does not speak gRPC: {reason}", link.authority)));
            }
            self.turn(deadline);
        }
        Ok(())
    }

    /// Makes `calls` calls that are not measured, and insists on success.
    fn run_stage(&mut self, stage: Stage, in_flight: u32, calls: u64) -> Result<(), Failure> {
        self.calls.generator.begin(stage);
        let goal = Goal { measure_from: u64::MAX, until: u64::MAX, calls, interval: None };
        self.drive(goal, in_flight);
        match self.calls.tally.errors.pop_first() {
            None => Ok(()),
            Some((text, count)) => Err(Failure::error(format!("preparing failed: {text} ({count} times)"))),
        }
    }

    fn create_watchers(&mut self) -> Result<(), Failure> {
        let mut streams: Vec<Option<StreamId>> = vec![None; self.links.len()];
        let watchers = u64::from(self.plan.watchers);
        let mine =
            (0..watchers).filter(|watcher| watcher % u64::from(self.plan.threads) == u64::from(self.thread));
        let mut expected = 0;
        for watcher in mine {
            let at = expected as usize % streams.len();
            let message = self.calls.generator.watch(watcher % self.plan.keys);
            let connection = &mut self.links[at].connection;
            match streams[at] {
                Some(stream) => connection.send(stream, message),
                None => streams[at] = Some(connection.open(Method::Watch, WATCH_TOKEN, message, false)),
            }
            expected += 1;
        }
        let deadline = self.shared.now() + 10 * DRAIN;
        while self.calls.watchers_created < expected {
            if let Some((text, _)) = self.calls.tally.errors.pop_first() {
                return Err(Failure::error(format!("creating watchers failed: {text}")));
            }
            if self.shared.now() > deadline {
                let created = self.calls.watchers_created;
                return Err(Failure::error(format!(
                    "only {created} of {expected} watchers were created in time"
                )));
            }
            self.turn(deadline);
        }
        self.calls.watch_spread.watchers = watchers;
        Ok(())
    }

    /// Carries out the measured part and returns what was measured.
    pub fn measure(mut self, goal: Goal) -> Tally {
        self.drive(goal, self.in_flight());
        self.shared.finished.fetch_add(1, Ordering::SeqCst);
        let deadline = self.shared.now() + DRAIN;
        while self.plan.workload == Workload::Watch && self.shared.now() < deadline {
            let all_finished = self.shared.finished.load(Ordering::SeqCst) == self.plan.threads;
            if all_finished && self.shared.events_outstanding() == 0 {
                break;
            }
            self.turn(self.shared.now() + 10_000_000);
        }
        self.shared.ended_at.fetch_max(self.shared.now(), Ordering::SeqCst);
        self.calls.tally
    }

    /// Starts calls until the goal is reached, and waits for their answers.
    fn drive(&mut self, goal: Goal, in_flight: u32) {
        self.goal = goal;
        self.started = 0;
        self.calls.measure_from = goal.measure_from;
        self.begun_at = self.shared.now();
        let links = self.links.len() as u32;
        let call = Call { kind: Kind::Put, key: 0 };
        let slot = |index| Slot { link: index % links, call, since: 0, busy: false, stream: None };
        self.calls.slots = (0..in_flight).map(slot).collect();
        self.free = (0..in_flight).rev().collect();
        while goal.interval.is_none() && self.may_start(self.begun_at) {
            let Some(slot) = self.free.pop() else { break };
            self.start(slot, self.begun_at);
        }
        let mut drained_by = u64::MAX;
        loop {
            let now = self.shared.now();
            self.start_due(now);
            if !self.may_start(now) {
                drained_by = drained_by.min(now + DRAIN);
                if self.free.len() == in_flight as usize {
                    return;
                }
                if now >= drained_by {
                    self.give_up();
                    return;
                }
            }
            let wake_at = self.next_due().unwrap_or(u64::MAX).min(now + 100_000_000);
            self.turn(wake_at);
        }
    }

    /// Another call may be started.
    fn may_start(&self, now: u64) -> bool {
        self.started < self.goal.calls && now < self.goal.until
    }

    /// Open loop: when the next call is due, if a slot is free for it.
    fn next_due(&self) -> Option<u64> {
        let interval =
            self.goal.interval.filter(|_| self.started < self.goal.calls && !self.free.is_empty())?;
        let due = self.begun_at + (self.started as f64 * interval) as u64;
        (due < self.goal.until).then_some(due)
    }

    /// Open loop: starts what is due. A call that had to wait for a free slot counts from when it was due, so that a
    /// server that falls behind cannot hide it.
    fn start_due(&mut self, now: u64) {
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            let slot = self.free.pop().expect("a call is due only if a slot is free");
            let links = self.links.len() as u64;
            self.calls.slots[slot as usize].link = (self.started % links) as u32;
            self.start(slot, due);
        }
    }

    /// Starts the next call on a free slot.
    fn start(&mut self, slot: u32, since: u64) {
        self.started += 1;
        let entry = &mut self.calls.slots[slot as usize];
        entry.since = since;
        entry.busy = true;
        self.submit(slot);
    }

    /// Hands the slot's call to its connection, or leaves it waiting there.
    fn submit(&mut self, slot: u32) {
        let Calls { generator, slots, .. } = &mut self.calls;
        let entry = &mut slots[slot as usize];
        let link = &mut self.links[entry.link as usize];
        if entry.stream.is_none() && (link.socket.is_none() || !link.connection.can_open()) {
            link.waiting.push(slot);
            return;
        }
        entry.call = generator.next(slot, entry.since);
        let method = entry.call.kind.method();
        match entry.stream {
            Some(stream) => link.connection.send(stream, &generator.message),
            None => {
                let unary = entry.call.kind != Kind::LeaseKeepAlive;
                let stream = link.connection.open(method, slot, &generator.message, unary);
                entry.stream = (!unary).then_some(stream);
            }
        }
    }

    /// One turn: waits for the sockets, reads, replaces ended calls, writes.
    fn turn(&mut self, wake_at: u64) {
        self.reconnect();
        self.flush();
        let ready = self.wait(wake_at);
        for (index, readable) in ready.into_iter().enumerate() {
            if readable {
                self.read(index);
            }
        }
        self.replace_ended();
        self.flush();
    }

    fn wait(&self, wake_at: u64) -> Vec<bool> {
        let mut of_link = Vec::with_capacity(self.links.len());
        let mut polled = Vec::with_capacity(self.links.len());
        for (index, link) in self.links.iter().enumerate() {
            if let Some(socket) = &link.socket {
                let writing =
                    if link.connection.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                polled.push(PollFd::new(socket, PollFlags::IN | writing));
                of_link.push(index);
            }
        }
        let timeout = wake_at.saturating_sub(self.shared.now());
        let timeout = Timespec {
            tv_sec: (timeout / 1_000_000_000).min(3600) as i64,
            tv_nsec: (timeout % 1_000_000_000) as _,
        };
        let mut ready = vec![false; self.links.len()];
        // An interrupted poll is a turn without news.
        if poll(&mut polled, Some(&timeout)).is_ok() {
            for (poll, index) in polled.iter().zip(of_link) {
                ready[index] = poll.revents().intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP);
            }
        }
        ready
    }

    fn read(&mut self, index: usize) {
        let link = &mut self.links[index];
        let Some(socket) = &mut link.socket else { return };
        let received = match socket.read(&mut self.read_buffer) {
            Ok(0) => Err(Broken("the server closed the connection".to_owned())),
            Ok(length) => {
                let now = self.shared.now();
                let calls = &mut self.calls;
                let bytes = &self.read_buffer[..length];
                link.connection.receive(bytes, &mut |event| calls.on_event(event, now))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(Broken(error.to_string())),
        };
        if let Err(broken) = received {
            self.disconnect(index, &broken);
        } else if !link.waiting.is_empty() && link.connection.can_open() {
            for slot in std::mem::take(&mut link.waiting) {
                self.submit(slot);
            }
        }
    }

    /// Starts new calls in the place of those that ended, and tells the others how far this worker is.
    fn replace_ended(&mut self) {
        if self.calls.ended.is_empty() && self.calls.events_received == 0 {
            return;
        }
        let now = self.shared.now();
        let mut ended = std::mem::take(&mut self.calls.ended);
        self.shared.answered.fetch_add(ended.len() as u64, Ordering::Relaxed);
        for slot in ended.drain(..) {
            if self.goal.interval.is_none() && self.may_start(now) {
                self.start(slot, now);
            } else {
                self.free.push(slot);
            }
        }
        // The buffer is kept, with whatever was lost while calls were started.
        ended.append(&mut self.calls.ended);
        self.calls.ended = ended;
        if self.plan.workload == Workload::Watch {
            let expected = std::mem::take(&mut self.calls.events_expected);
            self.shared.events_expected.fetch_add(expected, Ordering::Relaxed);
            let received = std::mem::take(&mut self.calls.events_received);
            self.shared.events_received.fetch_add(received, Ordering::Relaxed);
        }
    }

    fn flush(&mut self) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            let (Some(socket), false) = (&mut link.socket, link.connection.output.is_empty()) else {
                continue;
            };
            match socket.write(&link.connection.output) {
                Ok(written) if written == link.connection.output.len() => link.connection.output.clear(),
                Ok(written) => drop(link.connection.output.drain(..written)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => self.disconnect(index, &Broken(error.to_string())),
            }
        }
    }

    /// A connection is lost, and with it the outcome of every call on it.
    fn disconnect(&mut self, index: usize, broken: &Broken) {
        let link = &mut self.links[index];
        link.socket = None;
        link.retry_at = self.shared.now() + RECONNECT_AFTER;
        let text = format!("connection to {} lost, outcome unknown: {broken}", link.authority);
        let tokens: Vec<u32> = link.connection.open_tokens().collect();
        for token in tokens {
            if token == WATCH_TOKEN {
                self.calls.tally.failed(text.clone());
                continue;
            }
            self.calls.slots[token as usize].stream = None;
            self.calls.lost(token, &text);
        }
        if self.calls.slots.is_empty() {
            self.calls.tally.failed(text); // still connecting
        }
    }

    fn reconnect(&mut self) {
        for link in self.links.iter_mut().filter(|link| link.socket.is_none() && !link.waiting.is_empty()) {
            let now = self.shared.now();
            if now < link.retry_at {
                continue;
            }
            match connect(link.address, RECONNECT_TIMEOUT) {
                Ok(socket) => {
                    link.connection = Connection::new(&link.authority);
                    link.socket = Some(socket);
                }
                Err(_) => link.retry_at = now + RECONNECT_AFTER,
            }
        }
    }

    /// The time for late answers is over.
    fn give_up(&mut self) {
        for link in &mut self.links {
            for slot in link.waiting.drain(..) {
                self.calls.lost(slot, "not sent: the server was not reachable, or limits its streams");
            }
        }
        for slot in 0..self.calls.slots.len() as u32 {
            self.calls.lost(slot, "no answer in time, outcome unknown");
        }
        self.calls.ended.clear();
    }
}

/// The part of `total` that falls to one of `threads` threads.
pub fn share(total: u64, threads: u32, thread: u32) -> u64 {
    total / u64::from(threads) + u64::from(u64::from(thread) < total % u64::from(threads))
}
