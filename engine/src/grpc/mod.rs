//! gRPC, from hyper's requests to the services of `quorate-api` and back.
//!
//! The protocol (github.com/grpc/grpc, PROTOCOL-HTTP2) is small, and so is this: a message is a flag byte,
//! a length and the encoding; a reply ends with the status in trailers; a path names the method. Doing it
//! here instead of in a framework leaves one buffer and one allocated task per unary call, and gives
//! the texts that grpc-go's servers give. There is one file per etcd service, without logic; `call` has what
//! they share.

mod body;
mod call;
mod frame;
mod status;

mod cluster;
mod health;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use quorate_api::Code;
use quorate_node::Clock;

use crate::http::State;
use call::Call;
use status::Status;

pub(crate) use body::ReplyBody;

/// Whether a request is one of ours.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers a gRPC request.
pub(crate) async fn respond<C: Clock>(
    state: Arc<State<C>>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        let text = format!("malformed method name: {path:?}");
        return Status::new(Code::Unimplemented, text).into_response();
    };
    let call = Call::new(state, &head.headers, body);
    let reply = match service {
        "etcdserverpb.KV" => kv::serve(call, method).await,
        // What is called less often is boxed, to keep the future of a KV call small.
        "etcdserverpb.Watch" => watch::serve(call, method),
        "etcdserverpb.Lease" => Box::pin(lease::serve(call, method)).await,
        "etcdserverpb.Cluster" => Box::pin(cluster::serve(call, method)).await,
        "etcdserverpb.Maintenance" => Box::pin(maintenance::serve(call, method)).await,
        "grpc.health.v1.Health" => Box::pin(health::serve(call, method)).await,
        _ => Err(Status::new(Code::Unimplemented, format!("unknown service {service}"))),
    };
    reply.unwrap_or_else(Status::into_response)
}

/// The answer to a method that a service does not have.
fn unknown_method(service: &str, method: &str) -> Status {
    Status::new(Code::Unimplemented, format!("unknown method {method} for service {service}"))
}
