//! `quorate-jepsen-run`: puts a cluster under load and faults, and judges what its clients saw.
//!
//! Any cluster that speaks etcd's protocol will do: one that runs already (`--endpoints`), or one of `quorate` or
//! `etcd` that is started for the run and tormented (`--local`). The files, in the order of a run:
//!
//! * `sandbox`: namespaces of the run's own, for what would otherwise need root and be left behind;
//! * `local`, `ports`, `network`, `disk`, `clock`: members as processes, links between them that can be cut, disks that can be
//!   full, clocks that go wrong;
//! * `workload`: what clients do; `client`: how they ask; `record`: what they saw and when;
//! * `nemesis`: what is done to the cluster meanwhile;
//! * `live`: the verdict while it runs; `judge`: the verdict at the end; `converge`: do members hold the same?
//! * `timeline`, `plot`, `folder`: what is left of it.
#![forbid(unsafe_code)]

mod client;
mod clock;
mod converge;
mod disk;
mod folder;
mod judge;
mod live;
mod local;
mod nemesis;
mod network;
mod options;
mod plot;
mod ports;
mod record;
mod run;
mod sandbox;
mod timeline;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use options::Options;

fn main() -> ExitCode {
    quorate_jepsen::pipe::end_with_the_reader();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version are asked for, anything else is a mistake.
            let code = if error.use_stderr() { run::BAD_INPUT } else { run::VALID };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if let Err(error) = options.check().and_then(|()| options.enter_sandbox()) {
        eprintln!("quorate-jepsen-run: {error}");
        return ExitCode::from(run::BAD_INPUT);
    }
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run::run(&options)),
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("quorate-jepsen-run: {error}");
            ExitCode::from(run::BAD_INPUT)
        }
    }
}
