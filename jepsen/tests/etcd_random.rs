//! Random etcd histories: what a correct etcd did is valid.

mod common;

use common::{Random, Shape, correct_history, correct_watch};
use quorate_jepsen::etcd::{Options, check};

const SMALL: Shape =
    Shape { operations: 30, processes: 4, keys: 3, unknown: 15, values: 0, everything: false };

fn always_valid(shape: Shape, seeds: u64, watches: usize) {
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let mut recorded = correct_history(&mut random, shape);
        for _ in 0..watches {
            let stream = correct_watch(&mut random, &recorded, shape);
            recorded.history.watches.push(stream);
        }
        let verdict = check(&recorded.history, &Options::default());
        assert!(verdict.is_valid(), "seed {seed}: {verdict}");
    }
}

#[test]
fn what_a_correct_etcd_answers_is_valid() {
    always_valid(SMALL, 3000, 0);
}

#[test]
fn repeated_values_and_many_unknown_outcomes_are_valid() {
    always_valid(Shape { values: 2, unknown: 40, ..SMALL }, 3000, 0);
}

#[test]
fn leases_compactions_and_old_revisions_are_valid() {
    always_valid(Shape { everything: true, operations: 60, ..SMALL }, 3000, 0);
}

#[test]
fn watches_of_a_correct_etcd_are_valid() {
    always_valid(SMALL, 1000, 3);
    always_valid(Shape { everything: true, values: 2, unknown: 40, ..SMALL }, 1000, 3);
}
