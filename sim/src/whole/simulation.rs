//! `quorate-sim-whole` from the command line: one seed per process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use madsim::runtime::Runtime;
use quorate_sim::command::{Overrides, banner};
use quorate_sim::history;
use quorate_sim::options::CORE_FAULTS;
use quorate_sim::report::{Failure, Summary, catch_panic, install_panic_hook};
use quorate_sim::time::Time;

use super::cluster::Shared;
use super::env::lock;
use super::scenario;

/// Simulates a cluster of whole nodes: the real driver, log, codec and services. One seed reproduces
/// everything.
#[derive(Parser)]
#[command(name = "quorate-sim-whole", version)]
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
    /// Runs many seeds, each in a process of its own: a static that draws randomness once would shift every
    /// later seed of the same process.
    Sweep {
        /// How many.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 0)]
        start: u64,
        /// Run each seed a second time, and demand that it is the same run.
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
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    install_panic_hook();
    match Cli::parse().command {
        Command::Run { seed, overrides } => one(seed, &overrides, false),
        Command::Replay { seed, overrides } => one(seed, &overrides, true),
        Command::Sweep { seeds, start, twice, overrides } => sweep(start, seeds, twice, &overrides),
    }
}

fn one(seed: u64, overrides: &Overrides, print: bool) -> ExitCode {
    let mut options = overrides.options(seed);
    CORE_FAULTS.iter().for_each(|fault| options.without(Some(fault)));
    println!("{}", banner(&options));
    let clock = start_clock();
    let shared = Arc::new(Shared::new(&options, print));
    let end = catch_panic(|| {
        let mut runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.set_time_limit(options.storm + TIME_LIMIT);
        let elapsed = runtime.block_on({
            let shared = Arc::clone(&shared);
            async move {
                scenario::run(shared).await;
                super::env::now()
            }
        });
        // Tasks that wait for ever hold what they hold; the process ends soon.
        std::mem::forget(runtime);
        elapsed
    });
    let time = match end {
        Ok(time) => time,
        Err(violation) => {
            shared.demand(Err(violation));
            shared.with_trace(|trace| trace.last().last().map_or(Time::ZERO, |line| line.time))
        }
    };
    let result = judge(&shared, time);
    let wall = clock.elapsed().as_secs_f64().max(1e-9);
    match result {
        Ok(summary) => {
            println!("{summary}");
            eprintln!(
                "{:.2}s, {:.0} simulated seconds per second",
                wall,
                summary.simulated.as_secs_f64() / wall
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            let path = PathBuf::from(format!("seed-{seed}.jsonl"));
            match history::write(&failure.history, &path) {
                Ok(()) => println!("history: {}", path.display()),
                Err(error) => println!("history: cannot be written to {}: {error}", path.display()),
            }
            println!("replay: cargo sim-whole replay --seed {seed}{}", overrides.arguments());
            ExitCode::FAILURE
        }
    }
}

/// Judges the history, and tells what became of the run.
fn judge(shared: &Shared, time: Time) -> Result<Summary, Box<Failure>> {
    let recorder = std::mem::take(&mut lock(&shared.clients).recorder);
    let (hash, events) = shared.with_trace(|trace| (trace.hash(), trace.events()));
    let summary = Summary {
        seed: shared.options.seed,
        hash,
        events,
        simulated: time.since(Time::ZERO),
        answered: recorder.answered(),
        unknown: recorder.unknown(),
    };
    let history = recorder.finish();
    let violation = shared.violation().or_else(|| history::judge(&history, shared.crashes() > 0).err());
    match violation {
        None => Ok(summary),
        Some(violation) => {
            let last = shared.with_trace(|trace| trace.last().copied().collect());
            let options = shared.options.clone();
            Err(Box::new(Failure { options, violation, summary, last, history }))
        }
    }
}

fn sweep(start: u64, seeds: u64, twice: bool, overrides: &Overrides) -> ExitCode {
    let clock = start_clock();
    let mut simulated = 0.0;
    let mut violations = 0;
    for seed in start..start + seeds {
        let first = run_alone(seed, overrides);
        let line = first.text.lines().last().unwrap_or_default();
        simulated += seconds(line);
        if !first.success {
            violations += 1;
            println!("{}", first.text);
        } else if twice && run_alone(seed, overrides).text != first.text {
            violations += 1;
            println!("seed {seed} ran differently the second time: {line}");
        } else {
            println!("{line}");
        }
    }
    let wall = clock.elapsed().as_secs_f64().max(1e-9);
    println!("{seeds} seeds in {wall:.1}s: {:.0} simulated seconds per second", simulated / wall);
    println!("{violations} violations");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a seed printed, and whether everything held.
struct Ran {
    text: String,
    success: bool,
}

/// Runs a seed in a process of its own.
fn run_alone(seed: u64, overrides: &Overrides) -> Ran {
    let program = std::env::current_exe().expect("the program knows where it is");
    let arguments = format!("run --seed {seed}{}", overrides.arguments());
    let output = std::process::Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .expect("the program can run itself");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    Ran { text, success: output.status.success() }
}

/// The simulated seconds in a summary's line.
fn seconds(line: &str) -> f64 {
    let mut words = line.split_whitespace().skip_while(|word| *word != "simulated").skip(1);
    words.next().and_then(|word| word.trim_end_matches('s').parse().ok()).unwrap_or(0.0)
}

/// How long a run may go on after its storm: a run that does not end is a bug too.
const TIME_LIMIT: Duration = Duration::from_secs(300);

#[expect(clippy::disallowed_methods, reason = "how fast the simulator itself is, nothing simulated can tell")]
fn start_clock() -> Instant {
    Instant::now()
}
