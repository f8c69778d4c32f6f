//! One call, from its headers to its reply.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::Incoming;
use prost::Message;
use quorate_api::{Api, Code, Error, Limits, Metadata};
use quorate_node::Clock;
use tokio::sync::mpsc;

use super::body::ReplyBody;
use super::frame::{self, Messages};
use super::status::{self, Status};
use crate::http::State;
use crate::metrics::Rpc;

/// How a call was answered.
pub(super) type Reply = Result<Response<ReplyBody>, Status>;

/// A call that is being answered.
pub(super) struct Call<C> {
    state: Arc<State<C>>,
    metadata: Result<Metadata, Error>,
    requests: Messages<Incoming>,
}

impl<C: Clock> Call<C> {
    pub(super) fn new(state: Arc<State<C>>, headers: &HeaderMap, body: Incoming) -> Call<C> {
        let value = |name: &str| headers.get(name).map(|value| value.as_bytes());
        let metadata = Metadata::parse(value("hasleader"), value("client-api-version"));
        let bytes_max = state.api.config().limits.request_bytes_max + Limits::OVERHEAD_BYTES;
        Call { state, metadata, requests: Messages::new(body, bytes_max) }
    }

    /// One message in, one message out: `answer` is the method of [`Api`].
    pub(super) async fn unary<Q, A>(
        self,
        rpc: Rpc,
        answer: impl AsyncFnOnce(&Api<C>, Q, Metadata) -> Result<A, Error>,
    ) -> Reply
    where
        Q: Message + Default,
        A: Message,
    {
        let mut count = Count::start(self.state, rpc);
        match unary(&count.state, self.requests, self.metadata, answer).await {
            Ok(frame) => {
                count.code = Code::Ok;
                count.state.metrics.sent(frame.len());
                Ok(status::response(ReplyBody::Message(frame)))
            }
            Err(status) => {
                count.code = status.code;
                Err(status)
            }
        }
    }

    /// Messages both ways: `open` must succeed for the stream to begin, then `drive` is the stream.
    pub(super) fn stream<S, D>(
        self,
        rpc: Rpc,
        open: impl FnOnce(&Arc<Api<C>>, Metadata) -> Result<S, Error>,
        drive: impl FnOnce(S, Stream<C>) -> D,
    ) -> Reply
    where
        D: Future<Output = Status> + Send + 'static,
    {
        let mut count = Count::start(self.state, rpc);
        let opened = self.metadata.and_then(|metadata| open(&count.state.api, metadata));
        let session = opened.map_err(|error| {
            count.code = error.code();
            Status::from(error)
        })?;
        let body = ReplyBody::stream(|responses| {
            let state = Arc::clone(&count.state);
            let driver = drive(session, Stream { state, requests: self.requests, responses });
            async move {
                // Taken whole, so that it is counted here that the call has ended.
                let mut count = count;
                let status = driver.await;
                count.code = status.code;
                status
            }
        });
        Ok(status::response(body))
    }
}

async fn unary<C: Clock, Q: Message + Default, A: Message>(
    state: &State<C>,
    requests: Messages<Incoming>,
    metadata: Result<Metadata, Error>,
    answer: impl AsyncFnOnce(&Api<C>, Q, Metadata) -> Result<A, Error>,
) -> Result<Bytes, Status> {
    let metadata = metadata?;
    let (request, len) = requests.only().await?;
    state.metrics.received(len);
    Ok(frame::encode(&answer(&state.api, request, metadata).await?))
}

/// Both directions of a streaming call.
pub(super) struct Stream<C> {
    pub(super) state: Arc<State<C>>,
    requests: Messages<Incoming>,
    responses: mpsc::Sender<Bytes>,
}

impl<C: Clock> Stream<C> {
    /// The client's next message, or `None` when it will send no more. Cancel safe.
    pub(super) async fn next<Q: Message + Default>(&mut self) -> Result<Option<Q>, Status> {
        let next = self.requests.next().await?;
        Ok(next.map(|(request, len)| {
            self.state.metrics.received(len);
            request
        }))
    }

    /// Sends a message as soon as the client has taken enough of those before it.
    pub(super) async fn send(&self, response: &impl Message) {
        let frame = frame::encode(response);
        self.state.metrics.sent(frame.len());
        // The receiver lives in the same body as the code that sends.
        let _ = self.responses.send(frame).await;
    }
}

/// Counts a call when it starts and, however that happens, when it ends.
struct Count<C> {
    state: Arc<State<C>>,
    rpc: Rpc,
    /// Nobody says how a call ends whose client goes away: it is dropped.
    code: Code,
}

impl<C> Count<C> {
    fn start(state: Arc<State<C>>, rpc: Rpc) -> Count<C> {
        state.metrics.started(rpc);
        Count { state, rpc, code: Code::Canceled }
    }
}

impl<C> Drop for Count<C> {
    fn drop(&mut self) {
        self.state.metrics.handled(self.rpc, self.code);
    }
}
