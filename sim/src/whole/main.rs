//! The whole depth: the real driver, log, codec and services under madsim's executor, one process per seed.
//!
//! `--cfg madsim` turns madsim from thin wrappers into a simulator. It comes from the alias `cargo
//! sim-whole`, which also gives the build a target directory of its own. Without it this program only says
//! so: a plain build of the workspace must not need it, and `RUSTFLAGS` in the environment silently overrides
//! the alias.

#[cfg(madsim)]
mod clients;
#[cfg(madsim)]
mod cluster;
#[cfg(madsim)]
mod convert;
#[cfg(madsim)]
mod env;
#[cfg(madsim)]
mod rpc;
#[cfg(madsim)]
mod scenario;
#[cfg(madsim)]
mod simulation;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    simulation::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "this program was built without --cfg madsim: run it as `cargo sim-whole` (and without RUSTFLAGS set)"
    );
    std::process::ExitCode::from(2)
}
