//! Our own files: one JSON object per line.
//!
//! # Operations by name
//!
//! ```json
//! {"process":0,"call":10,"return":25,"f":"write","key":"x","value":5,"output":null}
//! {"process":1,"call":12,"f":"cas","key":"x","value":[5,6]}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `process` | who, a number |
//! | `call`, `return` | when, whole numbers of any unit on one clock; without `return` the outcome is unknown |
//! | `f` | the operation's name, as the model knows it |
//! | `key` | the part of the object, if it has parts |
//! | `value` | what is asked |
//! | `output` | what was answered; for a read, what it found |
//! | `failed` | true: it returned, and certainly did not happen |
//!
//! # etcd's operations and watches
//!
//! ```json
//! {"process":0,"call":10,"return":25,"request":{"put":{"key":"k","value":"v"}},"response":{"revision":2,"result":{"Ok":{"put":{}}}}}
//! {"process":1,"call":30,"request":{"range":{"key":"k"}}}
//! {"watch":{"process":9,"request":{"key":"k","start_revision":1},"responses":[{"at":40,"revision":2,"events":[{"kv":{"key":"k","value":"v","create_revision":2,"mod_revision":2,"version":1}}]}]}}
//! ```
//!
//! Requests and responses have the fields of etcd's protocol in snake case, see [`crate::etcd`]. What has its
//! default is left out. Bytes that are not UTF-8 are written `{"hex":"00ff"}`.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::FormatError;
use super::jepsen::{Answer, Ask};
use super::json;
use crate::etcd::{EtcdHistory, Request, Response, Sharing, WatchStream};
use crate::history::{History, Operation, Returned};

#[derive(Serialize, Deserialize)]
struct NamedLine {
    process: u64,
    call: u64,
    #[serde(default, rename = "return", skip_serializing_if = "Option::is_none")]
    returned: Option<u64>,
    f: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default)]
    value: serde_json::Value,
    #[serde(default)]
    output: serde_json::Value,
    #[serde(default, skip_serializing_if = "is_false")]
    failed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Serialize, Deserialize)]
struct EtcdLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watch: Option<WatchStream>,
    #[serde(default)]
    process: u64,
    #[serde(default)]
    call: u64,
    #[serde(default, rename = "return", skip_serializing_if = "Option::is_none")]
    returned: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<Request>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<Response>,
}

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
}

fn check_times(index: usize, call: u64, returned: Option<u64>) -> Result<(), FormatError> {
    match returned {
        Some(at) if at < call => {
            let why = format!("expected a return at or after the call at {call}, found {at}");
            Err(FormatError::at_line(index + 1, why))
        }
        _ => Ok(()),
    }
}

/// Reads operations by name.
pub fn read_named(text: &str) -> Result<History<Ask, Answer>, FormatError> {
    let mut history = History::new();
    for (index, line) in lines(text) {
        let line: NamedLine = serde_json::from_str(line).map_err(|error| json::locate(&error, index))?;
        check_times(index, line.call, line.returned)?;
        let output = Answer { ok: !line.failed, value: json::convert(line.output) };
        history.operations.push(Operation {
            process: line.process,
            call: line.call,
            input: Ask { f: line.f, key: line.key, value: json::convert(line.value) },
            returned: line.returned.map(|at| Returned { at, output }),
        });
    }
    Ok(history)
}

/// Writes operations by name.
pub fn write_named(history: &History<Ask, Answer>, mut to: impl Write) -> io::Result<()> {
    for operation in &history.operations {
        let output = operation.output();
        let line = NamedLine {
            process: operation.process,
            call: operation.call,
            returned: operation.returned.as_ref().map(|returned| returned.at),
            f: operation.input.f.clone(),
            key: operation.input.key.clone(),
            value: json::revert(&operation.input.value),
            output: output.map(|answer| json::revert(&answer.value)).unwrap_or_default(),
            failed: output.is_some_and(|answer| !answer.ok),
        };
        serde_json::to_writer(&mut to, &line)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads etcd's operations and watches.
pub fn read_etcd(text: &str) -> Result<EtcdHistory, FormatError> {
    let _sharing = Sharing::begin();
    let mut history = EtcdHistory::default();
    for (index, line) in lines(text) {
        let line: EtcdLine = serde_json::from_str(line).map_err(|error| json::locate(&error, index))?;
        if let Some(watch) = line.watch {
            history.watches.push(watch);
            continue;
        }
        check_times(index, line.call, line.returned)?;
        let Some(input) = line.request else {
            return Err(FormatError::at_line(index + 1, "expected the field \"request\" or \"watch\""));
        };
        let returned = match (line.returned, line.response) {
            (Some(at), Some(output)) => Some(Returned { at, output }),
            (None, None) => None,
            _ => {
                let why = "expected the fields \"return\" and \"response\" together, found only one";
                return Err(FormatError::at_line(index + 1, why));
            }
        };
        let (process, call) = (line.process, line.call);
        history.operations.operations.push(Operation { process, call, input, returned });
    }
    Ok(history)
}

/// Writes etcd's operations and watches.
pub fn write_etcd(history: &EtcdHistory, mut to: impl Write) -> io::Result<()> {
    for operation in &history.operations.operations {
        let line = EtcdLine {
            watch: None,
            process: operation.process,
            call: operation.call,
            returned: operation.returned.as_ref().map(|returned| returned.at),
            request: Some(operation.input.clone()),
            response: operation.output().cloned(),
        };
        serde_json::to_writer(&mut to, &line)?;
        to.write_all(b"\n")?;
    }
    for watch in &history.watches {
        serde_json::to_writer(&mut to, &serde_json::json!({ "watch": watch }))?;
        to.write_all(b"\n")?;
    }
    Ok(())
}
