//! Queues: `enqueue` and `dequeue`, in order or not.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use crate::model::Model;
use crate::value::Value;

/// What can be asked of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueueInput {
    /// Puts a value in.
    Enqueue(Value),
    /// Takes a value out.
    Dequeue,
}

/// What a queue answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueueOutput {
    /// To an enqueue.
    Done,
    /// To a dequeue; `None`: the queue was empty.
    Value(Option<Value>),
}

/// A queue that gives values in the order in which they came, empty at first. Source: Herlihy & Wing 1990.
#[derive(Clone, Copy, Debug, Default)]
pub struct FifoQueue;

impl Model for FifoQueue {
    type Input = QueueInput;
    type Output = QueueOutput;
    type State = VecDeque<Value>;

    fn init(&self) -> VecDeque<Value> {
        VecDeque::new()
    }

    fn step(
        &self,
        state: &VecDeque<Value>,
        input: &QueueInput,
        output: Option<&QueueOutput>,
    ) -> Option<VecDeque<Value>> {
        let mut state = state.clone();
        match input {
            QueueInput::Enqueue(value) => state.push_back(value.clone()),
            QueueInput::Dequeue => {
                let value = state.pop_front();
                if output.is_some_and(|output| *output != QueueOutput::Value(value)) {
                    return None;
                }
            }
        }
        Some(state)
    }

    fn is_read(&self, input: &QueueInput, output: Option<&QueueOutput>) -> bool {
        found_nothing(input, output)
    }

    fn describe(&self, input: &QueueInput, output: Option<&QueueOutput>) -> String {
        describe(input, output)
    }

    fn values(
        &self,
        input: &QueueInput,
        output: Option<&QueueOutput>,
        visit: &mut dyn FnMut(&dyn Debug),
    ) -> bool {
        values(input, output, visit)
    }

    fn describe_state(&self, state: &VecDeque<Value>) -> String {
        let values: Vec<String> = state.iter().map(Value::to_string).collect();
        format!("the queue [{}]", values.join(" "))
    }
}

/// A queue that gives values in any order: a bag. Source: Knossos's `unordered-queue`.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnorderedQueue;

impl Model for UnorderedQueue {
    type Input = QueueInput;
    type Output = QueueOutput;
    /// How often each value is in it.
    type State = BTreeMap<Value, u32>;

    fn init(&self) -> BTreeMap<Value, u32> {
        BTreeMap::new()
    }

    /// A dequeue of unknown outcome takes nothing here: what it may have taken nobody can tell. See
    /// [`total_queue`](crate::direct::total_queue) for histories with many of those.
    fn step(
        &self,
        state: &BTreeMap<Value, u32>,
        input: &QueueInput,
        output: Option<&QueueOutput>,
    ) -> Option<BTreeMap<Value, u32>> {
        let mut state = state.clone();
        match (input, output) {
            (QueueInput::Enqueue(value), _) => *state.entry(value.clone()).or_default() += 1,
            (QueueInput::Dequeue, Some(QueueOutput::Value(Some(value)))) => {
                let count = state.get_mut(value)?;
                *count -= 1;
                if *count == 0 {
                    state.remove(value);
                }
            }
            (QueueInput::Dequeue, Some(_)) if !state.is_empty() => return None,
            (QueueInput::Dequeue, _) => {}
        }
        Some(state)
    }

    fn is_read(&self, input: &QueueInput, output: Option<&QueueOutput>) -> bool {
        found_nothing(input, output)
    }

    fn describe(&self, input: &QueueInput, output: Option<&QueueOutput>) -> String {
        describe(input, output)
    }

    fn values(
        &self,
        input: &QueueInput,
        output: Option<&QueueOutput>,
        visit: &mut dyn FnMut(&dyn Debug),
    ) -> bool {
        values(input, output, visit)
    }

    fn describe_state(&self, state: &BTreeMap<Value, u32>) -> String {
        let values: Vec<String> = state.iter().map(|(value, count)| format!("{count}×{value}")).collect();
        format!("the queue with {}", if values.is_empty() { "nothing".to_owned() } else { values.join(", ") })
    }
}

fn found_nothing(input: &QueueInput, output: Option<&QueueOutput>) -> bool {
    *input == QueueInput::Dequeue && output == Some(&QueueOutput::Value(None))
}

/// A value matters to nobody but to those who put it in or took it out.
fn values(input: &QueueInput, output: Option<&QueueOutput>, visit: &mut dyn FnMut(&dyn Debug)) -> bool {
    match (input, output) {
        (QueueInput::Enqueue(value), _) | (_, Some(QueueOutput::Value(Some(value)))) => visit(value),
        _ => {}
    }
    true
}

fn describe(input: &QueueInput, output: Option<&QueueOutput>) -> String {
    match (input, output) {
        (QueueInput::Enqueue(value), Some(_)) => format!("put {value} in"),
        (QueueInput::Enqueue(value), None) => format!("may have put {value} in"),
        (QueueInput::Dequeue, Some(QueueOutput::Value(Some(value)))) => format!("took {value} out"),
        (QueueInput::Dequeue, Some(_)) => "found the queue empty".to_owned(),
        (QueueInput::Dequeue, None) => "may have taken something out".to_owned(),
    }
}
