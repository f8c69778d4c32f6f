//! A few seeds of the core depth, run twice: everything holds, and the same seed is the same run.
//!
//! Seeds do not survive changes of the code, so none is here for what it once found; the bugs that the
//! simulator found live on as scripts of the crates they were in.

use quorate_sim::core;
use quorate_sim::options::Options;
use quorate_sim::report::Summary;

fn run(options: &Options) -> Summary {
    match core::run(options, false) {
        Ok(summary) => summary,
        Err(failure) => panic!("seed {}: {failure}", options.seed),
    }
}

#[test]
fn a_seed_runs_the_same_twice() {
    let mut answered = 0;
    for seed in 0..6 {
        let mut options = Options::draw(seed);
        options.storm = std::time::Duration::from_secs(8);
        let first = run(&options);
        assert_eq!(run(&options), first, "seed {seed} ran differently the second time");
        answered += first.answered;
    }
    assert!(answered > 500, "only {answered} requests were answered: the runs show nothing");
}

#[test]
fn different_seeds_are_different_runs() {
    let hashes: std::collections::BTreeSet<u64> = (10..14)
        .map(|seed| {
            let mut options = Options::draw(seed);
            options.storm = std::time::Duration::from_secs(4);
            run(&options).hash
        })
        .collect();
    assert_eq!(hashes.len(), 4);
}

#[test]
fn a_calm_run_loses_no_answer() {
    let mut options = Options::draw(21);
    options.storm = std::time::Duration::from_secs(5);
    options.make_calm();
    let summary = run(&options);
    assert_eq!(summary.unknown, 0, "{summary}");
    assert!(summary.answered > 100, "{summary}");
}

/// The state that a recording begins with is taken in the middle of everything: crashes, hand-overs, snapshots that are
/// read out or received, watchers, leases, changes of the membership. What follows must replay from its bytes.
#[test]
fn what_a_flight_recorder_writes_replays_and_changes_nothing() {
    for seed in 30..38 {
        let mut options = Options::draw(seed);
        options.storm = std::time::Duration::from_secs(6);
        let fly = core::Watch { fly: true, ..core::Watch::default() };
        let flown = core::execute(&core::Plan::Drawn(&options), fly).into_result();
        match flown {
            Ok(summary) => assert_eq!(summary, run(&options), "seed {seed}"),
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
    }
}

/// Runs share memory with the runs before them on the same thread, and the processor with those of other threads.
#[test]
fn a_seed_is_the_same_run_alone_and_among_others() {
    let options = |seed| {
        let mut options = Options::draw(seed);
        options.storm = std::time::Duration::from_secs(4);
        options
    };
    let batch = || (30..34).map(|seed| run(&options(seed))).collect::<Vec<_>>();
    let (one, other, alone) = std::thread::scope(|scope| {
        let (one, other) = (scope.spawn(batch), scope.spawn(batch));
        let alone = (30..34).map(|seed| scope.spawn(move || run(&options(seed))).join().expect("it holds"));
        let alone: Vec<Summary> = alone.collect();
        (one.join().expect("it holds"), other.join().expect("it holds"), alone)
    });
    assert_eq!(one, alone);
    assert_eq!(other, alone);
}
