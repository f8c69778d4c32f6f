//! A map of strings: put, append and get. One part per key.

use std::fmt::Debug;

use crate::model::Model;

/// A map of strings; what was never written is the empty string.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyValue;

/// What can be asked of the map: key first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyValueInput {
    /// Reads.
    Get(String),
    /// Writes.
    Put(String, String),
    /// Writes behind what is there.
    Append(String, String),
}

/// The answer is the value that a get found; other answers are `None`.
impl Model for KeyValue {
    type Input = KeyValueInput;
    type Output = Option<String>;
    type State = String;

    fn init(&self) -> String {
        String::new()
    }

    fn step(&self, state: &String, input: &KeyValueInput, output: Option<&Option<String>>) -> Option<String> {
        match (input, output) {
            (KeyValueInput::Get(_), Some(Some(seen))) => (seen == state).then(|| state.clone()),
            (KeyValueInput::Get(_), _) => Some(state.clone()),
            (KeyValueInput::Put(_, value), _) => Some(value.clone()),
            (KeyValueInput::Append(_, value), _) => Some([state.as_str(), value].concat()),
        }
    }

    fn is_read(&self, input: &KeyValueInput, _: Option<&Option<String>>) -> bool {
        matches!(input, KeyValueInput::Get(_))
    }

    fn partition_key<'a>(&self, input: &'a KeyValueInput) -> Option<&'a str> {
        let (KeyValueInput::Get(key) | KeyValueInput::Put(key, _) | KeyValueInput::Append(key, _)) = input;
        Some(key)
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    /// Appends only lengthen: what is not a prefix of the answer never becomes it without a put.
    fn is_on_the_way(&self, state: &String, _: &KeyValueInput, output: &Option<String>) -> bool {
        output.as_ref().is_none_or(|seen| seen.starts_with(state.as_str()))
    }

    fn produces(
        &self,
        write: (&KeyValueInput, Option<&Option<String>>),
        read: (&KeyValueInput, &Option<String>),
    ) -> bool {
        match (write.0, read.1) {
            (KeyValueInput::Put(_, value), Some(seen)) => seen.starts_with(value.as_str()),
            _ => false,
        }
    }

    /// A text that no get's answer begins with is lost for good, however it goes on; a put replaces any text.
    fn unseen_states_are_alike(&self) -> bool {
        true
    }

    fn describe(&self, input: &KeyValueInput, output: Option<&Option<String>>) -> String {
        match input {
            KeyValueInput::Get(_) => match output {
                Some(Some(value)) => format!("read {value:?}"),
                _ => "read without an answer".to_owned(),
            },
            KeyValueInput::Put(_, value) => format!("wrote {value:?}"),
            KeyValueInput::Append(_, value) => format!("appended {value:?}"),
        }
    }
}
