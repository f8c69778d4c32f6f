//! etcd's Lease service.

use quorate_api::{Api, Metadata};
use quorate_node::Clock;

use super::call::{Call, Reply, Stream};
use super::status::Status;
use super::unknown_method;
use crate::metrics::Rpc;

pub(super) async fn serve<C: Clock>(call: Call<C>, method: &str) -> Reply {
    match method {
        "LeaseGrant" => call.unary(Rpc::LeaseGrant, Api::lease_grant).await,
        "LeaseRevoke" => call.unary(Rpc::LeaseRevoke, Api::lease_revoke).await,
        "LeaseTimeToLive" => call.unary(Rpc::LeaseTimeToLive, Api::lease_time_to_live).await,
        "LeaseLeases" => call.unary(Rpc::LeaseLeases, Api::lease_leases).await,
        "LeaseKeepAlive" => call.stream(Rpc::LeaseKeepAlive, |_, metadata| Ok(metadata), keep_alive),
        _ => Err(unknown_method("etcdserverpb.Lease", method)),
    }
}

/// Answers one message after the other, until the client sends no more.
async fn keep_alive<C: Clock>(metadata: Metadata, mut stream: Stream<C>) -> Status {
    loop {
        let request = match stream.next().await {
            Ok(Some(request)) => request,
            Ok(None) => return Status::OK,
            Err(status) => return status,
        };
        match stream.state.api.lease_keep_alive(request, metadata).await {
            Ok(response) => stream.send(&response).await,
            Err(error) => return error.into(),
        }
    }
}
