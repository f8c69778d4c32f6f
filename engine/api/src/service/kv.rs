//! etcd's KV service.

use prost::Message;
use quorate_node::Clock;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::request_op;
use quorate_replica::{Consistency, Request};
use quorate_store::{Command, Query, Response};

use super::{Api, Metadata};
use crate::convert;
use crate::error::Error;

/// What etcd's log entry holds beside a write: tags, lengths, the request's id. It counts against
/// `--max-request-bytes`.
const ENTRY_OVERHEAD_BYTES: usize = 18;

impl<C: Clock> Api<C> {
    /// Reads the keys of a range.
    pub async fn range(
        &self,
        request: pb::RangeRequest,
        metadata: Metadata,
    ) -> Result<pb::RangeResponse, Error> {
        if request.serializable {
            self.admit_at_learner(metadata)?;
        } else {
            self.admit(metadata)?;
        }
        let query = Query::Range(convert::range(&request)?);
        let consistency = consistency(request.serializable);
        match self.ask_store(Request::Query { query, consistency }).await? {
            (header, Response::Range(range)) => Ok(convert::range_response(Some(header), &range)),
            (_, other) => unreachable!("a range was answered with {other:?}"),
        }
    }

    /// Writes a key.
    pub async fn put(&self, request: pb::PutRequest, metadata: Metadata) -> Result<pb::PutResponse, Error> {
        self.admit(metadata)?;
        let command = Command::Put(convert::put(&request)?);
        self.check_size(&request)?;
        match self.ask_store(Request::Command(command)).await? {
            (header, Response::Put { previous }) => {
                Ok(pb::PutResponse { header: Some(header), prev_kv: convert::previous(previous.as_deref()) })
            }
            (_, other) => unreachable!("a put was answered with {other:?}"),
        }
    }

    /// Deletes the keys of a range.
    pub async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
        metadata: Metadata,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        self.admit(metadata)?;
        let command = Command::DeleteRange(convert::delete_range(&request)?);
        self.check_size(&request)?;
        match self.ask_store(Request::Command(command)).await? {
            (header, Response::DeleteRange { deleted, previous }) => Ok(pb::DeleteRangeResponse {
                header: Some(header),
                deleted,
                prev_kvs: previous.iter().filter_map(|kv| convert::previous(Some(kv))).collect(),
            }),
            (_, other) => unreachable!("a deletion was answered with {other:?}"),
        }
    }

    /// Compares, then does one of two lists of operations. A transaction that only reads does not
    /// enter the log.
    pub async fn txn(&self, request: pb::TxnRequest, metadata: Metadata) -> Result<pb::TxnResponse, Error> {
        self.admit(metadata)?;
        let txn = convert::txn(&request, &self.config.limits)?;
        let question = if let Some(consistency) = reads_only(&request) {
            Request::Query { query: Query::Txn(txn), consistency }
        } else {
            self.check_size(&request)?;
            Request::Command(Command::Txn(txn))
        };
        match self.ask_store(question).await? {
            (header, Response::Txn { succeeded, responses }) => Ok(pb::TxnResponse {
                header: Some(header),
                succeeded,
                responses: convert::txn_responses(&responses, header.revision),
            }),
            (_, other) => unreachable!("a transaction was answered with {other:?}"),
        }
    }

    /// Forgets superseded versions. Memory holds the keys, so that `physical` asks for nothing more.
    pub async fn compact(
        &self,
        request: pb::CompactionRequest,
        metadata: Metadata,
    ) -> Result<pb::CompactionResponse, Error> {
        self.admit(metadata)?;
        let command = Command::Compact(convert::compact(&request)?);
        let (header, _) = self.ask_store(Request::Command(command)).await?;
        Ok(pb::CompactionResponse { header: Some(header) })
    }

    fn check_size(&self, request: &impl Message) -> Result<(), Error> {
        if request.encoded_len() + ENTRY_OVERHEAD_BYTES > self.config.limits.request_bytes_max {
            return Err(Error::RequestTooLarge);
        }
        Ok(())
    }
}

fn consistency(serializable: bool) -> Consistency {
    if serializable { Consistency::Serializable } else { Consistency::Linearizable }
}

/// How to read, if all operations are ranges. Serializable if each of them is; in etcd also if there is
/// none, but then the compares are all that is asked, and deserve a true answer.
fn reads_only(request: &pb::TxnRequest) -> Option<Consistency> {
    let mut serializable = !(request.success.is_empty() && request.failure.is_empty());
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(request_op::Request::RequestRange(range)) => serializable &= range.serializable,
            _ => return None,
        }
    }
    Some(consistency(serializable))
}
