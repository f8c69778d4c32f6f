//! The whole depth: the real driver, log, codec, services and client library under madsim's executor, one process per
//! seed.
//!
//! `--cfg madsim` turns madsim from thin wrappers into a simulator. It comes from the alias `cargo
//! sim-whole`, which also gives the build a target directory of its own. Without it this program only says
//! so: a plain build of the workspace must not need it, and `RUSTFLAGS` in the environment silently overrides
//! the alias.

#[cfg(madsim)]
mod caller;
#[cfg(madsim)]
mod channel;
#[cfg(madsim)]
mod clients;
#[cfg(madsim)]
mod clock;
#[cfg(madsim)]
mod cluster;
#[cfg(madsim)]
mod command;
#[cfg(madsim)]
mod disk;
#[cfg(madsim)]
mod durable;
#[cfg(madsim)]
mod execute;
#[cfg(madsim)]
mod hashes;
#[cfg(madsim)]
mod life;
#[cfg(madsim)]
mod methods;
#[cfg(madsim)]
mod network;
#[cfg(madsim)]
mod operator;
#[cfg(madsim)]
mod run;
#[cfg(madsim)]
mod script;
#[cfg(madsim)]
mod shrink;
#[cfg(madsim)]
mod sweep;
#[cfg(madsim)]
mod world;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "this program was built without --cfg madsim: run it as `cargo sim-whole` (and without RUSTFLAGS set)"
    );
    std::process::ExitCode::from(2)
}
