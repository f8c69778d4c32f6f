//! `quorate-sim-whole` from the command line: one run per process.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use quorate_sim::command::shrink::Search;
use quorate_sim::command::single::{self, Depth, Scenarios, Single};
use quorate_sim::core::Plan;
use quorate_sim::report::install_panic_hook;

use super::execute::execute;
use super::shrink::{self, VERDICT};
use super::sweep::{self, Sweep, run_alone};

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
    Run(Single),
    /// Runs many seeds, each in a process of its own: a static that draws randomness once would shift every
    /// later seed of the same process.
    Sweep(Sweep),
    /// Runs one seed again and prints every event.
    Replay(Single),
    /// Runs scenario files, each in a process of its own; each must become what it says. Those that are told at the
    /// core depth only (`depths core`) are left out.
    Scenario(WholeScenarios),
    /// Finds a small schedule that still fails, and writes it as a scenario file.
    Shrink(Search),
}

#[derive(Args)]
struct WholeScenarios {
    #[command(flatten)]
    scenarios: Scenarios,
    /// Only says what a scenario violates.
    #[arg(long, hide = true)]
    verdict: bool,
}

/// This depth.
const WHOLE: Depth<'static> = Depth {
    program: "cargo sim-whole",
    execute: &execute,
    told: &sweep::tell_reached,
    tells: &|scenario| scenario.depths.whole,
};

/// Does what the command line says.
pub fn main() -> ExitCode {
    install_panic_hook();
    match Cli::parse().command {
        Command::Run(single) => single::seed(&single, false, &WHOLE),
        Command::Replay(single) => single::seed(&single, true, &WHOLE),
        Command::Sweep(sweep) => sweep::sweep_all(&sweep),
        Command::Scenario(scenarios) if scenarios.verdict => verdict(&scenarios.scenarios),
        Command::Scenario(scenarios) => run_scenarios(&scenarios.scenarios),
        Command::Shrink(search) => shrink::shrink(&search),
    }
}

fn run_scenarios(scenarios: &Scenarios) -> ExitCode {
    if scenarios.files.len() == 1 {
        return single::scenarios(scenarios, &WHOLE);
    }
    if scenarios.leave.report.is_some() || scenarios.leave.scenario_out.is_some() {
        eprintln!("--report and --scenario-out are files of one run: give one scenario");
        return ExitCode::from(2);
    }
    let mut code = ExitCode::SUCCESS;
    for file in &scenarios.files {
        if scenarios.first && code != ExitCode::SUCCESS {
            break;
        }
        let mut arguments = vec!["scenario".into(), file.clone().into_os_string()];
        arguments.extend(scenarios.print.then(|| "--print".into()));
        let ran = run_alone(&arguments);
        print!("{}", ran.text);
        if !ran.success {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Says which property each scenario violates, if it does.
fn verdict(scenarios: &Scenarios) -> ExitCode {
    for path in &scenarios.files {
        match single::read(path) {
            Ok(scenario) => {
                let finished = execute(&Plan::Scripted(&scenario), scenarios.leave.watch(false));
                if let Some(violation) = finished.violation {
                    println!("{VERDICT}{}", violation.invariant);
                }
            }
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}
