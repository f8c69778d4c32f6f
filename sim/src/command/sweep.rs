//! `sweep`: many seeds, on all processors.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Overrides, single, speed, start_clock};
use crate::core::{self, Plan, Watch};
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
    failures: Mutex<Vec<Finished>>,
    /// Seeds whose second run was not like the first.
    divergent: Mutex<Vec<u64>>,
}

/// Runs a sweep, and prints what it came to.
#[must_use]
pub fn sweep(sweep: &Sweep) -> ExitCode {
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
    println!("{}", speed(done, simulated, events, clock.elapsed()));
    verdict(tally, &sweep.overrides)
}

fn verdict(tally: Tally, overrides: &Overrides) -> ExitCode {
    let mut failures = tally.failures.into_inner().expect("no worker has panicked");
    failures.sort_by_key(|failure| failure.options.seed);
    for failure in failures.iter().skip(1) {
        if let Some(violation) = &failure.violation {
            println!("seed {} violates {violation}", failure.options.seed);
        }
    }
    println!("{} violations", failures.len());
    let mut divergent = tally.divergent.into_inner().expect("no worker has panicked");
    divergent.sort_unstable();
    for seed in &divergent {
        println!("seed {seed} is not deterministic: two runs left different traces");
    }
    if failures.is_empty() && divergent.is_empty() {
        return ExitCode::SUCCESS;
    }
    if !failures.is_empty() {
        let first = failures.swap_remove(0);
        let seed = first.options.seed;
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
        let options = sweep.overrides.options(sweep.start + number);
        let run = || core::execute(&Plan::Drawn(&options), Watch::default());
        let finished = run();
        let Summary { simulated, events, hash, .. } = finished.summary;
        if sweep.twice && run().summary.hash != hash {
            tally.divergent.lock().expect("no worker panics while it holds this").push(options.seed);
        }
        let nanos = u64::try_from(simulated.as_nanos()).expect("a run is shorter than centuries");
        tally.simulated_nanos.fetch_add(nanos, Ordering::Relaxed);
        tally.events.fetch_add(events, Ordering::Relaxed);
        tally.done.fetch_add(1, Ordering::Relaxed);
        if finished.violation.is_some() {
            let mut failures = tally.failures.lock().expect("no worker panics while it holds this");
            failures.push(finished);
            bar.set_message(format!("{} violations", failures.len()));
        }
        bar.inc(1);
    }
}
