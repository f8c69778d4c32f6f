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

/// Runs one seed.
#[must_use]
pub fn seed(seed: Seed, overrides: &Overrides, leave: &Leave, print: bool) -> ExitCode {
    if let Err(error) = overrides.check() {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let options = overrides.options(seed.0);
    println!("{}", banner(&options));
    let clock = start_clock();
    let watch = leave.watch(print);
    let finished = core::execute(&Plan::Drawn(&options), watch);
    let wall = clock.elapsed();
    if !leave_files(&finished, leave) {
        return ExitCode::FAILURE;
    }
    if finished.violation.is_none() {
        println!("{}", finished.summary);
        eprintln!("{}", speed(1, finished.summary.simulated, finished.summary.events, wall));
        return ExitCode::SUCCESS;
    }
    failed(finished, &format!("cargo sim replay --seed {seed}{}", overrides.arguments()));
    ExitCode::FAILURE
}

/// Runs scenario files; each must become what it says. `first` ends with the first that does not.
#[must_use]
pub fn scenarios(files: &[PathBuf], leave: &Leave, print: bool, first: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in files {
        if first && code != ExitCode::SUCCESS {
            break;
        }
        let scenario = match read(path) {
            Ok(scenario) => scenario,
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                code = ExitCode::from(2);
                continue;
            }
        };
        let watch = leave.watch(print);
        let finished = core::execute(&Plan::Scripted(&scenario), watch);
        if !leave_files(&finished, leave) {
            return ExitCode::FAILURE;
        }
        match scenario.judge(finished.violation.as_ref()) {
            Ok(()) => println!("{}: as expected: {}", path.display(), finished.summary),
            Err(what) => {
                println!("{}: {}", path.display(), what.lines().next().unwrap_or_default());
                code = ExitCode::FAILURE;
                if finished.violation.is_some() {
                    failed(finished, &format!("cargo sim scenario --print {}", path.display()));
                }
            }
        }
    }
    code
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
