//! What does not end by itself ends with an honest answer.

mod common;

use common::{Random, Shape, correct_history};
use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{
    EtcdHistory, KeyValue, Keys, Options, Put, Range, Records, Reply, Request, Response, Store, check_records,
};

const SHAPE: Shape = Shape {
    operations: 4000,
    processes: 8,
    keys: 3,
    unknown: 30,
    values: 2,
    everything: false,
    plain: false,
};

#[test]
fn a_check_of_etcd_that_is_stopped_says_how_far_it_came() {
    let history = correct_history(&mut Random::new(1), SHAPE).history;
    let records = Records::of(&history);
    let stop: &(dyn Fn() -> bool + Sync) = &|| true;
    let verdict = check_records(&records, &Options::default(), Some(stop));
    let Verdict::Unknown(why) = verdict else { panic!("it was not stopped: {verdict}") };
    assert!(why.starts_with("the check was stopped, with revisions up to"), "{why}");
    let go_on: &(dyn Fn() -> bool + Sync) = &|| false;
    let verdict = check_records(&records, &Options::default(), Some(go_on));
    assert_eq!(verdict, Verdict::Valid);
}

#[test]
fn a_search_for_explanations_that_runs_out_of_steps_says_so() {
    let mut undecided = 0;
    for seed in 0..20 {
        let history = correct_history(&mut Random::new(seed), SHAPE).history;
        let options = Options { steps_max: 0, ..Options::default() };
        match check_records(&Records::of(&history), &options, None) {
            Verdict::Valid => {}
            Verdict::Unknown(why) => {
                assert!(why.contains("within the budget of steps"), "{why}");
                undecided += 1;
            }
            Verdict::Invalid(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(undecided > 0, "a third of unknown outcome with equal values leaves something to try");
}

#[test]
fn many_unknown_outcomes_with_equal_values_are_decided_within_few_steps() {
    let shape = Shape { operations: 1000, processes: 20, keys: 10, plain: true, ..SHAPE };
    for seed in 0..12 {
        let history = correct_history(&mut Random::new(seed), shape).history;
        let options = Options { steps_max: 20_000, ..Options::default() };
        let verdict = check_records(&Records::of(&history), &options, None);
        assert!(verdict.is_valid(), "seed {seed}: {verdict}");
    }
}

#[test]
fn when_every_second_outcome_is_unknown_all_are_decided() {
    let shape = Shape { operations: 1000, processes: 20, keys: 10, unknown: 50, plain: true, ..SHAPE };
    for seed in 0..12 {
        let history = correct_history(&mut Random::new(seed), Shape { values: seed % 3, ..shape }).history;
        let options = Options { steps_max: 50_000, ..Options::default() };
        let verdict = check_records(&Records::of(&history), &options, None);
        assert!(verdict.is_valid(), "seed {seed}: {verdict}");
    }
}

#[test]
fn what_was_learned_from_requests_of_every_kind_accuses_nobody() {
    // Leases of several keys, deletions of ranges, txns that write this or that: what bears on what is intricate.
    let shape = Shape { operations: 500, processes: 20, keys: 8, everything: true, ..SHAPE };
    let mut decided = 0;
    for seed in 0..30 {
        let shape = Shape { unknown: 30 + seed % 3 * 10, ..shape };
        let history = correct_history(&mut Random::new(seed), shape).history;
        let options = Options { steps_max: 50_000, ..Options::default() };
        let verdict = check_records(&Records::of(&history), &options, None);
        assert!(!verdict.is_invalid(), "seed {seed}: {verdict}");
        decided += u32::from(verdict.is_valid());
    }
    assert!(decided >= 27, "most are decided: {decided} of 30");
}

/// Puts of forty keys that were never answered, and a read that shows of the keys what `range` lets it.
fn forty_puts(range: Range, kvs: impl Fn(&Store) -> Vec<KeyValue>) -> EtcdHistory {
    let mut history = EtcdHistory::default();
    let mut store = Store::new();
    let key = |number: u64| format!("k{number:02}");
    for number in 0..40 {
        history.operations.invoke(number, 1, Request::Put(Put::new(key(number).as_str(), "v")));
    }
    // In an order of their own.
    for number in 0..40 {
        let put = Request::Put(Put::new(key(number * 17 % 40).as_str(), "v"));
        store.execute(&put).expect("a put is not refused");
    }
    let kvs = kvs(&store);
    let read = history.operations.invoke(40, 10, Request::Range(range));
    let count = 40;
    history.operations.ok(read, 11, Response::at(41, Reply::Range { kvs, more: false, count }));
    history
}

fn of_all(store: &Store, keys_only: bool) -> Vec<KeyValue> {
    let range = Range { keys_only, ..Range::of(Keys::all()) };
    let applied = store.clone().execute(&Request::Range(range)).expect("a read is not refused");
    let Reply::Range { kvs, .. } = applied.expected.into_reply() else { unreachable!("it is a read") };
    kvs
}

#[test]
fn a_read_of_keys_only_tells_which_put_made_which_revision() {
    let range = Range { keys_only: true, ..Range::of(Keys::all()) };
    let options = Options { steps_max: 100, ..Options::default() };
    let history = forty_puts(range.clone(), |store| of_all(store, true));
    assert_eq!(check_records(&Records::of(&history), &options, None), Verdict::Valid);
    // Two keys cannot have been put at one revision, nor can a key have been put twice.
    let wrong: [fn(&mut Vec<KeyValue>); 2] =
        [|kvs| kvs[3].mod_revision = kvs[4].mod_revision, |kvs| kvs[3].version = 2];
    for spoil in wrong {
        let history = forty_puts(range.clone(), |store| {
            let mut kvs = of_all(store, true);
            spoil(&mut kvs);
            kvs
        });
        let verdict = check_records(&Records::of(&history), &options, None);
        assert!(verdict.is_invalid(), "{verdict}");
    }
}

#[test]
fn a_check_of_etcd_ends_where_its_memory_ends() {
    let history = correct_history(&mut Random::new(1), SHAPE).history;
    let records = Records::of(&history);
    let verdict = |bytes_max| check_records(&records, &Options { bytes_max, ..Options::default() }, None);
    assert_eq!(verdict(64 << 20), Verdict::Valid);
    let Verdict::Unknown(why) = verdict(100_000) else { panic!("it does not fit") };
    assert!(why.starts_with("judging 4000 operations takes about"), "{why}");
}

#[test]
fn records_open_to_what_was_recorded() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let shape = Shape { operations: 60, everything: seed % 2 == 0, plain: seed % 4 == 1, ..SHAPE };
        let history = correct_history(&mut random, shape).history;
        assert_eq!(Records::of(&history).history(), history, "seed {seed}");
        assert_eq!(Records::from(history.clone()), Records::of(&history), "seed {seed}");
    }
}
