//! Many seeds, each in a process of its own: a static that draws randomness once would shift every later seed of the same
//! process.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use quorate_sim::command::{Overrides, speed, start_clock};
use quorate_sim::coverage::{self, STATES};
use quorate_sim::report::Finished;

use super::clock::lock;

/// Many seeds.
#[derive(Args)]
pub struct Sweep {
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

/// What is known of a sweep so far.
#[derive(Default)]
struct Tally {
    next: u64,
    simulated: f64,
    events: f64,
    violations: u64,
    reached: Vec<u64>,
}

/// Runs them.
pub fn sweep_all(sweep: &Sweep) -> ExitCode {
    if let Err(error) = sweep.overrides.check() {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
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
    let seeds = tally.next;
    if sweep.coverage {
        let mut states: Vec<usize> = (0..STATES).collect();
        states.sort_by_key(|state| tally.reached[*state]);
        let reached = states.iter().filter(|state| tally.reached[**state] > 0).count();
        println!("{reached} of {STATES} interesting states were reached in {seeds} seeds:");
        for state in states {
            println!("{:>8}  {}", tally.reached[state], coverage::name(state));
        }
    }
    let simulated = Duration::from_secs_f64(tally.simulated);
    println!("{}", speed(seeds, simulated, tally.events as u64, clock.elapsed()));
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
    tally.simulated += number(line, "simulated");
    tally.events += number(line, "events");
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
pub struct Ran {
    /// The text.
    pub text: String,
    /// Everything held.
    pub success: bool,
}

/// Does something in a process of its own.
pub fn run_alone(arguments: &[std::ffi::OsString]) -> Ran {
    let program = std::env::current_exe().expect("the program knows where it is");
    let mut process = std::process::Command::new(program);
    let output = process.args(arguments).output().expect("the program can run itself");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    Ran { text, success: output.status.success() }
}

/// The number behind a word in a summary's line.
fn number(line: &str, word: &str) -> f64 {
    let mut words = line.split_whitespace().skip_while(|other| *other != word).skip(1);
    words.next().and_then(|word| word.trim_end_matches('s').parse().ok()).unwrap_or(0.0)
}

/// Says which interesting states a run has reached, for the sweep that started it.
pub fn tell_reached(finished: &Finished) {
    let states: Vec<String> = finished.reached.states().map(|state| state.to_string()).collect();
    println!("{REACHED}{}", states.join(" "));
}

/// Before the numbers of the interesting states that a run has reached.
const REACHED: &str = "reached ";
