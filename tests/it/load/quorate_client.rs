//! The clients of this workspace.

use quorate_client::proto::etcdserverpb as pb;
use quorate_client::proto::mvccpb;
use quorate_client::{Error, Options};
use quorate_jepsen::etcd::{KeyValue, Reply};

use super::Client;
use super::recorder::{Operation, Outcome, key_value, range_reply};

#[derive(Clone)]
pub struct Ours(quorate_client::Client);

impl Client for Ours {
    async fn connect(endpoints: &[String]) -> Self {
        Self(
            quorate_client::Client::new(endpoints, Options::default())
                .expect("our own endpoints are well formed"),
        )
    }

    async fn perform(&self, operation: &Operation) -> Outcome {
        let outcome = match operation {
            Operation::Get { key } => self.0.range(range(key)).await.map(|response| {
                let revision = revision(response.header.as_ref());
                (revision, reply_to_range(&response))
            }),
            Operation::Put { key, value } => self
                .0
                .put(put(key, value))
                .await
                .map(|response| (revision(response.header.as_ref()), Reply::Put { previous: None })),
            Operation::Delete { key } => {
                let request = pb::DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
                self.0.delete_range(request).await.map(|response| {
                    let reply = Reply::Delete { deleted: response.deleted, previous: vec![] };
                    (revision(response.header.as_ref()), reply)
                })
            }
            Operation::Swap { key, mod_revision, value } => {
                self.0.txn(swap(key, *mod_revision, value)).await.map(|response| {
                    let replies = response.responses.iter().map(reply_to_operation).collect();
                    let reply = Reply::Txn { succeeded: response.succeeded, replies };
                    (revision(response.header.as_ref()), reply)
                })
            }
        };
        match outcome {
            Ok((revision, reply)) => Outcome::Answered { revision, reply },
            Err(Error::Unknown { .. }) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        }
    }
}

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn swap(key: &str, mod_revision: i64, value: &str) -> pb::TxnRequest {
    let operation = |request| vec![pb::RequestOp { request: Some(request) }];
    let compare = pb::Compare {
        target: pb::compare::CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(mod_revision)),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: operation(pb::request_op::Request::RequestPut(put(key, value))),
        failure: operation(pb::request_op::Request::RequestRange(range(key))),
    }
}

fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.expect("responses have headers").revision
}

fn reply_to_range(response: &pb::RangeResponse) -> Reply {
    range_reply(response.kvs.iter().map(version).collect(), response.more, response.count)
}

fn reply_to_operation(response: &pb::ResponseOp) -> Reply {
    match response.response.as_ref().expect("an operation has a response") {
        pb::response_op::Response::ResponseRange(range) => reply_to_range(range),
        pb::response_op::Response::ResponsePut(_) => Reply::Put { previous: None },
        other => panic!("nobody asked for {other:?}"),
    }
}

/// A version of a key, in the checker's terms.
pub fn version(kv: &mvccpb::KeyValue) -> KeyValue {
    key_value(&kv.key, &kv.value, (kv.create_revision, kv.mod_revision, kv.version, kv.lease))
}
