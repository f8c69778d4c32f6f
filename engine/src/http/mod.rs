//! The client port: one listener for gRPC and for plain HTTP, as etcd has it.
//!
//! What speaks gRPC is recognised by its content type and goes to [`grpc`](crate::grpc) at once; everything
//! else is one of the [`endpoints`]. Limits here are those of connections; those of requests are in
//! `quorate-api`.

mod endpoints;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use quorate_api::Api;
use quorate_node::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::grpc::{self, ReplyBody};
use crate::metrics::Metrics;

/// What every connection shares.
#[derive(Debug)]
pub struct State<C> {
    /// The services.
    pub api: Arc<Api<C>>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

/// Limits and timing of connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most connections at a time; more wait to be accepted.
    pub connections_max: usize,
    /// Most streams of one connection (etcd's `--max-concurrent-streams`).
    pub streams_max: u32,
    /// After how long a silent connection is asked whether it lives
    /// (etcd's `--grpc-keepalive-interval`).
    pub keepalive_interval: Duration,
    /// How long it may take to answer (etcd's `--grpc-keepalive-timeout`).
    pub keepalive_timeout: Duration,
    /// How long connections may take to finish what they do when the server stops.
    pub drain_max: Duration,
}

impl Default for Options {
    /// etcd's values where it has them.
    fn default() -> Options {
        Options {
            connections_max: 10_000,
            streams_max: u32::MAX,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            drain_max: Duration::from_secs(1),
        }
    }
}

/// Serves clients on all of `listeners` until `shutdown` completes, then lets connections finish for a
/// short while.
pub async fn serve<C: Clock>(
    listeners: Vec<TcpListener>,
    state: Arc<State<C>>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(());
    let room = Arc::new(Semaphore::new(options.connections_max));
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        acceptors.spawn(accept(
            listener,
            Arc::clone(&state),
            options.clone(),
            Arc::clone(&room),
            stopped.clone(),
        ));
    }
    drop(stopped);
    shutdown.await;
    acceptors.abort_all();
    while acceptors.join_next().await.is_some() {}
    let _ = stop.send(());
    // Every connection holds a receiver.
    let _ = tokio::time::timeout(options.drain_max, stop.closed()).await;
}

async fn accept<C: Clock>(
    listener: TcpListener,
    state: Arc<State<C>>,
    options: Options,
    room: Arc<Semaphore>,
    stopped: watch::Receiver<()>,
) {
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, Arc::clone(&state), options.clone(), stopped.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => on_accept_error(&error).await,
        }
    }
}

/// A connection that broke before it was accepted is nothing to us; without file descriptors there is
/// nothing to do but wait for some to be closed.
async fn on_accept_error(error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) {
        tracing::warn!(%error, "cannot accept a client's connection");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn connection<C: Clock>(
    stream: TcpStream,
    state: Arc<State<C>>,
    options: Options,
    mut stopped: watch::Receiver<()>,
) {
    // Replies are small and somebody waits for each.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| respond(Arc::clone(&state), request));
    let builder = builder(&options);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let drained = tokio::time::timeout(options.drain_max, connection).await;
            drained.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection broke");
    }
}

fn builder(options: &Options) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HTTP1_HEADER_TIMEOUT);
    builder
}

/// Most bytes of headers in a request.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client may reset before they are looked at; more end the connection ("rapid reset",
/// CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 100;
/// What a client may send ahead on one stream: a request of usual size without waiting.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What it may send ahead on all of them.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// How long a client may take to send the headers of an HTTP/1 request.
const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

async fn respond<C: Clock>(
    state: Arc<State<C>>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    if grpc::is_grpc(request.headers()) {
        Ok(grpc::respond(state, request).await)
    } else {
        Ok(Box::pin(endpoints::respond(&state, &request)).await)
    }
}
