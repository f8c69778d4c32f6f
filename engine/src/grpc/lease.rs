//! etcd's Lease service: its stream.

use quorate_api::Metadata;
use quorate_node::Clock;

use super::call::Stream;
use super::status::Status;

/// Answers one message after the other, until the client sends no more.
pub(super) async fn keep_alive<C: Clock>(metadata: Metadata, mut stream: Stream<C>) -> Status {
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
