//! Between the words of the checker and etcd's protobuf messages: what a client library would do.

use prost::bytes::Bytes as Wire;
use quorate_jepsen::etcd::{
    Bytes, Compare, Event, KeyValue, Keys, Relation, Reply, Request, SortOrder, SortTarget, Target, Txn,
    WatchRequest, WatchResponse,
};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_proto::etcdserverpb::{request_op, response_op};
use quorate_proto::mvccpb;

fn wire(bytes: &Bytes) -> Wire {
    Wire::copy_from_slice(bytes.as_slice())
}

fn range_end(keys: &Keys) -> Wire {
    wire(&keys.range_end)
}

pub fn range(range: &quorate_jepsen::etcd::Range) -> pb::RangeRequest {
    pb::RangeRequest {
        key: wire(&range.keys.key),
        range_end: range_end(&range.keys),
        limit: range.limit,
        revision: range.revision,
        sort_order: match range.sort_order {
            SortOrder::None => 0,
            SortOrder::Ascend => 1,
            SortOrder::Descend => 2,
        },
        sort_target: match range.sort_target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::Create => 2,
            SortTarget::Mod => 3,
            SortTarget::Value => 4,
        },
        serializable: range.serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        ..Default::default()
    }
}

pub fn put(put: &quorate_jepsen::etcd::Put) -> pb::PutRequest {
    pb::PutRequest {
        key: wire(&put.key),
        value: wire(&put.value),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

pub fn delete(delete: &quorate_jepsen::etcd::Delete) -> pb::DeleteRangeRequest {
    let (key, range_end) = (wire(&delete.keys.key), range_end(&delete.keys));
    pb::DeleteRangeRequest { key, range_end, prev_kv: delete.prev_kv }
}

pub fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(operation).collect(),
        failure: txn.failure.iter().map(operation).collect(),
    }
}

fn operation(request: &Request) -> pb::RequestOp {
    let request = match request {
        Request::Range(value) => request_op::Request::RequestRange(range(value)),
        Request::Put(value) => request_op::Request::RequestPut(put(value)),
        Request::Delete(value) => request_op::Request::RequestDeleteRange(delete(value)),
        Request::Txn(value) => request_op::Request::RequestTxn(txn(value)),
        other => unreachable!("no workload puts {other} into a transaction"),
    };
    pb::RequestOp { request: Some(request) }
}

fn compare(compare: &Compare) -> pb::Compare {
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
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(wire(value))),
        Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(*lease)),
    };
    pb::Compare {
        result: result as i32,
        target: target as i32,
        key: wire(&compare.keys.key),
        range_end: range_end(&compare.keys),
        target_union: Some(union),
    }
}

pub fn watch(request: &WatchRequest) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: wire(&request.keys.key),
        range_end: range_end(&request.keys),
        start_revision: request.start_revision,
        prev_kv: request.prev_kv,
        ..Default::default()
    }
}

pub fn key_value(kv: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: Bytes::from(&kv.key[..]),
        value: Bytes::from(&kv.value[..]),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub fn range_reply(response: &pb::RangeResponse) -> Reply {
    let kvs = response.kvs.iter().map(key_value).collect();
    Reply::Range { kvs, more: response.more, count: response.count }
}

pub fn put_reply(response: &pb::PutResponse) -> Reply {
    Reply::Put { previous: response.prev_kv.as_ref().map(key_value) }
}

pub fn delete_reply(response: &pb::DeleteRangeResponse) -> Reply {
    Reply::Delete { deleted: response.deleted, previous: response.prev_kvs.iter().map(key_value).collect() }
}

pub fn txn_reply(response: &pb::TxnResponse) -> Reply {
    let reply = |response: &pb::ResponseOp| match &response.response {
        Some(response_op::Response::ResponseRange(value)) => range_reply(value),
        Some(response_op::Response::ResponsePut(value)) => put_reply(value),
        Some(response_op::Response::ResponseDeleteRange(value)) => delete_reply(value),
        Some(response_op::Response::ResponseTxn(value)) => txn_reply(value),
        None => panic!("a transaction's operation without an answer"),
    };
    Reply::Txn { succeeded: response.succeeded, replies: response.responses.iter().map(reply).collect() }
}

pub fn watch_response(response: &pb::WatchResponse, at: u64) -> WatchResponse {
    WatchResponse {
        at,
        revision: response.header.as_ref().map_or(0, |header| header.revision),
        created: response.created,
        canceled: response.canceled,
        compact_revision: response.compact_revision,
        fragment: response.fragment,
        events: response.events.iter().map(event).collect(),
    }
}

fn event(event: &mvccpb::Event) -> Event {
    Event {
        deleted: event.r#type == mvccpb::event::EventType::Delete as i32,
        kv: event.kv.as_ref().map(key_value).expect("an event has its key"),
        previous: event.prev_kv.as_ref().map(key_value),
    }
}
