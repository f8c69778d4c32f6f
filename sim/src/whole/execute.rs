//! One run in this process: the executor around it, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::Runtime;
use quorate_sim::core::{Plan, Watch};
use quorate_sim::nemesis;
use quorate_sim::report::{Ended, Finished, catch_panic};
use quorate_sim::scenario::{Depths, Scenario};
use quorate_sim::time::Time;
use quorate_sim::trace::Trace;

use super::clients;
use super::clock::lock;
use super::cluster::Shared;
use super::run;

/// Runs a seed or a scenario to its end, or until a property is broken.
pub fn execute(plan: &Plan<'_>, watch: Watch) -> Finished {
    let (options, scenario) = match plan {
        Plan::Drawn(options) => (*options, None),
        Plan::Scripted(scenario) => (&scenario.options, Some(Arc::new((*scenario).clone()))),
    };
    let Watch { print, record, .. } = watch;
    let trace = if record { Trace::complete(print) } else { Trace::new(EVENTS_KEPT, print) };
    let (shared, ended) = Shared::new(options, trace);
    let shared = Arc::new(shared);
    let end = catch_panic(|| {
        let mut runtime = Runtime::with_seed_and_config(options.seed, madsim::Config::default());
        runtime.set_time_limit(options.storm + TIME_LIMIT);
        let elapsed = runtime.block_on({
            let shared = Arc::clone(&shared);
            async move {
                run::run(shared, ended, scenario).await;
                super::clock::now()
            }
        });
        // Tasks that wait for ever hold what they hold; the process ends soon.
        std::mem::forget(runtime);
        elapsed
    });
    let time = match end {
        Ok(time) => time,
        Err(violation) => {
            shared.demand(Err(violation));
            shared.with_trace(|trace| trace.last().last().map_or(Time::ZERO, |line| line.time))
        }
    };
    finish(&shared, time, watch.scenario)
}

/// Judges the history, and tells what became of the run.
fn finish(shared: &Shared, time: Time, scenario: bool) -> Finished {
    let scenario = scenario.then(|| as_scenario(shared));
    let recorder = std::mem::take(&mut lock(&shared.clients).recorder);
    let trace = shared.with_trace(|trace| std::mem::replace(trace, Trace::new(0, false)));
    let reached = lock(&shared.coverage).reached();
    let (violation, crashed) = (shared.violation(), shared.crashes() > 0);
    let true_clocks = nemesis::clocks_were_right(&shared.options, &shared.faults_begun());
    let options = shared.options.clone();
    let events = trace.events();
    Ended { options, scenario, violation, reached, time, events, trace, recorder, crashed, true_clocks }
        .judge()
}

/// What happened, as a scenario of this depth.
fn as_scenario(shared: &Shared) -> Scenario {
    let seen = lock(&shared.clients);
    let slots = shared.options.load.clients;
    let calls = seen.recorder.calls().zip(&seen.asked);
    // A client whose outcome is unknown goes on as another process; probes and the last reads are the run's own.
    let calls = calls.filter(|(_, (process, _))| *process < clients::OTHERS);
    let calls = calls
        .map(|((at, request), (process, machine))| (at, process % slots.max(1), *machine, request.clone()));
    Scenario::of_run(&shared.options, Depths { core: false, whole: true }, &shared.faults_begun(), calls)
}

/// How long a run may go on after its storm: a run that does not end is a bug too.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How many of the last events a failure report can show.
const EVENTS_KEPT: usize = 200;
