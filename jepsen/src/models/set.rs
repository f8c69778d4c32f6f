//! A set: `add`, `remove`, `contains`, and `read` of all elements, linearizable.

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::model::Model;
use crate::value::Value;

/// A set, empty at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Set;

/// What can be asked of a set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetInput {
    /// Puts an element in; it may be there already.
    Add(Value),
    /// Takes an element out; it may be gone already.
    Remove(Value),
    /// Asks for an element.
    Contains(Value),
    /// Asks for all elements.
    Read,
}

/// What a set answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetOutput {
    /// To `add` and `remove`.
    Done,
    /// To `contains`.
    Contains(bool),
    /// To `read`: the elements, sorted.
    Elements(Vec<Value>),
}

impl Model for Set {
    type Input = SetInput;
    type Output = SetOutput;
    type State = BTreeSet<Value>;

    fn init(&self) -> BTreeSet<Value> {
        BTreeSet::new()
    }

    fn step(
        &self,
        state: &BTreeSet<Value>,
        input: &SetInput,
        output: Option<&SetOutput>,
    ) -> Option<BTreeSet<Value>> {
        let mut state = state.clone();
        match (input, output) {
            (SetInput::Add(element), _) => {
                state.insert(element.clone());
            }
            (SetInput::Remove(element), _) => {
                state.remove(element);
            }
            (SetInput::Contains(element), Some(SetOutput::Contains(seen)))
                if state.contains(element) != *seen =>
            {
                return None;
            }
            (SetInput::Read, Some(SetOutput::Elements(seen))) if !state.iter().eq(seen) => return None,
            _ => {}
        }
        Some(state)
    }

    fn is_read(&self, input: &SetInput, _: Option<&SetOutput>) -> bool {
        matches!(input, SetInput::Contains(_) | SetInput::Read)
    }

    fn values(
        &self,
        input: &SetInput,
        output: Option<&SetOutput>,
        visit: &mut dyn FnMut(&dyn Debug),
    ) -> bool {
        match (input, output) {
            (SetInput::Add(element) | SetInput::Remove(element) | SetInput::Contains(element), _) => {
                visit(element)
            }
            (_, Some(SetOutput::Elements(seen))) => seen.iter().for_each(|element| visit(element)),
            _ => {}
        }
        true
    }

    fn describe(&self, input: &SetInput, output: Option<&SetOutput>) -> String {
        let may = if output.is_some() { "" } else { "may have " };
        match (input, output) {
            (SetInput::Add(element), _) => format!("{may}added {element}"),
            (SetInput::Remove(element), _) => format!("{may}removed {element}"),
            (SetInput::Contains(element), Some(SetOutput::Contains(true))) => format!("found {element}"),
            (SetInput::Contains(element), Some(_)) => format!("did not find {element}"),
            (SetInput::Read, Some(SetOutput::Elements(seen))) => format!("read {}", Value::Set(seen.clone())),
            _ => "read without an answer".to_owned(),
        }
    }

    fn describe_state(&self, state: &BTreeSet<Value>) -> String {
        Value::Set(state.iter().cloned().collect()).to_string()
    }
}
