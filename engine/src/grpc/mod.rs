//! gRPC, from HTTP/2 requests to the services of `quorate-api` and back.
//!
//! The protocol (github.com/grpc/grpc, PROTOCOL-HTTP2) is small, and so is this: a message is a flag byte,
//! a length and the encoding; a reply ends with the status in trailers; a path names the method. Doing it
//! here instead of in a framework leaves few allocations and no task per unary call, and gives the texts that
//! grpc-go's servers give. Streaming calls have a file per service; `call` has what all share.

mod call;
mod frame;
mod pipe;
mod status;

mod health;
mod lease;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use quorate_api::{Api, Code, Error, Limits, Metadata};
use quorate_node::Clock;

use crate::http::State;
use crate::metrics::Rpc;
use call::{Opening, Unary};

pub(crate) use frame::first_len;
pub(crate) use pipe::Pipe;
pub(crate) use status::Status;

/// A call on its way to a result.
pub(crate) type Running<R> = Pin<Box<dyn Future<Output = R> + Send>>;
/// The reply to a unary call: a message with its header.
pub(crate) type UnaryReply = Result<Bytes, Status>;
/// What a streaming call is talked to through, and what is to be polled until it ends.
pub(crate) type StreamReply = Result<(Arc<Pipe>, Running<Status>), Status>;

/// The method that a path names.
pub(crate) fn route(path: &[u8]) -> Result<Rpc, Status> {
    let path = String::from_utf8_lossy(path);
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return Err(Status::new(Code::Unimplemented, format!("malformed method name: {path:?}")));
    };
    Rpc::find(service, method).ok_or_else(|| {
        let text = if Rpc::is_service(service) {
            format!("unknown method {method} for service {service}")
        } else {
            format!("unknown service {service}")
        };
        Status::new(Code::Unimplemented, text)
    })
}

/// The longest message that is accepted.
pub(crate) fn bytes_max<C: Clock>(api: &Api<C>) -> usize {
    api.config().limits.request_bytes_max + Limits::OVERHEAD_BYTES
}

/// Answers a call with one message in each direction; `body` is all that the client has sent.
pub(crate) fn unary<C: Clock, R: From<UnaryReply>>(
    state: Arc<State<C>>,
    rpc: Rpc,
    metadata: Result<Metadata, Error>,
    body: Vec<u8>,
) -> Running<R> {
    let call = Unary { state, rpc, metadata, body };
    // One future per method, so that each is no larger than it must be.
    macro_rules! answer {
        ($method:expr) => {
            Box::pin(async move { call.answer($method).await.into() })
        };
    }
    match rpc {
        Rpc::Range => answer!(Api::range),
        Rpc::Put => answer!(Api::put),
        Rpc::DeleteRange => answer!(Api::delete_range),
        Rpc::Txn => answer!(Api::txn),
        Rpc::Compact => answer!(Api::compact),
        Rpc::LeaseGrant => answer!(Api::lease_grant),
        Rpc::LeaseRevoke => answer!(Api::lease_revoke),
        Rpc::LeaseTimeToLive => answer!(Api::lease_time_to_live),
        Rpc::LeaseLeases => answer!(Api::lease_leases),
        Rpc::MemberList => answer!(Api::member_list),
        Rpc::MemberAdd => answer!(Api::member_add),
        Rpc::MemberRemove => answer!(Api::member_remove),
        Rpc::MemberUpdate => answer!(Api::member_update),
        Rpc::MemberPromote => answer!(Api::member_promote),
        Rpc::MemberDemote => answer!(Api::member_demote),
        Rpc::Status => answer!(Api::status),
        Rpc::HashKv => answer!(Api::hash_kv),
        Rpc::MoveLeader => answer!(Api::move_leader),
        Rpc::Alarm => answer!(Api::alarm),
        Rpc::HealthCheck => {
            answer!(async |api: &Api<C>, request, metadata| api.health_check(&request, metadata))
        }
        Rpc::Watch | Rpc::LeaseKeepAlive | Rpc::HealthWatch => unreachable!("{rpc:?} is a stream"),
    }
}

/// Opens a call with messages both ways.
pub(crate) fn stream<C: Clock>(
    state: Arc<State<C>>,
    rpc: Rpc,
    metadata: Result<Metadata, Error>,
) -> StreamReply {
    let opening = Opening { state, rpc, metadata };
    match rpc {
        Rpc::Watch => opening.stream(Api::watch, watch::watch),
        Rpc::LeaseKeepAlive => {
            opening.stream(|api, metadata| api.admit(metadata).map(|()| metadata), lease::keep_alive)
        }
        Rpc::HealthWatch => {
            opening.stream(|api, metadata| api.admit(metadata).map(|()| metadata), health::watch)
        }
        _ => unreachable!("{rpc:?} is no stream"),
    }
}
