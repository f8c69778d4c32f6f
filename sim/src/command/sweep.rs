//! `sweep`: many seeds, on all processors.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Overrides, single, speed, start_clock};
use crate::core::{self, Plan, Watch};
use crate::coverage::{self, Reached, STATES};
use crate::history;
use crate::ledger::{self, Entry};
use crate::random::{Random, Stream};
use crate::report::{Finished, Summary};

/// Which seeds to run, and how.
#[derive(Args, Clone, Debug)]
pub struct Sweep {
    /// How many.
    #[arg(long, default_value_t = 1000)]
    pub seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    pub start: u64,
    /// How many at a time; as many as there are processors, if not given.
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Stop at the first seed that fails.
    #[arg(long)]
    pub first: bool,
    /// Run every seed twice: the traces must be equal.
    #[arg(long)]
    pub twice: bool,
    /// Print what each seed came to, and the hash of its trace.
    #[arg(long)]
    pub each: bool,
    /// Print in how many seeds each interesting state was reached, the rarest first.
    #[arg(long)]
    pub coverage: bool,
    /// Draw every other seed's options as those of an earlier seed that reached a rare state.
    #[arg(long)]
    pub prefer_rare: bool,
    /// Write what the clients of every seed saw into this folder, as `seed-7.jsonl` and so on, for `quorate-jepsen check`.
    #[arg(long, value_name = "FOLDER")]
    pub histories: Option<PathBuf>,
    /// Add what was simulated to this file (see `ledger`).
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// What the seeds draw, overridden.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What all seeds of a sweep came to.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    simulated_nanos: AtomicU64,
    events: AtomicU64,
    done: AtomicU64,
    undecided: AtomicU64,
    /// Histories that could not be written.
    unwritten: AtomicU64,
    failures: Mutex<Vec<(Finished, Overrides)>>,
    rarity: Mutex<Rarity>,
    /// What each seed came to, if that is to be printed.
    each: Mutex<Vec<Summary>>,
    /// Seeds whose second run was not like the first.
    divergent: Mutex<Vec<u64>>,
}

/// How often each interesting state was reached, and by which seed's options last.
struct Rarity {
    seeds: u64,
    reached: [(u64, u64); STATES],
}

impl Default for Rarity {
    fn default() -> Rarity {
        Rarity { seeds: 0, reached: [(0, 0); STATES] }
    }
}

impl Rarity {
    fn note(&mut self, reached: Reached, like: u64) {
        self.seeds += 1;
        for state in reached.states() {
            self.reached[state].0 += 1;
            self.reached[state].1 = like;
        }
    }

    /// The options of a seed that reached one of the rarest states.
    fn rare(&self, random: &mut Random) -> Option<u64> {
        let mut found: Vec<(u64, u64)> = self.reached.into_iter().filter(|(count, _)| *count > 0).collect();
        found.sort_unstable();
        found.truncate(RAREST);
        (!found.is_empty()).then(|| found[random.below(found.len() as u64) as usize].1)
    }

    fn print(&self) {
        let mut states: Vec<usize> = (0..STATES).collect();
        states.sort_by_key(|state| self.reached[*state].0);
        let reached = states.iter().filter(|state| self.reached[**state].0 > 0).count();
        println!("{reached} of {STATES} interesting states were reached in {} seeds:", self.seeds);
        for state in states {
            println!("{:>8}  {}", self.reached[state].0, coverage::name(state));
        }
    }
}

/// From so many of the rarest states one is picked.
const RAREST: usize = 8;

/// Runs a sweep, and prints what it came to.
#[must_use]
pub fn sweep(sweep: &Sweep) -> ExitCode {
    if let Err(error) = sweep.overrides.check() {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    if let Some(Err(error)) = sweep.histories.as_ref().map(std::fs::create_dir_all) {
        eprintln!("--histories: the folder cannot be made: {error}");
        return ExitCode::from(2);
    }
    let jobs =
        sweep.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    // Hidden by itself where there is no terminal.
    let bar = ProgressBar::new(sweep.seeds).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} seeds  {per_sec}  {eta} left  {msg}")
            .expect("the template is right"),
    );
    let clock = start_clock();
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(sweep, &tally, &bar));
        }
    });
    bar.finish_and_clear();
    let simulated = Duration::from_nanos(tally.simulated_nanos.load(Ordering::Relaxed));
    let (done, events) = (tally.done.load(Ordering::Relaxed), tally.events.load(Ordering::Relaxed));
    let mut each = std::mem::take(&mut *tally.each.lock().expect("no worker has panicked"));
    each.sort_unstable_by_key(|summary| summary.seed);
    each.iter().for_each(|summary| println!("{summary}"));
    println!("{}", speed(done, simulated, events, clock.elapsed()));
    if sweep.coverage {
        tally.rarity.lock().expect("no worker has panicked").print();
    }
    if let Some(path) = &sweep.ledger {
        let violations = tally.failures.lock().expect("no worker has panicked").len() as u64;
        let entry = Entry::new(done, sweep.start, simulated, events, violations);
        if let Err(error) = ledger::add(path, &entry) {
            eprintln!("the ledger cannot be written to {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    let unwritten = tally.unwritten.load(Ordering::Relaxed);
    if unwritten > 0 {
        eprintln!("{unwritten} histories cannot be written");
        return ExitCode::FAILURE;
    }
    verdict(tally)
}

fn verdict(tally: Tally) -> ExitCode {
    let mut failures = tally.failures.into_inner().expect("no worker has panicked");
    failures.sort_by_key(|(failure, _)| failure.options.seed);
    for (failure, overrides) in failures.iter().skip(1) {
        if let Some(violation) = &failure.violation {
            println!("seed {}{} violates {violation}", failure.options.seed, overrides.arguments());
        }
    }
    println!("{} violations", failures.len());
    let undecided = tally.undecided.into_inner();
    if undecided > 0 {
        println!("of {undecided} seeds, too many outcomes are unknown to say that every answer is right");
    }
    let mut divergent = tally.divergent.into_inner().expect("no worker has panicked");
    divergent.sort_unstable();
    for seed in &divergent {
        println!("seed {seed} is not deterministic: two runs left different traces");
    }
    if failures.is_empty() && divergent.is_empty() {
        return ExitCode::SUCCESS;
    }
    if !failures.is_empty() {
        let (first, overrides) = failures.swap_remove(0);
        let seed = super::seed::Seed(first.options.seed);
        println!("{}", super::banner(&first.options));
        single::failed(first, &format!("cargo sim replay --seed {seed}{}", overrides.arguments()));
    }
    ExitCode::FAILURE
}

fn work(sweep: &Sweep, tally: &Tally, bar: &ProgressBar) {
    loop {
        let number = tally.next.fetch_add(1, Ordering::Relaxed);
        let enough =
            sweep.first && !tally.failures.lock().expect("no worker panics while it holds this").is_empty();
        if number >= sweep.seeds || enough {
            return;
        }
        let seed = sweep.start + number;
        let mut overrides = sweep.overrides.clone();
        if sweep.prefer_rare && number % 2 == 1 {
            let random = &mut Random::new(seed, Stream::Nemesis);
            let rarity = tally.rarity.lock().expect("no worker panics while it holds this");
            overrides.like = rarity.rare(random).or(overrides.like);
        }
        let options = overrides.options(seed);
        let run = || core::execute(&Plan::Drawn(&options), Watch::default());
        let finished = run();
        let Summary { simulated, events, hash, .. } = finished.summary;
        if sweep.each {
            let mut each = tally.each.lock().expect("no worker panics while it holds this");
            each.push(finished.summary.clone());
        }
        if sweep.twice && run().summary.hash != hash {
            tally.divergent.lock().expect("no worker panics while it holds this").push(options.seed);
        }
        if let Some(folder) = &sweep.histories {
            let path = folder.join(format!("seed-{seed}.jsonl"));
            let written = history::write(&finished.history, &path);
            tally.unwritten.fetch_add(u64::from(written.is_err()), Ordering::Relaxed);
        }
        let like = overrides.like.unwrap_or(seed);
        tally.rarity.lock().expect("no worker panics while it holds this").note(finished.reached, like);
        let nanos = u64::try_from(simulated.as_nanos()).expect("a run is shorter than centuries");
        tally.simulated_nanos.fetch_add(nanos, Ordering::Relaxed);
        tally.events.fetch_add(events, Ordering::Relaxed);
        tally.done.fetch_add(1, Ordering::Relaxed);
        tally.undecided.fetch_add(u64::from(finished.undecided), Ordering::Relaxed);
        if finished.violation.is_some() {
            let mut failures = tally.failures.lock().expect("no worker panics while it holds this");
            failures.push((finished, overrides));
            bar.set_message(format!("{} violations", failures.len()));
        }
        bar.inc(1);
    }
}

/// Prints a ledger.
#[must_use]
pub fn ledger(path: &Path) -> ExitCode {
    let entries = std::fs::read_to_string(path)
        .map_err(|error| error.to_string())
        .and_then(|text| ledger::parse(&text));
    match entries {
        Ok(entries) => {
            print!("{}", ledger::table(&entries));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}
