//! Random etcd histories: what a correct etcd did is valid, what was spoiled is refuted, and two engines that
//! share nothing but the naive store agree.

mod common;

use common::{Random, Shape, correct_history, correct_watch, spoil};
use quorate_jepsen::etcd::{EtcdHistory, Options, WatchStream, check};
use quorate_jepsen::models::EtcdModel;
use quorate_jepsen::{Limits, Verdict};

const SMALL: Shape =
    Shape { operations: 30, processes: 4, keys: 3, unknown: 15, values: 0, everything: false, plain: false };

fn always_valid(shape: Shape, seeds: u64, watches: usize) {
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let mut recorded = correct_history(&mut random, shape);
        for _ in 0..watches {
            let stream = correct_watch(&mut random, &recorded, shape);
            recorded.history.watches.push(stream);
        }
        let verdict = check(&recorded.history, &Options::default());
        assert!(verdict.is_valid(), "seed {seed}: {verdict}\n{}", show(&recorded.history));
    }
}

#[test]
fn what_a_correct_etcd_answers_is_valid() {
    always_valid(SMALL, 3000, 0);
}

#[test]
fn repeated_values_and_many_unknown_outcomes_are_valid() {
    always_valid(Shape { values: 2, unknown: 40, ..SMALL }, 3000, 0);
}

#[test]
fn leases_compactions_and_old_revisions_are_valid() {
    always_valid(Shape { everything: true, operations: 60, ..SMALL }, 1500, 0);
}

#[test]
fn watches_of_a_correct_etcd_are_valid() {
    always_valid(SMALL, 1000, 3);
    always_valid(Shape { everything: true, values: 2, unknown: 40, ..SMALL }, 1000, 3);
}

/// Spoils histories, compares the two engines, and counts refuted and valid ones.
fn compare_engines(shape: Shape, seeds: u64, exact: bool) -> [u64; 2] {
    let mut seen = [0; 2];
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let mut history = correct_history(&mut random, shape).history;
        for _ in 0..random.below(3) {
            spoil(&mut random, &mut history);
        }
        let by_order = check(&history, &Options::default());
        let by_search = quorate_jepsen::check(&EtcdModel::default(), &history.operations, &Limits::default());
        let wrongly_accused = by_order.is_invalid() && by_search.is_valid();
        let missed = exact && by_order.is_valid() && by_search.is_invalid();
        let undecided = [&by_order, &by_search].iter().any(|verdict| matches!(verdict, Verdict::Unknown(_)));
        assert!(
            !wrongly_accused && !missed && !undecided,
            "seed {seed}: by order {by_order}\nby search {by_search}\n{}",
            show(&history)
        );
        seen[usize::from(by_order.is_valid())] += 1;
    }
    seen
}

fn show(history: &EtcdHistory) -> String {
    history.operations.operations.iter().map(|operation| format!("{operation}\n")).collect()
}

const TINY: Shape = Shape { operations: 9, keys: 2, unknown: 25, ..SMALL };

#[test]
fn the_order_of_revisions_agrees_with_the_search() {
    let seen = compare_engines(TINY, 1500, true);
    assert!(seen.iter().all(|count| *count > 250), "right and wrong histories: {seen:?}");
    let seen = compare_engines(Shape { values: 2, unknown: 45, ..TINY }, 1500, true);
    assert!(seen.iter().all(|count| *count > 250), "right and wrong histories: {seen:?}");
}

#[test]
fn whatever_the_order_of_revisions_refutes_the_search_refutes() {
    let seen = compare_engines(Shape { everything: true, ..TINY }, 1000, false);
    assert!(seen.iter().all(|count| *count > 150), "right and wrong histories: {seen:?}");
}

/// Removes, repeats, moves or changes one event of a stream.
fn spoil_watch(random: &mut Random, stream: &mut WatchStream) -> bool {
    let filled: Vec<usize> =
        (0..stream.responses.len()).filter(|index| !stream.responses[*index].events.is_empty()).collect();
    if filled.is_empty() {
        return false;
    }
    let which = *random.pick(&filled);
    let last = Some(&which) == filled.last();
    let events = &mut stream.responses[which].events;
    let index = random.below(events.len() as u64) as usize;
    match random.below(4) {
        // Without its last event a stream is merely shorter.
        0 if last && index == events.len() - 1 => return false,
        0 => {
            events.remove(index);
        }
        1 => events.insert(index, events[index].clone()),
        2 => events[index].kv.mod_revision += 1,
        _ if events[index].deleted => events[index].deleted = false,
        _ => events[index].kv.value = "wrong".into(),
    }
    true
}

#[test]
fn spoiled_watches_are_refuted() {
    let mut refuted = 0;
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let shape = Shape { unknown: 0, ..SMALL };
        let mut recorded = correct_history(&mut random, shape);
        let mut stream = correct_watch(&mut random, &recorded, shape);
        if !spoil_watch(&mut random, &mut stream) {
            continue;
        }
        recorded.history.watches.push(stream);
        let verdict = check(&recorded.history, &Options::default());
        assert!(verdict.is_invalid(), "seed {seed}: {verdict}\n{:#?}", recorded.history.watches);
        refuted += 1;
    }
    assert!(refuted > 1000, "most streams have an event to spoil: {refuted}");
}

#[test]
fn a_history_without_a_single_revision_is_valid() {
    use quorate_jepsen::etcd::{Error, Request, Response};
    let mut history = EtcdHistory::default();
    let read = history.operations.invoke(0, 1, Request::Compact { revision: 9 });
    history.operations.ok(read, 2, Response::refused(Error::FutureRevision));
    let verdict = check(&history, &Options::default());
    assert!(verdict.is_valid(), "{verdict}");
}
