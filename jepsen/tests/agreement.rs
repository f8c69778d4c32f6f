//! Two algorithms that share nothing agree on random histories, right and wrong.
//!
//! A sample runs with the other tests; `cargo run --release -p quorate-jepsen --example agree` runs as many as one likes.

mod common;
#[path = "common/pairs.rs"]
mod pairs;

use pairs::PAIRS;
use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{EtcdHistory, Put, Range, Reply, Request, Response, registers};

/// How many histories for each pair of algorithms.
const EACH: u64 = 1000;

#[test]
fn pairs_of_algorithms_agree() {
    for pair in &PAIRS {
        // Verdicts of both: wrong histories, right ones.
        let mut tally = [0_u64; 2];
        for seed in 0..EACH {
            let (one, other_is_valid) = (pair.judge)(seed);
            assert!(!matches!(one, Verdict::Unknown(_)), "{}, seed {seed}: {one}", pair.name);
            assert_eq!(one.is_valid(), other_is_valid, "{}, seed {seed}: {one}", pair.name);
            tally[usize::from(other_is_valid)] += 1;
        }
        // Both kinds were met often enough for the comparison to mean something.
        let [wrong, right] = tally;
        assert!(wrong.min(right) * 20 > EACH, "{}: {right} right, {wrong} wrong", pair.name);
    }
}

/// Keys of etcd are registers as long as nothing but single gets, puts and compare-and-puts touches them.
#[test]
fn keys_that_are_registers_are_judged_without_revisions() {
    let mut history = EtcdHistory::default();
    let mut ask = |at: u64, request: Request, reply: Reply, revision: i64| {
        let id = history.operations.invoke(0, at, request);
        history.operations.ok(id, at + 1, Response::at(revision, reply));
    };
    let nothing = Reply::Range { kvs: Vec::new(), more: false, count: 0 };
    ask(0, Request::Put(Put::new("a", "1")), Reply::Put { previous: None }, 2);
    ask(2, Request::Put(Put { lease: 7, ..Put::new("b", "1") }), Reply::Put { previous: None }, 3);
    ask(4, Request::Range(Range::key("b")), nothing.clone(), 4);
    let second = registers(&history);
    assert_eq!(second.history.operations.len(), 1, "a lease may take b away at any time");
    assert!(second.judge().is_valid());
    let id = history.operations.invoke(0, 6, Request::Range(Range::key("a")));
    history.operations.ok(id, 7, Response::at(4, nothing));
    assert!(registers(&history).judge().is_invalid(), "a was written");
}
