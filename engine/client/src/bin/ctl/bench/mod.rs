//! `quoratectl bench`: load for a server that speaks etcd, and what it costs the server.
//!
//! A run prepares (connects, puts the keys that will be read, creates watchers or leases), then lets its workers load
//! the servers for a time or a number of calls, and reports throughput, latency, errors, and the CPU time of the
//! servers. The CPU time per operation is the figure to trust: throughput on a shared machine moves with the
//! neighbours, CPU time hardly does.

mod compare;
mod generator;
mod hpack;
mod http2;
mod options;
mod process;
mod report;
mod tally;
mod wire;
mod worker;

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub use options::{BenchCommand, parse_duration};
use options::{Extent, LeaseOperation, LoadOptions, Plan, Workload};
use process::Usage;
use report::{Consumption, Report, Times};
use tally::Tally;
use worker::{Goal, Shared, Worker, share};

use crate::failure::Failure;
use crate::output;

/// Carries out `quoratectl bench …`.
pub fn run(command: &BenchCommand, endpoints: &[String]) -> Result<(), Failure> {
    let (workload, options) = match command {
        BenchCommand::Put(options) => (Workload::Put, options),
        BenchCommand::Get(options) => (Workload::Get, options),
        BenchCommand::Range(options) => (Workload::Range, options),
        BenchCommand::Txn(options) => (Workload::Txn, options),
        BenchCommand::Watch(options) => (Workload::Watch, options),
        BenchCommand::Mixed(options) => (Workload::Mixed, options),
        BenchCommand::Lease(options) => match options.lease_operation {
            LeaseOperation::Grant => (Workload::LeaseGrant, options),
            LeaseOperation::KeepAlive => (Workload::LeaseKeepAlive, options),
        },
        BenchCommand::Compare(options) => return compare::run(options),
    };
    let plan = Plan::new(workload, endpoints, options)?;
    let report = execute(&plan, options)?;
    if options.json {
        output::print_json(&report)?;
    } else {
        output::print(report.text().as_bytes())?;
    }
    if report.operations == 0 {
        return Err(Failure::error("no operation succeeded"));
    }
    Ok(())
}

/// Runs one plan.
fn execute(plan: &Plan, options: &LoadOptions) -> Result<Report, Failure> {
    Usage::of(&options.server_pids)?; // complain before the work, not after it
    let shared = Shared::new();
    let barrier = Barrier::new(plan.threads as usize + 1);
    let goal = Mutex::new(None);
    let preload = plan.workload.needs_keys() && !options.no_preload;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let (shared, barrier, goal) = (&shared, &barrier, &goal);
                scope.spawn(move || work(plan, shared, thread, preload, barrier, goal))
            })
            .collect();
        barrier.wait();
        let start = shared.now();
        let measure_from = start + plan.warm_up.as_nanos() as u64;
        let until = match plan.extent {
            Extent::Duration(duration) => measure_from + duration.as_nanos() as u64,
            Extent::Total(_) => u64::MAX,
        };
        let calls = match plan.extent {
            Extent::Duration(_) => u64::MAX,
            Extent::Total(total) => total,
        };
        let interval = plan.rate.map(|rate| 1e9 * f64::from(plan.threads) / rate as f64);
        *goal.lock().expect("no worker panicked") = Some(Goal { measure_from, until, calls, interval });
        barrier.wait();
        let progress = Progress::new(plan, &shared);
        progress.sleep_until(measure_from, || false);
        let before = (Usage::of(&options.server_pids), Usage::own());
        progress.sleep_until(until, || workers.iter().all(|worker| worker.is_finished()));
        let mut after = (Usage::of(&options.server_pids), Usage::own());
        let mut tally = Tally::new();
        for worker in workers {
            tally.add(&worker.join().expect("workers do not panic")?);
        }
        let ended = shared.ended_at.load(Ordering::SeqCst);
        if plan.workload == Workload::Watch {
            // Events may come until the end.
            after = (Usage::of(&options.server_pids), Usage::own());
        }
        progress.finish();
        let seconds = |end: u64| end.saturating_sub(measure_from) as f64 / 1e9;
        // Calls count that were started in time; events come until they have all come.
        let times = Times { calls: seconds(ended.min(until)), events: seconds(ended) };
        let mut report = Report::new(plan, tally, times, shared.events_outstanding());
        let count = report.unit_count();
        if !options.server_pids.is_empty() {
            report.servers = Some(Consumption::between(before.0?, after.0?, count));
        }
        report.load_generator = Consumption::between(before.1, after.1, count);
        Ok(report)
    })
}

/// The life of one worker. It comes to the barriers whatever happens, so that nobody waits for it in vain.
fn work(
    plan: &Plan,
    shared: &Shared,
    thread: u32,
    preload: bool,
    barrier: &Barrier,
    goal: &Mutex<Option<Goal>>,
) -> Result<Tally, Failure> {
    let worker = Worker::prepare(plan, shared, thread, preload);
    if worker.is_err() {
        shared.failed.store(true, Ordering::SeqCst);
    }
    barrier.wait();
    barrier.wait();
    let worker = worker?;
    if shared.failed.load(Ordering::SeqCst) {
        return Ok(Tally::new());
    }
    let mut goal = goal.lock().expect("no worker panicked").expect("set between the barriers");
    goal.calls = match plan.extent {
        Extent::Duration(_) => u64::MAX,
        Extent::Total(total) => share(total, plan.threads, thread),
    };
    Ok(worker.measure(goal))
}

/// Waits for the end of a run, and shows how it goes if somebody is looking.
struct Progress<'a> {
    shared: &'a Shared,
    bar: ProgressBar,
    tick: Duration,
}

impl<'a> Progress<'a> {
    fn new(plan: &Plan, shared: &'a Shared) -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let style =
            ProgressStyle::with_template("{spinner} {prefix} {msg} {elapsed}").expect("a constant template");
        bar.set_style(style);
        bar.set_prefix(plan.workload.name());
        // Waking up costs the servers CPU time; a hidden bar needs no more than a timely end.
        let tick = Duration::from_millis(if bar.is_hidden() { 50 } else { 200 });
        Self { shared, bar, tick }
    }

    fn sleep_until(&self, time: u64, done: impl Fn() -> bool) {
        let (mut last_answered, mut last_time) =
            (self.shared.answered.load(Ordering::Relaxed), self.shared.now());
        loop {
            let now = self.shared.now();
            if now >= time || done() || self.shared.failed.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(self.tick.min(Duration::from_nanos(time - now)));
            if !self.bar.is_hidden() {
                let (answered, now) = (self.shared.answered.load(Ordering::Relaxed), self.shared.now());
                let per_second = (answered - last_answered) as f64 * 1e9 / (now - last_time) as f64;
                self.bar.set_message(format!("{answered} answered, {per_second:.0}/s"));
                self.bar.tick();
                (last_answered, last_time) = (answered, now);
            }
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
