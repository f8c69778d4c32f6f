//! Writing a history in another format than it came in.

use std::io::{self, Write};

use super::jepsen::{Answer, Ask};
use super::{Format, Recording, edn, json, lines, sessions};
use crate::history::{History, Operation};
use crate::value::Value;

/// Why a history cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The format cannot say what is in the history.
    #[error("{0}")]
    Unfit(&'static str),
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a history. Operations by name can be written as `lines`, `edn` and `json`, transactions of reads and
/// writes as `sessions` too; histories of etcd as `etcd`.
pub fn write(recording: &Recording, format: Format, mut to: impl Write) -> Result<(), WriteError> {
    let history = match recording {
        Recording::Etcd(history) if matches!(format, Format::Etcd | Format::Lines) => {
            return Ok(lines::write_records(history, to)?);
        }
        Recording::Etcd(_) => {
            return Err(WriteError::Unfit("a history of etcd can be written in the format etcd only"));
        }
        Recording::Robustness(_) => {
            return Err(WriteError::Unfit("a report of etcd's robustness tests cannot be converted"));
        }
        Recording::Named(history) | Recording::Sessions(history) => history,
        Recording::Case(case) => &case.history,
    };
    match format {
        Format::Lines => Ok(lines::write_named(history, to)?),
        Format::Edn => Ok(edn::write(history, to)?),
        Format::Json => Ok(write_json(history, to)?),
        Format::Sessions => match sessions::write_text(history) {
            Some(text) => Ok(to.write_all(text.as_bytes())?),
            None => Err(WriteError::Unfit(
                "only transactions that read and write single values can be written in the format sessions",
            )),
        },
        Format::Etcd => Err(WriteError::Unfit("only a history of etcd can be written in the format etcd")),
        Format::Log | Format::Case | Format::Dbcop | Format::Robustness => {
            Err(WriteError::Unfit("expected one of the formats lines, edn, json, etcd and sessions"))
        }
    }
}

/// The calls and returns of a history in the order of time; calls before returns at equal times, as the
/// intervals are closed. With each the kind of Jepsen's event and its value.
pub(super) fn events(
    history: &History<Ask, Answer>,
) -> Vec<(u64, &'static str, &Operation<Ask, Answer>, &Value)> {
    let mut events = Vec::new();
    for operation in &history.operations {
        events.push((operation.call, "invoke", operation, &operation.input.value));
        if let Some(returned) = &operation.returned {
            let kind = if returned.output.ok { "ok" } else { "fail" };
            events.push((returned.at, kind, operation, &returned.output.value));
        }
    }
    events.sort_by_key(|(at, kind, _, _)| (*at, *kind != "invoke"));
    events
}

/// Jepsen's events as JSON, one per line.
fn write_json(history: &History<Ask, Answer>, mut to: impl Write) -> io::Result<()> {
    for (at, kind, operation, value) in events(history) {
        let mut event = serde_json::json!({
            "time": at,
            "process": operation.process,
            "type": kind,
            "f": operation.input.f,
            "value": json::revert(value),
        });
        if let Some(key) = &operation.input.key {
            event["key"] = key.as_str().into();
        }
        writeln!(to, "{event}")?;
    }
    Ok(())
}
