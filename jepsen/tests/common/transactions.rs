//! Transactions as a correct database would serve them, one after the other, and small groups of transactions
//! that show one anomaly each.
#![allow(dead_code, reason = "every test binary uses a part of this")]

use quorate_jepsen::Value;
use quorate_jepsen::txn::{Code, Outcome, StepKind, Transactions, Workload};

use crate::common::Random;

/// A step: what, with which key, which value or list.
#[derive(Clone, Debug)]
pub struct Step(pub StepKind, pub i64, pub Vec<Code>);

pub fn append(key: i64, value: Code) -> Step {
    Step(StepKind::Append, key, vec![value])
}

pub fn write(key: i64, value: Code) -> Step {
    Step(StepKind::Write, key, vec![value])
}

pub fn read(key: i64, values: &[Code]) -> Step {
    Step(StepKind::Read, key, values.to_vec())
}

/// A transaction with its times.
#[derive(Clone, Debug)]
pub struct Plan {
    pub process: u64,
    pub call: u64,
    pub end: u64,
    pub outcome: Outcome,
    pub steps: Vec<Step>,
}

/// Puts planned transactions into columns, in the order of their calls. The origin of each is its place in
/// `plans`.
pub fn build(plans: &[Plan]) -> Transactions {
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by_key(|index| plans[*index].call);
    let mut transactions = Transactions::new();
    for index in order {
        let plan = &plans[index];
        transactions.begin(plan.process, plan.call, plan.end, plan.outcome, index);
        for Step(kind, key, values) in &plan.steps {
            let key = transactions.key(&Value::Int(*key));
            transactions.step(*kind, key, values.iter().copied());
        }
    }
    transactions
}

/// What kind of history to make.
#[derive(Clone, Copy)]
pub struct Shape {
    pub transactions: usize,
    pub processes: u64,
    /// Keys in use at a time; each is given up after `writes_per_key` writes.
    pub keys: usize,
    pub writes_per_key: usize,
    /// Percentages that abort, or are never answered.
    pub aborted: u64,
    pub unknown: u64,
}

/// A strictly serializable execution.
pub fn serial(random: &mut Random, shape: Shape, workload: Workload) -> Vec<Plan> {
    let mut idle = vec![0; shape.processes as usize];
    let mut times: Vec<(u64, u64, u64, u64)> = (0..shape.transactions)
        .map(|number| {
            let process = number as u64 % shape.processes;
            let call = idle[process as usize] + 1 + random.below(4);
            let effect = call + random.below(20);
            let end = effect + 1 + random.below(20);
            idle[process as usize] = end;
            (effect, call, end, process)
        })
        .collect();
    times.sort_unstable();
    let mut active: Vec<(i64, Vec<Code>)> = (0..shape.keys as i64).map(|key| (key, Vec::new())).collect();
    let mut written = vec![0; shape.keys];
    let mut next_key = shape.keys as i64;
    let mut plans = Vec::new();
    for (_, call, end, process) in times {
        let outcome = match random.below(100) {
            dice if dice < shape.aborted => Outcome::Aborted,
            dice if dice < shape.aborted + shape.unknown => Outcome::Unknown,
            _ => Outcome::Committed,
        };
        let happens = outcome == Outcome::Committed || outcome == Outcome::Unknown && random.chance(50);
        let mut steps = Vec::new();
        for _ in 0..1 + random.below(4) {
            let slot = random.below(shape.keys as u64) as usize;
            if written[slot] >= shape.writes_per_key {
                active[slot] = (next_key, Vec::new());
                written[slot] = 0;
                next_key += 1;
            }
            let (key, state) = &mut active[slot];
            if random.chance(50) {
                written[slot] += 1;
                let value = written[slot] as Code;
                match workload {
                    Workload::ListAppend => {
                        steps.push(append(*key, value));
                        if happens {
                            state.push(value);
                        }
                    }
                    Workload::Register => {
                        steps.push(write(*key, value));
                        if happens {
                            *state = vec![value];
                        }
                    }
                }
            } else if outcome == Outcome::Committed {
                steps.push(read(*key, state));
            } else {
                steps.push(Step(StepKind::Unread, *key, Vec::new()));
            }
        }
        let end = if outcome == Outcome::Committed { end } else { u64::MAX };
        plans.push(Plan { process, call, end, outcome, steps });
    }
    plans
}

/// An anomaly to plant: its name, the transactions (concurrent, unless `in_order`), and which of them show it.
#[derive(Clone)]
pub struct Planted {
    pub name: &'static str,
    pub transactions: Vec<(Outcome, Vec<Step>)>,
    pub in_order: bool,
    pub shown: Vec<usize>,
}

fn committed(steps: Vec<Vec<Step>>) -> Vec<(Outcome, Vec<Step>)> {
    steps.into_iter().map(|steps| (Outcome::Committed, steps)).collect()
}

/// One of each anomaly of lists, on the keys `x` to `x + 9`.
pub fn anomalies_of_lists(x: i64) -> Vec<Planted> {
    let y = x + 1;
    let plant = |name, steps, shown: &[usize]| Planted {
        name,
        transactions: committed(steps),
        in_order: false,
        shown: shown.to_vec(),
    };
    let mut all = vec![
        plant(
            "G0",
            vec![
                vec![append(x, 1), append(y, 1)],
                vec![append(x, 2), append(y, 2)],
                vec![read(x, &[1, 2]), read(y, &[2, 1])],
            ],
            &[0, 1],
        ),
        plant("G1b", vec![vec![append(x, 1), append(x, 2)], vec![read(x, &[1])]], &[0, 1]),
        plant("G1c", vec![vec![append(x, 1), read(y, &[1])], vec![append(y, 1), read(x, &[1])]], &[0, 1]),
        plant(
            "G-single-item",
            vec![vec![append(x, 1), append(y, 1)], vec![read(x, &[1]), read(y, &[])]],
            &[0, 1],
        ),
        plant(
            "G-nonadjacent-item",
            vec![
                vec![append(x, 1)],
                vec![append(y, 1)],
                vec![read(x, &[1]), read(y, &[])],
                vec![read(x, &[]), read(y, &[1])],
            ],
            &[0, 1, 2, 3],
        ),
        plant("G2-item", vec![vec![read(x, &[]), append(y, 1)], vec![read(y, &[]), append(x, 1)]], &[0, 1]),
        plant(
            "lost-update",
            vec![vec![append(x, 1)], vec![read(x, &[1]), append(x, 2)], vec![read(x, &[1]), append(x, 3)]],
            &[1, 2],
        ),
        plant("internal", vec![vec![append(x, 1), read(x, &[])], vec![read(x, &[1])]], &[0]),
        plant("future-read", vec![vec![read(x, &[1]), append(x, 1)]], &[0]),
        plant(
            "incompatible-order",
            vec![vec![append(x, 1)], vec![append(x, 2)], vec![read(x, &[1, 2])], vec![read(x, &[2])]],
            &[2, 3],
        ),
        plant("duplicate-elements", vec![vec![append(x, 1)], vec![read(x, &[1, 1])]], &[1]),
    ];
    all.extend(anomalies_of_outcomes_and_times(x));
    all
}

/// Those that need an abort, or one after the other.
fn anomalies_of_outcomes_and_times(x: i64) -> Vec<Planted> {
    vec![
        Planted {
            name: "G1a",
            transactions: vec![
                (Outcome::Aborted, vec![append(x, 1)]),
                (Outcome::Committed, vec![read(x, &[1])]),
            ],
            in_order: false,
            shown: vec![0, 1],
        },
        Planted {
            name: "dirty-update",
            transactions: vec![
                (Outcome::Aborted, vec![append(x, 1)]),
                (Outcome::Committed, vec![append(x, 2)]),
                (Outcome::Committed, vec![read(x, &[1, 2])]),
            ],
            in_order: false,
            shown: vec![0, 1],
        },
        Planted {
            name: "G-single-item-realtime",
            transactions: committed(vec![vec![append(x, 1)], vec![read(x, &[])]]),
            in_order: true,
            shown: vec![0, 1],
        },
        Planted {
            name: "G1c-realtime",
            transactions: committed(vec![vec![read(x, &[1])], vec![append(x, 1)]]),
            in_order: true,
            shown: vec![0, 1],
        },
    ]
}

/// A circle of so many transactions, each of which reads what the one before wrote.
pub fn ring(x: i64, length: i64) -> Planted {
    let one = |number: i64| vec![append(x + number, 1), read(x + (number + length - 1) % length, &[1])];
    Planted {
        name: "G1c",
        transactions: committed((0..length).map(one).collect()),
        in_order: false,
        shown: (0..length as usize).collect(),
    }
}

/// Adds planted transactions behind a history; returns the place of the first.
pub fn plant(random: &mut Random, plans: &mut Vec<Plan>, planted: &Planted) -> usize {
    let first = plans.len();
    let begun = plans.iter().map(|plan| plan.end).filter(|end| *end < u64::MAX).max().unwrap_or(0) + 1;
    for (number, (outcome, steps)) in planted.transactions.iter().enumerate() {
        let number = number as u64;
        let (call, end) = if planted.in_order {
            (begun + number * 10, begun + number * 10 + 5)
        } else {
            (begun + number, begun + 50 + random.below(9))
        };
        let end = if *outcome == Outcome::Committed { end } else { u64::MAX };
        plans.push(Plan { process: 1_000 + number, call, end, outcome: *outcome, steps: steps.clone() });
    }
    first
}
