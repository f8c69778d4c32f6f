//! Jepsen's log: `INFO  jepsen.util - <process> :<type> :<f> <value>`, blanks or tabs in between. All other
//! lines are something else's and are skipped.

use super::FormatError;
use super::edn;
use super::jepsen::{Event, EventKind};
use crate::value::Value;

/// Reads the events of a log. At least one line must be an event.
pub fn events(text: &str) -> Result<Vec<Event>, FormatError> {
    let mut events = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some((_, rest)) = line.split_once("jepsen.util - ") {
            events.extend(event(rest, index + 1, line)?);
        }
    }
    if events.is_empty() {
        return Err(FormatError::at_line(1, "expected a line with \"jepsen.util - \", found none"));
    }
    Ok(events)
}

/// Reads what follows the logger's name; `None` if it is not about a client's operation.
fn event(text: &str, line: usize, whole: &str) -> Result<Option<Event>, FormatError> {
    let mut rest = text;
    let mut word = || {
        let trimmed = rest.trim_start();
        let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
        let word = &trimmed[..end];
        rest = &trimmed[end..];
        word
    };
    let (process, kind, f) = (word(), word(), word());
    let Ok(process) = process.parse() else { return Ok(None) };
    let kind = match kind {
        ":invoke" => EventKind::Invoke,
        ":ok" => EventKind::Ok,
        ":fail" => EventKind::Fail,
        ":info" => EventKind::Info,
        other => {
            let why = format!("expected :invoke, :ok, :fail or :info, found {other:?}");
            return Err(FormatError::at_line(line, why));
        }
    };
    // What an unknown or failed operation ends with is for people.
    let value = match kind {
        EventKind::Invoke | EventKind::Ok => {
            let offset = whole[..whole.len() - rest.len()].chars().count();
            edn::read(rest).map_err(|error| FormatError { line, column: error.column + offset, ..error })?
        }
        EventKind::Fail | EventKind::Info => Value::Nil,
    };
    let f = f.trim_start_matches(':').to_owned();
    Ok(Some(Event { process: Some(process), kind, f, key: None, value, line }))
}
