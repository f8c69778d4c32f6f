//! Jepsen's events, and the operations that they pair up to.
//!
//! A process invokes an operation and later completes it with `ok`, `fail` or `info`:
//!
//! * `ok` happened, `fail` did not;
//! * `info`, or no completion, may have happened. Such a process never acts again under its number.
//!
//! Whether a failed operation still tells something (a compare-and-set that failed was an observation) is for
//! the model to say, so failed operations are kept here.

use std::borrow::Cow;

use super::{FormatError, ReadOptions};
use crate::hash::FastMap;
use crate::history::{History, Operation, Returned};
use crate::value::Value;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'t> {
    /// Who; `None` for the nemesis and others that are not clients.
    pub process: Option<i64>,
    /// What happened.
    pub kind: EventKind,
    /// Which operation.
    pub f: Cow<'t, str>,
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
pub(super) fn event(value: &Value, line: usize) -> Result<Event<'static>, String> {
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
        f: Cow::Owned(value.field("f").map(plain_text).unwrap_or_default()),
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

/// Pairs invocations with completions, event by event. The time of an event is its number in the file, counted
/// from one: Jepsen writes events in the order in which they happened, which says more than clocks that may show
/// equal times.
pub struct Pairs<'t> {
    options: ReadOptions,
    history: History<Ask, Answer>,
    pending: Pending,
    /// How many events have been looked at.
    count: u64,
    /// All events, as long as none has named its process.
    nobodys: Vec<Event<'t>>,
    is_anybodys: bool,
}

impl<'t> Pairs<'t> {
    /// No event yet.
    #[must_use]
    pub fn new(options: ReadOptions) -> Self {
        let (history, pending) = (History::new(), Pending::default());
        Pairs { options, history, pending, count: 0, nobodys: Vec::new(), is_anybodys: false }
    }

    /// The next event.
    #[inline]
    pub fn push(&mut self, event: Event<'t>) -> Result<(), FormatError> {
        if !self.is_anybodys {
            if event.process.is_none() {
                self.nobodys.push(event);
                return Ok(());
            }
            self.is_anybodys = true;
            std::mem::take(&mut self.nobodys).into_iter().try_for_each(|event| self.add(event))?;
        }
        self.add(event)
    }

    /// The operations of all events.
    pub fn finish(mut self) -> Result<History<Ask, Answer>, FormatError> {
        let mut nobodys = std::mem::take(&mut self.nobodys);
        find_processes(&mut nobodys);
        nobodys.into_iter().try_for_each(|event| self.add(event))?;
        Ok(self.history)
    }

    fn add(&mut self, event: Event<'t>) -> Result<(), FormatError> {
        self.count += 1;
        let at = self.count;
        let Some(process) = event.process.or(self.options.lenient.then_some(-1)) else { return Ok(()) };
        match event.kind {
            EventKind::Invoke => {
                let pending = (self.history.operations.len(), event.line);
                if let Some((_, line)) = self.pending.insert(process, pending) {
                    let why =
                        format!("process {process} invokes while its operation of line {line} is pending");
                    return Err(FormatError::at_line(event.line, why));
                }
                let input = ask(event, self.options)?;
                let process = process.unsigned_abs();
                self.history.operations.push(Operation { process, call: at, input, returned: None });
            }
            EventKind::Ok | EventKind::Fail => {
                let ok = event.kind == EventKind::Ok;
                let index = match self.pending.remove(process) {
                    Some((index, line)) => {
                        check_same(&self.history.operations[index].input, &event, line)?;
                        index
                    }
                    None if self.options.lenient => {
                        let input = ask(event.clone(), self.options)?;
                        let process = process.unsigned_abs();
                        self.history.operations.push(Operation { process, call: at, input, returned: None });
                        self.history.operations.len() - 1
                    }
                    None => {
                        let why = format!("process {process} completes what it did not invoke");
                        return Err(FormatError::at_line(event.line, why));
                    }
                };
                let value = without_key(event, self.options)?;
                self.history.operations[index].returned = Some(Returned { at, output: Answer { ok, value } });
            }
            // Logs have `info` events of other things than operations, too. The operation stays pending:
            // whoever invokes again under this number is at fault.
            EventKind::Info => {}
        }
        Ok(())
    }
}

/// What each process waits for: its operation, and the line that invoked it.
#[derive(Default)]
struct Pending {
    /// By process, as long as their numbers are small.
    few: Vec<Option<(usize, usize)>>,
    others: FastMap<i64, (usize, usize)>,
}

impl Pending {
    /// Gives what the process waited for already, if it did.
    fn insert(&mut self, process: i64, operation: (usize, usize)) -> Option<(usize, usize)> {
        let Some(place) = Self::place(process) else { return self.others.insert(process, operation) };
        if self.few.len() <= place {
            self.few.resize(place + 1, None);
        }
        self.few[place].replace(operation)
    }

    fn remove(&mut self, process: i64) -> Option<(usize, usize)> {
        match Self::place(process) {
            Some(place) => self.few.get_mut(place)?.take(),
            None => self.others.remove(&process),
        }
    }

    fn place(process: i64) -> Option<usize> {
        usize::try_from(process).ok().filter(|place| *place < FEW)
    }
}

/// Processes below this number are few.
const FEW: usize = 1 << 16;

/// Gives processes to the events of a history that names none. A completion belongs to the latest operation
/// of its name that is pending, one with the same value first.
fn find_processes(events: &mut [Event<'_>]) {
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

fn check_same(input: &Ask, event: &Event<'_>, line: usize) -> Result<(), FormatError> {
    if input.f == event.f {
        return Ok(());
    }
    let why = format!("expected the completion of {} from line {line}, found that of {}", input.f, event.f);
    Err(FormatError::at_line(event.line, why))
}

fn ask(event: Event<'_>, options: ReadOptions) -> Result<Ask, FormatError> {
    let Event { f, key, value, line, .. } = event;
    let (key, value) = match key {
        Some(key) => (Some(plain_text(&key)), value),
        None if options.independent => {
            let (key, value) = split(&value, line)?;
            (Some(plain_text(key)), value.clone())
        }
        None => (None, value),
    };
    Ok(Ask { f: f.into_owned(), key, value })
}

fn without_key(event: Event<'_>, options: ReadOptions) -> Result<Value, FormatError> {
    if options.independent && event.key.is_none() {
        return Ok(split(&event.value, event.line)?.1.clone());
    }
    Ok(event.value)
}

fn split(value: &Value, line: usize) -> Result<(&Value, &Value), FormatError> {
    let why = || format!("expected a pair of key and value, found {}", shorten(value));
    value.pair().ok_or_else(|| FormatError::at_line(line, why()))
}
