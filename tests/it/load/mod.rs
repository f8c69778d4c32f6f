//! Clients that keep a cluster busy, and a judgement of what they saw.
//!
//! Clients put, delete, compare-and-swap and read a few keys, with values that occur only once; watchers look on, one at
//! each member. Every operation goes into a history, and the checker, which shares no code with the server, must be able
//! to explain it: no acknowledged write is lost, no read is stale, no event is missing, doubled or out of order.
//!
//! What a test does meanwhile follows the clients' progress, not the clock, so that a slow machine makes the test longer,
//! not easier.

#[cfg(feature = "etcd-client")]
mod etcd_client;
mod quorate_client;
mod recorder;
mod watcher;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_jepsen::{Verdict, etcd};
use quorate_tests::Deadline;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

#[cfg(feature = "etcd-client")]
pub use etcd_client::Theirs;
pub use quorate_client::Ours;
use recorder::{Operation, Outcome, Recorder};

/// Keys that the clients share: few, so that they meet.
const KEYS: u32 = 5;
const CLIENTS: u64 = 6;
/// How many answers the clients must get to have made progress.
const PROGRESS: u64 = 300;
/// How long they may take: elections, restarts and a busy machine included.
const PATIENCE: Duration = Duration::from_secs(60);
/// A client waits up to this long between two operations, so that histories stay readable.
const PAUSE_MAX_MICROS: u64 = 4_000;

/// Whoever can carry out operations on a cluster.
pub trait Client: Clone + Send + Sync + 'static {
    /// A client of these endpoints.
    fn connect(endpoints: &[String]) -> impl Future<Output = Self> + Send;
    /// Carries out one operation, once.
    fn perform(&self, operation: &Operation) -> impl Future<Output = Outcome> + Send;
}

/// Clients and watchers at work.
pub struct Load<C> {
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    runtime: Runtime,
    /// The members that the clients know.
    endpoints: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<Vec<etcd::WatchStream>>>,
    client: PhantomData<C>,
}

impl<C: Client> Load<C> {
    /// Sets clients and watchers to work on these members.
    pub fn start(endpoints: &[String], seed: u64) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let mut load = Self {
            recorder: Arc::new(Recorder::new()),
            stop: Arc::new(AtomicBool::new(false)),
            runtime: runtime.expect("a runtime can be made"),
            endpoints: Arc::new(Mutex::new(endpoints.to_vec())),
            clients: Vec::new(),
            watchers: Vec::new(),
            client: PhantomData,
        };
        for number in 0..CLIENTS {
            let (endpoints, recorder, stop) =
                (load.endpoints.clone(), load.recorder.clone(), load.stop.clone());
            let random = StdRng::seed_from_u64(seed * 100 + number);
            load.clients.push(load.runtime.spawn(async move {
                client_loop::<C>(number, &endpoints, &recorder, &stop, random).await;
            }));
        }
        for endpoint in endpoints {
            load.watch(endpoint);
        }
        load
    }

    /// Clients and a watcher are told of another member.
    pub fn add(&mut self, endpoint: &str) {
        self.endpoints.lock().expect("no client panics").push(endpoint.to_owned());
        self.watch(endpoint);
    }

    fn watch(&mut self, endpoint: &str) {
        let (endpoint, recorder, stop) = (endpoint.to_owned(), self.recorder.clone(), self.stop.clone());
        let number = self.watchers.len() as u64;
        let watcher = async move { watcher::watch(number, &endpoint, &recorder, &stop).await };
        self.watchers.push(self.runtime.spawn(watcher));
    }

    /// Waits until the clients have made progress.
    pub fn await_progress(&self) {
        self.await_answers(PROGRESS);
    }

    /// Waits until the clients have got so many answers more.
    pub fn await_answers(&self, count: u64) {
        let goal = self.recorder.answered() + count;
        Deadline::after(PATIENCE).retry("clients get answers", || match self.recorder.answered() {
            answered if answered >= goal => Ok(()),
            answered => Err(format!("{answered} answers, {goal} wanted")),
        });
    }

    /// Ends the load, reads everything from these members, and judges.
    pub fn judge(self, endpoints: &[String]) -> Verdict {
        self.stop.store(true, Ordering::SeqCst);
        self.runtime.block_on(async {
            for client in self.clients {
                client.await.expect("clients do not panic");
            }
            read_everything_everywhere::<C>(endpoints, &self.recorder).await;
            for watcher in self.watchers {
                let streams = watcher.await.expect("watchers do not panic");
                self.recorder.add_watches(streams);
            }
        });
        judge(&self.recorder)
    }
}

/// One client: an operation after the other, until it is told to stop.
async fn client_loop<C: Client>(
    number: u64,
    endpoints: &Mutex<Vec<String>>,
    recorder: &Recorder,
    stop: &AtomicBool,
    mut random: StdRng,
) {
    let current = || endpoints.lock().expect("no client panics").clone();
    let mut known = current();
    let mut client = C::connect(&known).await;
    let mut last_seen = 0;
    for count in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if known != current() {
            known = current();
            client = C::connect(&known).await;
        }
        let key = format!("key{}", random.random_range(0..KEYS));
        let value = format!("{number}-{count}");
        let operation = match random.random_range(0..10) {
            0..4 => Operation::Get { key },
            4..7 => Operation::Put { key, value },
            7..9 => Operation::Swap { key, mod_revision: last_seen, value },
            _ => Operation::Delete { key },
        };
        let outcome = recorder.record(number, &operation, client.perform(&operation)).await;
        if let Some(revision) = outcome {
            last_seen = revision;
        }
        let pause = random.random_range(0..PAUSE_MAX_MICROS);
        tokio::time::sleep(Duration::from_micros(pause)).await;
    }
}

/// When all is quiet, every member must know everything that was acknowledged.
async fn read_everything_everywhere<C: Client>(endpoints: &[String], recorder: &Recorder) {
    for endpoint in endpoints {
        let client = C::connect(std::slice::from_ref(endpoint)).await;
        for key in 0..KEYS {
            let operation = Operation::Get { key: format!("key{key}") };
            let answered = recorder.answered();
            recorder.record(CLIENTS, &operation, client.perform(&operation)).await;
            assert!(recorder.answered() > answered, "{endpoint} does not answer a read in a quiet cluster");
        }
    }
}

fn judge(recorder: &Recorder) -> Verdict {
    let history = recorder.history();
    let options = etcd::Options { ticks_per_second: Some(1_000_000_000), ..etcd::Options::default() };
    let verdict = etcd::check(&history, &options);
    let operations = history.operations.operations.len();
    let unknown =
        history.operations.operations.iter().filter(|operation| operation.returned.is_none()).count();
    let events: usize = history
        .watches
        .iter()
        .flat_map(|stream| &stream.responses)
        .map(|response| response.events.len())
        .sum();
    println!("{operations} operations, {unknown} of unknown outcome, {events} events: {verdict}");
    assert!(events > 0, "watchers saw something");
    verdict
}
