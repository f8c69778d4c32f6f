//! How long verdicts on transactions take: processor time of one thread, without reading files, the best of several
//! runs.
//!
//! `cargo run --release -p quorate-jepsen --example measure_transactions`

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/transactions.rs"]
mod transactions;

use std::hint::black_box;
use std::time::Duration;

use common::Random;
use quorate_jepsen::txn::weak::{WeakLevel, decide};
use quorate_jepsen::txn::{Level, Options, Transactions, Workload, check};
use rustix::time::{ClockId, clock_gettime};
use transactions::{Shape, build, plant, ring, serial};

fn main() {
    for (count, writes_per_key) in [(100_000, 32), (500_000, 32), (500_000, 256)] {
        let shape =
            Shape { transactions: count, processes: 20, keys: 10, writes_per_key, aborted: 2, unknown: 2 };
        let mut plans = serial(&mut Random::new(1), shape, Workload::ListAppend);
        let lists = build(&plans);
        for level in [Level::serializable(), Level::strict_serializable()] {
            let name = format!("list-append, {count} txns, {writes_per_key} writes per key, {level}");
            report(&name, count, || verdict(&lists, Workload::ListAppend, level));
        }
        plant(&mut Random::new(2), &mut plans, &ring(1_000_000_000, 5));
        let lists = build(&plans);
        let name = format!("list-append, {count} txns, a circle of five");
        report(&name, count, || verdict(&lists, Workload::ListAppend, Level::strict_serializable()));
    }
    let shape =
        Shape { transactions: 200_000, processes: 20, keys: 10, writes_per_key: 32, aborted: 2, unknown: 2 };
    let registers = build(&serial(&mut Random::new(1), shape, Workload::Register));
    report("rw-register, 200000 txns, strict-serializable", 200_000, || {
        verdict(&registers, Workload::Register, Level::strict_serializable())
    });
    for level in WeakLevel::ALL {
        report(&format!("rw-register, 200000 txns, {}", level.name()), 200_000, || {
            decide(&registers, level).expect("values are unique").is_none()
        });
    }
}

fn verdict(transactions: &Transactions, workload: Workload, level: Level) -> bool {
    let options = Options { levels: vec![level], ..Options::default() };
    check(transactions, workload, &options).expect("values are unique").verdict().is_valid()
}

/// Runs `work` for about two seconds and prints the best time and what it gave.
fn report<T: std::fmt::Debug>(name: &str, transactions: usize, work: impl Fn() -> T) {
    let begun = processor_time();
    let mut best = Duration::MAX;
    let mut result = None;
    while processor_time() - begun < Duration::from_secs(2) {
        let start = processor_time();
        result = Some(black_box(work()));
        best = best.min(processor_time() - start);
    }
    let rate = transactions as f64 / best.as_secs_f64() / 1e6;
    println!("{name:<70} {:>9.1} ms {rate:>6.2} M/s  {result:?}", best.as_secs_f64() * 1000.0);
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("less than a second"))
}
