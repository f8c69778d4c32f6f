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
use super::json::line_at;
use super::{json, quick};
use crate::etcd::{EtcdHistory, Records, Request, Response, Sharing, WatchStream};
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
    let mut reader = NamedReader::default();
    reader.read(text)?;
    Ok(reader.finish())
}

/// Reads operations by name, some lines at a time.
#[derive(Default)]
pub struct NamedReader {
    history: History<Ask, Answer>,
    /// How many lines have been read.
    lines: usize,
}

impl NamedReader {
    /// Reads some whole lines.
    pub fn read(&mut self, text: &str) -> Result<(), FormatError> {
        let mut at = 0;
        while at < text.len() {
            if let Some((operation, next)) = quick::named(text, at) {
                self.history.operations.push(operation);
                at = next;
            } else {
                let (line, next) = line_at(text, at);
                self.read_line(line)?;
                at = next;
            }
            self.lines += 1;
        }
        Ok(())
    }

    /// What was read.
    #[must_use]
    pub fn finish(self) -> History<Ask, Answer> {
        self.history
    }

    /// What was read since the last time.
    pub fn take(&mut self) -> History<Ask, Answer> {
        std::mem::take(&mut self.history)
    }

    fn read_line(&mut self, line: &str) -> Result<(), FormatError> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let index = self.lines;
        let line: NamedLine = serde_json::from_str(line).map_err(|error| json::locate(&error, index))?;
        check_times(index, line.call, line.returned)?;
        let output = Answer { ok: !line.failed, value: json::convert(line.output) };
        self.history.operations.push(Operation {
            process: line.process,
            call: line.call,
            input: Ask { f: line.f, key: line.key, value: json::convert(line.value) },
            returned: line.returned.map(|at| Returned { at, output }),
        });
        Ok(())
    }
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
pub fn read_etcd(text: &str) -> Result<Records<'static>, FormatError> {
    let mut reader = EtcdReader::default();
    reader.read(text)?;
    Ok(reader.records)
}

/// Reads etcd's operations and watches, some lines at a time.
#[derive(Default)]
pub struct EtcdReader {
    records: Records<'static>,
    /// How many lines have been read.
    lines: usize,
}

impl EtcdReader {
    /// Reads some whole lines.
    pub fn read(&mut self, text: &str) -> Result<(), FormatError> {
        let _sharing = Sharing::begin();
        let mut at = 0;
        while at < text.len() {
            at = match quick::plain(text, at) {
                Some((plain, next)) if self.records.push_plain(&plain) => next,
                _ => {
                    let (line, next) = line_at(text, at);
                    self.read_line(line)?;
                    next
                }
            };
            self.lines += 1;
        }
        Ok(())
    }

    /// What was read.
    #[must_use]
    pub fn finish(self) -> Records<'static> {
        self.records
    }

    /// What was read since the last time.
    pub fn take(&mut self) -> Records<'static> {
        std::mem::take(&mut self.records)
    }

    fn read_line(&mut self, line: &str) -> Result<(), FormatError> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let index = self.lines;
        let line: EtcdLine = serde_json::from_str(line).map_err(|error| json::locate(&error, index))?;
        if let Some(watch) = line.watch {
            self.records.push_watch(watch);
            return Ok(());
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
        self.records.push(Operation { process: line.process, call: line.call, input, returned });
        Ok(())
    }
}

/// Writes etcd's operations and watches.
pub fn write_etcd(history: &EtcdHistory, mut to: impl Write) -> io::Result<()> {
    history.operations.operations.iter().try_for_each(|operation| write_operation(operation, &mut to))?;
    history.watches.iter().try_for_each(|watch| write_watch(watch, &mut to))
}

/// As [`write_etcd`], of records.
pub fn write_records(records: &Records<'_>, mut to: impl Write) -> io::Result<()> {
    (0..records.len()).try_for_each(|index| write_operation(&records.operation(index), &mut to))?;
    records.watches().iter().try_for_each(|watch| write_watch(watch, &mut to))
}

fn write_operation(operation: &Operation<Request, Response>, to: &mut impl Write) -> io::Result<()> {
    let line = EtcdLine {
        watch: None,
        process: operation.process,
        call: operation.call,
        returned: operation.returned.as_ref().map(|returned| returned.at),
        request: Some(operation.input.clone()),
        response: operation.output().cloned(),
    };
    serde_json::to_writer(&mut *to, &line)?;
    to.write_all(b"\n")
}

fn write_watch(watch: &WatchStream, to: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *to, &serde_json::json!({ "watch": watch }))?;
    to.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[&str] = &[
        r#"{"process":0,"call":10,"return":25,"request":{"put":{"key":"k","value":"v"}},"response":{"revision":2,"result":{"Ok":{"put":{"previous":null}}}}}"#,
        r#"{"process":7,"call":10,"return":25,"request":{"range":{"key":"key"}},"response":{"revision":1,"member":3,"result":{"Ok":{"range":{"kvs":[],"more":false,"count":0}}}}}"#,
        r#"{"call":10,"return":25,"request":{"range":{"key":"key"}},"response":{"revision":9,"result":{"Ok":{"range":{"kvs":[{"key":"key","value":"a long value","create_revision":2,"mod_revision":9,"version":4}],"more":false,"count":1}}}}}"#,
        r#"{ "return":25, "call":10,"process":1,"response":{"result":{"Ok":{"delete":{"deleted":1,"previous":[]}}},"revision":3},"request":{"delete":{"key":"k"}} } "#,
        r#"{"process":1,"call":1,"return":2,"request":{"txn":{"compares":[{"key":"k","result":"equal","target":{"mod":5}}],"success":[{"put":{"key":"k","value":"v"}}],"failure":[]}},"response":{"revision":6,"result":{"Ok":{"txn":{"succeeded":true,"replies":[{"put":{"previous":null}}]}}}}}"#,
        r#"{"process":1,"call":1,"return":2,"request":{"txn":{"compares":[{"key":"k","result":"equal","target":{"mod":5}}],"success":[{"put":{"key":"k","value":"v"}}],"failure":[{"range":{"key":"k"}}]}},"response":{"revision":6,"result":{"Ok":{"txn":{"succeeded":false,"replies":[{"range":{"kvs":[{"key":"k","value":"w","create_revision":4,"mod_revision":4,"version":1}],"more":false,"count":1}}]}}}}}"#,
        r#"{"process":1,"call":1,"request":{"put":{"key":"k","value":"v"}}}"#,
    ];

    const PIECES: &[&str] = &[
        "",
        " ",
        "\t",
        ",",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "\u{7f}",
        "é",
        "0",
        "-",
        "1e2",
        ".5",
        "-0",
        "4294967296",
        "18446744073709551615",
        "null",
        "true",
        "\"key\":\"k\",",
        "\"process\":3,",
        "\"previous\":null,",
        "{},",
        "x",
    ];

    /// Reads a line in full.
    fn in_full(line: &str) -> Result<Records<'static>, FormatError> {
        let mut reader = EtcdReader::default();
        reader.read_line(line).map(|()| reader.finish())
    }

    /// Compares both ways to read a line. Gives whether the quick one took it.
    fn compare(line: &str) -> bool {
        let Some((plain, next)) = quick::plain(line, 0) else { return false };
        assert_eq!(next, line.len(), "{line}");
        let mut quickly = Records::default();
        assert!(!quickly.push_plain(&plain) || in_full(line) == Ok(quickly), "{line}");
        true
    }

    #[test]
    fn what_is_read_quickly_is_what_is_read_in_full() {
        let mut taken = 0;
        for line in LINES {
            assert_eq!(compare(line), line.contains("return"), "{line}");
            for place in 0..=line.len() {
                for removed in [0, 1, 5] {
                    for piece in PIECES {
                        let rest = &line[(place + removed).min(line.len())..];
                        taken += u32::from(compare(&format!("{}{piece}{rest}", &line[..place])));
                    }
                }
            }
        }
        assert!(taken > 3000, "many damages are harmless: {taken}");
    }

    #[test]
    fn lines_come_in_any_pieces_and_are_counted() {
        let text = format!("{}\n\n{}\r\n{}\n", LINES[0], LINES[6], LINES[1]);
        let whole = read_etcd(&text).expect("good lines");
        let mut reader = EtcdReader::default();
        text.split_inclusive('\n').try_for_each(|line| reader.read(line)).expect("good lines");
        assert_eq!((whole.len(), &reader.finish()), (3, &whole));
        let error = read_etcd(&format!("{text}{{\"call\":x}}")).expect_err("a bad line");
        assert_eq!(error.to_string(), "5:9: expected value");
    }
}
