//! The two streams of etcd's API: watches and keep-alives.

use quorate_proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{Error, RESPONSE_BYTES_MAX, Tcp, Transport};

/// How many requests may wait to be sent on a stream.
const REQUESTS_WAITING_MAX: usize = 64;

/// A watch stream; it may carry any number of watchers.
#[derive(Debug)]
pub struct Watch {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: tonic::Streaming<pb::WatchResponse>,
}

impl Watch {
    pub(crate) async fn open<T: Transport>(
        channel: T::Channel,
        first: pb::WatchCreateRequest,
    ) -> Result<Self, Error> {
        let (requests, outgoing) = mpsc::channel(REQUESTS_WAITING_MAX);
        let watch = pb::watch_request::RequestUnion::CreateRequest(first);
        // Some servers answer the call itself only after the first message.
        let first = pb::WatchRequest { request_union: Some(watch) };
        requests.try_send(first).expect("an empty channel has room");
        let mut client =
            pb::watch_client::WatchClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let responses =
            client.watch(ReceiverStream::new(outgoing)).await.map_err(|status| Error::of(&status))?;
        Ok(Self { requests, responses: responses.into_inner() })
    }

    /// Creates another watcher, cancels one, or asks for progress. Responses come in [`Watch::next`].
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn send(&self, request: pb::watch_request::RequestUnion) -> Result<(), Error> {
        let request = pb::WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.map_err(|_| Error::StreamEnded)
    }

    /// The next response: a watcher was created or canceled, events, or progress.
    ///
    /// # Errors
    /// The stream has ended. Watchers are resumed on a new stream, from the revision after the last one seen.
    pub async fn next(&mut self) -> Result<pb::WatchResponse, Error> {
        let response = self.responses.message().await.map_err(|status| Error::of(&status))?;
        response.ok_or(Error::StreamEnded)
    }
}

/// A stream that keeps leases alive.
#[derive(Debug)]
pub struct KeepAlive<T: Transport = Tcp> {
    requests: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    responses: Responses<T::Channel>,
}

/// The other direction of the stream.
#[derive(Debug)]
enum Responses<C> {
    /// Not asked for yet: etcd answers the call itself only after the first message.
    Later(C, Option<mpsc::Receiver<pb::LeaseKeepAliveRequest>>),
    /// They come.
    Open(Box<tonic::Streaming<pb::LeaseKeepAliveResponse>>),
}

impl<T: Transport> KeepAlive<T> {
    pub(crate) fn open(channel: T::Channel) -> Self {
        let (requests, outgoing) = mpsc::channel(REQUESTS_WAITING_MAX);
        Self { requests, responses: Responses::Later(channel, Some(outgoing)) }
    }

    async fn responses(&mut self) -> Result<&mut tonic::Streaming<pb::LeaseKeepAliveResponse>, Error> {
        if let Responses::Later(channel, outgoing) = &mut self.responses {
            // Whoever gave up waiting for the call has given up the stream.
            let outgoing = ReceiverStream::new(outgoing.take().ok_or(Error::StreamEnded)?);
            let mut client = pb::lease_client::LeaseClient::new(channel.clone());
            let opened = client.lease_keep_alive(outgoing).await.map_err(|status| Error::of(&status))?;
            self.responses = Responses::Open(Box::new(opened.into_inner()));
        }
        match &mut self.responses {
            Responses::Open(responses) => Ok(responses),
            Responses::Later(..) => Err(Error::StreamEnded),
        }
    }

    /// Renews a lease. `None` means that there is no such lease.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn renew(&mut self, lease: i64) -> Result<Option<pb::LeaseKeepAliveResponse>, Error> {
        let request = pb::LeaseKeepAliveRequest { id: lease };
        self.requests.send(request).await.map_err(|_| Error::StreamEnded)?;
        let response = self.responses().await?.message().await.map_err(|status| Error::of(&status))?;
        let response = response.ok_or(Error::StreamEnded)?;
        Ok((response.ttl > 0).then_some(response))
    }
}
