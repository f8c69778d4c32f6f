//! `shrink` at this depth: every candidate runs in a process of its own, which says what it violates.

use std::path::PathBuf;
use std::process::ExitCode;

use quorate_sim::command::shrink::{self, Search};
use quorate_sim::command::{single, start_clock};
use quorate_sim::scenario::{Depths, Expect, Scenario};

use super::sweep::run_alone;

/// Finds a small schedule that still fails.
pub fn shrink(search: &Search) -> ExitCode {
    let scratch = Scratch::new();
    let seed = |seed: u64| {
        let text = format!("run --seed {seed}{}", search.overrides.arguments());
        let mut arguments: Vec<_> = text.split_whitespace().map(Into::into).collect();
        arguments.extend(["--scenario-out".into(), scratch.path.clone().into()]);
        let failed = !run_alone(&arguments).success;
        failed.then(|| single::read(&scratch.path).expect("what was written can be read"))
    };
    let again = |scenario: &Scenario| {
        let depths = Depths { core: false, whole: true };
        let scenario = Scenario { expect: Expect::Pass, depths, ..scenario.clone() };
        std::fs::write(&scratch.path, scenario.to_string()).expect("the scratch file can be written");
        let ran = run_alone(&["scenario".into(), scratch.path.clone().into(), "--verdict".into()]);
        ran.text.lines().find_map(|line| line.strip_prefix(VERDICT)).map(str::to_owned)
    };
    // Every run is a process of its own: what counts is how long it takes.
    let clock = start_clock();
    let spent = || clock.elapsed();
    shrink::said(
        search
            .overrides
            .check()
            .and_then(|()| shrink::search(search, None, "cargo sim-whole", &spent, seed, again)),
    )
}

/// A file that goes when the search is over.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Scratch {
        let name = format!("quorate-sim-whole-{}.scn", std::process::id());
        Scratch { path: std::env::temp_dir().join(name) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Before the name of the property that a scenario violates (`scenario --verdict`).
pub const VERDICT: &str = "violates: ";
