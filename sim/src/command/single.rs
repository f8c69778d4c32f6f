//! `run`, `replay` and `scenario`: one run at a time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::seed::Seed;
use super::{Overrides, banner, speed, start_clock};
use crate::core::{self, Plan, Watch};
use crate::report::Finished;
use crate::scenario::{self, Scenario};
use crate::{history, page};

/// What a single run leaves behind.
#[derive(Args, Clone, Debug, Default)]
pub struct Leave {
    /// Writes what happened as a scenario file.
    #[arg(long, value_name = "FILE")]
    pub scenario_out: Option<PathBuf>,
    /// Writes what clients saw, for `quorate-jepsen check`.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Draws the whole run as one page for a browser.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl Leave {
    /// How closely a run has to be looked at for that.
    #[must_use]
    pub fn watch(&self, print: bool) -> Watch {
        Watch { print, record: self.report.is_some(), scenario: self.scenario_out.is_some(), fly: false }
    }
}

/// One seed.
#[derive(Args, Clone, Debug)]
pub struct Single {
    /// The seed: a number, or a number and the code that it is from, as failures name it (42@3fa9c1d2).
    #[arg(long)]
    pub seed: Seed,
    /// What it draws, overridden.
    #[command(flatten)]
    pub overrides: Overrides,
    /// What the run leaves behind.
    #[command(flatten)]
    pub leave: Leave,
}

/// Scenario files.
#[derive(Args, Clone, Debug)]
pub struct Scenarios {
    /// The files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Prints every event.
    #[arg(long)]
    pub print: bool,
    /// Stop at the first file that does not become what it says.
    #[arg(long)]
    pub first: bool,
    /// What a run leaves behind.
    #[command(flatten)]
    pub leave: Leave,
}

/// A depth of simulation: what runs things there, and how it is called.
#[derive(Clone, Copy)]
pub struct Depth<'a> {
    /// How to call the program.
    pub program: &'a str,
    /// Runs a plan to its end.
    pub execute: &'a dyn Fn(&Plan<'_>, Watch) -> Finished,
    /// Says more of a run that holds.
    pub told: &'a dyn Fn(&Finished),
    /// Whether a scenario is told here.
    pub tells: &'a dyn Fn(&Scenario) -> bool,
}

/// The core depth.
pub const CORE: Depth<'static> =
    Depth { program: "cargo sim", execute: &core::execute, told: &|_| (), tells: &|_| true };

/// Runs one seed.
#[must_use]
pub fn seed(single: &Single, print: bool, depth: &Depth<'_>) -> ExitCode {
    let Single { seed, overrides, leave } = single;
    if let Err(error) = overrides.check() {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let options = overrides.options(seed.0);
    println!("{}", banner(&options));
    let clock = start_clock();
    let finished = (depth.execute)(&Plan::Drawn(&options), leave.watch(print));
    let wall = clock.elapsed();
    if !leave_files(&finished, leave) {
        return ExitCode::FAILURE;
    }
    if finished.violation.is_none() {
        (depth.told)(&finished);
        println!("{}", finished.summary);
        eprintln!("{}", speed(1, finished.summary.simulated, finished.summary.events, wall));
        return ExitCode::SUCCESS;
    }
    failed(finished, &format!("{} replay --seed {seed}{}", depth.program, overrides.arguments()));
    ExitCode::FAILURE
}

/// Runs scenario files; each must become what it says.
#[must_use]
pub fn scenarios(scenarios: &Scenarios, depth: &Depth<'_>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in &scenarios.files {
        if scenarios.first && code != ExitCode::SUCCESS {
            break;
        }
        let came_to = scenario(path, scenarios, depth);
        if came_to != ExitCode::SUCCESS {
            code = came_to;
        }
    }
    code
}

fn scenario(path: &Path, Scenarios { leave, print, .. }: &Scenarios, depth: &Depth<'_>) -> ExitCode {
    let scenario = match read(path) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    if !(depth.tells)(&scenario) {
        println!("{}: is told at another depth only", path.display());
        return ExitCode::SUCCESS;
    }
    let finished = (depth.execute)(&Plan::Scripted(&scenario), leave.watch(*print));
    if !leave_files(&finished, leave) {
        return ExitCode::FAILURE;
    }
    match scenario.judge(finished.violation.as_ref()) {
        Ok(()) => {
            println!("{}: as expected: {}", path.display(), finished.summary);
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{}: {}", path.display(), what.lines().next().unwrap_or_default());
            if finished.violation.is_some() {
                failed(finished, &format!("{} scenario --print {}", depth.program, path.display()));
            }
            ExitCode::FAILURE
        }
    }
}

/// Reads a scenario file.
pub fn read(path: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    scenario::parse(&text).map_err(|mistake| mistake.to_string())
}

/// Writes what was asked for. False if that failed.
#[must_use]
pub fn leave_files(finished: &Finished, leave: &Leave) -> bool {
    let scenario = leave.scenario_out.iter().zip(&finished.scenario);
    let scenario = scenario.map(|(path, scenario)| ("scenario", path, scenario.to_string()));
    let report = leave.report.iter().map(|path| ("report", path, page::draw(finished)));
    let history =
        leave.history.as_ref().map(|path| ("history", path, history::write(&finished.history, path)));
    let texts = scenario.chain(report).map(|(what, path, text)| (what, path, std::fs::write(path, text)));
    let mut all_written = true;
    for (what, path, written) in texts.chain(history) {
        match written {
            Ok(()) => eprintln!("{what}: {}", path.display()),
            Err(error) => {
                eprintln!("{what}: cannot be written to {}: {error}", path.display());
                all_written = false;
            }
        }
    }
    all_written
}

/// Prints a failure, and how to run it again; leaves its history in a file.
pub fn failed(finished: Finished, again: &str) {
    let seed = finished.options.seed;
    let Err(failure) = finished.into_result() else { return };
    println!("{failure}");
    let path = PathBuf::from(format!("seed-{seed}.jsonl"));
    match history::write(&failure.history, &path) {
        Ok(()) => println!("history: {}", path.display()),
        Err(error) => println!("history: cannot be written to {}: {error}", path.display()),
    }
    println!("replay: {again}");
}
