//! The checker's requests as etcd's messages, and etcd's messages as the checker's replies.
//!
//! The checker imports nothing of ours, and the product knows nothing of the checker; whoever tests the one with the other
//! (the simulator, `jepsen/run`) speaks both.
#![forbid(unsafe_code)]

use quorate_jepsen::etcd::{
    Bytes, Compare, Delete, Event, KeyValue, Put, Range, Relation, Reply, Request, SortOrder, SortTarget,
    Target, Txn, WatchRequest, WatchResponse,
};
use quorate_proto::{etcdserverpb as pb, mvccpb};

fn wire(bytes: &Bytes) -> Vec<u8> {
    bytes.as_slice().to_vec()
}

/// A read.
#[must_use]
pub fn range(range: &Range) -> pb::RangeRequest {
    pb::RangeRequest {
        key: wire(&range.keys.key).into(),
        range_end: wire(&range.keys.range_end).into(),
        limit: range.limit,
        revision: range.revision,
        sort_order: match range.sort_order {
            SortOrder::None => pb::range_request::SortOrder::None,
            SortOrder::Ascend => pb::range_request::SortOrder::Ascend,
            SortOrder::Descend => pb::range_request::SortOrder::Descend,
        }
        .into(),
        sort_target: match range.sort_target {
            SortTarget::Key => pb::range_request::SortTarget::Key,
            SortTarget::Version => pb::range_request::SortTarget::Version,
            SortTarget::Create => pb::range_request::SortTarget::Create,
            SortTarget::Mod => pb::range_request::SortTarget::Mod,
            SortTarget::Value => pb::range_request::SortTarget::Value,
        }
        .into(),
        serializable: range.serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        ..Default::default()
    }
}

/// A write.
#[must_use]
pub fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: wire(&put.key).into(),
        value: wire(&put.value).into(),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

/// A deletion.
#[must_use]
pub fn delete(delete: &Delete) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: wire(&delete.keys.key).into(),
        range_end: wire(&delete.keys.range_end).into(),
        prev_kv: delete.prev_kv,
    }
}

/// A transaction.
#[must_use]
pub fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(operation).collect(),
        failure: txn.failure.iter().map(operation).collect(),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let result = match compare.result {
        Relation::Equal => CompareResult::Equal,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
        Relation::NotEqual => CompareResult::NotEqual,
    };
    let (target, union) = match &compare.target {
        Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
        Target::Create(revision) => (CompareTarget::Create, TargetUnion::CreateRevision(*revision)),
        Target::Mod(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(*revision)),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(wire(value).into())),
        Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(*lease)),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: wire(&compare.keys.key).into(),
        range_end: wire(&compare.keys.range_end).into(),
        target_union: Some(union),
    }
}

fn operation(request: &Request) -> pb::RequestOp {
    use pb::request_op::Request as Op;
    let request = match request {
        Request::Range(inner) => Op::RequestRange(range(inner)),
        Request::Put(inner) => Op::RequestPut(put(inner)),
        Request::Delete(inner) => Op::RequestDeleteRange(delete(inner)),
        Request::Txn(inner) => Op::RequestTxn(txn(inner)),
        other => unreachable!("no workload puts {other} into a transaction"),
    };
    pb::RequestOp { request: Some(request) }
}

/// One version.
#[must_use]
pub fn version(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::from(&kv.key[..]),
        value: Bytes::from(&kv.value[..]),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// The reply to a read.
#[must_use]
pub fn range_reply(response: pb::RangeResponse) -> Reply {
    let kvs = response.kvs.into_iter().map(version).collect();
    Reply::Range { kvs, more: response.more, count: response.count }
}

/// The reply to a write.
#[must_use]
pub fn put_reply(response: pb::PutResponse) -> Reply {
    Reply::Put { previous: response.prev_kv.map(version) }
}

/// The reply to a deletion.
#[must_use]
pub fn delete_reply(response: pb::DeleteRangeResponse) -> Reply {
    Reply::Delete {
        deleted: response.deleted,
        previous: response.prev_kvs.into_iter().map(version).collect(),
    }
}

/// The reply to a transaction.
#[must_use]
pub fn txn_reply(response: pb::TxnResponse) -> Reply {
    use pb::response_op::Response as Op;
    let reply = |part: pb::ResponseOp| match part.response {
        Some(Op::ResponseRange(inner)) => range_reply(inner),
        Some(Op::ResponsePut(inner)) => put_reply(inner),
        Some(Op::ResponseDeleteRange(inner)) => delete_reply(inner),
        Some(Op::ResponseTxn(inner)) => txn_reply(inner),
        None => Reply::Done,
    };
    Reply::Txn { succeeded: response.succeeded, replies: response.responses.into_iter().map(reply).collect() }
}

/// What a watch asks for.
#[must_use]
pub fn watch(request: &WatchRequest) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: wire(&request.keys.key).into(),
        range_end: wire(&request.keys.range_end).into(),
        start_revision: request.start_revision,
        prev_kv: request.prev_kv,
        progress_notify: true,
        ..Default::default()
    }
}

/// What arrived on a watch.
#[must_use]
pub fn watch_response(response: pb::WatchResponse, at: u64) -> WatchResponse {
    let event = |event: mvccpb::Event| Event {
        deleted: event.r#type() == mvccpb::event::EventType::Delete,
        kv: event.kv.map(version).unwrap_or_default(),
        previous: event.prev_kv.map(version),
    };
    WatchResponse {
        at,
        revision: response.header.map_or(0, |header| header.revision),
        created: response.created,
        canceled: response.canceled,
        compact_revision: response.compact_revision,
        fragment: response.fragment,
        events: response.events.into_iter().map(event).collect(),
    }
}
