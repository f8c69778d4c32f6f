//! What clients do: one step at a time, until the time is over.
//!
//! Every request to the servers is recorded with the revision of its answer, and the whole history is judged by
//! the order of revisions. Workloads that mean more than their requests (a register, a transaction over lists, a
//! lock) are recorded by name as well and judged by a model of what they mean.

mod kv;
mod lease;
mod lists;
mod lock;
mod register;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;

use crate::client::Client;

pub use watch::watch;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Reads, writes and compare-and-sets of single keys, judged as linearizable registers.
    Register,
    /// Elements are added as keys, and all of them read.
    Set,
    /// Transactions that append to lists and read them.
    Append,
    /// Transactions that write and read registers.
    Wr,
    /// Gets, puts, deletions, ranges and guarded puts.
    Kv,
    /// As kv, with a watcher of everything at each member.
    Watch,
    /// A lock and a resource that it protects; see --fenced.
    Lock,
    /// Leases are granted, used, renewed, revoked, or left to expire.
    Lease,
    /// Transactions with several compares, writes and reads.
    Txn,
}

impl Workload {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Register => "register",
            Workload::Set => "set",
            Workload::Append => "append",
            Workload::Wr => "wr",
            Workload::Kv => "kv",
            Workload::Watch => "watch",
            Workload::Lock => "lock",
            Workload::Lease => "lease",
            Workload::Txn => "txn",
        }
    }
}

/// What all clients of a run share.
pub struct Context {
    /// The kind of load.
    pub workload: Workload,
    /// How many keys there are.
    pub keys: u64,
    /// Reads of registers may be answered by a member from its own state.
    pub serializable: bool,
    /// The resource demands the lock's token.
    pub fenced: bool,
    /// The time to live of leases, in seconds.
    pub ttl: i64,
    /// Members' clocks may run up to twice as fast as they should.
    pub wrong_clocks: bool,
    /// How long values of the workloads kv, watch and txn are at least.
    pub value_size: usize,
    /// How long a client waits between two steps, on average.
    pub pause: Duration,
    /// The lists of the workload append.
    lists: lists::Lists,
    values: AtomicU64,
    stop: AtomicBool,
}

impl Context {
    /// A run that has not begun.
    pub fn new(workload: Workload, keys: u64, pause: Duration) -> Self {
        Self {
            workload,
            keys,
            serializable: false,
            fenced: false,
            ttl: 2,
            wrong_clocks: false,
            value_size: 0,
            pause,
            lists: lists::Lists::default(),
            values: AtomicU64::new(1),
            stop: AtomicBool::new(false),
        }
    }

    /// A value that nobody has written yet.
    pub fn fresh(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// The same as text, as long as values shall be.
    pub fn fresh_value(&self) -> String {
        format!("{:.<1$}", self.fresh(), self.value_size)
    }

    /// Ends the run.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// One client at work.
pub async fn work(client: Client, mut random: StdRng, context: &Context) {
    use rand::RngExt as _;
    while !context.is_over() {
        step(&client, &mut random, context).await;
        let pause = context.pause.mul_f64(random.random_range(0.5..1.5));
        tokio::time::sleep(pause).await;
    }
}

async fn step(client: &Client, random: &mut StdRng, context: &Context) {
    match context.workload {
        Workload::Register => register::step(client, random, context).await,
        Workload::Set => kv::step_set(client, random, context).await,
        Workload::Append => lists::step(client, random, context, true).await,
        Workload::Wr => lists::step(client, random, context, false).await,
        Workload::Kv | Workload::Watch => kv::step(client, random, context).await,
        Workload::Lock => lock::step(client, random, context).await,
        Workload::Lease => lease::step(client, random, context).await,
        Workload::Txn => kv::step_txn(client, random, context).await,
    }
}

/// What the keys of those begin with who want the lock.
pub fn lock_prefix() -> &'static [u8] {
    lock::PREFIX.as_bytes()
}
