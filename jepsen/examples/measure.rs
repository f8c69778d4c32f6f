//! How long verdicts take, as a table: processor time of one thread, the best of many runs.
//!
//! `cargo run --release -p quorate-jepsen --example measure [logs] [keys] [registers] [etcd] [partitions] [reading]`. Generated histories always; real ones if
//! `QUORATE_HISTORIES` names their folder. Reading files is measured apart.
//!
//! With the word `count` every case runs twenty times and no clock is read: for counting instructions, which other
//! programs of the machine do not change (`valgrind --tool=callgrind --toggle-collect='measure::best_of*' …`).

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::partitions::partitioned_history;
use common::{Random, Shape, correct_history, register_history};
use quorate_jepsen::etcd::{self, EtcdHistory, Options, Records};
use quorate_jepsen::format::jepsen::{Answer, Ask};
use quorate_jepsen::format::{self, Format, ReadOptions, Recording};
use quorate_jepsen::models::named::{self, Semantics};
use quorate_jepsen::models::{KeyValueInput, Register, RegisterInput, RegisterOutput};
use quorate_jepsen::{History, Limits, Model, Operation, Returned, Value, Verdict, check};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    println!("| history | verdicts | ms | wanted |\n|---|---|---|---|");
    let parts: [(&str, fn()); 6] = [
        ("logs", logs),
        ("keys", keys),
        ("registers", registers),
        ("etcd", etcd),
        ("partitions", partitions),
        ("reading", reading),
    ];
    let named: Vec<String> = std::env::args().skip(1).filter(|word| word != "count").collect();
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|named| named == name) {
            part();
        }
    }
}

fn registers() {
    for clients in [5, 10, 20, 40] {
        let history = register_history(1000, clients, 5);
        measure(&format!("register, 1,000 operations, {clients} clients, small values"), "15", || {
            [check(&Register::default(), &history, &VERDICT_ONLY)]
        });
    }
    for (operations, wanted) in [(1000, "0.015"), (100_000, "5")] {
        let history = register_history(operations, 20, 0);
        measure(&format!("register, {operations} operations, 20 clients, unique values"), wanted, || {
            [check(&Register::default(), &history, &VERDICT_ONLY)]
        });
    }
}

/// 20 clients and 10 keys: gets, puts, compare-and-puts and deletions.
fn etcd_history(operations: usize, unknown: u64) -> EtcdHistory {
    let shape =
        Shape { operations, processes: 20, keys: 10, unknown, values: 0, everything: false, plain: true };
    correct_history(&mut Random::new(1), shape).history
}

fn etcd() {
    let cases =
        [(3000, 0, "0.2"), (3000, 10, "0.5"), (100_000, 0, "20"), (100_000, 1, "30"), (1_000_000, 0, "1000")];
    for (operations, unknown, wanted) in cases {
        let history = etcd_history(operations, unknown);
        let records = Records::of(&history);
        let name = format!("etcd, {operations} operations, {unknown} % unknown");
        measure(&name, wanted, || [etcd::check_records(&records, &Options::default(), None)]);
        measure(&format!("{name}, recorded in memory"), "", || [etcd::check(&history, &Options::default())]);
    }
}

/// How many histories of clusters that were cut again and again are decided, and how long that takes.
fn partitions() {
    const SEEDS: u64 = 20;
    let kinds =
        [("single keys", true, false), ("ranges and txns", false, false), ("leases, too", false, true)];
    for operations in [1000, 3000] {
        for (name, plain, everything) in kinds {
            for unknown in [30, 50, 70] {
                let (mut decided, mut spent) = (0, Duration::ZERO);
                for seed in 0..SEEDS {
                    let (processes, keys, values) = (20, 10, seed % 2 * 2);
                    let shape = Shape { operations, processes, keys, unknown, values, everything, plain };
                    let history = partitioned_history(&mut Random::new(seed), shape);
                    let options = Options { steps_max: 100_000, ..Options::default() };
                    let before = processor_time();
                    let verdict = etcd::check(&history, &options);
                    spent += processor_time().saturating_sub(before);
                    decided += u64::from(!matches!(verdict, Verdict::Unknown(_)));
                }
                let each = spent.as_secs_f64() * 1000.0 / SEEDS as f64;
                println!(
                    "| etcd, partitions, {operations} operations, {unknown} % unknown, {name} | {decided} of {SEEDS} decided | \
                     {each:.1} on average | |"
                );
            }
        }
    }
}

/// A hundred thousand operations in each of the formats.
fn reading() {
    let mut texts = Vec::new();
    let mut text = Vec::new();
    format::lines::write_etcd(&etcd_history(100_000, 0), &mut text).expect("memory does not fail");
    texts.push(("lines of etcd", Format::Etcd, text));
    let named = named_history(100_000);
    for (name, format) in [("lines", Format::Lines), ("EDN", Format::Edn), ("JSON", Format::Json)] {
        let mut text = Vec::new();
        format::write(&Recording::Named(named.clone()), format, &mut text).expect("memory does not fail");
        texts.push((name, format, text));
    }
    texts.push(("Jepsen's log", Format::Log, log(&named).into_bytes()));
    for (name, format, text) in texts {
        let megabytes = text.len() as f64 / 1e6;
        let best = measure(&format!("reading {megabytes:.0} MB of {name}"), "400 MB/s", || {
            let read = format::read_from(text.as_slice(), Some(format), ReadOptions::default());
            [if read.is_ok() { Verdict::Valid } else { Verdict::Unknown(String::new()) }]
        });
        eprintln!("{name}: {:.0} MB/s", megabytes / best.as_secs_f64());
    }
}

/// Reads and writes by name.
fn named_history(operations: u64) -> History<Ask, Answer> {
    let mut history = History::new();
    for operation in register_history(operations, 20, 0).operations {
        let ask = |f: &str, value| Ask { f: f.to_owned(), key: None, value };
        let (input, value) = match (operation.input, operation.returned.as_ref().map(|r| &r.output)) {
            (RegisterInput::Write(_, value), _) => (ask("write", value.clone()), value),
            (_, Some(RegisterOutput::Value(value))) => (ask("read", Value::Nil), value.clone()),
            _ => continue,
        };
        let returned = operation.returned.map(|r| Returned { at: r.at, output: Answer { ok: true, value } });
        let (process, call) = (operation.process, operation.call);
        history.operations.push(Operation { process, call, input, returned });
    }
    history
}

/// The same as Jepsen logs it.
fn log(history: &History<Ask, Answer>) -> String {
    let mut events = Vec::new();
    for operation in &history.operations {
        let (process, f) = (operation.process, &operation.input.f);
        events.push((operation.call, 0, format!("{process}\t:invoke\t:{f}\t{}", operation.input.value)));
        let returned = operation.returned.as_ref().expect("all are answered");
        events.push((returned.at, 1, format!("{process}\t:ok\t:{f}\t{}", returned.output.value)));
    }
    events.sort();
    events.iter().map(|(_, _, event)| format!("INFO  jepsen.util - {event}\n")).collect()
}

/// The folder of Porcupine's histories.
fn porcupine() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("QUORATE_HISTORIES") else {
        eprintln!("set QUORATE_HISTORIES to measure real histories as well");
        return None;
    };
    Some(Path::new(&folder).join("given/porcupine"))
}

fn logs() {
    let Some(porcupine) = porcupine() else { return };
    let logs = std::fs::read_dir(porcupine.join("jepsen")).expect("QUORATE_HISTORIES has porcupine/jepsen");
    let mut logs: Vec<PathBuf> = logs.map(|log| log.expect("readable").path()).collect();
    logs.sort();
    let bound =
        logs.iter().map(|log| named::register(&load(log), &Semantics::default()).expect("a register"));
    let bound: Vec<_> = bound.collect();
    let all = |bound: &[named::Bound<Register>]| -> Vec<Verdict> {
        bound.iter().map(|log| check(&log.model, &log.history, &VERDICT_ONLY)).collect()
    };
    measure(&format!("Porcupine's {} logs of etcd, together", bound.len()), "1.2", || all(&bound));
    let slowest = bound.iter().max_by_key(|log| best_of(|| all(std::slice::from_ref(log))).0);
    let slowest = slowest.expect("there are logs");
    measure("the slowest of them", "0.1", || all(std::slice::from_ref(slowest)));
}

fn keys() {
    let Some(porcupine) = porcupine() else { return };
    for (name, wanted) in
        [("c01-ok", ""), ("c01-bad", ""), ("c10-ok", ""), ("c10-bad", ""), ("c50-ok", "1.5"), ("c50-bad", "")]
    {
        let Some(bound) = key_value(&porcupine, name) else { continue };
        measure(&format!("Porcupine's {name}"), wanted, || {
            [check(&bound.model, &bound.history, &VERDICT_ONLY)]
        });
    }
    let Some(bound) = key_value(&porcupine, "c50-bad") else { return };
    let keys = by_key(&bound.history);
    measure("Porcupine's c50-bad, every key to its verdict", "3", || {
        keys.iter().map(|history| check(&bound.model, history, &VERDICT_ONLY)).collect::<Vec<_>>()
    });
}

fn key_value(porcupine: &Path, name: &str) -> Option<named::Bound<quorate_jepsen::models::KeyValue>> {
    let path = porcupine.join(format!("kv/{name}.txt"));
    path.exists().then(|| named::key_value(&load(&path)).expect("key-value"))
}

type KeyValueHistory = History<KeyValueInput, Option<String>>;

fn by_key(history: &KeyValueHistory) -> Vec<KeyValueHistory> {
    let mut keys = std::collections::BTreeMap::<&str, Vec<_>>::new();
    for operation in &history.operations {
        let key =
            quorate_jepsen::models::KeyValue.partition_key(&operation.input).expect("every one has a key");
        keys.entry(key).or_default().push(operation.clone());
    }
    keys.into_values().map(|operations| operations.into_iter().collect()).collect()
}

/// Reads a real history, without judging it.
fn load(file: &Path) -> History<Ask, Answer> {
    let text = std::fs::read_to_string(file).expect("QUORATE_HISTORIES has the file");
    match format::read(&text, None, ReadOptions::default()) {
        Ok(Recording::Named(history)) => history,
        _ => panic!("{}: operations by name", file.display()),
    }
}

/// No time for explanations, as other checkers have none.
const VERDICT_ONLY: Limits<'static> = Limits {
    explain: false,
    configurations: u64::MAX,
    bytes: 2 << 30,
    threads: 1,
    stop: None,
    reductions: quorate_jepsen::Reductions::ALL,
};

/// Prints a line of the table.
fn measure<V: AsRef<[Verdict]>>(name: &str, wanted: &str, work: impl Fn() -> V) -> Duration {
    let (best, verdicts) = best_of(work);
    let count = |is: fn(&Verdict) -> bool| verdicts.as_ref().iter().filter(|verdict| is(verdict)).count();
    let counts = [(count(Verdict::is_valid), "valid"), (count(Verdict::is_invalid), "invalid")];
    let unknown = verdicts.as_ref().len() - counts[0].0 - counts[1].0;
    let shown: Vec<String> = [counts[0], counts[1], (unknown, "unknown")]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(
            |(count, name)| {
                if verdicts.as_ref().len() == 1 { (*name).to_owned() } else { format!("{count} {name}") }
            },
        )
        .collect();
    println!("| {name} | {} | {:.3} | {wanted} |", shown.join(", "), best.as_secs_f64() * 1000.0);
    best
}

/// The least processor time of many runs, and what the last one gave.
#[inline(never)]
fn best_of<V>(work: impl Fn() -> V) -> (Duration, V) {
    if std::env::args().any(|word| word == "count") {
        (1..COUNTED).for_each(|_| drop(black_box(work())));
        return (Duration::ZERO, work());
    }
    let mut best = Duration::MAX;
    let mut spent = Duration::ZERO;
    let mut runs = 0;
    loop {
        let before = processor_time();
        let result = black_box(work());
        let took = processor_time().saturating_sub(before);
        (best, spent, runs) = (best.min(took), spent + took, runs + 1);
        if runs >= 3 && spent > Duration::from_millis(800) || runs >= 300 {
            return (best, result);
        }
    }
}

/// How often work runs whose instructions are counted.
const COUNTED: usize = 20;

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("less than a second"))
}
