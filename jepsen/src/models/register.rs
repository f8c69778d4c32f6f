//! A register: read, write, compare-and-set. One per key, if operations carry keys.

use std::fmt::Debug;

use crate::hash::FastMap;
use crate::history::Operation;
use crate::model::{Model, Refutation};
use crate::value::Value;
use crate::zones::{self, RegisterOperation};

/// A register with an initial value.
#[derive(Clone, Debug, Default)]
pub struct Register {
    /// What it holds at first.
    pub initial: Value,
    /// Decide by search even what zones could decide.
    pub search_only: bool,
}

/// What can be asked of a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterInput {
    /// Reads it.
    Read(Option<String>),
    /// Writes it.
    Write(Option<String>, Value),
    /// Writes the second value if it holds the first.
    CompareAndSet(Option<String>, Value, Value),
}

/// What a register answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOutput {
    /// To a read.
    Value(Value),
    /// To a write.
    Done,
    /// To a compare-and-set: whether it held the expected value.
    Swapped(bool),
}

impl RegisterInput {
    fn key(&self) -> Option<&str> {
        let (RegisterInput::Read(key)
        | RegisterInput::Write(key, _)
        | RegisterInput::CompareAndSet(key, _, _)) = self;
        key.as_deref()
    }
}

impl Model for Register {
    type Input = RegisterInput;
    type Output = RegisterOutput;
    type State = Value;

    fn init(&self) -> Value {
        self.initial.clone()
    }

    fn step(&self, state: &Value, input: &RegisterInput, output: Option<&RegisterOutput>) -> Option<Value> {
        match (input, output) {
            (RegisterInput::Read(_), Some(RegisterOutput::Value(seen))) => {
                (seen == state).then(|| state.clone())
            }
            (RegisterInput::Read(_), None) => Some(state.clone()),
            (RegisterInput::Write(_, value), Some(RegisterOutput::Done) | None) => Some(value.clone()),
            (RegisterInput::CompareAndSet(_, from, to), Some(RegisterOutput::Swapped(true))) => {
                (from == state).then(|| to.clone())
            }
            (RegisterInput::CompareAndSet(_, from, _), Some(RegisterOutput::Swapped(false))) => {
                (from != state).then(|| state.clone())
            }
            (RegisterInput::CompareAndSet(_, from, to), None) => {
                Some(if from == state { to.clone() } else { state.clone() })
            }
            _ => None,
        }
    }

    fn is_read(&self, input: &RegisterInput, output: Option<&RegisterOutput>) -> bool {
        matches!(input, RegisterInput::Read(_)) || matches!(output, Some(RegisterOutput::Swapped(false)))
    }

    fn partition_key<'a>(&self, input: &'a RegisterInput) -> Option<&'a str> {
        input.key()
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    fn is_on_the_way(&self, state: &Value, _: &RegisterInput, output: &RegisterOutput) -> bool {
        match output {
            RegisterOutput::Value(value) => value == state,
            // A failed compare-and-set is legal in all states but one: nothing to look ahead for.
            RegisterOutput::Swapped(_) | RegisterOutput::Done => true,
        }
    }

    fn produces(
        &self,
        write: (&RegisterInput, Option<&RegisterOutput>),
        read: (&RegisterInput, &RegisterOutput),
    ) -> bool {
        match (write.0, read.1) {
            (
                RegisterInput::Write(_, value) | RegisterInput::CompareAndSet(_, _, value),
                RegisterOutput::Value(seen),
            ) => value == seen,
            _ => true,
        }
    }

    /// A compare-and-set that did not find its value depends on all others.
    fn values(
        &self,
        input: &RegisterInput,
        output: Option<&RegisterOutput>,
        visit: &mut dyn FnMut(&dyn Debug),
    ) -> bool {
        match (input, output) {
            (_, Some(RegisterOutput::Swapped(false))) => return false,
            (RegisterInput::Read(_), Some(RegisterOutput::Value(value)))
            | (RegisterInput::Write(_, value), _) => visit(value),
            (RegisterInput::CompareAndSet(_, from, to), _) => {
                visit(from);
                visit(to);
            }
            _ => {}
        }
        true
    }

    fn decide(
        &self,
        operations: &[&Operation<RegisterInput, RegisterOutput>],
    ) -> Option<Result<(), Refutation>> {
        if self.search_only { None } else { self.decide_by_zones(operations) }
    }

    fn describe(&self, input: &RegisterInput, output: Option<&RegisterOutput>) -> String {
        match (input, output) {
            (RegisterInput::Read(_), Some(RegisterOutput::Value(value))) => format!("read {value}"),
            (RegisterInput::Read(_), _) => "read without an answer".to_owned(),
            (RegisterInput::Write(_, value), Some(_)) => format!("wrote {value}"),
            (RegisterInput::Write(_, value), None) => format!("may have written {value}"),
            (RegisterInput::CompareAndSet(_, from, to), Some(RegisterOutput::Swapped(false))) => {
                format!("did not find {from} to set {to}")
            }
            (RegisterInput::CompareAndSet(_, from, to), Some(_)) => format!("set {from} to {to}"),
            (RegisterInput::CompareAndSet(_, from, to), None) => format!("may have set {from} to {to}"),
        }
    }

    fn describe_state(&self, state: &Value) -> String {
        state.to_string()
    }
}

impl Register {
    /// Decides by zones if every write is of a value of its own; gives up on anything else.
    fn decide_by_zones(
        &self,
        operations: &[&Operation<RegisterInput, RegisterOutput>],
    ) -> Option<Result<(), Refutation>> {
        if operations.iter().any(|operation| matches!(operation.input, RegisterInput::CompareAndSet(..))) {
            return None;
        }
        let mut plain = Vec::with_capacity(operations.len());
        let mut values = Vec::with_capacity(operations.len());
        let mut kept = Vec::with_capacity(operations.len());
        for (index, operation) in operations.iter().enumerate() {
            let (value, is_write) = match (&operation.input, operation.output()) {
                (RegisterInput::Read(_), None) => continue,
                (RegisterInput::Read(_), Some(RegisterOutput::Value(value))) => (value, false),
                (RegisterInput::Write(_, value), _) => (value, true),
                _ => return None,
            };
            kept.push(index as u32);
            let (call, end) = (operation.call, operation.return_time());
            plain.push(RegisterOperation { call, end, value: 0, is_write });
            values.push(value);
        }
        let (numbers, count) = number(&self.initial, &values);
        let mut written = vec![false; count];
        written[0] = true;
        for (operation, number) in plain.iter_mut().zip(numbers) {
            operation.value = number;
            if operation.is_write && std::mem::replace(&mut written[number as usize], true) {
                return None;
            }
        }
        let Err((shown, why)) = zones::check(&plain, count) else { return Some(Ok(())) };
        let shown: Vec<usize> = shown.into_iter().map(|index| kept[index] as usize).collect();
        let offender = operations[shown[0]];
        let what = self.describe(&offender.input, offender.output());
        let sentence = format!("process {} {what}, which {why}", offender.process);
        Some(Err(Refutation { operations: shown, sentence }))
    }
}

/// Numbers the values from one on; the initial one is zero. Also gives how many numbers there are. Whole numbers that lie close together, as counters give them, need no table of
/// what was met.
fn number(initial: &Value, values: &[&Value]) -> (Vec<u32>, usize) {
    let whole = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
    let (mut least, mut greatest, mut are_whole) = (i64::MAX, i64::MIN, true);
    for value in values.iter().filter(|value| **value != initial) {
        let number = whole(value);
        are_whole &= number.is_some();
        (least, greatest) =
            number.map_or((least, greatest), |number| (least.min(number), greatest.max(number)));
    }
    let width = greatest.checked_sub(least).and_then(|width| usize::try_from(width).ok());
    if let Some(width) = width.filter(|width| are_whole && *width <= values.len() * 4) {
        let number = |value: &&Value| match whole(value) {
            Some(number) if *value != initial => (number - least) as u32 + 1,
            _ => 0,
        };
        return (values.iter().map(number).collect(), width + 2);
    }
    let mut numbers: FastMap<&Value, u32> = FastMap::default();
    numbers.insert(initial, 0);
    let mut list = Vec::with_capacity(values.len());
    for value in values {
        let next = numbers.len() as u32;
        list.push(*numbers.entry(value).or_insert(next));
    }
    (list, numbers.len())
}
