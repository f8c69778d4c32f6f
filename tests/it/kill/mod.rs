//! Members are killed with `kill -9` under load, and what the clients saw is judged.
//!
//! Three processes; clients that put, delete, compare-and-swap and read a few keys, with values that occur only once;
//! watchers, one at each member. Meanwhile members are killed and started again: one after the other, a majority, and
//! all. Every operation goes into a history, and the checker, which shares no code with the server, must be able to
//! explain it: no acknowledged write is lost, no read is stale, no event is missing, doubled or out of order.
//!
//! The faults follow the clients' progress, not the clock, so that a slow machine makes the test longer, not easier.

#[cfg(feature = "etcd-client")]
mod etcd_client;
mod quorate_client;
mod recorder;
mod watcher;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_jepsen::{Verdict, etcd};
use quorate_tests::{Cluster, Deadline, program};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use recorder::{Operation, Outcome, Recorder};

/// Keys that the clients share: few, so that they meet.
const KEYS: u32 = 5;
const CLIENTS: u64 = 6;
/// How many answers the clients must get between two faults.
const PROGRESS: u64 = 300;
/// How long they may take: elections, restarts and a busy machine included.
const PATIENCE: Duration = Duration::from_secs(60);
/// A client waits up to this long between two operations, so that histories stay readable.
const PAUSE_MAX_MICROS: u64 = 4_000;

/// Whoever can carry out operations on a cluster.
trait Client: Clone + Send + Sync + 'static {
    /// A client of these endpoints.
    fn connect(endpoints: &[String]) -> impl Future<Output = Self> + Send;
    /// Carries out one operation, once.
    fn perform(&self, operation: &Operation) -> impl Future<Output = Outcome> + Send;
}

/// Members that are killed at once, and started again.
struct Fault {
    victims: &'static [usize],
    /// Their data is removed as well: a fault that no cluster survives if it strikes a majority.
    forget: bool,
}

const fn kill(victims: &'static [usize]) -> Fault {
    Fault { victims, forget: false }
}

const FAULTS: [Fault; 6] =
    [kill(&[0]), kill(&[1]), kill(&[2]), kill(&[0, 1]), kill(&[0, 1, 2]), kill(&[1, 2])];

#[test]
fn nothing_acknowledged_is_lost_and_no_read_is_stale() {
    let verdict = verdict_under::<quorate_client::Ours>(&FAULTS, 1);
    assert!(verdict.is_valid(), "{} judged by its history: {verdict}", program().path.display());
}

#[cfg(feature = "etcd-client")]
#[test]
fn the_crate_etcd_client_sees_the_same() {
    let verdict = verdict_under::<etcd_client::Theirs>(&FAULTS, 2);
    assert!(verdict.is_valid(), "{} judged by its history: {verdict}", program().path.display());
}

/// The oracle is awake: a cluster that loses its data is found out.
#[test]
fn a_cluster_that_forgets_is_found_out() {
    let verdict = verdict_under::<quorate_client::Ours>(&[Fault { victims: &[0, 1, 2], forget: true }], 3);
    assert!(verdict.is_invalid(), "acknowledged writes are gone, and the verdict is: {verdict}");
}

/// Runs clients while the faults happen, one after the other, and judges what they saw.
fn verdict_under<C: Client>(faults: &[Fault], seed: u64) -> Verdict {
    let mut cluster = Cluster::start(3, &[]);
    let endpoints = cluster.endpoints();
    let recorder = Arc::new(Recorder::new());
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (endpoints, recorder, stop) = (endpoints.clone(), Arc::clone(&recorder), Arc::clone(&stop));
            let random = StdRng::seed_from_u64(seed * 100 + number);
            runtime.spawn(async move { client_loop::<C>(number, &endpoints, &recorder, &stop, random).await })
        })
        .collect();
    let watchers: Vec<_> = endpoints
        .iter()
        .enumerate()
        .map(|(number, endpoint)| {
            let (endpoint, recorder, stop) = (endpoint.clone(), Arc::clone(&recorder), Arc::clone(&stop));
            runtime.spawn(async move { watcher::watch(number as u64, &endpoint, &recorder, &stop).await })
        })
        .collect();

    for fault in faults {
        await_progress(&recorder);
        for victim in fault.victims {
            cluster.member(*victim).kill();
            if fault.forget {
                fs::remove_dir_all(cluster.member(*victim).data_dir()).expect("our own files can be removed");
            }
        }
        if fault.victims.len() == 1 {
            await_progress(&recorder); // two of three go on
        }
        cluster.start_all();
    }
    await_progress(&recorder);
    stop.store(true, Ordering::SeqCst);
    runtime.block_on(async {
        for client in clients {
            client.await.expect("clients do not panic");
        }
        read_everything_everywhere::<C>(&endpoints, &recorder).await;
        for watcher in watchers {
            let streams = watcher.await.expect("watchers do not panic");
            recorder.add_watches(streams);
        }
    });
    judge(&recorder)
}

fn await_progress(recorder: &Recorder) {
    let goal = recorder.answered() + PROGRESS;
    Deadline::after(PATIENCE).retry("clients get answers", || match recorder.answered() {
        answered if answered >= goal => Ok(()),
        answered => Err(format!("{answered} answers, {goal} wanted")),
    });
}

/// One client: an operation after the other, until it is told to stop.
async fn client_loop<C: Client>(
    number: u64,
    endpoints: &[String],
    recorder: &Recorder,
    stop: &AtomicBool,
    mut random: StdRng,
) {
    let client = C::connect(endpoints).await;
    let mut last_seen = 0;
    for count in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
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
