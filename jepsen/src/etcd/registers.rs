//! A second opinion on a history of etcd, by an engine that knows nothing of revisions.
//!
//! A key that only single gets, puts, deletions and compare-and-puts by value touch is a register for its clients. What
//! may change it otherwise, a lease, a range that is deleted, another transaction, takes it out. What is left is judged by
//! zones or by search, as any register. This says less than the order of revisions does, but where it refutes, that must
//! refute, too.

use std::collections::BTreeSet;

use super::{Bytes, Compare, EtcdHistory, Keys, Relation, Reply, Request, Response, Target, Txn};
use crate::history::{History, Operation, Returned};
use crate::models::{Register, RegisterInput, RegisterOutput};
use crate::search::{Limits, check};
use crate::value::Value;
use crate::verdict::Verdict;

/// The part of a history of etcd that is one of registers.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    /// What clients asked of them.
    pub history: History<RegisterInput, RegisterOutput>,
    /// Which operation of the history of etcd each of them is.
    pub places: Vec<usize>,
}

impl Registers {
    /// Whether every key is a linearizable register.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        let limits = Limits { configurations: CONFIGURATIONS_MAX, explain: false, ..Limits::default() };
        check(&Register::default(), &self.history, &limits)
    }
}

/// What a history asks of keys that are registers.
#[must_use]
pub fn registers(history: &EtcdHistory) -> Registers {
    let mut others = Others::default();
    for operation in &history.operations.operations {
        others.note(&operation.input);
    }
    let mut found = Registers::default();
    for (place, operation) in history.operations.operations.iter().enumerate() {
        let Some((key, input, output)) = bound(&operation.input, operation.output()) else { continue };
        let is_refused = operation.output().is_some_and(|response| response.result.is_err());
        if is_refused || others.touch(&key) {
            continue;
        }
        let returned = operation.returned.as_ref().zip(output);
        let returned = returned.map(|(returned, output)| Returned { at: returned.at, output });
        let (process, call) = (operation.process, operation.call);
        found.history.operations.push(Operation { process, call, input, returned });
        found.places.push(place);
    }
    found
}

/// Keys that something else may change.
#[derive(Default)]
struct Others {
    single: BTreeSet<Bytes>,
    ranges: Vec<Keys>,
}

impl Others {
    /// Notes what a request changes otherwise than a register is changed.
    fn note(&mut self, request: &Request) {
        if bound(request, None).is_none() {
            self.change(request);
        }
    }

    fn change(&mut self, request: &Request) {
        match request {
            Request::Put(put) => {
                self.single.insert(put.key.clone());
            }
            Request::Delete(delete) => self.ranges.push(delete.keys.clone()),
            Request::Txn(txn) => {
                txn.success.iter().chain(&txn.failure).for_each(|request| self.change(request))
            }
            _ => {}
        }
    }

    fn touch(&self, key: &Keys) -> bool {
        self.single.contains(&key.key) || self.ranges.iter().any(|range| range.contains(key.key.as_slice()))
    }
}

/// What a request asks of one register, and what that answered if it says anything.
fn bound(
    request: &Request,
    response: Option<&Response>,
) -> Option<(Keys, RegisterInput, Option<RegisterOutput>)> {
    let reply = response.and_then(|response| response.result.as_ref().ok());
    let text = |bytes: &Bytes| bytes.as_slice().escape_ascii().to_string();
    let value = |bytes: &Bytes| Value::text(&text(bytes));
    let name = |keys: &Keys| Some(text(&keys.key));
    match request {
        Request::Range(range) if range.keys.is_single() && is_plain(range) => {
            let seen = match reply {
                Some(Reply::Range { kvs, .. }) => {
                    let seen = kvs.first().map_or(Value::Nil, |kv| value(&kv.value));
                    Some(RegisterOutput::Value(seen))
                }
                _ => None,
            };
            Some((range.keys.clone(), RegisterInput::Read(name(&range.keys)), seen))
        }
        Request::Put(put) if put.lease == 0 && !put.ignore_value && !put.ignore_lease => {
            let keys = Keys::one(put.key.clone());
            let input = RegisterInput::Write(name(&keys), value(&put.value));
            Some((keys, input, reply.map(|_| RegisterOutput::Done)))
        }
        Request::Delete(delete) if delete.keys.is_single() => {
            let input = RegisterInput::Write(name(&delete.keys), Value::Nil);
            Some((delete.keys.clone(), input, reply.map(|_| RegisterOutput::Done)))
        }
        Request::Txn(Txn { compares, success, failure }) => {
            let [Compare { keys, result: Relation::Equal, target: Target::Value(from) }] = &compares[..]
            else {
                return None;
            };
            let [Request::Put(put)] = &success[..] else { return None };
            if !keys.is_single() || keys.key != put.key || !failure.is_empty() || put.lease != 0 {
                return None;
            }
            let (from, to) = (value(from), value(&put.value));
            let output = match reply {
                Some(Reply::Txn { succeeded, .. }) => Some(RegisterOutput::Swapped(*succeeded)),
                _ => None,
            };
            Some((keys.clone(), RegisterInput::CompareAndSet(name(keys), from, to), output))
        }
        _ => None,
    }
}

/// Whether a range asks for all that is there now.
fn is_plain(range: &super::Range) -> bool {
    *range == super::Range::of(range.keys.clone())
}

/// A search that needs more gives no verdict: the order of revisions has given one already.
const CONFIGURATIONS_MAX: u64 = 1_000_000;
