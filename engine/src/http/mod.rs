//! The client port: one listener for gRPC and for plain HTTP, as etcd has it.
//!
//! A connection that begins with HTTP/2's preface goes to `http2`, which serves gRPC; others
//! are left to hyper. Both know the `endpoints`. Limits here are those of connections; those of requests are in
//! `quorate-api`.

pub(crate) mod endpoints;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use quorate_api::Api;
use quorate_node::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::flight::BlackBox;
use crate::http2;
use crate::metrics::Metrics;

/// What every connection shares.
#[derive(Debug)]
pub struct State<C> {
    /// The services.
    pub api: Arc<Api<C>>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    /// The member's flight recorder, if it has one.
    pub black_box: Option<BlackBox>,
}

/// Limits and timing of connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most connections at a time; more wait to be accepted.
    pub connections_max: usize,
    /// Most streams of one connection (etcd's `--max-concurrent-streams`, which has no limit).
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
            streams_max: 16_384,
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
    stopped: watch::Receiver<()>,
) {
    // Replies are small and somebody waits for each.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let ended = match tokio::time::timeout(FIRST_BYTES_TIMEOUT, is_http2(&stream)).await {
        // A connection does a bounded amount of work per turn by itself.
        Ok(Ok(true)) => tokio::task::unconstrained(http2::serve(stream, state, options, stopped))
            .await
            .map_err(Into::into),
        Ok(Ok(false)) => http1(stream, state, &options, stopped).await,
        Ok(Err(error)) => Err(error.into()),
        Err(_) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a client's connection broke");
    }
}

/// Looks at the first bytes, which stay where they are. No method of HTTP/1 begins as the preface does.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 4];
    loop {
        let len = stream.peek(&mut first).await?;
        if len == first.len() || !http2::PREFACE.starts_with(&first[..len]) || len == 0 {
            return Ok(http2::PREFACE.starts_with(&first[..len]));
        }
        // Nobody tells when there is more to peek at; hardly anybody sends less at first.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn http1<C: Clock>(
    stream: TcpStream,
    state: Arc<State<C>>,
    options: &Options,
    mut stopped: watch::Receiver<()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let service = service_fn(move |request| respond(Arc::clone(&state), request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(FIRST_BYTES_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => ended?,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            if let Ok(ended) = tokio::time::timeout(options.drain_max, connection).await {
                ended?;
            }
        }
    }
    Ok(())
}

/// How long a client may take to say what it wants.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);

async fn respond<C: Clock>(
    state: Arc<State<C>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Ok(endpoints::respond(&state, request.method().as_str(), path).await.map(Full::new))
}
