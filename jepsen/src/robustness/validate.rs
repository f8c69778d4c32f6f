//! What is checked of a report, in the order of etcd's own validators.

use std::collections::BTreeSet;

use super::model::{RobustnessModel, RobustnessState};
use super::record::{Kind, Operation, Report, Request, RequestKind};
use super::replay::Replay;
use super::watch;
use crate::history::{History, Operation as Timed, Returned};
use crate::search::{Limits, check as search};
use crate::verdict::{Verdict, Violation};

/// Judges a report.
#[must_use]
pub fn check(report: &Report, limits: &Limits<'_>) -> Verdict {
    let replay = report.persisted.as_ref().map(|requests| Replay::new(requests));
    match report.kind {
        Kind::ModelDeterministic | Kind::ModelNondeterministic => check_sequence(report),
        Kind::Watch => check_watches(report, replay.as_ref()),
        Kind::Serializable => check_old_reads(&report.operations, replay.as_ref()),
        Kind::Validate => check_all(report, replay.as_ref(), limits),
    }
}

fn refuted(rule: &'static str, operations: Vec<usize>, sentence: String) -> Verdict {
    Verdict::Invalid(Violation { rule, sentence, operations })
}

/// All operations of all clients.
fn operations(report: &Report) -> impl Iterator<Item = &Operation> {
    report.operations.iter().chain(report.reports.iter().flat_map(|client| &client.key_value))
}

fn check_all(report: &Report, replay: Option<&Replay>, limits: &Limits<'_>) -> Verdict {
    if let Err((rule, sentence)) = check_assumptions(report) {
        return refuted(rule, Vec::new(), sentence);
    }
    let history = history(report);
    let verdict = search(&RobustnessModel, &history, limits);
    if !verdict.is_valid() {
        return verdict;
    }
    let old: Vec<Operation> =
        operations(report).filter(|operation| is_old_read(operation)).cloned().collect();
    let verdict = if replay.is_some() { check_old_reads(&old, replay) } else { Verdict::Valid };
    if verdict.is_valid() { check_watches(report, replay) } else { verdict }
}

fn is_old_read(operation: &Operation) -> bool {
    operation.input.range.as_ref().is_some_and(|range| range.revision != 0)
}

/// The operations as the search takes them. Reads without an answer say nothing.
fn history(report: &Report) -> History<Request, super::record::Response> {
    let time = |at: i64| u64::try_from(at).unwrap_or(0);
    let kept = operations(report).filter(|operation| {
        let is_unknown = !operation.output.error.is_empty();
        operation.input.kind != RequestKind::Defragment && !(is_unknown && operation.input.is_read())
    });
    kept.map(|operation| {
        let known = operation.output.error.is_empty() || operation.output.persisted;
        Timed {
            process: operation.client,
            call: time(operation.call),
            input: operation.input.clone(),
            returned: known.then(|| Returned {
                at: time(operation.end).max(time(operation.call)),
                output: operation.output.clone(),
            }),
        }
    })
    .collect()
}

/// What etcd's validators require before they begin.
fn check_assumptions(report: &Report) -> Result<(), (&'static str, String)> {
    let succeeded = || operations(report).filter(|operation| operation.output.error.is_empty());
    if operations(report).next().is_some() && !succeeded().any(|operation| operation.output.revision == 1) {
        let why = "nobody saw revision 1, so the store was not empty when the test began";
        return Err(("robustness-assumption", why.to_owned()));
    }
    for client in &report.reports {
        let mut calls: Vec<(i64, i64)> =
            client.key_value.iter().map(|operation| (operation.call, operation.end)).collect();
        calls.sort_unstable();
        if calls.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            let why = format!("client {} asked for two things at once", client.client);
            return Err(("robustness-assumption", why));
        }
    }
    let Some(persisted) = &report.persisted else { return Ok(()) };
    let asked: Vec<&Request> = operations(report).map(|operation| &operation.input).collect();
    let missing = persisted.iter().find(|request| {
        // A grant that failed has no id that the client knows.
        request.kind != RequestKind::LeaseGrant && !asked.contains(request)
    });
    if let Some(request) = missing {
        let why = format!("the servers did {}, which no client asked for", request.describe());
        return Err(("robustness-assumption", why));
    }
    let writes = || succeeded().filter(|operation| !operation.input.is_read());
    let first = writes().min_by_key(|operation| operation.call);
    let last = writes().max_by_key(|operation| operation.call);
    for operation in first.into_iter().chain(last) {
        if !persisted.contains(&operation.input) {
            let why = format!("{} was acknowledged and is in no server's log", operation.input.describe());
            return Err(("robustness-persisted", why));
        }
    }
    Ok(())
}

fn check_watches(report: &Report, replay: Option<&Replay>) -> Verdict {
    for client in &report.reports {
        for (number, stream) in client.watch.iter().enumerate() {
            if let Err((rule, why)) = watch::check(stream, replay, report.config.expect_revision_unique) {
                let sentence = format!("watch {number} of client {}: {why}", client.client);
                return refuted(rule, Vec::new(), sentence);
            }
        }
    }
    Verdict::Valid
}

/// Reads of old revisions show the state after them.
fn check_old_reads(operations: &[Operation], replay: Option<&Replay>) -> Verdict {
    let Some(replay) = replay else {
        return Verdict::Unknown(
            "reads of old revisions need the requests that reached the servers".to_owned(),
        );
    };
    for (index, operation) in operations.iter().enumerate() {
        let (Some(range), given) = (&operation.input.range, &operation.output) else { continue };
        let refusal = format!("{}{}", given.client_error, given.error);
        let state = replay.at(range.revision);
        let wrong = match (state, refusal.as_str()) {
            (None, "") => "answered a read of a revision that was not there yet",
            (Some(_), refusal) if refusal.contains("future") => "refused a read of a revision that was there",
            (Some(state), "") => {
                let (kvs, count) = state.read(range);
                let shown = given.range.as_ref().map(|range| (&range.kvs, range.count));
                if shown == Some((&kvs, count)) {
                    continue;
                }
                "answered a read with something else than was there"
            }
            _ => continue,
        };
        let sentence = format!(
            "client {} asked for revision {} of {}, and etcd {wrong}",
            operation.client,
            range.revision,
            replay.revision()
        );
        return refuted("stale-prefix", vec![index], sentence);
    }
    Verdict::Valid
}

/// Requests one after the other; those that must not fit leave the state as it was.
fn check_sequence(report: &Report) -> Verdict {
    let mut states: Vec<RobustnessState> = vec![RobustnessState::default()];
    for (index, exchange) in report.sequence.iter().enumerate() {
        let unknown = !exchange.response.error.is_empty();
        let mut next: BTreeSet<usize> = BTreeSet::new();
        let mut reached: Vec<RobustnessState> = Vec::new();
        let mut add = |state: RobustnessState| {
            let place = reached.iter().position(|other| *other == state).unwrap_or(reached.len());
            if place == reached.len() {
                reached.push(state);
            }
            next.insert(place);
        };
        for state in &states {
            let mut after = state.clone();
            let expected = after.execute(&exchange.request);
            if unknown {
                add(state.clone());
                add(after);
            } else if expected.permits(&exchange.response, after.revision) {
                add(after);
            }
        }
        let fits = !next.is_empty();
        if fits == exchange.expect_failure {
            let what = if fits { "fits, though it should not" } else { "fits no state that is possible" };
            let sentence = format!("step {index}, {}, {what}", exchange.request.describe());
            return refuted("replay", vec![index], sentence);
        }
        if fits {
            states = reached;
        }
    }
    Verdict::Valid
}
