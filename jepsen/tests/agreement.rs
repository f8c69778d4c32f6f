//! Two algorithms that share nothing agree on random histories, right and wrong.
//!
//! A sample runs with the other tests. The whole:
//!
//! ```text
//! QUORATE_AGREEMENT=100000 cargo test --release -p quorate-jepsen --test agreement -- --nocapture
//! ```

mod common;

use common::naive::{naive, random_history, register_operation};
use common::{Random, Shape, correct_history, spoil};
use quorate_jepsen::etcd::{self, Options};
use quorate_jepsen::models::{EtcdModel, KeyValue, KeyValueInput, Register, RegisterInput, RegisterOutput};
use quorate_jepsen::{Limits, Value, Verdict, check};

/// How many histories in all, a quarter of them for each pair of algorithms.
fn quarter() -> u64 {
    let count = std::env::var("QUORATE_AGREEMENT").ok().and_then(|count| count.parse().ok());
    count.unwrap_or(4000_u64) / 4
}

/// Verdicts of both algorithms: right histories, wrong ones.
#[derive(Default)]
struct Tally([u64; 2]);

impl Tally {
    fn add(&mut self, seed: u64, left: &Verdict, right_is_valid: bool) {
        assert!(!matches!(left, Verdict::Unknown(_)), "seed {seed}: {left}");
        assert_eq!(left.is_valid(), right_is_valid, "seed {seed}: {left}");
        self.0[usize::from(right_is_valid)] += 1;
    }

    /// Both kinds were met often enough for the comparison to mean something.
    fn report(&self, what: &str) {
        let [wrong, right] = self.0;
        println!("{what}: {right} right and {wrong} wrong histories, no disagreement");
        assert!(wrong.min(right) * 20 > wrong + right, "{what}: {right} right, {wrong} wrong");
    }
}

#[test]
fn the_search_and_all_permutations_agree_on_registers() {
    let mut tally = Tally::default();
    for seed in 0..quarter() {
        let mut random = Random::new(seed + 1_000_000);
        let (operations, values) = (1 + random.below(7), 2 + random.below(3));
        let history = random_history(&mut random, operations, |random| register_operation(random, values));
        let verdict = check(&Register::default(), &history, &VERDICT_ONLY);
        tally.add(seed, &verdict, naive(&Register::default(), &history));
    }
    tally.report("search and permutations, registers");
}

#[test]
fn the_search_and_all_permutations_agree_on_strings() {
    let mut tally = Tally::default();
    for seed in 0..quarter() {
        let mut random = Random::new(seed + 2_000_000);
        let operations = 1 + random.below(7);
        let history = random_history(&mut random, operations, |random| {
            let key = random.pick(&["a", "b"]).to_string();
            let text: String = (0..random.below(3)).map(|_| *random.pick(&["x", "y"])).collect();
            match random.below(4) {
                0 | 1 => (KeyValueInput::Get(key), Some(text)),
                2 => (KeyValueInput::Put(key, text), None),
                _ => (KeyValueInput::Append(key, text), None),
            }
        });
        tally.add(seed, &check(&KeyValue, &history, &VERDICT_ONLY), naive(&KeyValue, &history));
    }
    tally.report("search and permutations, strings");
}

#[test]
fn zones_and_the_search_agree_on_unique_values() {
    let mut tally = Tally::default();
    let by_search = Register { search_only: true, ..Register::default() };
    for seed in 0..quarter() {
        let mut random = Random::new(seed + 3_000_000);
        let operations = 2 + random.below(14);
        let mut written = 0;
        let history = random_history(&mut random, operations, |random| {
            if random.chance(50) {
                written += 1;
                return (RegisterInput::Write(None, Value::Int(written)), RegisterOutput::Done);
            }
            let value = match random.below(written.unsigned_abs() + 1) {
                0 => Value::Nil,
                value => Value::Int(value.cast_signed()),
            };
            (RegisterInput::Read(None), RegisterOutput::Value(value))
        });
        let verdict = check(&Register::default(), &history, &VERDICT_ONLY);
        tally.add(seed, &verdict, check(&by_search, &history, &VERDICT_ONLY).is_valid());
    }
    tally.report("zones and search, unique values");
}

#[test]
fn the_order_of_revisions_and_the_search_agree_on_etcd() {
    let mut tally = Tally::default();
    let model = EtcdModel::default();
    for seed in 0..quarter() {
        let mut random = Random::new(seed + 4_000_000);
        let shape = Shape {
            operations: 6 + random.below(6) as usize,
            processes: 4,
            keys: 2,
            unknown: *random.pick(&[0, 20, 45]),
            values: *random.pick(&[0, 2]),
            everything: false,
            plain: random.chance(50),
        };
        let mut history = correct_history(&mut random, shape).history;
        for _ in 0..random.below(3) {
            spoil(&mut random, &mut history);
        }
        let by_order = etcd::check(&history, &Options::default());
        tally.add(seed, &by_order, check(&model, &history.operations, &VERDICT_ONLY).is_valid());
    }
    tally.report("order of revisions and search, etcd");
}

/// Only verdicts are compared.
const VERDICT_ONLY: Limits<'static> = Limits {
    explain: false,
    configurations: u64::MAX,
    bytes: 2 << 30,
    threads: 1,
    stop: None,
    reductions: quorate_jepsen::Reductions::ALL,
};
