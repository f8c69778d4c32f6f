//! One call, from its message to its reply.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use quorate_api::{Api, Code, Error, Metadata};
use quorate_node::Clock;

use super::frame;
use super::pipe::Pipe;
use super::status::Status;
use super::{Running, StreamReply, UnaryReply, bytes_max};
use crate::http::State;
use crate::metrics::Rpc;

/// A call with one message in each direction.
pub(super) struct Unary<C> {
    pub(super) state: Arc<State<C>>,
    pub(super) rpc: Rpc,
    pub(super) metadata: Result<Metadata, Error>,
    pub(super) body: Vec<u8>,
}

impl<C: Clock> Unary<C> {
    /// Answers it with a method of [`Api`].
    pub(super) async fn answer<Q, A>(
        self,
        answer: impl AsyncFnOnce(&Api<C>, Q, Metadata) -> Result<A, Error>,
    ) -> UnaryReply
    where
        Q: Message + Default,
        A: Message,
    {
        let mut count = Count::start(self.state, self.rpc);
        let answered = unary(&count.state, self.body, self.metadata, answer).await;
        count.code = answered.as_ref().map_or_else(|status| status.code, |_| Code::Ok);
        answered
    }
}

async fn unary<C: Clock, Q: Message + Default, A: Message>(
    state: &State<C>,
    body: Vec<u8>,
    metadata: Result<Metadata, Error>,
    answer: impl AsyncFnOnce(&Api<C>, Q, Metadata) -> Result<A, Error>,
) -> UnaryReply {
    let metadata = metadata?;
    let message = frame::only(body, bytes_max(&state.api))?;
    state.metrics.received(message.len());
    let reply = frame::encode(&answer(&state.api, frame::decode(message)?, metadata).await?);
    state.metrics.sent(reply.len());
    Ok(reply)
}

/// A call with messages both ways.
pub(super) struct Opening<C> {
    pub(super) state: Arc<State<C>>,
    pub(super) rpc: Rpc,
    pub(super) metadata: Result<Metadata, Error>,
}

impl<C: Clock> Opening<C> {
    /// `open` must succeed for the stream to begin, then `drive` is the stream.
    pub(super) fn stream<S, D>(
        self,
        open: impl FnOnce(&Arc<Api<C>>, Metadata) -> Result<S, Error>,
        drive: impl FnOnce(S, Stream<C>) -> D,
    ) -> StreamReply
    where
        D: Future<Output = Status> + Send + 'static,
    {
        let mut count = Count::start(self.state, self.rpc);
        let opened = self.metadata.and_then(|metadata| open(&count.state.api, metadata));
        let session = opened.map_err(|error| {
            count.code = error.code();
            Status::from(error)
        })?;
        let pipe = Arc::new(Pipe::new(bytes_max(&count.state.api)));
        let driver = drive(session, Stream { state: Arc::clone(&count.state), pipe: Arc::clone(&pipe) });
        let running: Running<Status> = Box::pin(async move {
            // Taken whole, so that it is counted here that the call has ended.
            let mut count = count;
            let status = driver.await;
            count.code = status.code;
            status
        });
        Ok((pipe, running))
    }
}

/// Both directions of a streaming call.
pub(super) struct Stream<C> {
    pub(super) state: Arc<State<C>>,
    pipe: Arc<Pipe>,
}

impl<C: Clock> Stream<C> {
    /// The client's next message, or `None` when it will send no more. Cancel safe.
    pub(super) async fn next<Q: Message + Default>(&mut self) -> Result<Option<Q>, Status> {
        let Some(message): Option<Bytes> = self.pipe.next().await? else { return Ok(None) };
        self.state.metrics.received(message.len());
        frame::decode(message).map(Some)
    }

    /// Sends a message as soon as the client has taken enough of those before it.
    pub(super) async fn send(&self, response: &impl Message) {
        let frame = frame::encode(response);
        self.state.metrics.sent(frame.len());
        self.pipe.send(frame).await;
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
