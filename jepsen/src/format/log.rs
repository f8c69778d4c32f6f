//! Jepsen's log: `INFO  jepsen.util - <process> :<type> :<f> <value>`, blanks or tabs in between. All other
//! lines are something else's and are skipped.

use super::jepsen::{Answer, Ask, Event, EventKind, Pairs};
use super::{FormatError, ReadOptions, edn};
use crate::history::History;
use crate::value::Value;

/// Reads the events of a log. At least one line must be an event.
pub fn history(text: &str, options: ReadOptions) -> Result<History<Ask, Answer>, FormatError> {
    let mut pairs = Pairs::new(options);
    let mut is_empty = true;
    for (index, line) in text.lines().enumerate() {
        // Where it nearly always is, and where else it may be.
        let rest = line.strip_prefix("INFO  jepsen.util - ");
        let Some(rest) = rest.or_else(|| line.split_once("jepsen.util - ").map(|(_, rest)| rest)) else {
            continue;
        };
        if let Some(event) = event(rest, index + 1, line)? {
            pairs.push(event)?;
            is_empty = false;
        }
    }
    if is_empty {
        return Err(FormatError::at_line(1, "expected a line with \"jepsen.util - \", found none"));
    }
    pairs.finish()
}

/// Reads what follows the logger's name; `None` if it is not about a client's operation.
fn event<'t>(text: &'t str, line: usize, whole: &str) -> Result<Option<Event<'t>>, FormatError> {
    let mut rest = text;
    let mut word = || {
        let start = rest.bytes().position(|byte| !is_blank(byte)).unwrap_or(rest.len());
        let length = rest[start..].bytes().position(is_blank).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        rest = &rest[start + length..];
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
        EventKind::Invoke | EventKind::Ok => edn::read(rest).map_err(|error| {
            let offset = whole[..whole.len() - rest.len()].chars().count();
            FormatError { line, column: error.column + offset, ..error }
        })?,
        EventKind::Fail | EventKind::Info => Value::Nil,
    };
    Ok(Some(Event {
        process: Some(process),
        kind,
        f: f.trim_start_matches(':').into(),
        key: None,
        value,
        line,
    }))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
