//! The history while it happens: every operation from its call to its end, on one clock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_jepsen::etcd::{EtcdHistory, Hold, Request, Response, WatchStream};
use quorate_jepsen::explain::Band;
use quorate_jepsen::format::jepsen::{Answer, Ask};
use quorate_jepsen::{History, OperationId, Value};

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
    /// Who believed when to own the lock.
    pub holds: Vec<Hold>,
    /// Writes that the guarded resource accepted: revision and token.
    pub accepted: Vec<(i64, i64)>,
}

/// Collects what all clients see.
pub struct Recorder {
    seen: Mutex<Seen>,
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
        self.with(|seen, now| seen.etcd.operations.invoke(process, now, request))
    }

    /// It was answered, or refused for certain.
    pub fn answer(&self, id: OperationId, response: Response) {
        self.with(|seen, now| seen.etcd.operations.ok(id, now, response));
    }

    /// An operation by name begins.
    pub fn begin(&self, process: u64, f: &str, key: Option<&str>, value: Value) -> OperationId {
        let ask = Ask { f: f.to_owned(), key: key.map(str::to_owned), value };
        self.with(|seen, now| seen.named.invoke(process, now, ask))
    }

    /// An operation by name ends: it happened, or certainly not.
    pub fn end(&self, id: OperationId, ok: bool, value: Value) {
        self.with(|seen, now| seen.named.ok(id, now, Answer { ok, value }));
    }

    /// Changes what was seen, with the time read under the lock: the order of a history is that of its times.
    pub fn with<T>(&self, change: impl FnOnce(&mut Seen, u64) -> T) -> T {
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

    /// Adds what watchers received.
    pub fn add_watches(&self, streams: Vec<WatchStream>) {
        self.with(|seen, _| seen.etcd.watches.extend(streams));
    }

    /// Everything up to now; what comes later is a new history.
    pub fn take(&self) -> Seen {
        self.with(|seen, _| std::mem::take(seen))
    }
}
