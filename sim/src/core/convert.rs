//! Between the words of the checker, which are etcd's wire format, and those of the replica.
//!
//! At the whole depth `quorate_api` does this from and to real protobuf. Here it is short, because requests
//! come from our own workloads and are well formed.

use quorate_jepsen::etcd::{
    Bytes, Compare, Error, KeyValue, Keys, Put, Range, Relation, Reply, Request, Response, SortOrder,
    SortTarget, Target, Txn,
};
use quorate_raft::NodeId;
use quorate_replica as replica;
use quorate_store as store;
use quorate_store::{Blob, KeyRange, LeaseId, Revision};

use crate::workload::Outcome;

/// A client's request as a member takes it.
#[must_use]
pub fn request(request: &Request) -> replica::Request {
    let command = match request {
        Request::Range(range) => {
            let consistency = if range.serializable {
                replica::Consistency::Serializable
            } else {
                replica::Consistency::Linearizable
            };
            return replica::Request::Query { query: store::Query::Range(range_query(range)), consistency };
        }
        Request::Txn(txn) if !request.may_write() && !has_nested(txn) => {
            let query = store::Query::Txn(flatten(txn));
            return replica::Request::Query { query, consistency: replica::Consistency::Linearizable };
        }
        &Request::LeaseKeepAlive { id } => return replica::Request::KeepAlive(LeaseId(id)),
        &Request::LeaseTimeToLive { id } => {
            return replica::Request::TimeToLive { id: LeaseId(id), keys: false };
        }
        Request::Put(value) => store::Command::Put(put(value)),
        Request::Delete(delete) => store::Command::DeleteRange(store::DeleteRange {
            range: key_range(&delete.keys),
            previous: delete.prev_kv,
        }),
        Request::Txn(txn) => store::Command::Txn(flatten(txn)),
        &Request::Compact { revision } => store::Command::Compact(Revision(revision)),
        &Request::LeaseGrant { id, ttl } => store::Command::LeaseGrant { id: LeaseId(id), ttl },
        &Request::LeaseRevoke { id } => store::Command::LeaseRevoke { id: LeaseId(id) },
    };
    replica::Request::Command(command)
}

/// What a client learns from a member's answer.
#[must_use]
pub fn outcome(
    member: NodeId,
    request: &Request,
    result: Result<replica::Response, replica::Error>,
) -> Outcome {
    let answer = |revision: i64, result| Response { revision, member: Some(member.0), result };
    match result {
        Ok(response) => Outcome::Answered(answer(response.revision.0, Ok(body(request, &response.body)))),
        Err(replica::Error::Store(error)) => match error {
            store::Error::NoSpace | store::Error::Corrupt | store::Error::MalformedTxn => Outcome::Refused,
            store::Error::Compacted => Outcome::Answered(answer(0, Err(Error::Compacted))),
            store::Error::FutureRevision => Outcome::Answered(answer(0, Err(Error::FutureRevision))),
            store::Error::LeaseNotFound => Outcome::Answered(answer(0, Err(Error::LeaseNotFound))),
            store::Error::LeaseExists => Outcome::Answered(answer(0, Err(Error::LeaseExists))),
            store::Error::KeyNotFound => Outcome::Answered(answer(0, Err(Error::KeyNotFound))),
            // Changes of the membership; no history is made of them.
            _ => Outcome::Refused,
        },
        Err(replica::Error::TooManyRequests) => Outcome::Refused,
        // "No leader" says only that nothing is known to have happened.
        Err(_) => Outcome::Unknown,
    }
}

fn has_nested(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|request| matches!(request, Request::Txn(_)))
}

fn blob(bytes: &Bytes) -> Blob {
    Blob::from(bytes.as_slice())
}

fn key_range(keys: &Keys) -> KeyRange {
    KeyRange::from_wire(keys.key.as_slice(), keys.range_end.as_slice())
}

fn put(put: &Put) -> store::Put {
    store::Put {
        key: blob(&put.key),
        value: (!put.ignore_value).then(|| blob(&put.value)),
        lease: (!put.ignore_lease).then_some(LeaseId(put.lease)),
        previous: put.prev_kv,
    }
}

fn range_query(range: &Range) -> store::RangeQuery {
    let sort = match range.sort_order {
        SortOrder::None => None,
        order => Some(store::Sort {
            by: match range.sort_target {
                SortTarget::Key => store::SortBy::Key,
                SortTarget::Version => store::SortBy::Version,
                SortTarget::Create => store::SortBy::Create,
                SortTarget::Mod => store::SortBy::Mod,
                SortTarget::Value => store::SortBy::Value,
            },
            descending: order == SortOrder::Descend,
            limit_first: false,
        }),
    };
    store::RangeQuery {
        range: key_range(&range.keys),
        revision: (range.revision > 0).then_some(Revision(range.revision)),
        limit: u64::try_from(range.limit).unwrap_or(0),
        sort,
        keys_only: range.keys_only,
        count_only: range.count_only,
        filter: None,
    }
}

/// A transaction with those nested in it, as a flat list of branches.
fn flatten(txn: &Txn) -> store::Txn {
    let mut branches = vec![store::Branch::default()];
    fill(txn, 0, &mut branches);
    store::Txn { branches }
}

fn fill(txn: &Txn, at: usize, branches: &mut Vec<store::Branch>) {
    branches[at].compares = txn.compares.iter().map(compare).collect();
    branches[at].success.reserve_exact(txn.success.len());
    branches[at].failure.reserve_exact(txn.failure.len());
    for request in &txn.success {
        let operation = operation(request, branches);
        branches[at].success.push(operation);
    }
    for request in &txn.failure {
        let operation = operation(request, branches);
        branches[at].failure.push(operation);
    }
}

fn operation(request: &Request, branches: &mut Vec<store::Branch>) -> store::Operation {
    match request {
        Request::Range(range) => store::Operation::Range(range_query(range)),
        Request::Put(value) => store::Operation::Put(put(value)),
        Request::Delete(delete) => store::Operation::DeleteRange(store::DeleteRange {
            range: key_range(&delete.keys),
            previous: delete.prev_kv,
        }),
        Request::Txn(txn) => {
            let at = branches.len();
            branches.push(store::Branch::default());
            fill(txn, at, branches);
            store::Operation::Nested(u32::try_from(at).expect("small transactions"))
        }
        other => unreachable!("no workload puts {other} into a transaction"),
    }
}

fn compare(compare: &Compare) -> store::Compare {
    store::Compare {
        range: key_range(&compare.keys),
        result: match compare.result {
            Relation::Equal => store::CompareResult::Equal,
            Relation::Greater => store::CompareResult::Greater,
            Relation::Less => store::CompareResult::Less,
            Relation::NotEqual => store::CompareResult::NotEqual,
        },
        target: match &compare.target {
            Target::Version(version) => store::CompareTarget::Version(*version),
            Target::Create(revision) => store::CompareTarget::Create(*revision),
            Target::Mod(revision) => store::CompareTarget::Mod(*revision),
            Target::Value(value) => store::CompareTarget::Value(blob(value)),
            Target::Lease(lease) => store::CompareTarget::Lease(*lease),
        },
    }
}

fn body(request: &Request, body: &replica::Body) -> Reply {
    match body {
        replica::Body::Store(response) => reply(response),
        replica::Body::KeptAlive { id, ttl } => Reply::Lease { id: id.0, ttl: *ttl },
        replica::Body::TimeToLive { id, ttl, .. } => Reply::Lease { id: id.0, ttl: *ttl },
        replica::Body::LeaderMoved { .. } | replica::Body::Status(_) => {
            unreachable!("no workload asks for this, nor does {request}")
        }
    }
}

fn reply(response: &store::Response) -> Reply {
    match response {
        store::Response::Put { previous } => Reply::Put { previous: previous.as_deref().map(key_value) },
        store::Response::Range(range) => Reply::Range {
            kvs: range.kvs.iter().map(|kv| listed(kv, range.keys_only)).collect(),
            more: range.more,
            count: range.count,
        },
        store::Response::DeleteRange { deleted, previous } => {
            Reply::Delete { deleted: *deleted, previous: previous.iter().map(|kv| key_value(kv)).collect() }
        }
        store::Response::Txn { succeeded, responses } => {
            Reply::Txn { succeeded: *succeeded, replies: responses.iter().map(reply).collect() }
        }
        store::Response::LeaseGranted { id, ttl } => Reply::Lease { id: id.0, ttl: *ttl },
        store::Response::Done => Reply::Done,
        other => unreachable!("no workload asks for {other:?}"),
    }
}

fn listed(kv: &store::KeyValue, keys_only: bool) -> KeyValue {
    let mut listed = key_value(kv);
    if keys_only {
        listed.value = Bytes::default();
    }
    listed
}

/// A version of a key in the checker's words.
#[must_use]
pub fn key_value(kv: &store::KeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::from(kv.key.as_slice()),
        value: Bytes::from(kv.value.as_slice()),
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        lease: kv.lease.0,
    }
}
