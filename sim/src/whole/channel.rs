//! The client library's transport: gRPC calls over simulated links, to the services that a member's process has.
//!
//! Requests and answers are gRPC's own frames around encoded protobuf, and a call that its client drops is dropped at the
//! server. What HTTP/2 would do between the two is not simulated, except for what matters to a client: a connection that
//! cannot be made is known to have done nothing, one that breaks leaves the outcome unknown, and one whose way is cut
//! is silent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body as _, Frame};
use madsim::task::JoinHandle;
use madsim::time::Sleep;
use quorate_api::{Error as ApiError, Metadata};
use quorate_client::Transport;
use quorate_proto::etcdserverpb as pb;
use quorate_raft::NodeId;
use quorate_sim::time::Time;
use tokio::sync::{mpsc, oneshot};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Endpoint;
use tonic::{Code, ConnectError, Status};

use super::clock::{lock, now, until};
use super::cluster::{Api, Shared};
use super::methods;
use super::network::machine_of;

/// Connections over simulated links, and simulated time.
#[derive(Clone)]
pub struct SimTransport {
    shared: Arc<Shared>,
    dial_timeout: Duration,
}

impl SimTransport {
    /// The way of a client that waits so long for a connection.
    pub fn new(shared: &Arc<Shared>, dial_timeout: Duration) -> SimTransport {
        SimTransport { shared: Arc::clone(shared), dial_timeout }
    }
}

impl Transport for SimTransport {
    type Channel = SimChannel;

    async fn dial(&self, endpoint: &Endpoint) -> Result<SimChannel, String> {
        let machine = machine_of(&endpoint.uri().to_string()).ok_or("no such host")?;
        let Some(arrival) = lock(&self.shared.network).send_client(now(), machine) else {
            madsim::time::sleep(self.dial_timeout).await;
            return Err("timed out".to_owned());
        };
        until(arrival).await;
        if self.shared.handle(machine).is_none() {
            madsim::time::sleep(REFUSAL).await;
            return Err("connection refused".to_owned());
        }
        Ok(SimChannel { shared: Arc::clone(&self.shared), machine })
    }

    async fn within<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        madsim::time::timeout(limit, work).await.ok()
    }
}

/// A connection to one machine, made again when it is needed.
#[derive(Clone)]
pub struct SimChannel {
    shared: Arc<Shared>,
    machine: NodeId,
}

impl std::fmt::Debug for SimChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "channel to n{}", self.machine)
    }
}

impl Service<http::Request<Body>> for SimChannel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let SimChannel { shared, machine } = self.clone();
        Box::pin(call(shared, machine, request))
    }
}

async fn call(
    shared: Arc<Shared>,
    machine: NodeId,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let arrival = lock(&shared.network).send_client(now(), machine);
    match arrival {
        Some(arrival) => until(arrival).await,
        // Nothing comes back; whoever waits has a limit of their own.
        None => std::future::pending().await,
    }
    let delay = shared.with(machine, |it| it.delay).unwrap_or_default();
    if !delay.is_zero() {
        madsim::time::sleep(delay).await;
    }
    let (head, headed) = oneshot::channel();
    let (frames, arriving) = mpsc::channel(FRAMES_WAITING_MAX);
    let wire = Wire { shared: Arc::clone(&shared), machine, head: Some(head), frames, last: Time::ZERO };
    let path = request.uri().path().to_owned();
    let requests = Requests { body: request.into_body(), bytes: BytesMut::new() };
    let task = shared.serve(machine, move |api| answer(api, path, requests, wire));
    let Some(task) = task else {
        madsim::time::sleep(REFUSAL).await;
        return Err(Status::from_error(Box::new(ConnectError("connection refused".into()))));
    };
    let task = AbortOnDrop(task);
    let Ok((arrival, status)) = headed.await else { return Err(broken()) };
    until(arrival).await;
    if let Some(status) = status {
        return Ok(status.into_http());
    }
    let body = Answers { frames: arriving, next: None, over: false, _task: task };
    let response = http::Response::builder().header("content-type", "application/grpc");
    Ok(response.body(Body::new(body)).expect("these headers are well formed"))
}

fn broken() -> Status {
    Status::unavailable("the connection broke")
}

/// What happens in the member's process.
async fn answer(api: Arc<Api>, path: String, mut requests: Requests, mut wire: Wire) {
    let status = match path.as_str() {
        "/etcdserverpb.Watch/Watch" => watch(&api, &mut requests, &mut wire).await,
        "/etcdserverpb.Lease/LeaseKeepAlive" => keep_alive(&api, &mut requests, &mut wire).await,
        _ => match requests.next().await {
            Ok(Some(message)) => match methods::unary(&api, &path, &message).await {
                Ok(answer) => wire.send(answer).await,
                Err(error) => Err(status_of(error)),
            },
            Ok(None) => Err(Status::internal("no message")),
            Err(status) => Err(status),
        },
    };
    wire.finish(status).await;
}

fn status_of(error: ApiError) -> Status {
    Status::new(Code::from_i32(error.code() as i32), error.message())
}

/// As the server's: passes requests in and responses out.
async fn watch(api: &Arc<Api>, requests: &mut Requests, wire: &mut Wire) -> Result<(), Status> {
    let mut session = api.watch(Metadata::default()).map_err(status_of)?;
    let mut more = true;
    loop {
        let happened = {
            let mut next = std::pin::pin!(session.next());
            std::future::poll_fn(|context| {
                if more && let Poll::Ready(request) = requests.poll_next(context) {
                    return Poll::Ready(Happened::Request(request));
                }
                next.as_mut().poll(context).map(Happened::Response)
            })
            .await
        };
        match happened {
            Happened::Request(Ok(Some(message))) => session.handle(&methods::decode(&message)),
            Happened::Request(Ok(None)) => more = false,
            Happened::Request(Err(status)) => return Err(status),
            Happened::Response(Ok(response)) => wire.send(methods::encode(&response)).await?,
            Happened::Response(Err(error)) => return Err(status_of(error)),
        }
    }
}

enum Happened {
    Request(Result<Option<Bytes>, Status>),
    Response(Result<pb::WatchResponse, ApiError>),
}

/// As the server's: answers one message after the other.
async fn keep_alive(api: &Arc<Api>, requests: &mut Requests, wire: &mut Wire) -> Result<(), Status> {
    while let Some(message) = requests.next().await? {
        let response = api.lease_keep_alive(methods::decode(&message), Metadata::default()).await;
        wire.send(methods::encode(&response.map_err(status_of)?)).await?;
    }
    Ok(())
}

/// The messages of a call, as they come. (They travel with the call, or at once; nothing waits for its answer on the
/// way of a request but the call itself.)
struct Requests {
    body: Body,
    bytes: BytesMut,
}

impl Requests {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if self.bytes.len() >= HEADER {
                let length = (&self.bytes[1..HEADER]).get_u32() as usize;
                if self.bytes.len() >= HEADER + length {
                    self.bytes.advance(HEADER);
                    return Poll::Ready(Ok(Some(self.bytes.split_to(length).freeze())));
                }
            }
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.bytes.put(data);
                    }
                }
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }
}

/// The way back to the client.
struct Wire {
    shared: Arc<Shared>,
    machine: NodeId,
    head: Option<oneshot::Sender<(Time, Option<Status>)>>,
    frames: mpsc::Sender<(Time, Frame<Bytes>)>,
    /// When the latest frame arrives: a stream keeps its order.
    last: Time,
}

impl Wire {
    /// Sends a message. If the client is cut off or gone, the connection breaks.
    async fn send(&mut self, message: Bytes) -> Result<(), Status> {
        let arrival = self.arrival().ok_or_else(broken)?;
        if let Some(head) = self.head.take() {
            let _ = head.send((arrival, None));
        }
        let mut frame = BytesMut::with_capacity(HEADER + message.len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).expect("small messages"));
        frame.put(message);
        self.frames.send((arrival, Frame::data(frame.freeze()))).await.map_err(|_| broken())
    }

    /// Ends the call.
    async fn finish(mut self, status: Result<(), Status>) {
        let Some(arrival) = self.arrival() else { return };
        let status = status.err().unwrap_or_else(|| Status::ok(""));
        if let Some(head) = self.head.take() {
            let _ = head.send((arrival, Some(status)));
            return;
        }
        let mut trailers = http::HeaderMap::new();
        if status.add_header(&mut trailers).is_ok() {
            let _ = self.frames.send((arrival, Frame::trailers(trailers))).await;
        }
    }

    fn arrival(&mut self) -> Option<Time> {
        let arrival = lock(&self.shared.network).send_client(now(), self.machine)?;
        self.last = self.last.max(arrival);
        Some(self.last)
    }
}

/// The frames of an answer, as they arrive. Dropping it drops the call.
struct Answers {
    frames: mpsc::Receiver<(Time, Frame<Bytes>)>,
    next: Option<(Pin<Box<Sleep>>, Frame<Bytes>)>,
    over: bool,
    _task: AbortOnDrop,
}

impl http_body::Body for Answers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.next.is_none() {
            let Some((arrival, frame)) = std::task::ready!(self.frames.poll_recv(context)) else {
                self.over = true;
                return Poll::Ready(Some(Err(broken())));
            };
            self.next = Some((Box::pin(until(arrival)), frame));
        }
        let (sleep, _) = self.next.as_mut().expect("just seen");
        std::task::ready!(sleep.as_mut().poll(context));
        let (_, frame) = self.next.take().expect("just seen");
        self.over = frame.is_trailers();
        Poll::Ready(Some(Ok(frame)))
    }
}

/// A call that nobody waits for any more is dropped where it is served.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The length of what precedes a message in gRPC.
const HEADER: usize = 5;

/// How many messages wait for a client that does not take them, until the server waits.
const FRAMES_WAITING_MAX: usize = 16;

/// How long a client takes to notice that nobody listens.
pub const REFUSAL: Duration = Duration::from_millis(1);
