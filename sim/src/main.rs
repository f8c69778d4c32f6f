//! `quorate-sim`: the core depth of simulation from the command line.

mod allocator;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quorate_sim::command::mutants::{self, Mutants};
use quorate_sim::command::recording::{self, ReplayNode};
use quorate_sim::command::shrink::{self, Shrink};
use quorate_sim::command::single::{self, CORE, Scenarios, Single};
use quorate_sim::command::sweep::{self, Sweep};
use quorate_sim::report::install_panic_hook;

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
    Run(Single),
    /// Runs many seeds.
    Sweep(Sweep),
    /// Runs one seed again and prints every event.
    Replay(Single),
    /// Runs scenario files; each must become what it says.
    Scenario(Scenarios),
    /// Finds a small schedule that still fails, and writes it as a scenario file.
    Shrink(Shrink),
    /// Replays what a flight recorder wrote down of a member in production (`quorate --flight-recorder`).
    ReplayNode(ReplayNode),
    /// Prints how much was simulated, on which code, with what result.
    Ledger {
        /// The file that `sweep --ledger` writes.
        #[arg(default_value = "sim/ledger.txt")]
        file: PathBuf,
    },
    /// Puts known bugs into a copy of the workspace and sees whether they are noticed.
    Mutants(Mutants),
}

fn main() -> ExitCode {
    allocator::keep_memory();
    install_panic_hook();
    match Cli::parse().command {
        Command::Run(single) => single::seed(&single, false, &CORE),
        Command::Replay(single) => single::seed(&single, true, &CORE),
        Command::Scenario(scenarios) => single::scenarios(&scenarios, &CORE),
        Command::Sweep(sweep) => sweep::sweep(&sweep),
        Command::Shrink(shrink) => shrink::shrink(&shrink),
        Command::ReplayNode(options) => recording::replay_node(&options),
        Command::Ledger { file } => sweep::ledger(&file),
        Command::Mutants(options) => mutants::mutants(&options),
    }
}
