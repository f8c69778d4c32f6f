//! `quorate-sim-whole` from the command line: one run per process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use madsim::runtime::Runtime;
use quorate_sim::command::single::{self, Leave};
use quorate_sim::command::{Overrides, banner, start_clock};
use quorate_sim::coverage::{self, STATES};
use quorate_sim::history;
use quorate_sim::options::Options;
use quorate_sim::report::{Finished, Summary, catch_panic, install_panic_hook};
use quorate_sim::scenario::Scenario;
use quorate_sim::time::Time;
use quorate_sim::trace::Trace;

use super::clock::lock;
use super::cluster::Shared;
use super::run;

/// Simulates a cluster of whole nodes: the real driver, log, codec, services and client library. One seed reproduces
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
        /// Draws the whole run as one page for a browser.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Runs many seeds, each in a process of its own: a static that draws randomness once would shift every
    /// later seed of the same process.
    Sweep(Sweep),
    /// Runs one seed again and prints every event.
    Replay {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        overrides: Overrides,
        /// Draws the whole run as one page for a browser.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Runs scenario files, each in a process of its own; each must become what it says. Those that are told at the
    /// core depth only (`depths core`) are left out.
    Scenario {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Prints every event.
        #[arg(long)]
        print: bool,
        /// Draws the whole run as one page for a browser.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
}

/// Many seeds.
#[derive(Args)]
struct Sweep {
    /// How many.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// How many at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Run each seed a second time, and demand that it is the same run.
    #[arg(long)]
    twice: bool,
    /// Stop at the first seed that fails.
    #[arg(long)]
    first: bool,
    /// Print in how many seeds each interesting state was reached, the rarest first.
    #[arg(long)]
    coverage: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    install_panic_hook();
    match Cli::parse().command {
        Command::Run { seed, overrides, report } => one(seed, &overrides, report, false),
        Command::Replay { seed, overrides, report } => one(seed, &overrides, report, true),
        Command::Sweep(sweep) => sweep_all(&sweep),
        Command::Scenario { files, print, report } => scenarios(&files, print, report),
    }
}

fn one(seed: u64, overrides: &Overrides, report: Option<PathBuf>, print: bool) -> ExitCode {
    let options = overrides.options(seed);
    println!("{}", banner(&options));
    let leave = Leave { report, scenario_out: None, history: None };
    let clock = start_clock();
    let finished = execute(&options, None, &leave, print);
    let wall = clock.elapsed().as_secs_f64().max(1e-9);
    if !single::leave_files(&finished, &leave) {
        return ExitCode::FAILURE;
    }
    if finished.violation.is_some() {
        single::failed(finished, &format!("cargo sim-whole replay --seed {seed}{}", overrides.arguments()));
        return ExitCode::FAILURE;
    }
    let states: Vec<String> = finished.reached.states().map(|state| state.to_string()).collect();
    println!("{REACHED}{}", states.join(" "));
    println!("{}", finished.summary);
    let simulated = finished.summary.simulated.as_secs_f64();
    eprintln!("{wall:.2}s, {:.0} simulated seconds per second", simulated / wall);
    ExitCode::SUCCESS
}

fn scenarios(files: &[PathBuf], print: bool, report: Option<PathBuf>) -> ExitCode {
    if let [file] = files {
        return scenario(file, print, report);
    }
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let mut arguments = vec!["scenario".into(), file.clone().into_os_string()];
        arguments.extend(print.then(|| "--print".into()));
        let ran = run_alone(&arguments);
        print!("{}", ran.text);
        if !ran.success {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn scenario(path: &Path, print: bool, report: Option<PathBuf>) -> ExitCode {
    let scenario = match single::read(path) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    if !scenario.depths.whole {
        println!("{}: is told at the core depth only", path.display());
        return ExitCode::SUCCESS;
    }
    let leave = Leave { report, scenario_out: None, history: None };
    let scenario = Arc::new(scenario);
    let finished = execute(&scenario.options, Some(Arc::clone(&scenario)), &leave, print);
    if !single::leave_files(&finished, &leave) {
        return ExitCode::FAILURE;
    }
    match scenario.judge(finished.violation.as_ref()) {
        Ok(()) => {
            println!("{}: as expected: {}", path.display(), finished.summary);
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{}: {}", path.display(), what.lines().next().unwrap_or_default());
            let again = format!("cargo sim-whole scenario --print {}", path.display());
            single::failed(finished, &again);
            ExitCode::FAILURE
        }
    }
}

/// Runs a seed or a scenario to its end, or until a property is broken.
fn execute(options: &Options, scenario: Option<Arc<Scenario>>, leave: &Leave, print: bool) -> Finished {
    let trace =
        if leave.watch(print).record { Trace::complete(print) } else { Trace::new(EVENTS_KEPT, print) };
    let (shared, ended) = Shared::new(options, trace);
    let shared = Arc::new(shared);
    let end = catch_panic(|| {
        let mut runtime = Runtime::with_seed_and_config(options.seed, madsim::Config::default());
        runtime.set_time_limit(options.storm + TIME_LIMIT);
        let elapsed = runtime.block_on({
            let shared = Arc::clone(&shared);
            async move {
                run::run(shared, ended, scenario).await;
                super::clock::now()
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
    finish(&shared, time)
}

/// Judges the history, and tells what became of the run.
fn finish(shared: &Shared, time: Time) -> Finished {
    let recorder = std::mem::take(&mut lock(&shared.clients).recorder);
    let trace = shared.with_trace(|trace| std::mem::replace(trace, Trace::new(0, false)));
    let summary = Summary {
        seed: shared.options.seed,
        hash: trace.hash(),
        events: trace.events(),
        simulated: time.since(Time::ZERO),
        answered: recorder.answered(),
        unknown: recorder.unknown(),
    };
    let history = recorder.finish();
    let (mut violation, mut suspects, mut undecided) = (shared.violation(), Vec::new(), false);
    if violation.is_none() {
        match history::judge_naming(&history, shared.crashes() > 0, false) {
            Ok(judged) => undecided = judged == history::Judged::Undecided,
            Err((found, operations)) => (violation, suspects) = (Some(found), operations),
        }
    }
    let reached = lock(&shared.coverage).reached();
    let options = shared.options.clone();
    Finished { options, scenario: None, violation, suspects, undecided, reached, summary, trace, history }
}

// --- Many seeds ---

/// What is known of a sweep so far.
#[derive(Default)]
struct Tally {
    next: u64,
    simulated: f64,
    violations: u64,
    reached: Vec<u64>,
}

fn sweep_all(sweep: &Sweep) -> ExitCode {
    let clock = start_clock();
    let tally = Mutex::new(Tally { reached: vec![0; STATES], ..Tally::default() });
    let work = || {
        loop {
            let seed = {
                let mut tally = lock(&tally);
                if tally.next == sweep.seeds || sweep.first && tally.violations > 0 {
                    return;
                }
                tally.next += 1;
                sweep.start + tally.next - 1
            };
            one_of_many(sweep, seed, &tally);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..sweep.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let tally = lock(&tally);
    let (wall, seeds) = (clock.elapsed().as_secs_f64().max(1e-9), tally.next);
    if sweep.coverage {
        let mut states: Vec<usize> = (0..STATES).collect();
        states.sort_by_key(|state| tally.reached[*state]);
        let reached = states.iter().filter(|state| tally.reached[**state] > 0).count();
        println!("{reached} of {STATES} interesting states were reached in {seeds} seeds:");
        for state in states {
            println!("{:>8}  {}", tally.reached[state], coverage::name(state));
        }
    }
    println!("{seeds} seeds in {wall:.1}s: {:.0} simulated seconds per second", tally.simulated / wall);
    println!("{} violations", tally.violations);
    if tally.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one_of_many(sweep: &Sweep, seed: u64, tally: &Mutex<Tally>) {
    let text = format!("run --seed {seed}{}", sweep.overrides.arguments());
    let arguments: Vec<_> = text.split_whitespace().map(Into::into).collect();
    let first = run_alone(&arguments);
    let same = !sweep.twice || !first.success || run_alone(&arguments).text == first.text;
    let line = first.text.lines().last().unwrap_or_default();
    let mut tally = lock(tally);
    tally.simulated += seconds(line);
    let states = first.text.lines().find_map(|line| line.strip_prefix(REACHED)).unwrap_or_default();
    for state in states.split(' ').filter_map(|state| state.parse::<usize>().ok()) {
        tally.reached[state] += 1;
    }
    if !first.success {
        tally.violations += 1;
        println!("{}", first.text);
    } else if same {
        println!("{line}");
    } else {
        tally.violations += 1;
        println!("seed {seed} ran differently the second time: {line}");
    }
}

/// What a process printed, and whether everything held.
struct Ran {
    text: String,
    success: bool,
}

/// Does something in a process of its own.
fn run_alone(arguments: &[std::ffi::OsString]) -> Ran {
    let program = std::env::current_exe().expect("the program knows where it is");
    let mut process = std::process::Command::new(program);
    let output = process.args(arguments).output().expect("the program can run itself");
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

/// How many of the last events a failure report can show.
const EVENTS_KEPT: usize = 200;

/// Before the numbers of the interesting states that a run has reached.
const REACHED: &str = "reached ";
