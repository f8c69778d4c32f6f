//! `quorate-sim`: the core depth of simulation from the command line.

mod allocator;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quorate_sim::command::Overrides;
use quorate_sim::command::mutants::{self, Mutants};
use quorate_sim::command::recording::{self, ReplayNode};
use quorate_sim::command::seed::Seed;
use quorate_sim::command::shrink::{self, Shrink};
use quorate_sim::command::single::{self, Leave};
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
    Run {
        /// The seed: a number, or a number and the code that it is from, as failures name it (42@3fa9c1d2).
        #[arg(long)]
        seed: Seed,
        #[command(flatten)]
        overrides: Overrides,
        #[command(flatten)]
        leave: Leave,
    },
    /// Runs many seeds.
    Sweep(Sweep),
    /// Runs one seed again and prints every event.
    Replay {
        /// The seed: a number, or a number and the code that it is from, as failures name it (42@3fa9c1d2).
        #[arg(long)]
        seed: Seed,
        #[command(flatten)]
        overrides: Overrides,
        #[command(flatten)]
        leave: Leave,
    },
    /// Runs scenario files; each must become what it says.
    Scenario {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Prints every event.
        #[arg(long)]
        print: bool,
        /// Stop at the first file that does not become what it says.
        #[arg(long)]
        first: bool,
        #[command(flatten)]
        leave: Leave,
    },
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
        Command::Run { seed, overrides, leave } => single::seed(seed, &overrides, &leave, false),
        Command::Replay { seed, overrides, leave } => single::seed(seed, &overrides, &leave, true),
        Command::Scenario { files, print, first, leave } => single::scenarios(&files, &leave, print, first),
        Command::Sweep(sweep) => sweep::sweep(&sweep),
        Command::Shrink(shrink) => shrink::shrink(&shrink),
        Command::ReplayNode(options) => recording::replay_node(&options),
        Command::Ledger { file } => sweep::ledger(&file),
        Command::Mutants(options) => mutants::mutants(&options),
    }
}
