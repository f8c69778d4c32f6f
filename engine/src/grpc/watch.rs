//! etcd's Watch service.

use quorate_api::{Api, WatchSession};
use quorate_node::Clock;
use quorate_proto::etcdserverpb as pb;

use super::call::{Call, Reply, Stream};
use super::status::Status;
use super::unknown_method;
use crate::metrics::Rpc;

pub(super) fn serve<C: Clock>(call: Call<C>, method: &str) -> Reply {
    match method {
        "Watch" => call.stream(Rpc::Watch, Api::watch, watch),
        _ => Err(unknown_method("etcdserverpb.Watch", method)),
    }
}

/// Passes requests in and responses out. A client that sends no more may go on watching.
async fn watch<C: Clock>(mut session: WatchSession<C>, mut stream: Stream<C>) -> Status {
    let mut more = true;
    loop {
        tokio::select! {
            request = stream.next::<pb::WatchRequest>(), if more => match request {
                Ok(Some(request)) => session.handle(&request),
                Ok(None) => more = false,
                Err(status) => return status,
            },
            response = session.next() => match response {
                Ok(response) => stream.send(&response).await,
                Err(error) => return error.into(),
            },
        }
    }
}
