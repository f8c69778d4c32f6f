//! Do algorithms that share nothing come to the same verdicts?
//!
//! ```text
//! cargo run --release -p quorate-jepsen --example agree                   100,000 random histories
//! cargo run --release -p quorate-jepsen --example agree -- 1000000        a million
//! cargo run --release -p quorate-jepsen --example agree -- FILE...        recorded histories of etcd
//! ```
//!
//! Recorded histories, those of `cargo sim sweep --histories FOLDER` for example, are judged by the order of revisions
//! and, key by key, as registers. Exit code 1: two verdicts differ; 2: a file cannot be read.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/pairs.rs"]
mod pairs;

use std::fs::File;
use std::process::{Command, ExitCode};

use indicatif::{ProgressBar, ProgressStyle};
use pairs::PAIRS;
use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{self, Options};
use quorate_jepsen::format::{self, ReadOptions, Recording};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = match arguments.as_slice() {
        [] => Some(100_000),
        [one] => one.parse().ok(),
        _ => None,
    };
    println!(
        "{}, commit {}",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        said("git", &["describe", "--always", "--dirty"])
    );
    match count {
        Some(count) => random(count),
        None => recorded(&arguments),
    }
}

/// What a program says, on one line.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or_else(|| "unknown".to_owned(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// A bar for people; it hides itself where there is no terminal.
fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left  {msg}");
    ProgressBar::new(length).with_style(style.expect("the template is right"))
}

fn random(count: u64) -> ExitCode {
    let (each, mut differing, mut all) = (count / PAIRS.len() as u64, 0, [0, 0]);
    for pair in &PAIRS {
        let bar = bar(each).with_message(pair.name);
        let (mut tally, before) = ([0, 0], differing);
        for seed in 0..each {
            let (one, other_is_valid) = (pair.judge)(seed);
            if one.is_valid() != other_is_valid || matches!(one, Verdict::Unknown(_)) {
                differing += 1;
                bar.suspend(|| {
                    println!("{}, seed {seed}: {one}; valid by the other: {other_is_valid}", pair.name)
                });
            }
            tally[usize::from(other_is_valid)] += 1;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let [wrong, right] = tally;
        println!("{}: {right} right, {wrong} wrong, {} different verdicts", pair.name, differing - before);
        (all[0], all[1]) = (all[0] + wrong, all[1] + right);
    }
    println!(
        "{} random histories, {} right, {} wrong: {differing} different verdicts",
        all[0] + all[1],
        all[1],
        all[0]
    );
    ExitCode::from(u8::from(differing > 0))
}

fn recorded(files: &[String]) -> ExitCode {
    let bar = bar(files.len() as u64);
    let mut tally = [0_u64; 3];
    let (mut differing, mut operations, mut judged) = (0, 0, 0);
    for file in files {
        let recording = File::open(file).map_err(|error| error.to_string()).and_then(|file| {
            format::read_from(file, None, ReadOptions::default()).map_err(|error| error.to_string())
        });
        let records = match recording {
            Ok(Recording::Etcd(records)) => records,
            Ok(_) => return refuse(file, "expected a history of etcd"),
            Err(error) => return refuse(file, &error),
        };
        let options = Options { members_never_go_back: false, ..Options::default() };
        let by_order = etcd::check_records(&records, &options, None);
        let registers = etcd::registers(&records.history());
        let by_registers = registers.judge();
        (operations, judged) = (operations + records.len(), judged + registers.places.len());
        // Registers are a part: they may be right where something else is wrong.
        if by_order.is_valid() && by_registers.is_invalid() {
            differing += 1;
            bar.suspend(|| println!("{file}: valid by the order of revisions, but {by_registers}"));
        }
        tally[match by_order {
            Verdict::Valid => 0,
            Verdict::Invalid(_) => 1,
            Verdict::Unknown(_) => 2,
        }] += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let [right, wrong, unknown] = tally;
    println!(
        "{} histories, {right} right, {wrong} wrong, {unknown} unknown by the order of revisions; of {operations} operations \
         {judged} are of registers: {differing} different verdicts",
        files.len()
    );
    ExitCode::from(u8::from(differing > 0))
}

fn refuse(file: &str, error: &str) -> ExitCode {
    eprintln!("{file}: {error}");
    ExitCode::from(2)
}
