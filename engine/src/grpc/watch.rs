//! etcd's Watch service: its stream.

use quorate_api::WatchSession;
use quorate_node::Clock;
use quorate_proto::etcdserverpb as pb;

use super::call::Stream;
use super::status::Status;

/// Passes requests in and responses out. A client that sends no more may go on watching.
pub(super) async fn watch<C: Clock>(mut session: WatchSession<C>, mut stream: Stream<C>) -> Status {
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
