//! Jepsen's events, and the operations that they pair up to.
//!
//! A process invokes an operation and later completes it with `ok`, `fail` or `info`:
//!
//! * `ok` happened, `fail` did not;
//! * `info`, or no completion, may have happened. Such a process never acts again under its number.
//!
//! Whether a failed operation still tells something (a compare-and-set that failed was an observation) is for
//! the model to say, so failed operations are kept here.

use super::{FormatError, ReadOptions};
use crate::hash::FastMap;
use crate::history::{History, Operation, Returned};
use crate::value::Value;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who; `None` for the nemesis and others that are not clients.
    pub process: Option<i64>,
    /// What happened.
    pub kind: EventKind,
    /// Which operation.
    pub f: String,
    /// The key, if the format has a field for it.
    pub key: Option<Value>,
    /// What it is about.
    pub value: Value,
    /// Where in the file.
    pub line: usize,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An operation began.
    Invoke,
    /// It happened.
    Ok,
    /// It did not happen.
    Fail,
    /// It may have happened, now or later.
    Info,
}

/// What an operation asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Which operation.
    pub f: String,
    /// The key, if there is one.
    pub key: Option<String>,
    /// What it is about.
    pub value: Value,
}

/// What an operation was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Whether it happened.
    pub ok: bool,
    /// What it found.
    pub value: Value,
}

/// Makes an event of a map.
pub(super) fn event(value: &Value, line: usize) -> Result<Event, String> {
    let Value::Map(_) = value else { return Err(format!("expected a map, found {}", shorten(value))) };
    let kind = value.field("type").and_then(Value::name);
    let kind = match kind {
        Some("invoke") => EventKind::Invoke,
        Some("ok") => EventKind::Ok,
        Some("fail") => EventKind::Fail,
        Some("info") => EventKind::Info,
        _ => return Err("expected :type to be :invoke, :ok, :fail or :info".to_owned()),
    };
    let process = match value.field("process") {
        Some(Value::Int(process)) => Some(*process),
        _ => None,
    };
    Ok(Event {
        process,
        kind,
        f: value.field("f").map(plain_text).unwrap_or_default(),
        key: value.field("key").cloned(),
        value: value.field("value").cloned().unwrap_or_default(),
        line,
    })
}

/// A name without its colon or quotes, anything else as EDN.
pub(crate) fn plain_text(value: &Value) -> String {
    value.name().map_or_else(|| value.to_string(), str::to_owned)
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Pairs invocations with completions. The time of an event is its number in the file, counted from one:
/// Jepsen writes events in the order in which they happened, which says more than clocks that may show equal
/// times.
pub fn pair(events: Vec<Event>, options: ReadOptions) -> Result<History<Ask, Answer>, FormatError> {
    let mut history: History<Ask, Answer> = History::new();
    let mut pending: FastMap<i64, (usize, usize)> = FastMap::default();
    let mut events = events;
    if events.iter().all(|event| event.process.is_none()) {
        find_processes(&mut events);
    }
    for (order, event) in events.into_iter().enumerate() {
        let at = order as u64 + 1;
        let Some(process) = event.process.or(options.lenient.then_some(-1)) else { continue };
        match event.kind {
            EventKind::Invoke => {
                if let Some((_, line)) = pending.get(&process) {
                    let why =
                        format!("process {process} invokes while its operation of line {line} is pending");
                    return Err(FormatError::at_line(event.line, why));
                }
                pending.insert(process, (history.operations.len(), event.line));
                history.operations.push(Operation {
                    process: process.unsigned_abs(),
                    call: at,
                    input: ask(event, options)?,
                    returned: None,
                });
            }
            EventKind::Ok | EventKind::Fail => {
                let ok = event.kind == EventKind::Ok;
                let index = match pending.remove(&process) {
                    Some((index, line)) => {
                        check_same(&history.operations[index].input, &event, line)?;
                        index
                    }
                    None if options.lenient => {
                        let input = ask(event.clone(), options)?;
                        let process = process.unsigned_abs();
                        history.operations.push(Operation { process, call: at, input, returned: None });
                        history.operations.len() - 1
                    }
                    None => {
                        let why = format!("process {process} completes what it did not invoke");
                        return Err(FormatError::at_line(event.line, why));
                    }
                };
                let value = without_key(event, options)?;
                history.operations[index].returned = Some(Returned { at, output: Answer { ok, value } });
            }
            // Logs have `info` events of other things than operations, too. The operation stays pending:
            // whoever invokes again under this number is at fault.
            EventKind::Info => {}
        }
    }
    Ok(history)
}

/// Gives processes to the events of a history that names none. A completion belongs to the latest operation
/// of its name that is pending, one with the same value first.
fn find_processes(events: &mut [Event]) {
    let mut pending: Vec<usize> = Vec::new();
    for index in 0..events.len() {
        let (before, rest) = events.split_at_mut(index);
        let event = &mut rest[0];
        if event.kind == EventKind::Invoke {
            event.process = Some(index as i64);
            pending.push(index);
            continue;
        }
        let fits = |place: &usize| before[*place].f == event.f;
        let same = pending.iter().rposition(|place| fits(place) && before[*place].value == event.value);
        if let Some(found) = same.or_else(|| pending.iter().rposition(fits)) {
            event.process = before[pending.remove(found)].process;
        }
    }
}

fn check_same(input: &Ask, event: &Event, line: usize) -> Result<(), FormatError> {
    if input.f == event.f {
        return Ok(());
    }
    let why = format!("expected the completion of {} from line {line}, found that of {}", input.f, event.f);
    Err(FormatError::at_line(event.line, why))
}

fn ask(event: Event, options: ReadOptions) -> Result<Ask, FormatError> {
    let key = match &event.key {
        Some(key) => Some(plain_text(key)),
        None if options.independent => Some(plain_text(split(&event.value, event.line)?.0)),
        None => None,
    };
    let mut event = event;
    let f = std::mem::take(&mut event.f);
    Ok(Ask { f, key, value: without_key(event, options)? })
}

fn without_key(event: Event, options: ReadOptions) -> Result<Value, FormatError> {
    if options.independent && event.key.is_none() {
        return Ok(split(&event.value, event.line)?.1.clone());
    }
    Ok(event.value)
}

fn split(value: &Value, line: usize) -> Result<(&Value, &Value), FormatError> {
    let why = || format!("expected a pair of key and value, found {}", shorten(value));
    value.pair().ok_or_else(|| FormatError::at_line(line, why()))
}
