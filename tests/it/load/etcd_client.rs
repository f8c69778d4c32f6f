//! The crate etcd-client: a client that others have written, for etcd.

use std::time::Duration;

use etcd_client as theirs;
use etcd_client::{ConnectOptions, Error, TxnOp, TxnOpResponse};
use quorate_jepsen::etcd::{KeyValue, Reply};

use super::Client;
use super::recorder::{Operation, Outcome, key_value, range_reply};

#[derive(Clone)]
pub struct Theirs(theirs::Client);

/// gRPC's codes of requests that certainly had no effect: invalid argument, not found, already exists, permission
/// denied, resource exhausted, failed precondition, out of range, unimplemented.
const REFUSALS: [i32; 8] = [3, 5, 6, 7, 8, 9, 11, 12];

impl Client for Theirs {
    async fn connect(endpoints: &[String]) -> Self {
        let options = ConnectOptions::new().with_timeout(Duration::from_secs(5));
        Self(
            theirs::Client::connect(endpoints, Some(options))
                .await
                .expect("our own endpoints are well formed"),
        )
    }

    async fn perform(&self, operation: &Operation) -> Outcome {
        let mut kv = self.0.kv_client();
        let outcome = match operation {
            Operation::Get { key } => kv
                .get(key.as_str(), None)
                .await
                .map(|response| (revision(response.header()), reply_to_get(&response))),
            Operation::Put { key, value } => kv
                .put(key.as_str(), value.as_str(), None)
                .await
                .map(|response| (revision(response.header()), Reply::Put { previous: None })),
            Operation::Delete { key } => kv.delete(key.as_str(), None).await.map(|response| {
                let reply = Reply::Delete { deleted: response.deleted(), previous: vec![] };
                (revision(response.header()), reply)
            }),
            Operation::Swap { key, mod_revision, value } => {
                let txn = theirs::Txn::new()
                    .when([theirs::Compare::mod_revision(
                        key.as_str(),
                        theirs::CompareOp::Equal,
                        *mod_revision,
                    )])
                    .and_then([TxnOp::put(key.as_str(), value.as_str(), None)])
                    .or_else([TxnOp::get(key.as_str(), None)]);
                kv.txn(txn).await.map(|response| {
                    let replies = response.op_responses().iter().map(reply_to_operation).collect();
                    let reply = Reply::Txn { succeeded: response.succeeded(), replies };
                    (revision(response.header()), reply)
                })
            }
        };
        match outcome {
            Ok((revision, reply)) => Outcome::Answered { revision, reply },
            Err(Error::GRpcStatus(status)) if REFUSALS.contains(&(status.code() as i32)) => Outcome::Refused,
            Err(_) => Outcome::Unknown,
        }
    }
}

fn revision(header: Option<&theirs::ResponseHeader>) -> i64 {
    header.expect("responses have headers").revision()
}

fn reply_to_get(response: &theirs::GetResponse) -> Reply {
    range_reply(response.kvs().iter().map(version).collect(), response.more(), response.count())
}

fn reply_to_operation(response: &TxnOpResponse) -> Reply {
    match response {
        TxnOpResponse::Get(get) => reply_to_get(get),
        TxnOpResponse::Put(_) => Reply::Put { previous: None },
        other => panic!("nobody asked for {other:?}"),
    }
}

fn version(kv: &theirs::KeyValue) -> KeyValue {
    key_value(kv.key(), kv.value(), (kv.create_revision(), kv.mod_revision(), kv.version(), kv.lease()))
}
