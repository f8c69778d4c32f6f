//! Every engine against the dumbest one that could be right: try all permutations.

mod common;

use common::Random;
use common::naive::{naive, random_history, register_operation};
use quorate_jepsen::models::{
    KeyValue, KeyValueInput, Mutex, MutexInput, Register, RegisterInput, RegisterOutput,
};
use quorate_jepsen::{History, Limits, Model, Operation, Reductions, Returned, Value, Verdict, check};

/// Every way to switch reductions off.
fn variants() -> Vec<Reductions> {
    let bit = |number: u32, at: u32| number >> at & 1 == 1;
    (0..32)
        .map(|number| Reductions {
            eager_reads: bit(number, 0),
            symmetry: bit(number, 1),
            dominance: bit(number, 2),
            look_ahead: bit(number, 3),
            observation: bit(number, 4),
        })
        .collect()
}

fn compare<M: Model>(model: &M, history: &History<M::Input, M::Output>, seed: u64, seen: &mut [u64; 2]) {
    let expected = naive(model, history);
    seen[usize::from(expected)] += 1;
    for reductions in variants() {
        let verdict = check(model, history, &Limits { reductions, ..Limits::default() });
        assert_eq!(verdict.is_valid(), expected, "seed {seed}, {reductions:?}: {verdict}\n{history:#?}");
        let Verdict::Invalid(violation) = verdict else { continue };
        assert!(!violation.operations.is_empty(), "seed {seed}: no operation shows the violation");
        assert!(violation.operations.iter().all(|index| *index < history.operations.len()), "seed {seed}");
    }
}

#[test]
fn register_verdicts_equal_those_of_all_permutations() {
    let mut seen = [0; 2];
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let operations = 1 + random.below(8);
        let values = 2 + random.below(3);
        let history = random_history(&mut random, operations, |random| register_operation(random, values));
        compare(&Register::default(), &history, seed, &mut seen);
    }
    assert!(seen.iter().all(|count| *count > 1000), "right and wrong histories: {seen:?}");
}

#[test]
fn key_value_verdicts_equal_those_of_all_permutations() {
    let mut seen = [0; 2];
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let operations = 1 + random.below(8);
        let history = random_history(&mut random, operations, |random| {
            let key = if random.chance(80) { "a" } else { "b" }.to_owned();
            let letter = ["x", "y"][random.below(2) as usize].to_owned();
            let text: String = (0..random.below(3)).map(|_| *random.pick(&["x", "y"])).collect();
            match random.below(4) {
                0 | 1 => (KeyValueInput::Get(key), Some(text)),
                2 => (KeyValueInput::Put(key, letter), None),
                _ => (KeyValueInput::Append(key, letter), None),
            }
        });
        compare(&KeyValue, &history, seed, &mut seen);
    }
    assert!(seen.iter().all(|count| *count > 300), "right and wrong histories: {seen:?}");
}

#[test]
fn mutex_verdicts_equal_those_of_all_permutations() {
    let mut seen = [0; 2];
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let operations = 1 + random.below(8);
        let history = random_history(&mut random, operations, |random| {
            (*random.pick(&[MutexInput::Acquire, MutexInput::Release]), ())
        });
        compare(&Mutex, &history, seed, &mut seen);
    }
    assert!(seen.iter().all(|count| *count > 300), "right and wrong histories: {seen:?}");
}

/// Reads and writes of unique values: the model decides these by zones.
#[test]
fn zones_agree_with_the_search() {
    let mut seen = [0; 2];
    for seed in 0..6000 {
        let mut random = Random::new(seed);
        let operations = 1 + random.below(9);
        let mut written = 0;
        let history = random_history(&mut random, operations, |random| {
            if random.chance(50) {
                written += 1;
                (RegisterInput::Write(None, Value::Int(written)), RegisterOutput::Done)
            } else {
                let value = match random.below(written as u64 + 2) {
                    0 => Value::Nil,
                    value => Value::Int(value as i64),
                };
                (RegisterInput::Read(None), RegisterOutput::Value(value))
            }
        });
        let by_zones = check(&Register::default(), &history, &Limits::default());
        let by_search = Register { search_only: true, ..Register::default() };
        let by_search = check(&by_search, &history, &Limits::default());
        assert_eq!(
            by_zones.is_valid(),
            by_search.is_valid(),
            "seed {seed}: {by_zones}; {by_search}\n{history:#?}"
        );
        seen[usize::from(by_zones.is_valid())] += 1;
        if let Verdict::Invalid(violation) = by_zones {
            let shown = violation.operations.iter().map(|index| history.operations[*index].clone());
            let alone: History<_, _> = shown.collect();
            assert!(!naive(&Register::default(), &alone), "seed {seed}: {violation} is no evidence");
        }
    }
    assert!(seen.iter().all(|count| *count > 1000), "right and wrong histories: {seen:?}");
}

/// Counting acquisitions and releases refutes only what cannot be, and what it shows is refuted by itself.
#[test]
fn locks_are_refuted_by_counting_only_if_they_are_wrong() {
    let (mut counted, mut refuted) = (0, 0);
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let operations = 1 + random.below(7);
        let history = random_history(&mut random, operations, |random| {
            (if random.chance(50) { MutexInput::Acquire } else { MutexInput::Release }, ())
        });
        let right = naive(&Mutex, &history);
        refuted += u64::from(!right);
        let operations: Vec<_> = history.operations.iter().collect();
        let Some(simplest) = Mutex.simplest(&operations) else { continue };
        counted += 1;
        assert!(!right, "seed {seed}: {simplest:?}\n{history:#?}");
        let shown = simplest.operations.iter().map(|index| history.operations[*index].clone());
        assert!(!naive(&Mutex, &shown.collect()), "seed {seed}: {simplest:?} is no evidence");
    }
    assert!(counted > 1000 && counted * 10 > refuted * 9, "{counted} of {refuted} are refuted by counting");
}

/// What the search shows of a refuted register is refuted by itself.
#[test]
fn evidence_is_refuted_by_itself() {
    let model = Register { search_only: true, ..Register::default() };
    let mut shorter = 0;
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let history = random_history(&mut random, 8, |random| register_operation(random, 4));
        let Verdict::Invalid(violation) = check(&model, &history, &Limits::default()) else { continue };
        let shown = violation.operations.iter().map(|index| history.operations[*index].clone());
        let alone: History<_, _> = shown.collect();
        assert!(!naive(&model, &alone), "seed {seed}: {violation}\n{history:#?}");
        shorter += u64::from(alone.operations.len() < history.operations.len());
    }
    assert!(shorter > 500, "evidence is usually shorter than the history: {shorter}");
}

#[test]
fn a_search_that_runs_out_says_so() {
    let mut random = Random::new(7);
    let history = random_history(&mut random, 40, |random| {
        (RegisterInput::Write(None, Value::Int(random.below(40) as i64)), RegisterOutput::Done)
    });
    let mut history = history;
    history.operations.push(Operation {
        process: 99,
        call: 0,
        input: RegisterInput::Read(None),
        returned: Some(Returned { at: 100, output: RegisterOutput::Value(Value::Int(77)) }),
    });
    let reductions = Reductions { look_ahead: false, ..Reductions::default() };
    let limits = Limits { configurations: 500, reductions, ..Limits::default() };
    let verdict = check(&Register::default(), &history, &limits);
    assert!(
        matches!(&verdict, Verdict::Unknown(why) if why.contains("limit of configurations")),
        "{verdict}"
    );
    let limits = Limits { stop: Some(&|| true), reductions, ..Limits::default() };
    let verdict = check(&Register::default(), &history, &limits);
    assert!(matches!(&verdict, Verdict::Unknown(why) if why.contains("stopped")), "{verdict}");
}

/// A register with thousands of writes that were never answered, and a few reads after them.
fn wide_history(reads: &[i64]) -> History<RegisterInput, RegisterOutput> {
    let mut history = History::new();
    for number in 0..3000 {
        history.invoke(number, number, RegisterInput::Write(None, Value::Int(number as i64 % 3)));
    }
    for (number, value) in (0..).zip(reads) {
        let read = history.invoke(9000, 4000 + 2 * number, RegisterInput::Read(None));
        history.ok(read, 4001 + 2 * number, RegisterOutput::Value(Value::Int(*value)));
    }
    history
}

#[test]
fn thousands_of_pending_operations_are_no_reason_to_give_up() {
    let limits = Limits { configurations: 100_000, ..Limits::default() };
    let verdict = check(&Register::default(), &wide_history(&[0, 2, 1, 0]), &limits);
    assert!(verdict.is_valid(), "{verdict}");
    let verdict = check(&Register::default(), &wide_history(&[0, 2, 1, 7]), &limits);
    assert!(verdict.is_invalid(), "{verdict}");
}

#[test]
fn what_does_not_fit_into_memory_is_unknown_and_says_so() {
    let limits = Limits { bytes: 1 << 14, ..Limits::default() };
    let Verdict::Unknown(reason) = check(&Register::default(), &wide_history(&[0, 2]), &limits) else {
        panic!("three thousand pending operations fit into sixteen kilobytes");
    };
    assert!(reason.contains("memory"), "{reason}");
}

#[test]
fn threads_change_no_verdict_and_no_evidence() {
    let mut invalid = 0;
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let history = random_history(&mut random, 24, |random| {
            let key = random.pick(&["a", "b", "c", "d"]).to_string();
            let text = random.pick(&["", "x", "y"]).to_string();
            match random.below(3) {
                0 => (KeyValueInput::Get(key), Some(text)),
                _ => (KeyValueInput::Put(key, text), None),
            }
        });
        let alone = check(&KeyValue, &history, &Limits::default());
        let together = check(&KeyValue, &history, &Limits { threads: 3, ..Limits::default() });
        assert_eq!(alone, together, "seed {seed}");
        invalid += u32::from(alone.is_invalid());
    }
    assert!((50..350).contains(&invalid), "right and wrong histories: {invalid} of 400 are wrong");
}
