//! Levels of isolation that are decided: against the dumbest way to decide them, all orders of few transactions.

mod common;
#[path = "common/transactions.rs"]
mod transactions;

use common::Random;
use proptest::prelude::*;
use quorate_jepsen::txn::exact::{Decision, Effort, decide};
use quorate_jepsen::txn::{Code, Level, Outcome, StepKind, VersionOrder, Workload};
use transactions::{Plan, Planted, Shape, Step, build, plant, read, serial, write};

const LEVELS: [&str; 9] = [
    "serializable",
    "strong-session-serializable",
    "strict-serializable",
    "snapshot-isolation",
    "strong-session-snapshot-isolation",
    "strong-snapshot-isolation",
    "causal",
    "read-atomic",
    "read-committed",
];

fn level(name: &str) -> Level {
    name.parse().expect("the name of a level")
}

fn decided(plans: &[Plan], name: &str) -> Decision {
    let order = VersionOrder::default();
    decide(&build(plans), level(name), &order, &Effort::default()).expect("values are unique")
}

/// Few transactions that read what may or may not have been there. Every process does one thing at a time.
fn few() -> impl Strategy<Value = Vec<Plan>> {
    let step = (0..2_i64, any::<bool>(), 0..6_usize);
    let one = (0..3_u64, 0..4_u64, 0..6_u64, 0..10_u8, prop::collection::vec(step, 1..4));
    prop::collection::vec(one, 1..6).prop_map(|drafts| {
        let mut free = [1; 3];
        let (mut plans, mut wishes, mut next) = (Vec::new(), Vec::new(), 0);
        let mut written: [Vec<Code>; 2] = [Vec::new(), Vec::new()];
        for (process, pause, length, fate, draft) in drafts {
            let call = free[process as usize] + pause;
            let end = call + length;
            free[process as usize] = end + 1;
            let outcome = match fate {
                0 => Outcome::Aborted,
                1 => Outcome::Unknown,
                _ => Outcome::Committed,
            };
            let mut steps = Vec::new();
            for (key, writes, wish) in draft {
                if writes {
                    next += 1;
                    written[key as usize].push(next);
                    steps.push(write(key, next));
                } else {
                    wishes.push((plans.len(), steps.len(), wish));
                    steps.push(read(key, &[]));
                }
            }
            let end = if outcome == Outcome::Committed { end } else { u64::MAX };
            plans.push(Plan { process, call, end, outcome, steps });
        }
        for (plan, at, wish) in wishes {
            let is_known = plans[plan].outcome == Outcome::Committed;
            let Step(kind, key, values) = &mut plans[plan].steps[at];
            match written[*key as usize].get(wish) {
                _ if !is_known => *kind = StepKind::Unread,
                Some(value) => *values = vec![*value],
                None => {}
            }
        }
        plans
    })
}

/// Who must precede whom: by the order of processes or of real time, as the level says.
fn must_precede(name: &str, first: &Plan, second: &Plan) -> bool {
    let ended = first.outcome == Outcome::Committed && !std::ptr::eq(first, second);
    match name {
        _ if name.starts_with("strict") || name == "strong-snapshot-isolation" => {
            ended && first.end < second.call
        }
        _ if name.starts_with("strong-session") => {
            ended && first.process == second.process && first.end <= second.call
        }
        _ => false,
    }
}

/// The values of two keys.
type State = [Option<Code>; 2];

/// Whether all reads of a transaction fit, of what was there or what it wrote itself.
fn fits(plan: &Plan, state: &State) -> Option<State> {
    let mut state = *state;
    for Step(kind, key, values) in &plan.steps {
        let cell = &mut state[*key as usize];
        match kind {
            StepKind::Write => *cell = values.first().copied(),
            StepKind::Read if *cell != values.first().copied() => return None,
            _ => {}
        }
    }
    Some(state)
}

/// Tries every order of transactions, each at one point.
fn some_order(name: &str, plans: &[&Plan], left: &mut Vec<usize>, state: &State) -> bool {
    if left.iter().all(|index| plans[*index].outcome == Outcome::Unknown) {
        return true;
    }
    (0..left.len()).any(|place| {
        let chosen = left[place];
        let waits = left.iter().any(|other| must_precede(name, plans[*other], plans[chosen]));
        let Some(next) = (!waits).then(|| fits(plans[chosen], state)).flatten() else { return false };
        left.remove(place);
        let found = some_order(name, plans, left, &next);
        left.insert(place, chosen);
        found
    })
}

/// What each transaction is about to write, from its snapshot to its end.
type Open = Vec<Option<State>>;

fn writes(plan: &Plan, key: i64) -> bool {
    plan.steps.iter().any(|Step(kind, other, _)| *kind == StepKind::Write && *other == key)
}

/// Tries every order of snapshots and ends. `done`: those that ended.
fn some_snapshots(name: &str, plans: &[&Plan], open: &mut Open, done: &mut Vec<bool>, state: &State) -> bool {
    let is_left = |index: usize| plans[index].outcome == Outcome::Committed && !done[index];
    if !(0..plans.len()).any(is_left) {
        return true;
    }
    (0..plans.len()).any(|index| {
        if done[index] {
            return false;
        }
        if let Some(own) = open[index] {
            let mut after = *state;
            (0..2)
                .filter(|key| writes(plans[index], *key))
                .for_each(|key| after[key as usize] = own[key as usize]);
            (open[index], done[index]) = (None, true);
            let found = some_snapshots(name, plans, open, done, &after);
            (open[index], done[index]) = (Some(own), false);
            return found;
        }
        let waits =
            (0..plans.len()).any(|other| !done[other] && must_precede(name, plans[other], plans[index]));
        let clashes = (0..plans.len()).any(|other| {
            open[other].is_some() && (0..2).any(|key| writes(plans[other], key) && writes(plans[index], key))
        });
        let Some(own) = (!waits && !clashes).then(|| fits(plans[index], state)).flatten() else {
            return false;
        };
        open[index] = Some(own);
        let found = some_snapshots(name, plans, open, done, state);
        open[index] = None;
        found
    })
}

fn naive(name: &str, plans: &[Plan]) -> bool {
    let plans: Vec<&Plan> = plans.iter().filter(|plan| plan.outcome != Outcome::Aborted).collect();
    match name {
        "causal" | "read-atomic" | "read-committed" => weak::holds(name, &plans),
        _ if name.ends_with("snapshot-isolation") => {
            let (mut open, mut done) = (vec![None; plans.len()], vec![false; plans.len()]);
            some_snapshots(name, &plans, &mut open, &mut done, &State::default())
        }
        _ => some_order(name, &plans, &mut (0..plans.len()).collect(), &State::default()),
    }
}

/// The weak levels by their definition: some total order of all transactions, in which nobody reads a version
/// and knows of a later one.
mod weak {
    use super::*;

    /// A read: who, at which step, of which key, from whom (none: the beginning).
    struct From {
        reader: usize,
        at: usize,
        key: i64,
        writer: Option<usize>,
    }

    pub fn holds(name: &str, plans: &[&Plan]) -> bool {
        let Some(reads) = reads(name, plans) else { return false };
        // What may have happened did so if somebody read from it, and is not seen otherwise.
        let part = |index: &usize| {
            plans[*index].outcome == Outcome::Committed
                || reads.iter().any(|read| read.writer == Some(*index))
        };
        let mut order: Vec<usize> = (0..plans.len()).filter(part).collect();
        let known = known(name, plans, &reads);
        permutations(&mut order, 0, &mut |order| {
            let place = |index: usize| order.iter().position(|other| *other == index).expect("all are there");
            order
                .iter()
                .enumerate()
                .all(|(at, index)| order[at..].iter().all(|later| !before(plans, &reads, *later, *index)))
                && reads.iter().all(|read| {
                    order.iter().all(|other| {
                        let hides = Some(*other) != read.writer
                            && *other != read.reader
                            && writes(plans[*other], read.key)
                            && known(read, *other);
                        !hides || read.writer.is_some_and(|writer| place(*other) < place(writer))
                    })
                })
        })
    }

    /// In the session, or read from.
    fn before(plans: &[&Plan], reads: &[From], first: usize, second: usize) -> bool {
        let session = plans[first].process == plans[second].process && plans[first].call < plans[second].call;
        first != second
            && (session || reads.iter().any(|read| read.reader == second && read.writer == Some(first)))
    }

    /// All reads from others; none if a transaction contradicts itself, or reads what nobody left behind.
    fn reads(name: &str, plans: &[&Plan]) -> Option<Vec<From>> {
        let mut found = Vec::new();
        for (reader, plan) in plans.iter().enumerate() {
            for (at, Step(kind, key, values)) in plan.steps.iter().enumerate() {
                if *kind != StepKind::Read {
                    continue;
                }
                let earlier = plan.steps[..at].iter().rev().filter(|Step(_, other, _)| other == key);
                if let Some(Step(_, _, own)) =
                    earlier.clone().find(|Step(kind, _, _)| *kind == StepKind::Write)
                {
                    if own != values {
                        return None;
                    }
                    continue;
                }
                let twice = earlier.clone().any(|Step(_, _, other)| other != values);
                if twice && name != "read-committed" {
                    return None;
                }
                let writer = match values.first() {
                    None => None,
                    Some(value) => Some(plans.iter().position(|plan| left(plan, *key) == Some(*value))?),
                };
                if writer == Some(reader) {
                    return None;
                }
                found.push(From { reader, at, key: *key, writer });
            }
        }
        Some(found)
    }

    /// What a transaction left behind of a key.
    fn left(plan: &Plan, key: i64) -> Option<Code> {
        let mut last = plan.steps.iter().rev();
        last.find(|Step(kind, other, _)| *kind == StepKind::Write && *other == key)?.2.first().copied()
    }

    /// Whether a read knows of a transaction.
    fn known<'k>(name: &'k str, plans: &'k [&Plan], reads: &'k [From]) -> impl Fn(&From, usize) -> bool + 'k {
        move |read, other| match name {
            "read-committed" => reads.iter().any(|earlier| {
                earlier.reader == read.reader && earlier.at < read.at && earlier.writer == Some(other)
            }),
            "read-atomic" => before(plans, reads, other, read.reader),
            _ => {
                let (mut seen, mut open) = (vec![false; plans.len()], vec![other]);
                while let Some(index) = open.pop() {
                    let next = (0..plans.len()).filter(|next| before(plans, reads, index, *next));
                    for next in next.collect::<Vec<_>>() {
                        if !std::mem::replace(&mut seen[next], true) {
                            open.push(next);
                        }
                    }
                }
                seen[read.reader]
            }
        }
    }

    fn permutations(order: &mut Vec<usize>, from: usize, accept: &mut dyn FnMut(&[usize]) -> bool) -> bool {
        if from == order.len() {
            return accept(order);
        }
        (from..order.len()).any(|other| {
            order.swap(from, other);
            let found = permutations(order, from + 1, accept);
            order.swap(from, other);
            found
        })
    }
}

/// What shows a violation is one by itself, and is none without any of its transactions.
fn assert_minimal(plans: &[Plan], name: &str, shown: &[usize]) {
    let transactions = build(plans);
    let place = |origin: &usize| {
        let found = transactions.list.iter().position(|one| one.origin == *origin);
        found.expect("findings are of transactions of the history") as u32
    };
    let places: Vec<u32> = shown.iter().map(place).collect();
    let holds = |kept: &[u32]| {
        let part = transactions.part(kept);
        decide(&part, level(name), &VersionOrder::default(), &Effort::default()) == Ok(Decision::Holds)
    };
    assert!(!holds(&places), "{name}: {shown:?} is no violation by itself: {plans:#?}");
    for left_out in 0..places.len() {
        let mut kept = places.clone();
        kept.remove(left_out);
        assert!(holds(&kept), "{name}: {} is not needed in {shown:?}: {plans:#?}", shown[left_out]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn few_transactions_agree_with_all_orders(plans in few()) {
        for name in LEVELS {
            match (decided(&plans, name), naive(name, &plans)) {
                (Decision::Holds, true) => {}
                (Decision::Broken(finding), false) => assert_minimal(&plans, name, &finding.operations),
                (decided, naive) => prop_assert!(false, "{name}: {decided:?}, but all orders say {naive}"),
            }
        }
    }
}

/// A transaction of unknown outcome that is seen by a second read only did commit all the same, and its session counts.
#[test]
fn a_second_read_tells_who_committed() {
    let plan = |process, call, end, outcome, steps| Plan { process, call, end, outcome, steps };
    let plans = vec![
        plan(1, 1, 1, Outcome::Committed, vec![read(1, &[4])]),
        plan(1, 2, u64::MAX, Outcome::Unknown, vec![write(0, 2), write(0, 3)]),
        plan(2, 1, 1, Outcome::Committed, vec![read(0, &[]), write(1, 4), read(0, &[3])]),
    ];
    assert!(!naive("read-committed", &plans), "it reads what comes after what is read from it");
    assert!(matches!(decided(&plans, "read-committed"), Decision::Broken(_)));
}

/// Histories of some size, as a database would make them.
const SHAPE: Shape =
    Shape { transactions: 300, processes: 8, keys: 4, writes_per_key: 15, aborted: 5, unknown: 5 };

/// An anomaly: what it is called, its transactions, and the levels that they break by themselves.
type Anomaly = (&'static str, Vec<Vec<Step>>, Vec<&'static str>);

/// Where the levels differ.
fn anomalies(x: i64) -> Vec<Anomaly> {
    let y = x + 1;
    let ser = ["serializable", "strong-session-serializable", "strict-serializable"];
    let snapshot = ["snapshot-isolation", "strong-session-snapshot-isolation", "strong-snapshot-isolation"];
    let from = |weak: &[&'static str]| -> Vec<&'static str> { [&ser, &snapshot, weak].concat() };
    vec![
        ("write skew", vec![vec![read(x, &[]), write(y, 1)], vec![read(y, &[]), write(x, 1)]], ser.to_vec()),
        (
            "long fork",
            vec![
                vec![write(x, 1)],
                vec![write(y, 1)],
                vec![read(x, &[1]), read(y, &[])],
                vec![read(x, &[]), read(y, &[1])],
            ],
            from(&[]),
        ),
        ("lost update", vec![vec![read(x, &[]), write(x, 1)], vec![read(x, &[]), write(x, 2)]], from(&[])),
        // The order of the two writers is nowhere to be seen, and either one is impossible.
        (
            "fractured read of blind writes",
            vec![
                vec![write(x, 1), write(y, 1)],
                vec![write(x, 2), write(y, 2)],
                vec![read(x, &[1]), read(y, &[2])],
            ],
            from(&["causal", "read-atomic"]),
        ),
        (
            "an effect without its cause",
            vec![vec![write(y, 1)], vec![read(y, &[1]), write(x, 2)], vec![read(x, &[2]), read(y, &[])]],
            from(&["causal"]),
        ),
    ]
}

#[test]
fn what_serial_databases_do_is_decided_to_be_right() {
    for seed in 0..4 {
        let plans = serial(&mut Random::new(seed), SHAPE, Workload::Register);
        for name in LEVELS {
            assert_eq!(decided(&plans, name), Decision::Holds, "seed {seed} at {name}");
        }
    }
}

#[test]
fn planted_anomalies_break_the_levels_that_forbid_them_and_no_others() {
    for seed in 0..3 {
        let mut random = Random::new(seed);
        let background = serial(&mut random, SHAPE, Workload::Register);
        for (what, steps, breaks) in anomalies(1_000_000) {
            let shown: Vec<usize> = (background.len()..background.len() + steps.len()).collect();
            let transactions = steps.into_iter().map(|steps| (Outcome::Committed, steps)).collect();
            let planted = Planted { name: what, transactions, in_order: false, shown: shown.clone() };
            let mut plans = background.clone();
            plant(&mut random, &mut plans, &planted);
            for name in LEVELS {
                match decided(&plans, name) {
                    Decision::Holds => assert!(!breaks.contains(&name), "seed {seed}: {what} at {name}"),
                    Decision::Undecided(why) => panic!("seed {seed}: {what} at {name}: {why}"),
                    Decision::Broken(finding) => {
                        assert!(
                            breaks.contains(&name),
                            "seed {seed}: {what} at {name}: {}",
                            finding.sentence
                        );
                        let mut found = finding.operations.clone();
                        found.sort_unstable();
                        assert_eq!(found, shown, "seed {seed}: {what} at {name}: {}", finding.sentence);
                    }
                }
            }
        }
    }
}
