//! How long verdicts take: the best of several runs, on one thread, without reading the files.
//!
//! `cargo run --release -p quorate-jepsen --example measure`. Generated histories always; real ones if
//! `QUORATE_HISTORIES` names their folder.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Random, Shape, correct_history};
use quorate_jepsen::etcd::{self, Options};
use quorate_jepsen::format::{self, ReadOptions, Recording};
use quorate_jepsen::models::named::{self, Semantics};
use quorate_jepsen::models::{Register, RegisterInput, RegisterOutput};
use quorate_jepsen::{History, Limits, Operation, Returned, Value, check};

/// A register as a correct system would serve it; `values` zero: every write is of a new value.
fn register_history(operations: u64, clients: u64, values: u64) -> History<RegisterInput, RegisterOutput> {
    let mut random = Random::new(operations + clients);
    let mut idle = vec![0; clients as usize];
    let mut plan: Vec<(u64, u64, u64, u64)> = (0..operations)
        .map(|number| {
            let process = number % clients;
            let call = idle[process as usize] + 1;
            let effect = call + random.below(1000);
            let end = effect + random.below(1000);
            idle[process as usize] = end;
            (effect, call, end, process)
        })
        .collect();
    plan.sort_unstable();
    let mut state = Value::Nil;
    let mut written = 0;
    let mut value = |random: &mut Random| {
        written += 1;
        Value::Int(if values == 0 { written } else { random.below(values) as i64 })
    };
    let mut history = History::new();
    for (_, call, end, process) in plan {
        let (input, output) = match random.below(if values == 0 { 2 } else { 3 }) {
            0 => (RegisterInput::Read(None), RegisterOutput::Value(state.clone())),
            1 => {
                state = value(&mut random);
                (RegisterInput::Write(None, state.clone()), RegisterOutput::Done)
            }
            _ => {
                let (from, to) = (value(&mut random), value(&mut random));
                let swapped = from == state;
                if swapped {
                    state = to.clone();
                }
                (RegisterInput::CompareAndSet(None, from, to), RegisterOutput::Swapped(swapped))
            }
        };
        history.operations.push(Operation {
            process,
            call,
            input,
            returned: Some(Returned { at: end, output }),
        });
    }
    history
}

fn registers() {
    for clients in [5, 10, 20, 40] {
        let history = register_history(1000, clients, 5);
        measure(&format!("register, 1000 operations, {clients} clients, small values"), || {
            check(&Register::default(), &history, &Limits::default()).is_valid()
        });
    }
    for operations in [1000, 100_000] {
        let history = register_history(operations, 20, 0);
        measure(&format!("register, {operations} operations, unique values"), || {
            check(&Register::default(), &history, &Limits::default()).is_valid()
        });
    }
}

fn etcd() {
    let shape = Shape {
        operations: 3000,
        processes: 20,
        keys: 10,
        unknown: 0,
        values: 0,
        everything: false,
        plain: false,
    };
    for (operations, unknown) in [(3000, 0), (3000, 2), (3000, 10), (100_000, 0), (100_000, 1)] {
        let shape = Shape { operations, unknown, ..shape };
        let history = correct_history(&mut Random::new(1), shape).history;
        measure(&format!("etcd, {operations} operations, {unknown} % unknown"), || {
            etcd::check(&history, &Options::default()).is_valid()
        });
    }
}

/// Reads a real history, without judging it.
fn load(file: &Path) -> Recording {
    let text = std::fs::read_to_string(file).expect("QUORATE_HISTORIES has the file");
    format::read(&text, None, ReadOptions::default()).expect("a history")
}

fn real() {
    let Some(folder) = std::env::var_os("QUORATE_HISTORIES") else {
        eprintln!("set QUORATE_HISTORIES to measure real histories as well");
        return;
    };
    let porcupine = Path::new(&folder).join("given/porcupine");
    let logs = std::fs::read_dir(porcupine.join("jepsen")).expect("QUORATE_HISTORIES has porcupine/jepsen");
    let mut bound = Vec::new();
    for log in logs {
        let Recording::Named(history) = load(&log.expect("readable").path()) else { continue };
        bound.push(named::register(&history, &Semantics::default()).expect("a register"));
    }
    measure(&format!("{} logs of etcd", bound.len()), || {
        bound.iter().filter(|log| check(&log.model, &log.history, &VERDICT_ONLY).is_valid()).count()
    });
    for name in ["c01-ok", "c10-bad", "c50-ok"] {
        let Recording::Named(history) = load(&porcupine.join(format!("kv/{name}.txt"))) else { continue };
        let bound = named::key_value(&history).expect("key-value");
        measure(name, || check(&bound.model, &bound.history, &VERDICT_ONLY).is_valid());
    }
}

/// No time for explanations, as other checkers have none.
const VERDICT_ONLY: Limits<'static> = Limits {
    explain: false,
    configurations: u64::MAX,
    bytes: 2 << 30,
    stop: None,
    reductions: quorate_jepsen::Reductions::ALL,
};

fn main() {
    registers();
    etcd();
    real();
}

/// Runs `work` for about a second and prints the best time and what it gave.
fn measure<T: std::fmt::Debug>(name: &str, work: impl Fn() -> T) {
    let begun = now();
    let mut best = Duration::MAX;
    let mut result = None;
    while begun.elapsed() < Duration::from_secs(1) {
        let start = now();
        result = Some(black_box(work()));
        best = best.min(start.elapsed());
    }
    println!("{name:<60} {:>10.3} ms  {result:?}", best.as_secs_f64() * 1000.0);
}

#[expect(clippy::disallowed_methods, reason = "measuring is all that this program does")]
fn now() -> Instant {
    Instant::now()
}
