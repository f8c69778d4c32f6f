//! etcd's state machine as the robustness tests know it.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{
    KeyValue, OperationKind, OperationResult, Range, RangeResponse, Request, RequestKind, Response, Txn,
    TxnOperation, TxnResponse, ValueOrHash,
};
use crate::model::Model;

/// The present keys, and the leases they hang on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RobustnessState {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) keys: BTreeMap<String, Version>,
    leases: BTreeSet<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    pub value: ValueOrHash,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// What the state machine answers.
pub(super) enum Expected {
    Full(Response),
    /// A read of an old revision: only the revision is known.
    Revision(i64),
}

impl Default for RobustnessState {
    fn default() -> Self {
        RobustnessState { revision: 1, compacted: -1, keys: BTreeMap::new(), leases: BTreeSet::new() }
    }
}

impl RobustnessState {
    /// Does what is asked and says what is answered.
    pub(super) fn execute(&mut self, request: &Request) -> Expected {
        let mut response = Response { revision: self.revision, ..Response::default() };
        match request.kind {
            RequestKind::Range => {
                let range = request.range.clone().unwrap_or_default();
                if range.revision != 0 && range.revision != self.revision {
                    if range.revision > self.revision {
                        response = refused(FUTURE);
                    } else if range.revision < self.compacted {
                        response = refused(COMPACTED);
                    } else {
                        return Expected::Revision(self.revision);
                    }
                    return Expected::Full(response);
                }
                let (kvs, count) = self.read(&range);
                response.range = Some(RangeResponse { kvs, count });
            }
            RequestKind::Txn => {
                let txn = request.txn.clone().unwrap_or_default();
                response.txn = Some(self.transact(&txn));
                response.revision = self.revision;
            }
            RequestKind::LeaseGrant => {
                self.leases.insert(request.lease_grant.unwrap_or_default().id);
            }
            RequestKind::LeaseRevoke => {
                self.revoke(request.lease_revoke.unwrap_or_default().id);
                response.revision = self.revision;
            }
            RequestKind::Defragment => response.revision = WITHOUT_ORDER,
            RequestKind::Compact => {
                let revision = request.compact.unwrap_or_default().revision;
                if revision <= self.compacted {
                    response = refused(COMPACTED);
                } else if revision > self.revision {
                    response = refused(FUTURE);
                } else {
                    self.compacted = revision;
                    response.revision = WITHOUT_ORDER;
                }
            }
        }
        Expected::Full(response)
    }

    /// The keys of a range, within its limit, and how many there are.
    pub(super) fn read(&self, range: &Range) -> (Vec<KeyValue>, i64) {
        let known = |key: &String, version: &Version| KeyValue {
            key: key.clone(),
            value: if range.keys_only { ValueOrHash::Nothing } else { version.value.clone() },
            mod_revision: version.mod_revision,
            version: version.version,
        };
        let is_in = |key: &str| match range.end.as_str() {
            "" => key == range.start,
            "\0" => key >= range.start.as_str(),
            end => key >= range.start.as_str() && key < end,
        };
        let matching = self.keys.iter().filter(|(key, _)| is_in(key));
        let mut kvs: Vec<KeyValue> = matching.map(|(key, version)| known(key, version)).collect();
        let count = kvs.len() as i64;
        if let Some(limit) = usize::try_from(range.limit).ok().filter(|limit| *limit > 0) {
            kvs.truncate(limit);
        }
        (kvs, count)
    }

    fn transact(&mut self, txn: &Txn) -> TxnResponse {
        let failure = txn.conditions.iter().any(|condition| {
            let found = self.keys.get(&condition.key);
            if condition.expected_version > 0 {
                found.is_none_or(|found| found.version != condition.expected_version)
            } else {
                found.map_or(0, |found| found.mod_revision) != condition.expected_revision
            }
        });
        let operations = if failure { &txn.operations_on_failure } else { &txn.operations_on_success };
        let mut changed = false;
        let results = operations.iter().map(|operation| self.one(operation, &mut changed)).collect();
        self.revision += i64::from(changed);
        TxnResponse { failure, results }
    }

    fn one(&mut self, operation: &TxnOperation, changed: &mut bool) -> OperationResult {
        let mut result = OperationResult::default();
        match operation.kind {
            OperationKind::Range => (result.kvs, result.count) = self.read(&operation.range),
            OperationKind::Put => {
                let put = &operation.put;
                // With a lease that there is not, it does nothing.
                if put.lease == 0 || self.leases.contains(&put.lease) {
                    let version = self.keys.get(&put.key).map_or(1, |before| before.version + 1);
                    let (value, mod_revision) = (put.value.clone(), self.revision + 1);
                    let new = Version { value, mod_revision, version, lease: put.lease };
                    self.keys.insert(put.key.clone(), new);
                    *changed = true;
                }
            }
            OperationKind::Delete => {
                if self.keys.remove(&operation.delete.key).is_some() {
                    result.deleted = 1;
                    *changed = true;
                }
            }
        }
        result
    }

    fn revoke(&mut self, lease: i64) {
        let before = self.keys.len();
        if self.leases.remove(&lease) {
            self.keys.retain(|_, version| version.lease != lease);
        }
        self.revision += i64::from(self.keys.len() < before);
    }
}

fn refused(why: &str) -> Response {
    Response { client_error: why.to_owned(), ..Response::default() }
}

const FUTURE: &str = "future";
const COMPACTED: &str = "compacted";

/// The revision of answers that say nothing of the order.
const WITHOUT_ORDER: i64 = -1;

impl Expected {
    /// Whether this answer was given. `after`: the revision after it.
    pub fn permits(&self, given: &Response, after: i64) -> bool {
        if given.persisted {
            return given.persisted_revision == 0 || given.persisted_revision == after;
        }
        match self {
            Expected::Revision(revision) => given.client_error.is_empty() && given.revision == *revision,
            Expected::Full(expected) if !expected.client_error.is_empty() => {
                given.client_error.contains(&expected.client_error)
            }
            Expected::Full(expected) => {
                given.client_error.is_empty()
                    && given.revision == expected.revision
                    && given.range == expected.range
                    && given.txn == expected.txn
            }
        }
    }
}

/// The state machine for the general search.
#[derive(Clone, Copy, Debug, Default)]
pub struct RobustnessModel;

impl Model for RobustnessModel {
    type Input = Request;
    type Output = Response;
    type State = RobustnessState;

    fn init(&self) -> RobustnessState {
        RobustnessState::default()
    }

    fn step(
        &self,
        state: &RobustnessState,
        input: &Request,
        output: Option<&Response>,
    ) -> Option<RobustnessState> {
        let mut next = state.clone();
        let expected = next.execute(input);
        output.is_none_or(|output| expected.permits(output, next.revision)).then_some(next)
    }

    fn is_read(&self, input: &Request, _: Option<&Response>) -> bool {
        matches!(input.kind, RequestKind::Range | RequestKind::Defragment)
    }

    fn describe(&self, input: &Request, output: Option<&Response>) -> String {
        let answer = match output {
            Some(output) if !output.client_error.is_empty() => output.client_error.clone(),
            Some(output) => format!("revision {}", output.revision),
            None => "unknown".to_owned(),
        };
        format!("{} -> {answer}", input.describe())
    }

    fn describe_state(&self, state: &RobustnessState) -> String {
        format!("the one of revision {}", state.revision)
    }
}

impl Request {
    pub(super) fn is_read(&self) -> bool {
        match (self.kind, &self.txn) {
            (RequestKind::Range | RequestKind::Defragment, _) => true,
            (RequestKind::Txn, Some(txn)) => {
                let mut all = txn.operations_on_success.iter().chain(&txn.operations_on_failure);
                all.all(|operation| operation.kind == OperationKind::Range)
            }
            _ => false,
        }
    }

    pub(super) fn describe(&self) -> String {
        match (self.kind, &self.range, &self.txn) {
            (RequestKind::Range, Some(range), _) if range.end.is_empty() => format!("read {}", range.start),
            (RequestKind::Range, Some(range), _) => format!("read {} to {}", range.start, range.end),
            (RequestKind::Txn, _, Some(txn)) => {
                let steps: Vec<String> = txn.operations_on_success.iter().map(describe_operation).collect();
                let guard = if txn.conditions.is_empty() { "" } else { "if unchanged: " };
                format!("{guard}{}", steps.join(", "))
            }
            (kind, _, _) => format!("{kind:?}"),
        }
    }
}

fn describe_operation(operation: &TxnOperation) -> String {
    match operation.kind {
        OperationKind::Range => format!("read {}", operation.range.start),
        OperationKind::Put => match &operation.put.value {
            ValueOrHash::Value(value) => format!("put {} {value}", operation.put.key),
            _ => format!("put {}", operation.put.key),
        },
        OperationKind::Delete => format!("delete {}", operation.delete.key),
    }
}
