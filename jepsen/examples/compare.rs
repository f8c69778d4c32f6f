//! Porcupine beside us: writes histories that both can read, and makes a table of both times. See
//! `compare/run`, which does everything.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use common::{Random, Shape, correct_history, register_history};
use quorate_jepsen::etcd;
use quorate_jepsen::format::{self, ReadOptions, Recording};
use quorate_jepsen::models::named::{self, FailedCas, Semantics};
use quorate_jepsen::models::{RegisterInput, RegisterOutput};
use quorate_jepsen::{History, Limits, Value, Verdict, check};
use rustix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["generate", folder] => generate(Path::new(folder)),
        ["table", folder, times] => table(Path::new(folder), Path::new(times)),
        _ => {
            eprintln!("usage: compare generate FOLDER, or compare table FOLDER TIMES");
            return ExitCode::from(3);
        }
    }
    ExitCode::SUCCESS
}

/// Right histories of one register whose clients nearly always overlap, and of etcd with 20 clients and 10 keys.
fn generate(folder: &Path) {
    let kinds = [("small", 5), ("unique", 0)];
    for (operations, clients) in [(1000, 5), (1000, 10), (1000, 20), (1000, 40), (10_000, 10)] {
        for (kind, values) in kinds {
            let log = as_log(&register_history(operations, clients, values));
            let path = folder.join(format!("register-{kind}-{operations}-c{clients}.log"));
            std::fs::write(&path, log).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
    let requests = [(3000, 5, 0), (3000, 5, 10), (3000, 20, 0), (3000, 20, 10), (100_000, 20, 0)];
    for (operations, processes, unknown) in requests {
        let shape =
            Shape { operations, processes, keys: 10, unknown, values: 0, everything: false, plain: true };
        let mut lines = Vec::new();
        format::lines::write_etcd(&correct_history(&mut Random::new(1), shape).history, &mut lines)
            .expect("memory does not fail");
        let path = folder.join(format!("requests-{operations}-c{processes}-unknown-{unknown}.jsonl"));
        std::fs::write(&path, lines).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// As Jepsen logged it.
fn as_log(history: &History<RegisterInput, RegisterOutput>) -> String {
    let mut events: Vec<(u64, u8, String)> = Vec::new();
    for operation in &history.operations {
        let value = |value: &Value| value.to_string();
        let (f, asked) = match &operation.input {
            RegisterInput::Read(_) => ("read", "nil".to_owned()),
            RegisterInput::Write(_, new) => ("write", value(new)),
            RegisterInput::CompareAndSet(_, old, new) => ("cas", format!("[{} {}]", value(old), value(new))),
        };
        let mut line = |at: u64, order: u8, kind: &str, value: &str| {
            let process = operation.process;
            events.push((at, order, format!("INFO  jepsen.util - {process}\t:{kind}\t:{f}\t{value}\n")));
        };
        line(operation.call, 0, "invoke", &asked);
        match operation.returned.as_ref().map(|returned| (returned.at, &returned.output)) {
            None => line(u64::MAX, 1, "info", ":timed-out"),
            Some((at, RegisterOutput::Value(seen))) => line(at, 1, "ok", &value(seen)),
            Some((at, RegisterOutput::Swapped(false))) => line(at, 1, "fail", &asked),
            Some((at, _)) => line(at, 1, "ok", &asked),
        }
    }
    events.sort();
    events.into_iter().map(|(_, _, line)| line).collect()
}

/// What Porcupine said: its verdict, and microseconds.
type Times = BTreeMap<String, (String, f64)>;

fn table(folder: &Path, times: &Path) {
    let text = std::fs::read_to_string(times).expect("the times that Porcupine took");
    let line = |line: &str| -> Option<(String, (String, f64))> {
        let mut words = line.split('\t');
        let (name, verdict) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some((name, (verdict, words.next()?.trim().parse().ok()?)))
    };
    let theirs: Times = text.lines().filter_map(line).collect();
    let ours: BTreeMap<&String, (Verdict, f64)> =
        theirs.keys().map(|name| (name, measure(&folder.join(name)))).collect();
    let mut out =
        String::from("| history | Porcupine, ms | quorate-jepsen, ms | ratio |\n|---|---|---|---|\n");
    let mut row = |what: &str, names: &[&String]| {
        let sum = |of: &dyn Fn(&String) -> f64| names.iter().map(|name| of(name)).sum::<f64>() / 1000.0;
        let is_open = names.iter().any(|name| theirs[*name].0 == "Unknown");
        let (peer, own) = (sum(&|name| theirs[name].1), sum(&|name| ours[name].1));
        let (shown, ratio) = if is_open {
            (format!("none after {peer:.0}"), format!("> {:.0}", peer / own))
        } else {
            (format!("{peer:.3}"), format!("{:.1}", peer / own))
        };
        let _ = writeln!(out, "| {what} | {shown} | {own:.3} | {ratio} |");
    };
    let logs: Vec<&String> = theirs.keys().filter(|name| name.starts_with("etcd_")).collect();
    row(&format!("Porcupine's {} logs of etcd, together", logs.len()), &logs);
    let mut by_time = logs.clone();
    by_time.sort_by(|one, other| theirs[*other].1.total_cmp(&theirs[*one].1));
    by_time.iter().take(3).for_each(|name| row(name, &[name]));
    let easy: Vec<&String> = logs.iter().copied().filter(|name| theirs[*name].1 < 100.0).collect();
    row(&format!("the {} of them that take Porcupine less than 0.1 ms", easy.len()), &easy);
    let others: Vec<&String> = theirs.keys().filter(|name| !name.starts_with("etcd_")).collect();
    others.iter().for_each(|name| row(name, &[name]));
    println!("{out}");
    compare(&theirs, &ours);
}

/// Says where verdicts differ, and where we are slower.
fn compare(theirs: &Times, ours: &BTreeMap<&String, (Verdict, f64)>) {
    let mut equal = 0;
    for (name, (verdict, time)) in theirs {
        let (own, own_time) = &ours[name];
        let same = match verdict.as_str() {
            "Ok" => own.is_valid(),
            "Illegal" => own.is_invalid(),
            _ => continue,
        };
        if same {
            equal += 1
        } else {
            println!("{name}: Porcupine says {verdict}, and we say {own}")
        }
        if own_time > time {
            println!("{name}: Porcupine is faster, {time} against {own_time:.1} microseconds");
        }
    }
    let open = theirs.values().filter(|(verdict, _)| verdict == "Unknown").count();
    println!("{equal} verdicts are equal; {open} more that Porcupine did not find.");
}

/// Our verdict and the microseconds of processor time that it takes, the best of many runs.
fn measure(path: &Path) -> (Verdict, f64) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let read = format::read(&text, None, ReadOptions::default());
    let recording = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let history = match recording {
        Recording::Named(history) => history,
        Recording::Etcd(records) => {
            return best(|| etcd::check_records(&records, &etcd::Options::default(), None));
        }
        _ => panic!("{}: operations by name, or requests", path.display()),
    };
    if path.extension().is_some_and(|extension| extension == "log") {
        // Porcupine takes a compare-and-set that failed for an observation.
        let semantics = Semantics { failed_cas: FailedCas::Observe, ..Semantics::default() };
        let bound = named::register(&history, &semantics).expect("a register");
        return best(|| check(&bound.model, &bound.history, &VERDICT_ONLY));
    }
    let bound = named::key_value(&history).expect("keys and values");
    best(|| check(&bound.model, &bound.history, &VERDICT_ONLY))
}

fn best(run: impl Fn() -> Verdict) -> (Verdict, f64) {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
    };
    let (begun, mut best) = (now(), Duration::MAX);
    for _ in 0..200 {
        let start = now();
        black_box(run());
        best = best.min(now() - start);
        if now() - begun > Duration::from_secs(1) {
            break;
        }
    }
    (run(), best.as_secs_f64() * 1e6)
}

const VERDICT_ONLY: Limits<'static> = Limits {
    explain: false,
    configurations: u64::MAX,
    bytes: 2 << 30,
    threads: 1,
    stop: None,
    reductions: quorate_jepsen::Reductions::ALL,
};
