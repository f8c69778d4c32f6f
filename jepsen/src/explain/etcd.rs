//! Pictures of etcd histories: the order is that of the revisions, so there is nothing to search.
//!
//! Parts are keys; what touches several is in a part of its own. Watch streams are drawn as what arrived on
//! them, each response a bar without a length.

use std::collections::BTreeMap;

use super::picture::{Bar, Break, Kind, Part, Picture, Step};
use super::{TEXT_MAX, blank, mark_core, shorten, words};
use crate::etcd::{EtcdHistory, Keys, Reply, Request, Response};
use crate::history::Operation;
use crate::verdict::Verdict;

type EtcdOperation = Operation<Request, Response>;

/// Draws a history of etcd.
pub(crate) fn picture(history: &EtcdHistory, verdict: &Verdict, ticks_per_second: Option<u64>) -> Picture {
    let mut picture = Picture { ticks_per_second, ..blank(verdict) };
    let mut parts = Parts::default();
    let operations = &history.operations.operations;
    for (id, operation) in operations.iter().enumerate() {
        let part = parts.of(&operation.input);
        picture.bars.push(bar(id, operation, part));
    }
    arrivals(history, &mut parts, &mut picture.bars);
    picture.parts = parts.names.into_iter().map(|name| Part { name, ..Part::default() }).collect();
    let core = mark_core(&mut picture, verdict);
    order(&mut picture, operations, &core);
    picture.why = words::why(&picture, &core, verdict);
    picture
}

/// Numbers the keys.
struct Parts {
    names: Vec<String>,
    numbers: BTreeMap<String, usize>,
}

impl Default for Parts {
    fn default() -> Self {
        Parts { names: vec!["several keys or none".to_owned()], numbers: BTreeMap::new() }
    }
}

impl Parts {
    fn of(&mut self, request: &Request) -> usize {
        let mut touched: Vec<Keys> = Vec::new();
        request.footprint(&mut |keys| {
            if !touched.contains(&keys) {
                touched.push(keys);
            }
        });
        match touched.as_slice() {
            [one] if one.is_single() => self.number(one.to_string()),
            _ => 0,
        }
    }

    fn number(&mut self, key: String) -> usize {
        *self.numbers.entry(key).or_insert_with_key(|key| {
            self.names.push(key.clone());
            self.names.len() - 1
        })
    }
}

fn bar(id: usize, operation: &EtcdOperation, part: usize) -> Bar {
    let text = match operation.output() {
        Some(response) => format!("{} -> {response}", operation.input),
        None => format!("{} -> unknown", operation.input),
    };
    let refused = operation.output().is_some_and(|response| response.result.is_err());
    let kind = match (&operation.input, refused) {
        (_, true) => Kind::Failed,
        (input, _) if input.may_write() => Kind::Write,
        _ => Kind::Read,
    };
    Bar {
        id,
        process: operation.process,
        call: operation.call,
        end: operation.returned.as_ref().map(|returned| returned.at),
        text: shorten(text, TEXT_MAX),
        kind,
        part,
        core: 0,
    }
}

/// What arrived on watch streams; numbered behind the operations.
fn arrivals(history: &EtcdHistory, parts: &mut Parts, bars: &mut Vec<Bar>) {
    for (number, stream) in history.watches.iter().enumerate() {
        for response in &stream.responses {
            let (text, part) = match response.events.as_slice() {
                [] if response.created => ("created".to_owned(), 0),
                [] if response.canceled => ("canceled".to_owned(), 0),
                [] => (format!("progress to revision {}", response.revision), 0),
                [event] => (event.to_string(), parts.number(event.kv.key.to_string())),
                [event, rest @ ..] => (format!("{event} and {} more", rest.len()), 0),
            };
            bars.push(Bar {
                id: bars.len(),
                process: stream.process,
                call: response.at,
                end: Some(response.at),
                text: shorten(format!("watch {number}: {text}"), TEXT_MAX),
                kind: Kind::Arrival,
                part,
                core: 0,
            });
        }
    }
}

/// The order by revision, up to where it breaks.
fn order(picture: &mut Picture, operations: &[EtcdOperation], core: &[usize]) {
    let mut placed: Vec<(i64, bool, u64, usize)> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        if let Some(response) = operation.output()
            && let Ok(reply) = &response.result
            && response.revision > 0
            && shows_order(&operation.input)
        {
            placed.push((response.revision, !changed(reply), operation.call, index));
        }
    }
    placed.sort_unstable();
    if let Some((offender, others)) = core.split_first() {
        let place = |index: &usize| placed.iter().position(|(.., other)| other == index);
        let end = others.iter().filter_map(place).max().map(|place| place + 1).or_else(|| place(offender));
        placed.truncate(end.unwrap_or(placed.len()));
        placed.retain(|(.., index)| index != offender);
    }
    let mut latest = vec!["absent".to_owned(); picture.parts.len()];
    for (revision, _, _, index) in placed {
        let part = picture.bars[index].part;
        let state =
            match (&operations[index].input, operations[index].output().map(|response| &response.result)) {
                _ if part == 0 => format!("revision {revision}"),
                (Request::Put(put), _) => format!("{} at revision {revision}", put.value),
                (Request::Delete(_), Some(Ok(Reply::Delete { deleted: 1.., .. }))) => "absent".to_owned(),
                (_, Some(Ok(reply))) => seen(reply).unwrap_or_else(|| latest[part].clone()),
                _ => latest[part].clone(),
            };
        latest[part] = shorten(state, TEXT_MAX);
        picture.parts[part].order.push(Step { bar: index, state: latest[part].clone() });
    }
    let Some(offender) = core.first() else { return };
    let part = picture.bars[*offender].part;
    let last = picture.parts[part].order.iter().rev().take(1).map(|step| step.bar).collect();
    let states = vec![(latest[part].clone(), last)];
    picture.parts[part].stuck = Some(Break { bar: *offender, states, exhaustive: true });
}

/// Whether the revision in the answer is one of the order.
fn shows_order(request: &Request) -> bool {
    !matches!(
        request,
        Request::Compact { .. } | Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. }
    )
}

fn changed(reply: &Reply) -> bool {
    match reply {
        Reply::Put { .. } => true,
        Reply::Delete { deleted, .. } => *deleted > 0,
        Reply::Txn { replies, .. } => replies.iter().any(changed),
        _ => false,
    }
}

/// What a read shows of its key.
fn seen(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Range { kvs, .. } => Some(kvs.first().map_or_else(
            || "absent".to_owned(),
            |kv| format!("{} at revision {}", kv.value, kv.mod_revision),
        )),
        Reply::Txn { replies, .. } => replies.iter().find_map(seen),
        _ => None,
    }
}
