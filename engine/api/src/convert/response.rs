//! From what the store answers to etcd's messages.

use bytes::Bytes;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::response_op;
use quorate_proto::mvccpb;
use quorate_store::{Blob, Event, EventKind, KeyValue, RangeResponse, Response};

/// From this length on, sharing a value costs less than copying it.
const SHARED_BYTES_MIN: usize = 1024;

/// The bytes of a key or a value for a message that is about to be encoded.
pub(crate) fn key_bytes(blob: &Blob) -> Bytes {
    if blob.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(blob) } else { Bytes::from_owner(blob.clone()) }
}

fn key_value(kv: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue { value: key_bytes(&kv.value), ..key_only(kv) }
}

fn key_only(kv: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: key_bytes(&kv.key),
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: Bytes::new(),
        lease: kv.lease.0,
    }
}

/// The version before a put, if there was one and it was asked for.
pub(crate) fn previous(kv: Option<&KeyValue>) -> Option<mvccpb::KeyValue> {
    kv.map(key_value)
}

pub(crate) fn range_response(
    header: Option<pb::ResponseHeader>,
    response: &RangeResponse,
) -> pb::RangeResponse {
    let render = if response.keys_only { key_only } else { key_value };
    pb::RangeResponse {
        header,
        kvs: response.kvs.iter().map(|kv| render(kv)).collect(),
        more: response.more,
        count: response.count,
    }
}

pub(crate) fn event(event: &Event) -> mvccpb::Event {
    let (r#type, kv) = match &event.kind {
        EventKind::Put(kv) => (mvccpb::event::EventType::Put, key_value(kv)),
        EventKind::Delete { key, revision } => (
            mvccpb::event::EventType::Delete,
            mvccpb::KeyValue { key: key_bytes(key), mod_revision: revision.0, ..Default::default() },
        ),
    };
    mvccpb::Event { r#type: r#type.into(), kv: Some(kv), prev_kv: previous(event.previous.as_deref()) }
}

/// The answers to the operations of a transaction after which the store was at `revision`.
///
/// The header of an inner answer holds only the revision that the operation saw: the one before the
/// transaction until something is changed, the transaction's own from then on.
pub(crate) fn txn_responses(responses: &[Response], revision: i64) -> Vec<pb::ResponseOp> {
    let before = if responses.iter().any(changes) { revision - 1 } else { revision };
    inner_responses(responses, before, &mut false)
}

/// The recursion is bounded by the depth of the request (`Limits::txn_depth_max`).
fn inner_responses(responses: &[Response], before: i64, changed: &mut bool) -> Vec<pb::ResponseOp> {
    let render = |response: &Response| {
        *changed |= changes_itself(response);
        let header =
            Some(pb::ResponseHeader { revision: before + i64::from(*changed), ..Default::default() });
        let response = match response {
            Response::Range(range) => response_op::Response::ResponseRange(range_response(header, range)),
            Response::Put { previous: kv } => response_op::Response::ResponsePut(pb::PutResponse {
                header,
                prev_kv: previous(kv.as_deref()),
            }),
            Response::DeleteRange { deleted, previous } => {
                response_op::Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                    header,
                    deleted: *deleted,
                    prev_kvs: previous.iter().map(|kv| key_value(kv)).collect(),
                })
            }
            Response::Txn { succeeded, responses } => response_op::Response::ResponseTxn(pb::TxnResponse {
                header: Some(pb::ResponseHeader::default()),
                succeeded: *succeeded,
                responses: inner_responses(responses, before, changed),
            }),
            _ => unreachable!("the operations of a transaction are ranges, puts, deletions, transactions"),
        };
        pb::ResponseOp { response: Some(response) }
    };
    responses.iter().map(render).collect()
}

/// Whether an operation, or one nested in it, changed a key.
fn changes(response: &Response) -> bool {
    match response {
        Response::Txn { responses, .. } => responses.iter().any(changes),
        response => changes_itself(response),
    }
}

fn changes_itself(response: &Response) -> bool {
    match response {
        Response::Put { .. } => true,
        Response::DeleteRange { deleted, .. } => *deleted > 0,
        _ => false,
    }
}
