//! Transactions of sessions without times, as checkers of weak isolation write them.
//!
//! Two texts are read. The one of AWDIT's tests: `w key value` and `r key value`, one per line, `-----`
//! between transactions and `=====` between sessions. The one of Plume and PolySI:
//! `w(key,value,session,transaction)` and `r(…)`, one per line; a transaction is a maximal run of equal
//! session and transaction. And the JSON of dbcop: a list of sessions, each a list of transactions
//! `{"events": [{"Write": {"variable": 1, "version": 2}}, {"Read": {"variable": 1, "version": null}}],
//! "committed": true}`, bare or in the field `data` or `sessions` of an object.
//!
//! What is read becomes operations `txn` of processes that are the sessions. Times only order each session:
//! transactions of different sessions have none in common.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::jepsen::{Answer, Ask};
use super::{FormatError, json};
use crate::history::{History, Operation, Returned};
use crate::value::Value;

/// Reads either text.
pub fn read_text(text: &str) -> Result<History<Ask, Answer>, FormatError> {
    let mut sessions = Sessions::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let wrong = |why: &str| FormatError::at_line(number + 1, format!("{why}, found {line:?}"));
        if line.is_empty() {
            continue;
        }
        if line.bytes().all(|byte| byte == b'-') && line.len() >= 3 {
            sessions.transaction += 1;
        } else if line.bytes().all(|byte| byte == b'=') && line.len() >= 3 {
            sessions.session += 1;
        } else if let Some((head, rest)) = line.split_once('(') {
            let parts: Vec<&str> =
                rest.strip_suffix(')').unwrap_or_default().split(',').map(str::trim).collect();
            let [key, value, session, transaction] = parts.as_slice() else {
                return Err(wrong("expected w(key,value,session,transaction) or r(…)"));
            };
            let (Ok(session), Ok(transaction)) = (session.parse(), transaction.parse()) else {
                return Err(wrong("expected the numbers of a session and a transaction"));
            };
            (sessions.session, sessions.transaction) = (session, transaction);
            sessions.step(head, key, value).map_err(|why| wrong(&why))?;
        } else {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let [head, key, value] = parts.as_slice() else {
                return Err(wrong("expected w key value, r key value, ----- or ====="));
            };
            sessions.step(head, key, value).map_err(|why| wrong(&why))?;
        }
    }
    Ok(sessions.finish())
}

/// Whether this is a line of one of the texts.
pub(super) fn is_line(line: &str) -> bool {
    let mut words = line.split([' ', '\t', '(']);
    matches!(words.next(), Some("r" | "w")) && words.next().is_some_and(|key| !key.is_empty())
}

#[derive(Default)]
struct Sessions {
    session: u64,
    transaction: u64,
    /// Which transaction the last step belonged to.
    last: Option<(u64, u64)>,
    operations: Vec<(u64, Vec<Value>)>,
}

impl Sessions {
    fn step(&mut self, head: &str, key: &str, value: &str) -> Result<(), String> {
        if !matches!(head, "r" | "w") {
            return Err("expected r or w".to_owned());
        }
        if self.last.replace((self.session, self.transaction)) != Some((self.session, self.transaction)) {
            self.operations.push((self.session, Vec::new()));
        }
        let (_, steps) = self.operations.last_mut().expect("one was pushed");
        steps.push(Value::List(vec![Value::Keyword(head.into()), atom(key), atom(value)]));
        Ok(())
    }

    fn finish(self) -> History<Ask, Answer> {
        let operations = self.operations.into_iter();
        history(operations.map(|(session, steps)| (session, steps, true)))
    }
}

fn atom(text: &str) -> Value {
    match text {
        "nil" | "null" | "none" | "?" => Value::Nil,
        text => text.parse().map_or_else(|_| Value::text(text), Value::Int),
    }
}

fn history(transactions: impl Iterator<Item = (u64, Vec<Value>, bool)>) -> History<Ask, Answer> {
    let mut length: BTreeMap<u64, u64> = BTreeMap::new();
    let mut history = History::new();
    for (session, steps, ok) in transactions {
        let before = length.entry(session).or_default();
        let (call, at) = (*before * 2, *before * 2 + 1);
        *before += 1;
        let value = Value::List(steps);
        history.operations.push(Operation {
            process: session,
            call,
            input: Ask { f: "txn".to_owned(), key: None, value: value.clone() },
            returned: Some(Returned { at, output: Answer { ok, value } }),
        });
    }
    history
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DbcopFile {
    Bare(Vec<Vec<DbcopTransaction>>),
    Named {
        #[serde(alias = "data")]
        sessions: Vec<Vec<DbcopTransaction>>,
    },
}

#[derive(Deserialize)]
struct DbcopTransaction {
    events: Vec<DbcopEvent>,
    #[serde(default = "yes", alias = "success")]
    committed: bool,
}

#[derive(Deserialize)]
enum DbcopEvent {
    #[serde(alias = "write")]
    Write { variable: i64, version: i64 },
    #[serde(alias = "read")]
    Read { variable: i64, version: Option<i64> },
}

fn yes() -> bool {
    true
}

/// Reads dbcop's JSON.
pub fn read_dbcop(text: &str) -> Result<History<Ask, Answer>, FormatError> {
    let file: DbcopFile = serde_json::from_str(text).map_err(|error| json::locate(&error, 0))?;
    let (DbcopFile::Bare(sessions) | DbcopFile::Named { sessions }) = file;
    let transactions = sessions.into_iter().enumerate().flat_map(|(session, transactions)| {
        transactions.into_iter().map(move |transaction| {
            let step = |event: DbcopEvent| {
                let (head, key, value) = match event {
                    DbcopEvent::Write { variable, version } => ("w", variable, Value::Int(version)),
                    DbcopEvent::Read { variable, version } => {
                        ("r", variable, version.map_or(Value::Nil, Value::Int))
                    }
                };
                Value::List(vec![Value::Keyword(head.into()), Value::Int(key), value])
            };
            (session as u64, transaction.events.into_iter().map(step).collect(), transaction.committed)
        })
    });
    Ok(history(transactions))
}

/// Writes transactions of sessions as AWDIT's text. Nil: they are not reads and writes of values only.
#[must_use]
pub fn write_text(history: &History<Ask, Answer>) -> Option<String> {
    let mut sessions: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for operation in &history.operations {
        let Some(Value::List(steps)) =
            operation.output().filter(|answer| answer.ok).map(|answer| &answer.value)
        else {
            continue;
        };
        let mut lines = Vec::new();
        for step in steps {
            let Value::List(parts) = step else { return None };
            let [head, key, value] = parts.as_slice() else { return None };
            let head = match head.name()? {
                "r" | "read" => "r",
                "w" | "write" => "w",
                _ => return None,
            };
            lines.push(format!("{head} {} {}\n", word(key)?, word(value)?));
        }
        sessions.entry(operation.process).or_default().push(lines.concat());
    }
    let sessions: Vec<String> = sessions.into_values().map(|session| session.join("-----\n")).collect();
    Some(sessions.join("=====\n"))
}

/// A value that the text can hold.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::Int(number) => Some(number.to_string()),
        Value::Nil => Some("nil".to_owned()),
        other => other.name().filter(|name| !name.contains([' ', '(', '\n', '#'])).map(str::to_owned),
    }
}
