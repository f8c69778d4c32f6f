//! Jepsen's events as JSON: an array of objects, or objects one after the other.

use super::jepsen::{Answer, Ask, Event, Pairs, event};
use super::{FormatError, ReadOptions, quick};
use crate::history::History;
use crate::value::Value;

/// Reads a history.
pub fn history(text: &str, options: ReadOptions) -> Result<History<Ask, Answer>, FormatError> {
    let mut pairs = Pairs::new(options);
    if text.trim_start().starts_with('[') {
        let values: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|error| locate(&error, 0))?;
        for (index, value) in values.into_iter().enumerate() {
            let why = |why| FormatError::at_line(1, format!("element {index}: {why}"));
            pairs.push(event(&convert(value), index + 1).map_err(why)?)?;
        }
        return pairs.finish();
    }
    let (mut at, mut index) = (0, 0);
    while at < text.len() {
        if let Some((event, next)) = quick::event(text, at, index + 1) {
            pairs.push(event)?;
            at = next;
        } else {
            let (line, next) = line_at(text, at);
            if let Some(event) = read_line(line, index)? {
                pairs.push(event)?;
            }
            at = next;
        }
        index += 1;
    }
    pairs.finish()
}

fn read_line(line: &str, index: usize) -> Result<Option<Event<'static>>, FormatError> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| locate(&error, index))?;
    event(&convert(value), index + 1).map(Some).map_err(|why| FormatError::at_line(index + 1, why))
}

/// The line that begins at a byte of a text, and where the next one does.
pub(super) fn line_at(text: &str, at: usize) -> (&str, usize) {
    let line = text[at..].lines().next().unwrap_or_default();
    let end = at + line.len();
    let newline = text.as_bytes()[end..].iter().position(|byte| *byte == b'\n');
    (line, newline.map_or(text.len(), |newline| end + newline + 1))
}

/// The place of a JSON error, in a text that begins `skipped` lines into the file.
pub(crate) fn locate(error: &serde_json::Error, skipped: usize) -> FormatError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    FormatError { line: skipped + error.line().max(1), column: error.column().max(1), message }
}

/// JSON has no keywords: strings stay strings. Its nesting was bounded by its reader.
pub(super) fn convert(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Number(number.to_string().into()),
        },
        serde_json::Value::String(text) => Value::Text(text.into()),
        serde_json::Value::Array(values) => Value::List(values.into_iter().map(convert).collect()),
        serde_json::Value::Object(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (Value::text(&key), convert(value))).collect())
        }
    }
}

/// The other way round; what JSON cannot say becomes a string.
pub(super) fn revert(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Number(text) | Value::Text(text) | Value::Keyword(text) | Value::Symbol(text) => {
            (&**text).into()
        }
        Value::List(values) | Value::Set(values) => values.iter().map(revert).collect(),
        Value::Map(entries) => {
            let entry = |(key, value): &(Value, Value)| (super::jepsen::plain_text(key), revert(value));
            serde_json::Value::Object(entries.iter().map(entry).collect())
        }
    }
}
