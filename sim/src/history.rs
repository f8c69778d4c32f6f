//! What clients saw, in the checker's words, and its verdict.

use std::io::Write as _;
use std::path::Path;

use quorate_jepsen::Verdict;
use quorate_jepsen::etcd::{self, EtcdHistory, Request, WatchRequest, WatchResponse, WatchStream};

use crate::invariants::Violation;
use crate::time::Time;
use crate::workload::Outcome;

/// Records a run's history.
#[derive(Debug, Default)]
pub struct Recorder {
    history: EtcdHistory,
    answered: u64,
    unknown: u64,
}

/// An operation that was begun.
#[derive(Clone, Copy, Debug)]
pub struct OperationId(quorate_jepsen::OperationId);

/// A watch stream that was opened.
#[derive(Clone, Copy, Debug)]
pub struct StreamId(usize);

impl Recorder {
    /// A client asks.
    pub fn invoke(&mut self, process: u64, time: Time, request: Request) -> OperationId {
        OperationId(self.history.operations.invoke(process, time.0, request))
    }

    /// A client learns what became of it.
    pub fn done(&mut self, id: OperationId, time: Time, outcome: &Outcome) {
        match outcome {
            Outcome::Answered(response) => {
                self.answered += 1;
                self.history.operations.ok(id.0, time.0, response.clone());
            }
            Outcome::Refused => self.history.operations.fail(id.0),
            Outcome::Unknown => self.unknown += 1,
        }
    }

    /// A watcher opens a stream.
    pub fn open_stream(&mut self, process: u64, request: WatchRequest) -> StreamId {
        self.history.watches.push(WatchStream { process, request, responses: Vec::new() });
        StreamId(self.history.watches.len() - 1)
    }

    /// A watcher receives something.
    pub fn receive(&mut self, id: StreamId, response: WatchResponse) {
        self.history.watches[id.0].responses.push(response);
    }

    /// How many operations were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// How many operations have an unknown outcome.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// The recorded history.
    #[must_use]
    pub fn finish(self) -> EtcdHistory {
        EtcdHistory { operations: self.history.operations.finish(), watches: self.history.watches }
    }
}

/// Judges a history. `crashes` tells whether members may have lost what they had not synced: a member does not
/// sync how far it has applied, so its own, stale reads may then go back.
pub fn judge(history: &EtcdHistory, crashes: bool) -> Result<(), Violation> {
    let options = etcd::Options { members_never_go_back: !crashes, ..etcd::Options::default() };
    match etcd::check(history, &options) {
        Verdict::Valid => Ok(()),
        Verdict::Invalid(violation) => {
            let mut detail = violation.sentence.clone();
            for &operation in &violation.operations {
                detail.push_str(&format!("\n    {}", history.operations.operations[operation]));
            }
            Err(Violation { invariant: violation.rule, detail })
        }
        // The search for what explains a lost answer was given up: no verdict is not a violation.
        Verdict::Unknown(_) => Ok(()),
    }
}

/// Writes a history as JSON lines, for `quorate-jepsen check`.
pub fn write(history: &EtcdHistory, path: &Path) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    for operation in &history.operations.operations {
        let returned = operation.returned.as_ref();
        let line = serde_json::json!({
            "process": operation.process,
            "call": operation.call,
            "request": operation.input,
            "return": returned.map(|returned| returned.at),
            "response": returned.map(|returned| &returned.output),
        });
        writeln!(out, "{line}")?;
    }
    for stream in &history.watches {
        writeln!(out, "{}", serde_json::json!({ "watch": stream }))?;
    }
    out.flush()
}
