//! Calls from clients: encoded protobuf over simulated links, to the same services that gRPC serves.
//!
//! What gRPC itself would do between the two is not simulated, except for what matters to a client: a
//! connection that cannot be made is known to have done nothing, and one that breaks leaves the outcome
//! unknown.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use quorate_api::{Error as ApiError, Metadata};
use quorate_jepsen::etcd::{Error, Reply, Request, Response};
use quorate_proto::etcdserverpb as pb;
use quorate_raft::NodeId;
use quorate_sim::workload::Outcome;
use tokio::sync::oneshot;

use super::cluster::{Api, Shared};
use super::convert;
use super::env::{lock, now, until};

/// A called method and its encoded message.
struct Call {
    method: Method,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
}

/// Asks a member, and waits for the answer as long as `patience` lasts.
pub async fn call(shared: &Arc<Shared>, member: NodeId, request: &Request, patience: Duration) -> Outcome {
    let call = encode(request);
    let Some(arrival) = lock(&shared.network).send_client(now(), member) else {
        madsim::time::sleep(REFUSAL).await;
        return Outcome::Refused;
    };
    until(arrival).await;
    let (answer, answered) = oneshot::channel();
    let served = shared.serve(member, {
        let shared = Arc::clone(shared);
        move |api| async move {
            let result = serve(&api, &call).await;
            let arrival = lock(&shared.network).send_client(now(), member);
            if let Some(arrival) = arrival {
                let _ = answer.send((arrival, result));
            }
        }
    });
    let Some(task) = served else {
        madsim::time::sleep(REFUSAL).await;
        return Outcome::Refused;
    };
    let outcome = match madsim::time::timeout(patience, answered).await {
        Ok(Ok((arrival, result))) => {
            until(arrival).await;
            outcome(member, request, result)
        }
        // The connection broke, or it took too long.
        Ok(Err(_)) | Err(_) => Outcome::Unknown,
    };
    // A client that does not wait any more cancels the call.
    task.abort();
    outcome
}

fn encode(request: &Request) -> Call {
    let call = |method, message: &dyn Fn() -> Vec<u8>| Call { method, bytes: message() };
    match request {
        Request::Range(range) => call(Method::Range, &|| convert::range(range).encode_to_vec()),
        Request::Put(put) => call(Method::Put, &|| convert::put(put).encode_to_vec()),
        Request::Delete(delete) => call(Method::DeleteRange, &|| convert::delete(delete).encode_to_vec()),
        Request::Txn(txn) => call(Method::Txn, &|| convert::txn(txn).encode_to_vec()),
        &Request::Compact { revision } => call(Method::Compact, &|| {
            pb::CompactionRequest { revision, ..Default::default() }.encode_to_vec()
        }),
        &Request::LeaseGrant { id, ttl } => {
            call(Method::LeaseGrant, &|| pb::LeaseGrantRequest { ttl, id }.encode_to_vec())
        }
        &Request::LeaseRevoke { id } => {
            call(Method::LeaseRevoke, &|| pb::LeaseRevokeRequest { id }.encode_to_vec())
        }
        &Request::LeaseKeepAlive { id } => {
            call(Method::LeaseKeepAlive, &|| pb::LeaseKeepAliveRequest { id }.encode_to_vec())
        }
        &Request::LeaseTimeToLive { id } => {
            call(Method::LeaseTimeToLive, &|| pb::LeaseTimeToLiveRequest { id, keys: false }.encode_to_vec())
        }
    }
}

/// An encoded response, or the error that gRPC would carry as a status.
type Served = Result<Vec<u8>, ApiError>;

async fn serve(api: &Api, call: &Call) -> Served {
    let none = Metadata::default();
    let bytes = &call.bytes[..];
    Ok(match call.method {
        Method::Range => api.range(decode(bytes), none).await?.encode_to_vec(),
        Method::Put => api.put(decode(bytes), none).await?.encode_to_vec(),
        Method::DeleteRange => api.delete_range(decode(bytes), none).await?.encode_to_vec(),
        Method::Txn => api.txn(decode(bytes), none).await?.encode_to_vec(),
        Method::Compact => api.compact(decode(bytes), none).await?.encode_to_vec(),
        Method::LeaseGrant => api.lease_grant(decode(bytes), none).await?.encode_to_vec(),
        Method::LeaseRevoke => api.lease_revoke(decode(bytes), none).await?.encode_to_vec(),
        Method::LeaseKeepAlive => api.lease_keep_alive(decode(bytes), none).await?.encode_to_vec(),
        Method::LeaseTimeToLive => api.lease_time_to_live(decode(bytes), none).await?.encode_to_vec(),
    })
}

fn decode<M: Message + Default>(bytes: &[u8]) -> M {
    M::decode(bytes).expect("what was encoded can be decoded")
}

fn outcome(member: NodeId, request: &Request, served: Served) -> Outcome {
    let refused =
        |error| Outcome::Answered(Response { revision: 0, member: Some(member.0), result: Err(error) });
    let bytes = match served {
        Ok(bytes) => bytes,
        Err(ApiError::Compacted) => return refused(Error::Compacted),
        Err(ApiError::FutureRevision) => return refused(Error::FutureRevision),
        Err(ApiError::LeaseNotFound) => return refused(Error::LeaseNotFound),
        Err(ApiError::LeaseExists) => return refused(Error::LeaseExists),
        Err(ApiError::KeyNotFound) => return refused(Error::KeyNotFound),
        Err(ApiError::TooManyRequests | ApiError::NoSpace) => return Outcome::Refused,
        Err(ApiError::NoLeader | ApiError::Stopped | ApiError::Timeout | ApiError::TimeoutLeaderChanged) => {
            return Outcome::Unknown;
        }
        Err(error) => panic!("no workload asks for what is answered with: {error}"),
    };
    let (header, reply) = reply(request, &bytes);
    let revision = header.expect("every response has a header").revision;
    Outcome::Answered(Response { revision, member: Some(member.0), result: Ok(reply) })
}

fn reply(request: &Request, bytes: &[u8]) -> (Option<pb::ResponseHeader>, Reply) {
    match request {
        Request::Range(_) => {
            let response: pb::RangeResponse = decode(bytes);
            (response.header, convert::range_reply(&response))
        }
        Request::Put(_) => {
            let response: pb::PutResponse = decode(bytes);
            (response.header, convert::put_reply(&response))
        }
        Request::Delete(_) => {
            let response: pb::DeleteRangeResponse = decode(bytes);
            (response.header, convert::delete_reply(&response))
        }
        Request::Txn(_) => {
            let response: pb::TxnResponse = decode(bytes);
            (response.header, convert::txn_reply(&response))
        }
        Request::Compact { .. } => (decode::<pb::CompactionResponse>(bytes).header, Reply::Done),
        Request::LeaseRevoke { .. } => (decode::<pb::LeaseRevokeResponse>(bytes).header, Reply::Done),
        Request::LeaseGrant { .. } => {
            let response: pb::LeaseGrantResponse = decode(bytes);
            (response.header, Reply::Lease { id: response.id, ttl: response.ttl })
        }
        Request::LeaseKeepAlive { .. } => {
            let response: pb::LeaseKeepAliveResponse = decode(bytes);
            (response.header, Reply::Lease { id: response.id, ttl: response.ttl })
        }
        Request::LeaseTimeToLive { .. } => {
            let response: pb::LeaseTimeToLiveResponse = decode(bytes);
            (response.header, Reply::Lease { id: response.id, ttl: response.ttl })
        }
    }
}

/// How long a client takes to notice that nobody listens.
pub const REFUSAL: Duration = Duration::from_millis(1);
