//! A client of one's own, with a bug that the simulator finds: it takes a lock that hangs on a lease, reads a counter, works,
//! and writes the counter back. It believes that it still has the lock. When an answer was slow, or a lease's keeper was far
//! away, it may have lost it meanwhile, and overwrites what the next holder has counted. The second version
//! lets the store decide: it writes only if the lock is still the one that it took.
//!
//! `cargo run --release -p quorate-sim --example lock_client`

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use quorate_jepsen::etcd::{Compare, Keys, Put, Range, Relation, Reply, Request, Target, Txn};
use quorate_sim::own::client::{Handle, sweep_clients};

/// The counts that were written and acknowledged: each must be written once.
type Written = RefCell<BTreeSet<u64>>;

async fn count(cluster: Handle, written: Rc<Written>, fenced: bool) {
    for round in 1.. {
        cluster.sleep(Duration::from_millis(50)).await;
        let lease = 1 + round * 100 + cluster.id() as i64;
        cluster.ask(Request::LeaseGrant { id: lease, ttl: 1 }).await;
        let take = Put { lease, ..Put::new("lock", "taken") };
        let free = if_created_at(0, Request::Put(take));
        if let Some(Reply::Txn { succeeded: true, .. }) = cluster.reply(free).await {
            increment(&cluster, &written, lease, fenced).await;
        }
        cluster.ask(Request::LeaseRevoke { id: lease }).await;
    }
}

async fn increment(cluster: &Handle, written: &Written, lease: i64, fenced: bool) {
    let Some(Reply::Range { kvs, .. }) = cluster.reply(Request::Range(Range::key("count"))).await else {
        return;
    };
    let before =
        kvs.first().map_or(0, |kv| String::from_utf8_lossy(kv.value.as_slice()).parse().unwrap_or(0));
    cluster.sleep(Duration::from_millis(200)).await; // the work
    let write = Request::Put(Put::new("count", (before + 1).to_string().as_str()));
    let write = if fenced { if_lock_hangs_on(lease, write) } else { write };
    if let Some(Reply::Put { .. } | Reply::Txn { succeeded: true, .. }) = cluster.reply(write).await {
        let new = written.borrow_mut().insert(before + 1);
        cluster.must(new, || format!("two clients counted {}: one had lost its lock", before + 1));
    }
}

fn if_created_at(revision: i64, request: Request) -> Request {
    only_if(Target::Create(revision), request)
}

fn if_lock_hangs_on(lease: i64, request: Request) -> Request {
    only_if(Target::Lease(lease), request)
}

fn only_if(target: Target, request: Request) -> Request {
    let compare = Compare { keys: Keys::one("lock"), result: Relation::Equal, target };
    Request::Txn(Txn { compares: vec![compare], success: vec![request], failure: Vec::new() })
}

/// Finds the bug, and that it is gone.
pub fn main() {
    quorate_sim::report::install_panic_hook();
    let failure = sweep_clients(0..100, 5, |cluster, written| count(cluster, written, false));
    let failure = failure.expect_err("somebody works on without the lock");
    println!("believing: {failure}\n");
    assert_eq!(failure.violation.invariant, "what the clients demand");

    let runs = sweep_clients(0..6, 5, |cluster, written| count(cluster, written, true));
    println!("asking the store: {} seeds, and no count is written twice", runs.expect("the store knows"));
}
