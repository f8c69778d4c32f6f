//! `shrink`: from a seed that fails to a small scenario that fails.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::seed::{COMMIT, Seed};
use super::{Overrides, processor_time, start_clock};
use crate::core::{self, Plan, Watch};
use crate::mutants::{self, Workshop};
use crate::scenario::{Expect, Scenario};
use crate::shrink::{Shrinker, at_core, fails_as_written};

/// What to make smaller, and how.
#[derive(Args, Clone, Debug)]
pub struct Shrink {
    /// The same at every depth.
    #[command(flatten)]
    pub search: Search,
    /// With this known bug in the product (see `mutants`).
    #[arg(long, value_name = "NAME")]
    pub mutant: Option<String>,
    /// This program is a mutant: the scenario is to pass elsewhere.
    #[arg(long, hide = true)]
    pub as_mutant: Option<String>,
}

/// What to make smaller, and for how long to try.
#[derive(Args, Clone, Debug)]
pub struct Search {
    /// A seed that fails. If not given, the first one that does.
    pub seed: Option<Seed>,
    /// If that seed does not fail again when it is told as a scenario, take the next one that does.
    #[arg(long, requires = "seed")]
    pub or_later: bool,
    /// Begin with this scenario instead.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    pub from: Option<PathBuf>,
    /// Where the scenario goes.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How long to search at most, in seconds: of processor time where runs are this process's own.
    #[arg(long, default_value_t = 60)]
    pub limit: u64,
    /// Stop as soon as it is small enough to be read: 10 faults and 20 requests.
    #[arg(long)]
    pub small_enough: bool,
    /// How many seeds to look through for one that fails.
    #[arg(long, default_value_t = 20_000)]
    pub seeds: u64,
    /// What the seeds draw, overridden.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Does it.
#[must_use]
pub fn shrink(shrink: &Shrink) -> ExitCode {
    let run = |seed| {
        let options = shrink.search.overrides.options(seed);
        let finished = core::execute(&Plan::Drawn(&options), Watch { scenario: true, ..Watch::default() });
        finished.scenario.filter(|_| finished.violation.is_some())
    };
    said(shrink.search.overrides.check().and_then(|()| match &shrink.mutant {
        Some(name) => with_mutant(shrink, name),
        None => {
            let clock = start_clock();
            let spent = || processor_time().unwrap_or_else(|| clock.elapsed());
            search(&shrink.search, shrink.as_mutant.as_deref(), "cargo sim", &spent, run, at_core)
        }
    }))
}

/// The exit code; errors are said.
#[must_use]
pub fn said(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

/// Makes it smaller. `spent` is how long this takes so far; `seed` runs a seed, and returns what happened if it fails; `again` runs a schedule, and returns the
/// property that it violates.
///
/// # Errors
/// There is nothing to shrink, or no place for the result.
pub fn search(
    shrink: &Search,
    as_mutant: Option<&str>,
    program: &str,
    spent: &dyn Fn() -> Duration,
    seed: impl Fn(u64) -> Option<Scenario>,
    mut again: impl FnMut(&Scenario) -> Option<String>,
) -> Result<ExitCode, String> {
    let begun = spent();
    let failing = match &shrink.from {
        Some(path) => super::single::read(path)?,
        None => find(shrink, seed, &mut again)?,
    };
    let found = spent();
    let (faults, operations) = (failing.faults(), failing.operations());
    let origin = shrink.from.as_ref().map_or_else(
        || format!("seed {} at commit {}", failing.options.seed, COMMIT),
        |path| path.display().to_string(),
    );
    let over = found + Duration::from_secs(shrink.limit);
    let shrinker = Shrinker::new(&failing, again, || spent() > over);
    let mut shrinker = shrinker.ok_or("this schedule violates nothing: there is nothing to shrink")?;
    shrinker.search(shrink.small_enough);
    let (mut small, runs) = shrinker.finish();
    let Expect::Violation(invariant) = small.expect.clone() else {
        return Err("it fails no more".to_owned());
    };
    small.comment = vec![format!("Found by `{program} shrink` from {origin}: violates {invariant}.")];
    if let Some(name) = as_mutant {
        small.comment.push(format!("Only with the known bug {name}; the product passes."));
        small.expect = Expect::Pass;
    }
    let path = shrink.out.clone().unwrap_or_else(|| PathBuf::from("shrunk.scn"));
    std::fs::write(&path, small.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    println!(
        "{}: violates {invariant} with {} faults (of {faults}), {} requests (of {operations}), {} members; \
         {runs} runs in {:.1}s after {:.1}s of looking for a seed",
        path.display(),
        small.faults(),
        small.operations(),
        small.options.members,
        (spent() - found).as_secs_f64(),
        (found - begun).as_secs_f64(),
    );
    Ok(ExitCode::SUCCESS)
}

/// The run to begin with: one that fails, and fails again when it is told as a scenario.
fn find(
    shrink: &Search,
    run: impl Fn(u64) -> Option<Scenario>,
    mut again: impl FnMut(&Scenario) -> Option<String>,
) -> Result<Scenario, String> {
    let first = shrink.seed.map_or(0, |seed| seed.0);
    let alone = shrink.seed.is_some() && !shrink.or_later;
    let mut silent = 0;
    for seed in first..first + if alone { 1 } else { shrink.seeds } {
        match run(seed) {
            Some(failing) if fails_as_written(&failing, &mut again) => return Ok(failing),
            Some(_) => silent += 1,
            None => {}
        }
    }
    Err(match (alone, silent) {
        (true, 0) => format!("seed {first} violates nothing: there is nothing to shrink"),
        (true, _) => format!(
            "seed {first} violates something, and violates nothing when it is told as a scenario: try another seed \
             (or --or-later)"
        ),
        (false, 0) => format!("none of {} seeds violates anything", shrink.seeds),
        (false, _) => format!(
            "{silent} of {} seeds violate something, and none of those does when it is told as a scenario",
            shrink.seeds
        ),
    })
}

/// Builds the mutant's simulator and lets it do the work.
fn with_mutant(shrink: &Shrink, name: &str) -> Result<ExitCode, String> {
    let table = mutants::parse(mutants::TABLE)?;
    let mutant = table.iter().find(|mutant| mutant.name == name).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|mutant| &*mutant.name).collect();
        format!("there is no mutant {name:?}; there are {}", names.join(", "))
    })?;
    let Search { seed, or_later, from, limit, small_enough, seeds, overrides, out } = &shrink.search;
    let out = out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.scn")));
    let workshop = Workshop::open(&table, &[mutant])?;
    let mut command = workshop.simulator(mutant);
    command.arg("shrink").args(seed.map(|seed| seed.0.to_string()));
    command.args(["--as-mutant", name, "--limit", &limit.to_string()]);
    command.args(["--seeds", &seeds.to_string()]).arg("--out").arg(&out);
    command.args(small_enough.then_some("--small-enough"));
    command.args(or_later.then_some("--or-later"));
    if let Some(path) = from {
        command.arg("--from").arg(path);
    }
    command.args(overrides.arguments().split_whitespace());
    let status = command.status().map_err(|error| error.to_string())?;
    check(&out, status.success())
}

/// The product itself must pass what its mutant does not.
fn check(path: &Path, shrunk: bool) -> Result<ExitCode, String> {
    if !shrunk {
        return Ok(ExitCode::FAILURE);
    }
    let scenario = super::single::read(path)?;
    let finished = core::execute(&Plan::Scripted(&scenario), Watch::default());
    scenario
        .judge(finished.violation.as_ref())
        .map_err(|what| format!("{}: here it {what}", path.display()))?;
    println!("{}: passes without the bug", path.display());
    Ok(ExitCode::SUCCESS)
}
