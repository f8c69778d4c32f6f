//! `quoratectl`: the command line of Quorate's clients. It speaks etcd's API, so that it works with etcd as well.

#![forbid(unsafe_code)]

mod bench;
mod commands;
mod failure;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use bench::BenchCommand;
use commands::DataCommand;
use failure::Failure;
use quorate_client::{Client, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A client for Quorate and etcd.
#[derive(Parser)]
#[command(name = "quoratectl", version, about)]
struct Arguments {
    /// The servers, as host:port or http://host:port.
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379",
        value_name = "ENDPOINT,..."
    )]
    endpoints: Vec<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Data(DataCommand),
    /// Measure a server under load.
    #[command(subcommand)]
    Bench(Box<BenchCommand>),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers; everything else is etcdctl's exit code for bad arguments.
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { 128 });
        }
    };
    let result = match arguments.command {
        Command::Bench(command) => bench::run(&command, &arguments.endpoints),
        Command::Data(command) => talk(command, &arguments.endpoints),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Carries out a command that a few messages answer.
fn talk(command: DataCommand, endpoints: &[String]) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let client = Client::new(endpoints, Options::default())?;
    runtime.block_on(commands::run(command, &client))
}
