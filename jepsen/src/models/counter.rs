//! A counter: `add` and `read`, linearizable. See [`counter`](crate::direct::counter) for bounds that are
//! cheap to check.

use crate::model::Model;

/// A counter, zero at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter;

/// What can be asked of a counter. A read answers with the number, an addition with nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CounterInput {
    /// Adds a number.
    Add(i64),
    /// Reads the sum.
    Read,
}

impl Model for Counter {
    type Input = CounterInput;
    type Output = Option<i64>;
    type State = i64;

    fn init(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, input: &CounterInput, output: Option<&Option<i64>>) -> Option<i64> {
        match (input, output) {
            (CounterInput::Add(number), _) => Some(state.wrapping_add(*number)),
            (CounterInput::Read, Some(Some(seen))) => (seen == state).then_some(*state),
            (CounterInput::Read, _) => Some(*state),
        }
    }

    fn is_read(&self, input: &CounterInput, _: Option<&Option<i64>>) -> bool {
        *input == CounterInput::Read
    }

    fn describe(&self, input: &CounterInput, output: Option<&Option<i64>>) -> String {
        match (input, output) {
            (CounterInput::Add(number), Some(_)) => format!("added {number}"),
            (CounterInput::Add(number), None) => format!("may have added {number}"),
            (CounterInput::Read, Some(Some(seen))) => format!("read {seen}"),
            (CounterInput::Read, _) => "read without an answer".to_owned(),
        }
    }
}
