//! The history while it happens: every operation from its call to its end, on one clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_jepsen::etcd::{EtcdHistory, Hold, Request, Response, WatchRequest, WatchResponse, WatchStream};
use quorate_jepsen::explain::Band;
use quorate_jepsen::format::jepsen::{Answer, Ask};
use quorate_jepsen::{History, Operation, OperationId, Returned, Value};

use crate::timeline::{End, Timeline};

/// Units of the history's time in a second: nanoseconds.
pub const TICKS_PER_SECOND: u64 = 1_000_000_000;

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests to the servers, and watch streams.
    pub etcd: EtcdHistory,
    /// Operations of workloads that are more than one request, by name.
    pub named: History<Ask, Answer>,
    /// Who believed when to own the lock; of those who still do, only at the end of the run.
    pub holds: Vec<Hold>,
    /// Who has begun to do so.
    pub claims: Vec<Hold>,
    /// Writes that the guarded resource accepted: revision and token.
    pub accepted: Vec<(i64, i64)>,
    /// When the first operation by name was called that is not among these.
    pub frontier_named: u64,
}

/// What has been seen and not been taken yet.
#[derive(Default)]
pub struct Recording {
    etcd: Track<Request, Response>,
    named: Track<Ask, Answer>,
    /// Streams by number, and whether they have ended.
    streams: BTreeMap<u64, (WatchStream, bool)>,
    streams_begun: u64,
    /// Holds by number, and whether somebody has heard that they began.
    holds: BTreeMap<u64, (Hold, bool)>,
    holds_begun: u64,
    accepted: Vec<(i64, i64)>,
}

/// Operations in the order of their calls; the first ones go when they are over.
struct Track<I, O> {
    gone: usize,
    operations: VecDeque<(Operation<I, O>, bool)>,
}

impl<I, O> Default for Track<I, O> {
    fn default() -> Self {
        Track { gone: 0, operations: VecDeque::new() }
    }
}

impl<I, O> Track<I, O> {
    fn begin(&mut self, process: u64, call: u64, input: I) -> OperationId {
        self.operations.push_back((Operation { process, call, input, returned: None }, false));
        OperationId(self.gone + self.operations.len() - 1)
    }

    /// It ends, with an answer or without.
    fn end(&mut self, id: OperationId, returned: Option<Returned<O>>) {
        // Whatever was taken at the end of the run is over, too.
        let Some((operation, over)) = id.0.checked_sub(self.gone).and_then(|at| self.operations.get_mut(at))
        else {
            return;
        };
        assert!(!*over, "operation {} ends twice", id.0);
        (operation.returned, *over) = (returned, true);
    }

    /// Takes those in front that are over, or all. Gives when the first that stays was called.
    fn take(&mut self, all: bool) -> (History<I, O>, Option<u64>) {
        let over = self.operations.iter().take_while(|(_, over)| all || *over).count();
        self.gone += over;
        let taken = self.operations.drain(..over).map(|(operation, _)| operation).collect();
        (taken, self.operations.front().map(|(operation, _)| operation.call))
    }
}

impl Recording {
    /// A stream begins; gives its number.
    pub fn watch(&mut self, process: u64, request: WatchRequest) -> u64 {
        let number = self.streams_begun;
        self.streams_begun += 1;
        let stream = WatchStream { process, request, responses: Vec::new() };
        self.streams.insert(number, (stream, false));
        number
    }

    /// Something arrives on a stream.
    pub fn received(&mut self, number: u64, response: WatchResponse) {
        if let Some((stream, _)) = self.streams.get_mut(&number) {
            stream.responses.push(response);
        }
    }

    /// A stream ends.
    pub fn watched(&mut self, number: u64) {
        if let Some((_, over)) = self.streams.get_mut(&number) {
            *over = true;
        }
    }

    /// Somebody believes to own the lock from now on; gives the number of that.
    pub fn hold(&mut self, hold: Hold) -> u64 {
        let number = self.holds_begun;
        self.holds_begun += 1;
        self.holds.insert(number, (hold, false));
        number
    }

    /// It knows that it does not any more.
    pub fn release(&mut self, number: u64, now: u64) {
        if let Some((hold, _)) = self.holds.get_mut(&number) {
            hold.released = now;
        }
    }

    /// The resource accepts a write.
    pub fn accept(&mut self, accepted: (i64, i64)) {
        self.accepted.push(accepted);
    }

    fn take(&mut self, all: bool, now: u64) -> (Seen, u64) {
        let (operations, first) = self.etcd.take(all);
        let (named, first_named) = self.named.take(all);
        let frontier = first.unwrap_or(now);
        let mut watches = Vec::new();
        self.streams.retain(|_, (stream, over)| {
            if *over || all {
                watches.push(std::mem::take(stream));
                return false;
            }
            watches.extend(cut(stream));
            true
        });
        let (mut claims, mut holds) = (Vec::new(), Vec::new());
        self.holds.retain(|_, (hold, told)| {
            if !std::mem::replace(told, true) {
                claims.push(hold.clone());
            }
            if all || hold.released < u64::MAX {
                holds.push(hold.clone());
            }
            hold.released == u64::MAX
        });
        let accepted = std::mem::take(&mut self.accepted);
        let frontier_named = first_named.unwrap_or(now);
        let etcd = EtcdHistory { operations, watches };
        (Seen { etcd, named, holds, claims, accepted, frontier_named }, frontier)
    }
}

/// Cuts off what has arrived on a stream, as if it had ended there and been resumed.
fn cut(stream: &mut WatchStream) -> Option<WatchStream> {
    let last = stream.responses.last().filter(|last| !last.fragment && !last.canceled)?;
    let is_bookmark = !last.created && last.events.is_empty();
    let reached = last.events.last().map(|event| event.kv.mod_revision);
    let reached = reached.or(is_bookmark.then_some(last.revision))?;
    let next = stream.request.start_revision.max(reached + 1);
    let mut rest = WatchStream { responses: Vec::new(), ..stream.clone() };
    rest.request.start_revision = next;
    Some(std::mem::replace(stream, rest))
}

/// Collects what all clients see.
pub struct Recorder {
    seen: Mutex<Recording>,
    bands: Mutex<Vec<Band>>,
    timeline: Mutex<Timeline>,
    begun: Instant,
    answered: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

impl Recorder {
    /// An empty history whose clock starts now, of a run that is planned to last so long.
    #[expect(clippy::disallowed_methods, reason = "real clusters are judged by real time")]
    pub fn new(planned: Duration) -> Self {
        Self {
            seen: Mutex::default(),
            bands: Mutex::default(),
            timeline: Mutex::new(Timeline::new(planned)),
            begun: Instant::now(),
            answered: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How many operations were answered, have an unknown outcome, and were refused.
    pub fn counts(&self) -> [u64; 3] {
        [&self.answered, &self.unknown, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }

    /// A request has ended that was sent at a time.
    pub fn count(&self, sent: Duration, end: End) {
        let count = match end {
            End::Answered => &self.answered,
            End::Refused => &self.refused,
            End::Unknown => &self.unknown,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let took = self.elapsed().saturating_sub(sent);
        self.timeline.lock().expect("no recorder panics").add(sent, took, end);
    }

    /// What has been counted.
    pub fn timeline(&self) -> Timeline {
        self.timeline.lock().expect("no recorder panics").clone()
    }

    /// A request is sent.
    pub fn invoke(&self, process: u64, request: Request) -> OperationId {
        self.with(|seen, now| seen.etcd.begin(process, now, request))
    }

    /// It was answered, or refused for certain.
    pub fn answer(&self, id: OperationId, response: Response) {
        self.with(|seen, now| seen.etcd.end(id, Some(Returned { at: now, output: response })));
    }

    /// Nobody will ever know what became of it.
    pub fn abandon(&self, id: OperationId) {
        self.with(|seen, _| seen.etcd.end(id, None));
    }

    /// An operation by name begins.
    pub fn begin(&self, process: u64, f: &str, key: Option<&str>, value: Value) -> OperationId {
        let ask = Ask { f: f.to_owned(), key: key.map(str::to_owned), value };
        self.with(|seen, now| seen.named.begin(process, now, ask))
    }

    /// An operation by name ends: it happened, or certainly not.
    pub fn end(&self, id: OperationId, ok: bool, value: Value) {
        let output = Answer { ok, value };
        self.with(|seen, now| seen.named.end(id, Some(Returned { at: now, output })));
    }

    /// Nobody will ever know what became of an operation by name.
    pub fn leave(&self, id: OperationId) {
        self.with(|seen, _| seen.named.end(id, None));
    }

    /// Changes what was seen, with the time read under the lock: the order of a history is that of its times.
    pub fn with<T>(&self, change: impl FnOnce(&mut Recording, u64) -> T) -> T {
        let mut seen = self.seen.lock().expect("no recorder panics");
        let now = self.now();
        change(&mut seen, now)
    }

    /// Something has been done to the cluster since then; gives its number.
    pub fn fault_begins(&self, since: u64, label: String) -> usize {
        let mut bands = self.bands.lock().expect("no recorder panics");
        bands.push(Band { from: since, to: u64::MAX, label });
        bands.len() - 1
    }

    /// It is over.
    pub fn fault_ends(&self, number: usize) {
        self.bands.lock().expect("no recorder panics")[number].to = self.now();
    }

    /// What has been done to the cluster.
    pub fn bands(&self) -> Vec<Band> {
        let now = self.now();
        let bands = self.bands.lock().expect("no recorder panics");
        bands.iter().map(|band| Band { to: band.to.min(now), ..band.clone() }).collect()
    }

    /// What is being done to the cluster.
    pub fn current_faults(&self) -> String {
        let bands = self.bands.lock().expect("no recorder panics");
        let current = bands.iter().filter(|band| band.to == u64::MAX).map(|band| band.label.as_str());
        current.collect::<Vec<_>>().join(", ")
    }

    /// Everything up to now. What comes later is a new history.
    pub fn take(&self) -> Seen {
        self.with(|seen, now| seen.take(true, now).0)
    }

    /// What is over, in the order of the calls, and when the first request was called that is not: all that comes later
    /// is called then or later.
    pub fn take_over(&self) -> (Seen, u64) {
        self.with(|seen, now| seen.take(false, now))
    }
}
