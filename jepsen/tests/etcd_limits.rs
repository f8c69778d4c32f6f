//! What does not end by itself ends with an honest answer.

mod common;

use common::{Random, Shape, correct_history};
use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{Options, Records, check_records};

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
fn when_every_second_outcome_is_unknown_nobody_is_accused_wrongly() {
    let shape = Shape { operations: 400, processes: 20, keys: 10, unknown: 50, plain: true, ..SHAPE };
    let mut decided = 0;
    for seed in 0..24 {
        let history = correct_history(&mut Random::new(seed), Shape { values: seed % 3, ..shape }).history;
        let options = Options { steps_max: 20_000, ..Options::default() };
        let verdict = check_records(&Records::of(&history), &options, None);
        assert!(!verdict.is_invalid(), "seed {seed}: {verdict}");
        decided += u32::from(verdict.is_valid());
    }
    assert!(decided >= 12, "most are decided all the same: {decided} of 24");
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
