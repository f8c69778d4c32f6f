//! Serial executions pass, every planted anomaly is found by the transactions that show it and no others, and
//! small histories agree with trying every order.

mod common;
#[path = "common/transactions.rs"]
mod transactions;

use common::Random;
use quorate_jepsen::txn::{
    Code, Level, Options, Outcome, StepKind, TransactionReport, VersionOrder, Workload, check, weak,
};
use transactions::{Plan, Shape, Step, anomalies_of_lists, append, build, plant, read, ring, serial, write};

const SHAPE: Shape =
    Shape { transactions: 120, processes: 6, keys: 4, writes_per_key: 12, aborted: 8, unknown: 8 };

fn judge(plans: &[Plan], workload: Workload, options: &Options) -> TransactionReport {
    check(&build(plans), workload, options).expect("values are unique")
}

#[test]
fn serial_executions_pass_at_every_level() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let lists = serial(&mut random, SHAPE, Workload::ListAppend);
        let report = judge(&lists, Workload::ListAppend, &Options::default());
        assert!(report.verdict().is_valid(), "seed {seed}: {}", report.verdict());
        let registers = serial(&mut random, SHAPE, Workload::Register);
        for linearizable_keys in [false, true] {
            let order = VersionOrder {
                linearizable_keys,
                sequential_keys: linearizable_keys,
                ..VersionOrder::default()
            };
            let options = Options { order, ..Options::default() };
            let report = judge(&registers, Workload::Register, &options);
            assert!(report.verdict().is_valid(), "seed {seed}: {}", report.verdict());
        }
        for level in weak::WeakLevel::ALL {
            let broken = weak::decide(&build(&registers), level).expect("values are unique");
            assert_eq!(broken, None, "seed {seed} at {}", level.name());
        }
    }
}

#[test]
fn every_planted_anomaly_is_found_by_what_shows_it() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let background = serial(&mut random, SHAPE, Workload::ListAppend);
        let mut all = anomalies_of_lists(1_000_000);
        all.push(ring(1_000_000, 2 + random.below(8) as i64));
        for planted in all {
            let mut plans = background.clone();
            let first = plant(&mut random, &mut plans, &planted);
            let report = judge(&plans, Workload::ListAppend, &Options::default());
            let name = planted.name;
            assert!(report.verdict().is_invalid(), "seed {seed}: {name} was not found");
            let found = report.findings.iter().find(|finding| finding.anomaly.name() == name);
            let found =
                found.unwrap_or_else(|| panic!("seed {seed}: {name} is not in {:?}", report.anomalies()));
            let mut shown: Vec<usize> = found.operations.iter().map(|index| index - first).collect();
            shown.sort_unstable();
            assert_eq!(shown, planted.shown, "seed {seed}: {name}: {}", found.sentence);
            // Nothing else of the history is accused.
            let outside =
                report.findings.iter().flat_map(|finding| &finding.operations).find(|index| **index < first);
            assert_eq!(outside, None, "seed {seed}: {name}");
        }
    }
}

#[test]
fn cycles_of_processes_are_found_where_sessions_count() {
    let one =
        |process, call, steps| Plan { process, call, end: call + 1, outcome: Outcome::Committed, steps };
    let plans = [one(1, 1, vec![append(1, 1)]), one(1, 5, vec![read(1, &[])])];
    let at = |level: &str| Options { levels: vec![level.parse().expect("a level")], ..Options::default() };
    let report = judge(&plans, Workload::ListAppend, &at("strong-session-snapshot-isolation"));
    assert_eq!(report.anomalies(), ["G-single-item-process"]);
    let report = judge(&plans, Workload::ListAppend, &at("serializable"));
    assert!(report.verdict().is_valid(), "{}", report.verdict());
}

/// A history of few transactions with arbitrary reads of what some order could show.
fn small(random: &mut Random, workload: Workload) -> Vec<Plan> {
    let count = 2 + random.below(3) as usize;
    let mut plans: Vec<Plan> = Vec::new();
    let mut written: [Vec<Code>; 2] = [Vec::new(), Vec::new()];
    let mut next = 0;
    for number in 0..count {
        let mut steps = Vec::new();
        for _ in 0..1 + random.below(3) {
            let key = random.below(2) as usize;
            if random.chance(50) {
                next += 1;
                written[key].push(next);
                steps.push(match workload {
                    Workload::ListAppend => append(key as i64, next),
                    Workload::Register => write(key as i64, next),
                });
            } else {
                // Filled in below, when all values are known.
                steps.push(read(key as i64, &[]));
            }
        }
        let call = 1 + random.below(8);
        let (process, end) = (number as u64, call + random.below(8));
        plans.push(Plan { process, call, end, outcome: Outcome::Committed, steps });
    }
    for key in &mut written {
        for index in (1..key.len()).rev() {
            key.swap(index, random.below(index as u64 + 1) as usize);
        }
    }
    for Step(kind, key, values) in plans.iter_mut().flat_map(|plan| &mut plan.steps) {
        let all = &written[*key as usize];
        if *kind == StepKind::Read && !all.is_empty() {
            let seen = random.below(all.len() as u64 + 1) as usize;
            *values = match workload {
                Workload::ListAppend => all[..seen].to_vec(),
                Workload::Register => all[..seen].last().copied().into_iter().collect(),
            };
        }
    }
    if workload == Workload::ListAppend {
        // Somebody reads everything at the end, so that the order of all versions is known.
        let steps = vec![read(0, &written[0]), read(1, &written[1])];
        plans.push(Plan { process: 99, call: 100, end: 101, outcome: Outcome::Committed, steps });
    }
    plans
}

/// Tries every order: does one explain all reads (and, if asked, respect real time)?
fn some_order_explains(plans: &[Plan], real_time: bool) -> bool {
    fn go(plans: &[Plan], left: &mut Vec<usize>, state: &[Vec<Code>; 2], real_time: bool) -> bool {
        if left.is_empty() {
            return true;
        }
        for place in 0..left.len() {
            let chosen = left[place];
            let early = |other: &usize| plans[*other].end < plans[chosen].call;
            if real_time && left.iter().any(early) {
                continue;
            }
            let mut next = state.clone();
            let fits = plans[chosen].steps.iter().all(|Step(kind, key, values)| {
                let cell = &mut next[*key as usize];
                match kind {
                    StepKind::Append => cell.extend(values),
                    StepKind::Write => *cell = values.clone(),
                    StepKind::Read | StepKind::Unread => return cell == values,
                }
                true
            });
            if fits {
                left.swap_remove(place);
                let found = go(plans, left, &next, real_time);
                left.push(chosen);
                let last = left.len() - 1;
                left.swap(place, last);
                if found {
                    return true;
                }
            }
        }
        false
    }
    go(plans, &mut (0..plans.len()).collect(), &[Vec::new(), Vec::new()], real_time)
}

#[test]
fn small_histories_of_lists_agree_with_trying_every_order() {
    let mut invalid = 0;
    for seed in 0..2_000 {
        let plans = small(&mut Random::new(seed), Workload::ListAppend);
        for (level, real_time) in [(Level::serializable(), false), (Level::strict_serializable(), true)] {
            let options = Options { levels: vec![level], ..Options::default() };
            let valid = !judge(&plans, Workload::ListAppend, &options).verdict().is_invalid();
            assert_eq!(valid, some_order_explains(&plans, real_time), "seed {seed} at {level}: {plans:?}");
            invalid += u32::from(!valid);
        }
    }
    assert!((400..3_600).contains(&invalid), "{invalid} invalid histories say too little");
}

#[test]
fn no_small_history_of_registers_is_accused_wrongly() {
    let mut invalid = 0;
    for seed in 0..2_000 {
        let plans = small(&mut Random::new(seed), Workload::Register);
        for (level, real_time) in [(Level::serializable(), false), (Level::strict_serializable(), true)] {
            let order = VersionOrder { linearizable_keys: real_time, ..VersionOrder::default() };
            let options = Options { levels: vec![level], order, ..Options::default() };
            let report = judge(&plans, Workload::Register, &options);
            if report.verdict().is_invalid() {
                invalid += 1;
                let explained = some_order_explains(&plans, real_time);
                assert!(!explained, "seed {seed} at {level}: {} of {plans:?}", report.verdict());
            }
        }
        // What is serializable is causal, if no session has two transactions.
        if some_order_explains(&plans, false) {
            let broken = weak::decide(&build(&plans), weak::WeakLevel::Causal).expect("values are unique");
            assert_eq!(broken, None, "seed {seed}: {plans:?}");
        }
    }
    assert!(invalid > 400, "only {invalid} invalid histories were found");
}
