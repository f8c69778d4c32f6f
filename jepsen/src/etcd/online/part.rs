//! What belongs to a part of a history, and what it says.

use std::collections::BTreeSet;

use super::Held;
use crate::etcd::order::EtcdOperation;
use crate::etcd::outcome::{KeyValue, Reply, Response};
use crate::etcd::placing::{Role, role};
use crate::etcd::request::{Compare, Keys, Range, Relation, Request, Target, Txn};
use crate::etcd::store::Store;
use crate::etcd::watch::{Event, Log, WatchResponse, WatchStream};

/// The answer of an operation that has a place in the order, and its role there.
pub(super) fn placed(operation: &EtcdOperation) -> Option<(&Response, Role)> {
    let response = operation.output()?;
    let role = role(&operation.input, response.result.as_ref().ok()?).ok().flatten()?;
    Some((response, role))
}

/// Whether an operation is to be judged with a part: everything that it may depend on is known.
pub(super) fn belongs(operation: &EtcdOperation, upto: i64, now: u64) -> bool {
    match placed(operation) {
        Some((response, _)) => response.revision <= upto,
        None => operation.returned.is_none() || operation.return_time() < now || now == u64::MAX,
    }
}

/// The revisions that an answered operation made.
pub(super) fn claimed(part: &[&Held], log: &Log) -> BTreeSet<i64> {
    // Whether a revocation changed anything is known by what went.
    let ends = |id: i64, revision: i64| {
        let change = log.changes.iter().find(|change| change.revision == revision);
        let of_lease =
            |event: &Event| event.deleted && event.previous.as_ref().is_some_and(|kv| kv.lease == id);
        change.is_some_and(|change| change.events.iter().all(of_lease))
    };
    let made = part.iter().filter_map(|held| {
        let (response, role) = placed(&held.operation)?;
        let made = match held.operation.input {
            Request::LeaseRevoke { id } => ends(id, response.revision),
            _ => role == Role::Maker,
        };
        made.then_some(response.revision)
    });
    made.collect()
}

/// When a revision, or a later one, was seen first.
pub(super) fn deadline(window: &[Held], streams: &[WatchStream], revision: i64) -> u64 {
    let shown = window.iter().filter_map(|held| {
        let (response, _) = placed(&held.operation)?;
        (response.revision >= revision).then(|| held.operation.return_time())
    });
    let responses = streams.iter().flat_map(|stream| &stream.responses);
    let watched = responses.filter(|response| response.reach() >= revision).map(|response| response.at);
    shown.chain(watched).min().unwrap_or(u64::MAX)
}

/// What a stream shows of the revisions behind `base` and up to `upto`, before `now`.
pub(super) fn between(stream: &WatchStream, base: i64, upto: i64, now: u64) -> WatchStream {
    let start = stream.request.start_revision;
    let begins = if start == 0 {
        let created = stream.responses.iter().find(|response| response.created);
        created.map_or_else(
            || {
                stream
                    .responses
                    .iter()
                    .flat_map(|response| &response.events)
                    .next()
                    .map_or(0, Event::revision)
            },
            |response| response.revision.saturating_add(1),
        )
    } else {
        start
    };
    let mut part =
        WatchStream { process: stream.process, request: stream.request.clone(), responses: Vec::new() };
    part.request.start_revision = begins.max(base + 1);
    for response in stream.responses.iter().filter(|response| response.at < now || now == u64::MAX) {
        let within = |revision: i64| revision > base && revision <= upto;
        let events: Vec<Event> =
            response.events.iter().filter(|event| within(event.revision())).cloned().collect();
        let tells = if response.is_progress() { within(response.revision) } else { !events.is_empty() };
        if tells {
            part.responses.push(WatchResponse { events, revision: response.revision.min(upto), ..*response });
        }
    }
    part
}

/// Up to where an operation says that history is compacted.
pub(super) fn compacted(operation: &EtcdOperation) -> i64 {
    match &operation.input {
        Request::Compact { revision } => *revision,
        Request::Range(range) => range.revision.saturating_add(1),
        _ => i64::MIN,
    }
}

/// Whether a transaction demands a state that has passed, and does nothing otherwise.
pub(super) fn is_impossible(txn: &Txn, store: &Store) -> bool {
    let passed = |compare: &Compare| match (compare.result, &compare.target) {
        // A key never has the revision of an old change again.
        (Relation::Equal, Target::Mod(revision @ 1..)) if compare.keys.is_single() => {
            *revision <= store.revision()
                && store.current(compare.keys.key.as_slice()).is_none_or(|kv| kv.mod_revision != *revision)
        }
        _ => false,
    };
    txn.compares.iter().any(passed) && !txn.failure.iter().any(Request::may_write)
}

/// The last answer that shows all keys.
pub(super) fn read_of_everything(window: &[Held], upto: i64) -> Option<(i64, &[KeyValue])> {
    window.iter().rev().find_map(|held| {
        let response = held.operation.output()?;
        match (&held.operation.input, &response.result) {
            (Request::Range(range), Ok(Reply::Range { kvs, more: false, .. }))
                if *range == Range::of(Keys::all()) && response.revision <= upto =>
            {
                Some((response.revision, kvs.as_slice()))
            }
            _ => None,
        }
    })
}
