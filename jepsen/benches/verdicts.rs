//! How long verdicts take, for comparing one version with the next. `cargo bench -p quorate-jepsen`.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Random, Shape, correct_history, register_history};
use criterion::{Criterion, criterion_group, criterion_main};
use quorate_jepsen::etcd::{self, Options};
use quorate_jepsen::format::{self, Format, ReadOptions};
use quorate_jepsen::models::Register;
use quorate_jepsen::{Limits, check};

fn registers(criterion: &mut Criterion) {
    let small = register_history(1000, 40, 5);
    criterion.bench_function("search: 1,000 operations, 40 clients, small values", |bencher| {
        bencher.iter(|| check(&Register::default(), &small, &Limits::default()));
    });
    let unique = register_history(10_000, 20, 0);
    criterion.bench_function("zones: 10,000 operations, unique values", |bencher| {
        bencher.iter(|| check(&Register::default(), &unique, &Limits::default()));
    });
}

fn etcd(criterion: &mut Criterion) {
    let shape = Shape {
        operations: 10_000,
        processes: 20,
        keys: 10,
        unknown: 0,
        values: 0,
        everything: false,
        plain: true,
    };
    let known = correct_history(&mut Random::new(1), shape).history;
    criterion.bench_function("etcd: 10,000 operations", |bencher| {
        bencher.iter(|| etcd::check(&known, &Options::default()));
    });
    let shape = Shape { operations: 3000, unknown: 10, ..shape };
    let unknown = correct_history(&mut Random::new(1), shape).history;
    criterion.bench_function("etcd: 3,000 operations, 10 % of unknown outcome", |bencher| {
        bencher.iter(|| etcd::check(&unknown, &Options::default()));
    });
    let mut text = Vec::new();
    format::lines::write_etcd(&known, &mut text).expect("memory does not fail");
    let text = String::from_utf8(text).expect("JSON is text");
    criterion.bench_function("etcd: reading 10,000 operations", |bencher| {
        bencher.iter(|| format::read(&text, Some(Format::Etcd), ReadOptions::default()));
    });
}

criterion_group!(benches, registers, etcd);
criterion_main!(benches);
