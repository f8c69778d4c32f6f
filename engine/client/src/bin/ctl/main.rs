//! `quoratectl`: the command line of Quorate's clients. It speaks etcd's API, so that it works with etcd as well.

#![forbid(unsafe_code)]

mod bench;
mod commands;
mod endpoints;
mod failure;
mod members;
mod output;
mod recording;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use bench::BenchCommand;
use commands::DataCommand;
use endpoints::EndpointArguments;
use failure::Failure;
use members::MemberArguments;
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

    /// How long a command may wait for its answer, as in 5s or 500ms.
    #[arg(long, global = true, value_name = "TIME", value_parser = bench::parse_duration, default_value = "5s")]
    command_timeout: Duration,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Data(DataCommand),
    /// Members.
    Member(MemberArguments),
    /// Endpoints: the members asked one by one.
    Endpoint(EndpointArguments),
    /// Hand leadership to a member.
    MoveLeader {
        /// The member's id in hexadecimal digits, as `member list` prints it.
        #[arg(value_name = "MEMBER_ID", value_parser = members::parse_id)]
        target: u64,
    },
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
    let options = Options { request_timeout: arguments.command_timeout, ..Options::default() };
    let result = match arguments.command {
        Command::Bench(command) => bench::run(&command, &arguments.endpoints),
        command => talk(command, &arguments.endpoints, options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Carries out a command that a few messages answer.
fn talk(command: Command, endpoints: &[String], options: Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::error(format!("cannot start: {error}")))?;
    let client = Client::new(endpoints, options)?;
    runtime.block_on(async {
        match command {
            Command::Data(command) => commands::run(command, &client).await,
            Command::Member(arguments) => members::run(arguments, &client).await,
            Command::Endpoint(arguments) => endpoints::run(arguments, &client, options).await,
            Command::MoveLeader { target } => endpoints::move_leader(target, &client).await,
            Command::Bench(_) => unreachable!("measuring has threads of its own"),
        }
    })
}
