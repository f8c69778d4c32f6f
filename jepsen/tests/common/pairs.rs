//! Pairs of algorithms that share nothing, and the random histories that they are asked about.

use quorate_jepsen::etcd::{self, Options};
use quorate_jepsen::models::{EtcdModel, KeyValue, KeyValueInput, Register, RegisterInput, RegisterOutput};
use quorate_jepsen::{Limits, Value, Verdict, check};

use crate::common::naive::{naive, random_history, register_operation};
use crate::common::{Random, Shape, correct_history, spoil};

/// Two algorithms.
pub struct Pair {
    pub name: &'static str,
    /// The verdict of one on the history of a seed, and whether it is right by the other.
    pub judge: fn(u64) -> (Verdict, bool),
}

pub const PAIRS: [Pair; 4] = [
    Pair { name: "search and all permutations, registers", judge: registers },
    Pair { name: "search and all permutations, strings", judge: strings },
    Pair { name: "zones and search, registers with unique values", judge: unique_values },
    Pair { name: "order of revisions and search, etcd", judge: revisions },
];

fn registers(seed: u64) -> (Verdict, bool) {
    let mut random = Random::new(seed + 1_000_000);
    let (operations, values) = (1 + random.below(7), 2 + random.below(3));
    let history = random_history(&mut random, operations, |random| register_operation(random, values));
    (check(&Register::default(), &history, &VERDICT_ONLY), naive(&Register::default(), &history))
}

fn strings(seed: u64) -> (Verdict, bool) {
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
    (check(&KeyValue, &history, &VERDICT_ONLY), naive(&KeyValue, &history))
}

fn unique_values(seed: u64) -> (Verdict, bool) {
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
    let by_search = Register { search_only: true, ..Register::default() };
    let by_search = check(&by_search, &history, &VERDICT_ONLY);
    (check(&Register::default(), &history, &VERDICT_ONLY), by_search.is_valid())
}

fn revisions(seed: u64) -> (Verdict, bool) {
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
    (by_order, check(&EtcdModel::default(), &history.operations, &VERDICT_ONLY).is_valid())
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
