//! The program `quorate`: reads flags, starts a member, and waits for a signal.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use quorate::config::Config;
use quorate::config::flags::{self, CommandLine, Settings};
use quorate::config::url;
use quorate::server::Server;
use quorate::{local, logging};
use quorate_api::ETCD_VERSION;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "local") {
        arguments[0] = "quorate local".to_owned();
        return run(local_cluster(local::Options::parse_from(arguments)));
    }
    match flags::read(arguments, std::env::vars()) {
        Ok(CommandLine::Help) => {
            print!("{}", flags::help());
            ExitCode::SUCCESS
        }
        Ok(CommandLine::Version) => {
            println!("quorate Version: {}\netcd Version: {ETCD_VERSION}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(CommandLine::Start(settings)) => start(&settings),
        Err(error) => {
            eprintln!("{error}\nSee 'quorate --help' for all flags.");
            ExitCode::from(2)
        }
    }
}

fn start(settings: &Settings) -> ExitCode {
    match Config::new(settings) {
        Ok(config) => {
            logging::start(config.log);
            abort_on_panic();
            run(serve(config))
        }
        Err(error) => {
            eprintln!("{error}\nSee 'quorate --help' for all flags.");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs until a signal or a failure.
async fn serve(config: Config) -> ExitCode {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = config.name,
        data_dir = %config.data_dir.display(),
        clients = url::join(&config.listen_client_urls),
        peers = url::join(&config.listen_peer_urls),
        "starting"
    );
    let mut server = match Server::start(&config).await {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(error = error.to_string(), "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("cannot listen to signals");
        return ExitCode::FAILURE;
    };
    let signal = tokio::select! {
        biased;
        error = server.failed() => {
            // What the disk holds is in doubt, or an invariant is broken: the only safe thing is to end at once and
            // recover from what is known to be durable.
            tracing::error!(error = error.to_string(), "the member cannot go on and ends here; start it again to recover");
            std::process::exit(1);
        }
        _ = interrupt.recv() => "interrupt",
        _ = terminate.recv() => "terminated",
    };
    tracing::info!(signal, "received signal; shutting down");
    if tokio::time::timeout(STOP_TIMEOUT, server.stop()).await.is_err() {
        tracing::warn!("the member did not stop in time; ending it (what it acknowledged is on the disk)");
    }
    ExitCode::SUCCESS
}

async fn local_cluster(options: local::Options) -> ExitCode {
    match local::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot run a local cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(task);
    // A read of standard input cannot be interrupted; do not wait for it.
    runtime.shutdown_background();
    code
}

/// A broken invariant ends the process at once, whatever task finds it: nothing it would still do can be trusted.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        tracing::error!(panic = panic.to_string(), "an invariant is broken; the member ends here");
        std::process::abort();
    }));
}

/// How long a member may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
