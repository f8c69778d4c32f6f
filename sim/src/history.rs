//! What clients saw, in the checker's words, and its verdict.

use std::io::Write as _;
use std::path::Path;

use quorate_jepsen::etcd::{
    self, Bytes, Compare, EtcdHistory, Reply, Request, Response, Target, Txn, WatchRequest, WatchResponse,
    WatchStream,
};
use quorate_jepsen::models::{Register, RegisterInput, RegisterOutput};
use quorate_jepsen::{History, Limits, Operation, Returned, Value, Verdict};

use crate::invariants::{Violation, locks};
use crate::time::Time;
use crate::workload::{Outcome, lock};

/// Records a run's history.
#[derive(Debug)]
pub struct Recorder {
    history: EtcdHistory,
    answered: u64,
    unknown: u64,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let mut history = EtcdHistory::default();
        // Growing would copy a megabyte in most runs.
        history.operations.operations.reserve(OPERATIONS_USUAL);
        Recorder { history, answered: 0, unknown: 0 }
    }
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
    pub fn done(&mut self, id: OperationId, time: Time, outcome: Outcome) {
        match outcome {
            Outcome::Answered(response) => {
                self.answered += 1;
                self.history.operations.ok(id.0, time.0, response);
            }
            Outcome::Refused => self.history.operations.fail(id.0),
            Outcome::Unknown => self.unknown += 1,
        }
    }

    /// What an operation has asked for.
    #[must_use]
    pub fn request(&self, id: OperationId) -> &Request {
        &self.history.operations.operations[id.0.0].input
    }

    /// Everything that was asked, in order, and when.
    pub fn calls(&self) -> impl Iterator<Item = (Time, &Request)> {
        let operations = self.history.operations.operations.iter();
        operations.map(|operation| (Time(operation.call), &operation.input))
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

/// Judges a history. `crashes` tells whether members may have lost what they had not synced: a member does
/// not sync how far it has applied, so its own, stale reads may then go back.
pub fn judge(history: &EtcdHistory, crashes: bool) -> Result<(), Violation> {
    judge_naming(history, crashes, false).map(|_| ()).map_err(|(violation, _)| violation)
}

/// What came of a history that breaks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The order of revisions explains every answer.
    Explained,
    /// Too many outcomes are unknown to say so within the steps that the search has.
    Undecided,
}

/// Judges a history, and names the operations that cannot be explained. `true_clocks` tells whether no member's clock
/// ran fast: then leases do not end before their time.
pub fn judge_naming(
    history: &EtcdHistory,
    crashes: bool,
    true_clocks: bool,
) -> Result<Judged, (Violation, Vec<usize>)> {
    let options = etcd::Options {
        members_never_go_back: !crashes,
        steps_max: EXPLANATION_STEPS_MAX,
        ..etcd::Options::default()
    };
    let has_locks = history.operations.operations.iter().any(|operation| concerns_locks(&operation.input));
    let (verdict, log) = if has_locks {
        etcd::check_with_log(history, &options)
    } else {
        (etcd::check(history, &options), etcd::Log::default())
    };
    match verdict {
        Verdict::Valid => {
            if has_locks {
                locks::judge(history, &log, true_clocks).map_err(|violation| (violation, Vec::new()))?;
            }
            judge_registers(history).map(|()| Judged::Explained)
        }
        Verdict::Invalid(violation) => {
            let mut detail = violation.sentence.clone();
            for &operation in &violation.operations {
                detail.push_str(&format!("\n    {}", history.operations.operations[operation]));
            }
            Err((Violation { invariant: violation.rule, detail }, violation.operations.clone()))
        }
        // The search for what explains a lost answer was given up: no verdict is not a violation. Registers need none.
        Verdict::Unknown(_) => judge_registers(history).map(|()| Judged::Undecided),
    }
}

/// Whether a request is one of those that get locks.
fn concerns_locks(request: &Request) -> bool {
    let Request::Txn(Txn { success, .. }) = request else { return false };
    let ours = |key: &Bytes| key.as_slice().starts_with(lock::PREFIX.as_bytes());
    success.iter().any(|request| matches!(request, Request::Put(put) if ours(&put.key)))
}

/// Judges each register by itself, by an engine that knows nothing of revisions (zones, or a search): a
/// second opinion.
fn judge_registers(history: &EtcdHistory) -> Result<(), (Violation, Vec<usize>)> {
    let mut registers = History::<RegisterInput, RegisterOutput>::new();
    let mut places = Vec::new();
    for (place, operation) in history.operations.operations.iter().enumerate() {
        let Some((input, output)) = register_operation(&operation.input, operation.output()) else {
            continue;
        };
        let returned = operation
            .returned
            .as_ref()
            .zip(output)
            .map(|(returned, output)| Returned { at: returned.at, output });
        let (process, call) = (operation.process, operation.call);
        registers.operations.push(Operation { process, call, input, returned });
        places.push(place);
    }
    let limits = Limits { configurations: CONFIGURATIONS_MAX, explain: false, ..Limits::default() };
    match quorate_jepsen::check(&Register::default(), &registers, &limits) {
        Verdict::Valid | Verdict::Unknown(_) => Ok(()),
        Verdict::Invalid(violation) => {
            let operations = violation.operations.iter().map(|operation| places[*operation]).collect();
            let found = Violation { invariant: "linearizable registers", detail: violation.sentence };
            Err((found, operations))
        }
    }
}

/// What an operation of the register workload asks a register, and what the register answered if that says
/// anything.
fn register_operation(
    request: &Request,
    response: Option<&Response>,
) -> Option<(RegisterInput, Option<RegisterOutput>)> {
    let reply = response.and_then(|response| response.result.as_ref().ok());
    let ours = |key: &Bytes| key.as_slice().starts_with(REGISTERS.as_bytes());
    let name = |key: &Bytes| Some(String::from_utf8_lossy(key.as_slice()).into_owned());
    let value = |bytes: &Bytes| Value::text(&String::from_utf8_lossy(bytes.as_slice()));
    match request {
        Request::Range(range) if range.keys.is_single() && ours(&range.keys.key) && !range.serializable => {
            let Reply::Range { kvs, .. } = reply? else { return None };
            let seen = kvs.first().map_or(Value::Nil, |kv| value(&kv.value));
            Some((RegisterInput::Read(name(&range.keys.key)), Some(RegisterOutput::Value(seen))))
        }
        Request::Put(put) if ours(&put.key) => Some((
            RegisterInput::Write(name(&put.key), value(&put.value)),
            reply.map(|_| RegisterOutput::Done),
        )),
        Request::Txn(Txn { compares, success, .. }) => {
            let [Compare { keys, target: Target::Value(from), .. }] = &compares[..] else { return None };
            let [Request::Put(put)] = &success[..] else { return None };
            let output = match reply {
                Some(Reply::Txn { succeeded, .. }) => Some(RegisterOutput::Swapped(*succeeded)),
                _ => None,
            };
            let input = RegisterInput::CompareAndSet(name(&keys.key), value(from), value(&put.value));
            ours(&keys.key).then_some((input, output))
        }
        _ => None,
    }
}

/// Few runs have more operations.
const OPERATIONS_USUAL: usize = 8_192;

/// The prefix of the registers' keys.
const REGISTERS: &str = "r/";

/// The search for what explains lost answers ends after so many steps. Of the first hundred seeds 97 need fewer, and of
/// the other three one is decided by two million.
const EXPLANATION_STEPS_MAX: u64 = 50_000;

/// A search that needs more gives no verdict: the order of revisions has given one already.
const CONFIGURATIONS_MAX: u64 = 30_000;

/// Writes a history as JSON lines, for `quorate-jepsen check`.
pub fn write(history: &EtcdHistory, path: &Path) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    quorate_jepsen::format::lines::write_etcd(history, &mut out)?;
    out.flush()
}
