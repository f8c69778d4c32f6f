//! The program `quorate`: reads flags, starts a member, and waits for a signal.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use quorate::config::Config;
use quorate::config::flags::{self, CommandLine, Settings};
use quorate::config::url;
use quorate::flight::BlackBox;
use quorate::server::{Server, ServerError};
use quorate::{aside, local, logging};
use quorate_api::ETCD_VERSION;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let Ok(mut signals) = Signals::listen() else {
        tracing::error!("cannot listen to signals");
        return ExitCode::FAILURE;
    };
    // The first start of a cluster waits for all of its members.
    let started = tokio::select! {
        biased;
        started = Server::start(&config) => started,
        signal = signals.next() => {
            tracing::info!(signal, "received signal while starting; stopping");
            return ExitCode::SUCCESS;
        }
    };
    let mut server = match started {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(error = error.to_string(), "cannot start");
            return ExitCode::from(error.exit_code());
        }
    };
    if let Some(black_box) = server.black_box() {
        black_box.save_on_panic();
    }
    tokio::spawn(record_on_request(server.black_box().cloned(), signals.user.take()));
    let signal = tokio::select! {
        biased;
        error = server.failed() => return end(&config, server, error).await,
        signal = signals.next() => signal,
    };
    tracing::info!(signal, "received signal; shutting down");
    tokio::select! {
        biased;
        stopped = tokio::time::timeout(STOP_TIMEOUT, server.stop()) => if stopped.is_err() {
            tracing::warn!("the member did not stop in time; ending it (what it acknowledged is on the disk)");
        },
        signal = signals.next() => {
            tracing::warn!(signal, "received a second signal; ending at once (what was acknowledged is on the disk)");
            std::process::exit(1);
        }
    }
    ExitCode::SUCCESS
}

/// What ends a process from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// SIGUSR1, which asks for a flight recording.
    user: Option<Signal>,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        // Listened to in any case: what it does by default is to end the process.
        Ok(Signals { interrupt, terminate, user: Some(signal(SignalKind::user_defined1())?) })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => "interrupt",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// Writes a flight recording for every SIGUSR1.
async fn record_on_request(black_box: Option<BlackBox>, signal: Option<Signal>) {
    let Some(mut signal) = signal else { return };
    while signal.recv().await.is_some() {
        match &black_box {
            // It says itself how that went.
            Some(black_box) => drop(black_box.save_aside("SIGUSR1").await),
            None => {
                tracing::warn!("received SIGUSR1, and records nothing: start with --flight-recorder 64MiB")
            }
        }
    }
}

/// A member that must not go on.
async fn end(config: &Config, server: Server, error: ServerError) -> ExitCode {
    match &error {
        ServerError::Node(quorate_node::Error::Disowned { member, boot }) => {
            tracing::error!(error = error.to_string(), "the member ends here, and joins anew");
            let _ = tokio::time::timeout(STOP_TIMEOUT, server.stop()).await;
            match aside::set_aside(&config.data_dir, *member, *boot) {
                Ok(folder) => {
                    tracing::warn!(folder = %folder.display(), "moved the files of the old copy aside")
                }
                Err(error) => {
                    tracing::error!(%error, "cannot move the files of the old copy aside; empty the data directory");
                    return ExitCode::FAILURE;
                }
            }
            // Afresh, with nothing left of the one that was disowned.
            let mut arguments = std::env::args_os();
            let program = std::env::current_exe().ok().or_else(|| arguments.next().map(Into::into));
            let error = std::process::Command::new(program.unwrap_or_default())
                .args(std::env::args_os().skip(1))
                .exec();
            tracing::error!(%error, "cannot start again; start the member again to join the cluster");
            ExitCode::FAILURE
        }
        ServerError::Node(quorate_node::Error::Removed { .. }) => {
            tracing::error!(error = error.to_string(), "the member ends here and does not start again");
            let _ = tokio::time::timeout(STOP_TIMEOUT, server.stop()).await;
            ExitCode::from(error.exit_code())
        }
        _ => {
            // What the disk holds is in doubt, or an invariant is broken: the only safe thing is to end at once and
            // recover from what is known to be durable.
            tracing::error!(
                error = error.to_string(),
                "the member cannot go on and ends here; start it again to recover"
            );
            std::process::exit(1);
        }
    }
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
