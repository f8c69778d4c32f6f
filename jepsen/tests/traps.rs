//! What other checkers, and this one on its way, got wrong: one test for each trap, with every combination of
//! reductions, and against all permutations.

mod common;

use common::naive::naive;
use quorate_jepsen::models::{Register, RegisterInput, RegisterOutput};
use quorate_jepsen::{History, Limits, Operation, Reductions, Returned, Value, check};

type Registers = History<RegisterInput, RegisterOutput>;

/// An operation from a call to a return; no return: an unknown outcome.
fn put(history: &mut Registers, call: u64, end: Option<u64>, input: RegisterInput, output: RegisterOutput) {
    let process = history.operations.len() as u64;
    let returned = end.map(|at| Returned { at, output });
    history.operations.push(Operation { process, call, input, returned });
}

fn write(history: &mut Registers, call: u64, end: Option<u64>, value: i64) {
    put(history, call, end, RegisterInput::Write(None, Value::Int(value)), RegisterOutput::Done);
}

fn read(history: &mut Registers, call: u64, end: u64, value: i64) {
    put(history, call, Some(end), RegisterInput::Read(None), RegisterOutput::Value(Value::Int(value)));
}

fn failed_cas(history: &mut Registers, call: u64, end: u64, from: i64, to: i64) {
    let input = RegisterInput::CompareAndSet(None, Value::Int(from), Value::Int(to));
    put(history, call, Some(end), input, RegisterOutput::Swapped(false));
}

/// All ways to search say the same as all permutations.
fn expect(history: &Registers, valid: bool) {
    let model = Register { search_only: true, ..Register::default() };
    assert_eq!(naive(&model, history), valid, "all permutations of {history:?}");
    for number in 0..32_u32 {
        let bit = |at: u32| number >> at & 1 == 1;
        let reductions = Reductions {
            eager_reads: bit(0),
            symmetry: bit(1),
            dominance: bit(2),
            look_ahead: bit(3),
            observation: bit(4),
        };
        let verdict = check(&model, history, &Limits { reductions, ..Limits::default() });
        assert_eq!(verdict.is_valid(), valid, "{reductions:?}: {verdict}");
    }
}

#[test]
fn a_write_that_nobody_saw_may_be_why_a_compare_and_set_failed() {
    let mut history = Registers::new();
    write(&mut history, 0, Some(1), 1);
    failed_cas(&mut history, 4, 5, 1, 3);
    expect(&history, false);
    write(&mut history, 2, None, 2);
    expect(&history, true);
}

#[test]
fn a_compare_and_set_that_failed_waits_for_no_value() {
    let mut history = Registers::new();
    write(&mut history, 0, Some(1), 1);
    // Nobody ever writes nine: a look ahead for somebody who does would be wrong.
    failed_cas(&mut history, 2, 3, 9, 3);
    expect(&history, true);
}

#[test]
fn of_equal_writes_the_one_that_returns_first_goes_first() {
    let mut history = Registers::new();
    write(&mut history, 0, Some(20), 1);
    write(&mut history, 1, Some(3), 1);
    write(&mut history, 4, Some(6), 2);
    read(&mut history, 7, 9, 1);
    // The first write was called first and returns last: it is what the read sees.
    expect(&history, true);
    history.operations[0].returned = Some(Returned { at: 3, output: RegisterOutput::Done });
    expect(&history, false);
}

#[test]
fn a_slot_that_once_held_an_unknown_operation_holds_known_ones_later_or_the_other_way_round() {
    let mut history = Registers::new();
    write(&mut history, 0, Some(1), 1);
    write(&mut history, 2, None, 5);
    for round in 0..3 {
        write(&mut history, 10 * (round + 1), Some(10 * (round + 1) + 4), 2);
        read(&mut history, 10 * (round + 1) + 1, 10 * (round + 1) + 5, 2);
    }
    read(&mut history, 50, 51, 5);
    expect(&history, true);
    write(&mut history, 52, Some(53), 2);
    read(&mut history, 54, 55, 5);
    // The unknown write happened once.
    expect(&history, false);
}

#[test]
fn thousands_of_unique_values_need_no_table_of_all_states_and_values() {
    let mut history = Registers::new();
    for value in 0..6000 {
        write(&mut history, 4 * value, Some(4 * value + 3), value.cast_signed());
        read(&mut history, 4 * value + 1, 4 * value + 4, value.cast_signed());
    }
    let model = Register { search_only: true, ..Register::default() };
    let limits = Limits { bytes: 64 << 20, ..Limits::default() };
    let verdict = check(&model, &history, &limits);
    assert!(verdict.is_valid(), "{verdict}");
}

#[test]
fn times_that_are_equal_are_concurrent() {
    let mut history = Registers::new();
    write(&mut history, 0, Some(5), 1);
    write(&mut history, 5, Some(7), 2);
    // The second was called at the moment when the first returned: either order will do.
    read(&mut history, 8, 9, 1);
    expect(&history, true);
    history.operations[1].call = 6;
    expect(&history, false);
}
