//! `quorate-sim`: the core depth of simulation from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_sim::command::{Overrides, banner};
use quorate_sim::mutants::{self, Fate, Workshop};
use quorate_sim::report::{Failure, Summary, install_panic_hook};
use quorate_sim::{core, history};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates a cluster in which everything that can go wrong does. One seed reproduces everything.
#[derive(Parser)]
#[command(name = "quorate-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Runs many seeds.
    Sweep {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 0)]
        start: u64,
        /// How many at a time; as many as there are processors, if not given.
        #[arg(long)]
        jobs: Option<usize>,
        /// Stop at the first seed that fails.
        #[arg(long)]
        first: bool,
        /// Run every seed twice: the traces must be equal.
        #[arg(long)]
        twice: bool,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Runs one seed again and prints every event.
    Replay {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Puts known bugs into a copy of the workspace and sees whether they are noticed.
    Mutants {
        /// How many seeds each may survive.
        #[arg(long, default_value_t = 2000)]
        seeds: u64,
        /// Only those whose name contains this.
        #[arg(long, default_value = "")]
        name: String,
    },
}

fn main() -> ExitCode {
    install_panic_hook();
    match Cli::parse().command {
        Command::Run { seed, overrides } => one(seed, &overrides, false),
        Command::Replay { seed, overrides } => one(seed, &overrides, true),
        Command::Sweep { seeds, start, jobs, first, twice, overrides } => {
            sweep(&Sweep { start, seeds, first, twice, overrides: &overrides }, jobs)
        }
        Command::Mutants { seeds, name } => mutants(seeds, &name),
    }
}

/// Which seeds to run, and how.
struct Sweep<'a> {
    start: u64,
    seeds: u64,
    first: bool,
    twice: bool,
    overrides: &'a Overrides,
}

/// Runs one seed.
fn one(seed: u64, overrides: &Overrides, print: bool) -> ExitCode {
    let options = overrides.options(seed);
    println!("{}", banner(&options));
    let clock = start_clock();
    match core::run(&options, print) {
        Ok(summary) => {
            println!("{summary}");
            eprintln!("{}", speed(1, summary.simulated, summary.events, clock.elapsed()));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            report(&failure, overrides);
            ExitCode::FAILURE
        }
    }
}

/// What all seeds of a sweep came to.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    simulated_nanos: AtomicU64,
    events: AtomicU64,
    done: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    /// Seeds whose second run was not like the first.
    divergent: Mutex<Vec<u64>>,
}

fn sweep(sweep: &Sweep<'_>, jobs: Option<usize>) -> ExitCode {
    let (seeds, overrides) = (sweep.seeds, sweep.overrides);
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    // Hidden by itself where there is no terminal.
    let bar = ProgressBar::new(seeds).with_style(
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

    let mut failures = tally.failures.into_inner().expect("no worker has panicked");
    failures.sort_by_key(|failure| failure.options.seed);
    let simulated = Duration::from_nanos(tally.simulated_nanos.into_inner());
    println!("{}", speed(tally.done.into_inner(), simulated, tally.events.into_inner(), clock.elapsed()));
    for failure in failures.iter().skip(1) {
        println!("seed {} violates {}", failure.options.seed, failure.violation);
    }
    println!("{} violations", failures.len());
    let mut divergent = tally.divergent.into_inner().expect("no worker has panicked");
    divergent.sort_unstable();
    for seed in &divergent {
        println!("seed {seed} is not deterministic: two runs left different traces");
    }
    match failures.first() {
        None if divergent.is_empty() => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
        Some(failure) => {
            report(failure, overrides);
            ExitCode::FAILURE
        }
    }
}

fn work(sweep: &Sweep<'_>, tally: &Tally, bar: &ProgressBar) {
    loop {
        let number = tally.next.fetch_add(1, Ordering::Relaxed);
        let enough =
            sweep.first && !tally.failures.lock().expect("no worker panics while it holds this").is_empty();
        if number >= sweep.seeds || enough {
            return;
        }
        let options = sweep.overrides.options(sweep.start + number);
        let result = core::run(&options, false);
        let summary = match &result {
            Ok(summary) => summary,
            Err(failure) => &failure.summary,
        };
        if sweep.twice && trace_of(core::run(&options, false)) != summary.hash {
            tally.divergent.lock().expect("no worker panics while it holds this").push(options.seed);
        }
        let Summary { simulated, events, .. } = *summary;
        let nanos = u64::try_from(simulated.as_nanos()).expect("a run is shorter than centuries");
        tally.simulated_nanos.fetch_add(nanos, Ordering::Relaxed);
        tally.events.fetch_add(events, Ordering::Relaxed);
        tally.done.fetch_add(1, Ordering::Relaxed);
        if let Err(failure) = result {
            let mut failures = tally.failures.lock().expect("no worker panics while it holds this");
            failures.push(*failure);
            bar.set_message(format!("{} violations", failures.len()));
        }
        bar.inc(1);
    }
}

fn trace_of(result: Result<Summary, Box<Failure>>) -> u64 {
    match result {
        Ok(summary) => summary.hash,
        Err(failure) => failure.summary.hash,
    }
}

/// Builds each mutant and sweeps seeds with it; prints what became of it.
fn mutants(seeds: u64, name: &str) -> ExitCode {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let scratch = workspace.join("target").join("mutants");
    let outcome = mutants::parse(mutants::TABLE).and_then(|table| {
        let workshop = Workshop::new(&workspace, &scratch).map_err(|error| error.to_string())?;
        Ok((table, workshop))
    });
    let (table, workshop) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut survivors = 0;
    println!("{:<42} {:<10} {:>6} {:>8}  oracle", "mutant", "fate", "seeds", "time");
    for mutant in table.iter().filter(|mutant| mutant.name.contains(name)) {
        match workshop.judge(mutant, seeds) {
            Ok(Fate::Killed { oracle, seeds, seconds }) => {
                println!("{:<42} {:<10} {seeds:>6} {seconds:>7.2}s  {oracle}", mutant.name, "killed");
            }
            Ok(Fate::Survived) => {
                survivors += 1;
                println!("{:<42} {:<10} {seeds:>6}", mutant.name, "survived");
            }
            Err(error) => {
                survivors += 1;
                println!("{:<42} {error}", mutant.name);
            }
        }
    }
    println!("{survivors} survivors");
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a failure, and how to run it again; leaves its history in a file.
fn report(failure: &Failure, overrides: &Overrides) {
    let seed = failure.options.seed;
    println!("{}", banner(&failure.options));
    println!("{failure}");
    let path = PathBuf::from(format!("seed-{seed}.jsonl"));
    match history::write(&failure.history, &path) {
        Ok(()) => println!("history: {}", path.display()),
        Err(error) => println!("history: cannot be written to {}: {error}", path.display()),
    }
    println!("replay: cargo sim replay --seed {seed}{}", overrides.arguments());
}

fn speed(seeds: u64, simulated: Duration, events: u64, wall: Duration) -> String {
    let seconds = wall.as_secs_f64().max(1e-9);
    format!(
        "{seeds} seeds in {seconds:.2}s: {:.1} seeds/s, {:.0} simulated seconds per second, {:.2} M events/s",
        seeds as f64 / seconds,
        simulated.as_secs_f64() / seconds,
        events as f64 / seconds / 1e6
    )
}

#[expect(clippy::disallowed_methods, reason = "how fast the simulator itself is, nothing simulated can tell")]
fn start_clock() -> Instant {
    Instant::now()
}
