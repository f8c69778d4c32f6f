//! Judging transactions over lists as they come: the verdict is that of the whole, and what is held does not grow with it.

mod common;
#[path = "common/transactions.rs"]
mod transactions;

use common::Random;
use quorate_jepsen::format::jepsen::{Answer, Ask};
use quorate_jepsen::online::Bounds;
use quorate_jepsen::txn::{self, Lists, Options, Outcome, StepKind, Workload};
use quorate_jepsen::{History, Operation, Returned, Value, Verdict};
use transactions::{Plan, Shape, Step, anomalies_of_lists, plant, serial};

const SHAPE: Shape =
    Shape { transactions: 200, processes: 5, keys: 3, writes_per_key: 8, aborted: 10, unknown: 5 };

const SMALL: Bounds = Bounds {
    part: 25,
    lag: 40,
    operations: 4000,
    open: 4000,
    leases: 4000,
    past_bytes: 1 << 20,
    configurations: 1 << 12,
};

/// Transactions by name, in the order of their calls.
fn named(plans: &[Plan]) -> History<Ask, Answer> {
    let mut plans: Vec<&Plan> = plans.iter().collect();
    plans.sort_by_key(|plan| plan.call);
    let operation = |plan: &&Plan| {
        let value = |answered: bool| {
            let step = |Step(kind, key, values): &Step| {
                let numbers = || Value::List(values.iter().copied().map(Value::Int).collect());
                let (name, value) = match kind {
                    StepKind::Append => ("append", Value::Int(values[0])),
                    StepKind::Read if answered => ("r", numbers()),
                    _ => ("r", Value::Nil),
                };
                Value::List(vec![Value::Keyword(name.into()), Value::Int(*key), value])
            };
            Value::List(plan.steps.iter().map(step).collect())
        };
        let output = |ok: bool, at: u64| Returned { at, output: Answer { ok, value: value(ok) } };
        let returned = match plan.outcome {
            Outcome::Committed => Some(output(true, plan.end)),
            Outcome::Aborted => Some(output(false, plan.call + 1)),
            Outcome::Unknown => None,
        };
        let input = Ask { f: "txn".to_owned(), key: None, value: value(false) };
        Operation { process: plan.process, call: plan.call, input, returned }
    };
    plans.iter().map(operation).collect()
}

fn whole(history: &History<Ask, Answer>) -> Verdict {
    let transactions = txn::bind(history, Workload::ListAppend).expect("transactions");
    match txn::check(&transactions, Workload::ListAppend, &Options::default())
        .expect("unique values")
        .verdict()
    {
        // That nothing depends on anything is nothing wrong.
        Verdict::Unknown(_) => Verdict::Valid,
        verdict => verdict,
    }
}

fn online(history: &History<Ask, Answer>, bounds: Bounds) -> (Verdict, usize) {
    let mut lists = Lists::new(bounds);
    history.operations.iter().for_each(|operation| lists.push(operation.clone()));
    let verdict = lists.conclude();
    (verdict, lists.peak())
}

/// Makes some read of the second half of a history older or newer than it was, or moves it.
fn spoil(random: &mut Random, plans: &mut [Plan]) {
    let reads: Vec<(usize, usize)> = plans
        .iter()
        .enumerate()
        .filter(|(_, plan)| plan.outcome == Outcome::Committed)
        .flat_map(|(index, plan)| {
            let of = move |(at, Step(kind, _, values)): (usize, &Step)| {
                (*kind == StepKind::Read && !values.is_empty()).then_some((index, at))
            };
            plan.steps.iter().enumerate().filter_map(of)
        })
        .collect();
    if reads.is_empty() {
        return;
    }
    let (plan, step) = *random.pick(&reads);
    let values = &mut plans[plan].steps[step].2;
    match random.below(3) {
        0 => {
            values.pop();
        }
        1 => values.truncate(random.below(values.len() as u64) as usize),
        _ => values.reverse(),
    }
}

#[test]
fn what_is_judged_as_it_comes_is_what_is_judged_as_a_whole() {
    let (mut seen, mut undecided) = ([0, 0], 0);
    for seed in 0..2500 {
        let mut random = Random::new(seed);
        let mut plans = serial(&mut random, SHAPE, Workload::ListAppend);
        if random.chance(60) {
            spoil(&mut random, &mut plans);
        }
        let history = named(&plans);
        let (whole, (online, _)) = (whole(&history), online(&history, SMALL));
        match (&whole, &online) {
            (Verdict::Valid, Verdict::Valid) => seen[0] += 1,
            (Verdict::Invalid(_), Verdict::Invalid(_)) => seen[1] += 1,
            (_, Verdict::Unknown(_)) => undecided += 1,
            _ => panic!("seed {seed}: as a whole {whole}\nas it came {online}"),
        }
    }
    assert!(seen[0] > 500 && seen[1] > 500 && undecided < 250, "{seen:?}, {undecided} undecided");
}

#[test]
fn what_is_planted_is_found_and_told_in_the_same_words() {
    for planted in anomalies_of_lists(1_000_000) {
        let mut random = Random::new(7);
        let shape = Shape { transactions: 1000, ..SHAPE };
        let mut plans = serial(&mut random, shape, Workload::ListAppend);
        plant(&mut random, &mut plans, &planted);
        let history = named(&plans);
        let bounds = Bounds { part: 100, ..SMALL };
        let (Verdict::Invalid(whole), Verdict::Invalid(online)) =
            (whole(&history), online(&history, bounds).0)
        else {
            panic!("{} is found", planted.name)
        };
        assert_eq!(online, whole, "{}", planted.name);
    }
}

#[test]
fn what_is_held_does_not_grow_with_the_history() {
    let mut peaks = Vec::new();
    for transactions in [2_000, 10_000] {
        let shape = Shape { transactions, unknown: 2, keys: 3, writes_per_key: 30, ..SHAPE };
        let plans = serial(&mut Random::new(3), shape, Workload::ListAppend);
        let (verdict, peak) = online(&named(&plans), Bounds { part: 60, ..SMALL });
        assert!(verdict.is_valid(), "{verdict}");
        peaks.push(peak);
    }
    assert!(peaks[1] < 700 && peaks[1] < peaks[0] + 200, "{peaks:?}");
}
