//! A client for etcd's API that is honest about what it does not know.
//!
//! - Requests and responses are the messages of [`quorate_proto::etcdserverpb`]; this crate adds connections,
//!   deadlines and the choice of a member.
//! - Members are asked in turn. A member that cannot be dialled, or not again after its connection broke, is skipped,
//!   because nothing was sent to it.
//! - A *read* that failed on one member is tried on the others. A *write* is sent once. If no answer comes, the result
//!   is [`Error::Unknown`]: the write may have happened, and only the caller can decide whether to repeat it.
//! - A learner refuses nearly everything; then the next member is asked.
//! - Watches and keep-alives are plain streams; when one ends, the caller resumes it, from the revision it has seen.
//!
//! Not here yet: TLS, authentication, automatic resumption of watches.

#![forbid(unsafe_code)]

mod cluster;
mod error;
mod streams;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::kv_client::KvClient;
use quorate_proto::etcdserverpb::lease_client::LeaseClient;
use tonic::transport::Endpoint;

pub use error::Error;
pub use quorate_proto as proto;
pub use streams::{KeepAlive, Watch};
pub use transport::{Tcp, Transport};

/// The most bytes accepted in a response: a client asks for its ranges and can hold what it asked for.
const RESPONSE_BYTES_MAX: usize = i32::MAX as usize;

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For establishing a connection.
    pub dial_timeout: Duration,
    /// For a whole call, including attempts on other members.
    pub request_timeout: Duration,
}

impl Default for Options {
    /// What etcdctl uses.
    fn default() -> Self {
        Self { dial_timeout: Duration::from_secs(2), request_timeout: Duration::from_secs(5) }
    }
}

/// A handle to a cluster; cheap to clone.
#[derive(Clone)]
pub struct Client<T: Transport = Tcp> {
    shared: Arc<Shared<T>>,
}

struct Shared<T: Transport> {
    members: Vec<Arc<Member<T>>>,
    options: Options,
    transport: T,
    /// Counts calls, to take the members in turn.
    turn: AtomicUsize,
}

struct Member<T: Transport> {
    /// The endpoint as it was given.
    name: String,
    endpoint: Endpoint,
    /// The connection, once there is one. It is dialled again by itself when it breaks.
    channel: tokio::sync::Mutex<Option<T::Channel>>,
}

/// What a repetition of the call would do.
#[derive(Clone, Copy, PartialEq)]
enum Repeat {
    /// Nothing: it reads.
    Harmless,
    /// It might take effect twice.
    Never,
}

/// Makes one unary call on whatever member answers.
macro_rules! call {
    ($client:expr, $repeat:expr, $Service:ident, $method:ident, $request:expr) => {{
        let request = $request;
        $client
            .attempt($repeat, |channel| {
                let request = request.clone();
                async move {
                    let mut service =
                        $Service::new(channel).max_decoding_message_size(crate::RESPONSE_BYTES_MAX);
                    service.$method(request).await.map(tonic::Response::into_inner)
                }
            })
            .await
    }};
}

pub(crate) use call;

impl Client {
    /// A client of the members at these endpoints, `host:port` or `http://host:port`. Connections are made when they
    /// are needed.
    ///
    /// # Errors
    /// An endpoint is malformed, or there is none.
    pub fn new<E: AsRef<str>>(
        endpoints: impl IntoIterator<Item = E>,
        options: Options,
    ) -> Result<Self, Error> {
        Self::over(Tcp, endpoints, options)
    }
}

impl<T: Transport> Client<T> {
    /// A client that reaches its members by other means than TCP.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn over<E: AsRef<str>>(
        transport: T,
        endpoints: impl IntoIterator<Item = E>,
        options: Options,
    ) -> Result<Self, Error> {
        let members = endpoints
            .into_iter()
            .map(|text| Member::new(text.as_ref(), options).map(Arc::new))
            .collect::<Result<Vec<_>, Error>>()?;
        if members.is_empty() {
            return Err(Error::Unreachable { reason: "none was given".into() });
        }
        Ok(Self::of(members, transport, options))
    }

    fn of(members: Vec<Arc<Member<T>>>, transport: T, options: Options) -> Self {
        Self { shared: Arc::new(Shared { members, options, transport, turn: AtomicUsize::new(0) }) }
    }

    /// For each endpoint, as it was given, a client of that member alone. They share their connections with this one.
    pub fn each(&self) -> impl Iterator<Item = (&str, Self)> {
        let Shared { members, options, transport, .. } = &*self.shared;
        members.iter().map(move |member| {
            (member.name.as_str(), Self::of(vec![Arc::clone(member)], transport.clone(), *options))
        })
    }

    /// Reads keys.
    ///
    /// # Errors
    /// See [`Error`]; so for all calls.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        call!(self, Repeat::Harmless, KvClient, range, request)
    }

    /// Writes a key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        call!(self, Repeat::Never, KvClient, put, request)
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        call!(self, Repeat::Never, KvClient, delete_range, request)
    }

    /// Compares, then reads and writes, at one revision. It counts as a read if it can only read.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let is_range =
            |op: &pb::RequestOp| matches!(op.request, Some(pb::request_op::Request::RequestRange(_)));
        let reads = request.success.iter().chain(&request.failure).all(is_range);
        let repeat = if reads { Repeat::Harmless } else { Repeat::Never };
        call!(self, repeat, KvClient, txn, request)
    }

    /// Forgets superseded versions up to a revision.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        call!(self, Repeat::Never, KvClient, compact, request)
    }

    /// Grants a lease.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error> {
        call!(self, Repeat::Never, LeaseClient, lease_grant, request)
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lease_revoke(
        &self,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, Error> {
        call!(self, Repeat::Never, LeaseClient, lease_revoke, request)
    }

    /// How long a lease lives, and its keys.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        call!(self, Repeat::Harmless, LeaseClient, lease_time_to_live, request)
    }

    /// All leases.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lease_leases(&self) -> Result<pb::LeaseLeasesResponse, Error> {
        call!(self, Repeat::Harmless, LeaseClient, lease_leases, pb::LeaseLeasesRequest {})
    }

    /// Opens a watch stream with its first watcher.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn watch(&self, request: pb::WatchCreateRequest) -> Result<Watch, Error> {
        let (channel, _) = self.connected(self.first()).await?;
        Watch::open::<T>(channel, request).await
    }

    /// Opens a stream that keeps leases alive.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn keep_alive(&self) -> Result<KeepAlive<T>, Error> {
        let (channel, _) = self.connected(self.first()).await?;
        Ok(KeepAlive::open(channel))
    }

    fn first(&self) -> usize {
        self.shared.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes the call on one member after the other, as far as repeating it is harmless, within the time limit.
    async fn attempt<R, F, Fut>(&self, repeat: Repeat, call: F) -> Result<R, Error>
    where
        F: Fn(T::Channel) -> Fut,
        Fut: Future<Output = Result<R, tonic::Status>>,
    {
        let attempts = async {
            let first = self.first();
            let mut offset = 0;
            loop {
                let (channel, used) = self.connected(first + offset).await?;
                offset += used + 1;
                let error = match call(channel).await {
                    Ok(response) => return Ok(response),
                    Err(status) => Error::of(&status),
                };
                let goes_on = match &error {
                    Error::Refused { message, .. } => message == error::NOT_FOR_LEARNERS,
                    // Nothing was sent.
                    Error::Unreachable { .. } => true,
                    _ => repeat == Repeat::Harmless,
                };
                if !goes_on || offset >= self.shared.members.len() {
                    return Err(error);
                }
            }
        };
        let late = || Error::Unknown { reason: "no answer within the time limit".into() };
        let Shared { options, transport, .. } = &*self.shared;
        transport.within(options.request_timeout, attempts).await.unwrap_or_else(|| Err(late()))
    }

    /// A connection to the member whose turn it is, or to the next that can be dialled; also, how many were skipped.
    async fn connected(&self, first: usize) -> Result<(T::Channel, usize), Error> {
        let Shared { members, transport, .. } = &*self.shared;
        let mut reason = String::new();
        for skipped in 0..members.len() {
            match members[(first + skipped) % members.len()].connected(transport).await {
                Ok(channel) => return Ok((channel, skipped)),
                Err(error) => reason = error,
            }
        }
        Err(Error::Unreachable { reason })
    }
}

impl<T: Transport> Member<T> {
    fn new(text: &str, options: Options) -> Result<Self, Error> {
        let invalid = |reason: String| Error::InvalidEndpoint { endpoint: text.to_owned(), reason };
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        if !url.starts_with("http://") {
            return Err(invalid("only http:// is spoken".into()));
        }
        let endpoint = Endpoint::from_shared(url).map_err(|error| invalid(error.to_string()))?;
        if endpoint.uri().port().is_none() {
            return Err(invalid("a port is missing".into()));
        }
        let endpoint = endpoint.connect_timeout(options.dial_timeout).tcp_nodelay(true);
        Ok(Self { name: text.to_owned(), endpoint, channel: tokio::sync::Mutex::new(None) })
    }

    async fn connected(&self, transport: &T) -> Result<T::Channel, String> {
        let mut slot = self.channel.lock().await;
        if let Some(channel) = &*slot {
            return Ok(channel.clone());
        }
        let channel = transport.dial(&self.endpoint).await?;
        *slot = Some(channel.clone());
        Ok(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_endpoints_are_told_apart_from_unreachable_ones() {
        for wrong in ["", "host", "https://host:2379", "http://", "ho st:1", "unix://x"] {
            let error = Client::new([wrong], Options::default()).err();
            assert!(matches!(error, Some(Error::InvalidEndpoint { .. })), "{wrong}: {error:?}");
        }
        assert!(Client::new(["127.0.0.1:2379", "http://localhost:1/"], Options::default()).is_ok());
        let none: [&str; 0] = [];
        assert!(matches!(Client::new(none, Options::default()).err(), Some(Error::Unreachable { .. })));
    }

    #[test]
    fn only_answers_that_say_so_mean_that_nothing_happened() {
        let sorted = |code| Error::of(&tonic::Status::new(code, "text")).had_no_effect();
        assert!(sorted(tonic::Code::FailedPrecondition));
        assert!(sorted(tonic::Code::ResourceExhausted));
        assert!(!sorted(tonic::Code::Unavailable));
        assert!(!sorted(tonic::Code::Unknown));
        assert!(!sorted(tonic::Code::DeadlineExceeded));
        let refused = tonic::ConnectError("connection refused".into());
        let error = Error::of(&tonic::Status::from_error(Box::new(refused)));
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }
}
