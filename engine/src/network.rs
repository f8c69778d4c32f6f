//! The peers in production: frames over TCP.
//!
//! A member sends to each peer over a connection that it has made, and receives over those that its peers
//! have made: one connection and one task per direction, so that neither waits for the other. Both sides
//! say first who they are and whom they mean; a member of another cluster, or one that is not who it was
//! taken for, gets no further.
//!
//! Nothing here is reliable, and nothing needs to be: Raft expects messages to be lost. So a queue that is
//! full or whose peer is away drops, and a connection that has failed is made anew.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_node::codec::{self, Kind};
use quorate_node::{ClusterId, CodecError, Hello, Inbox, Network, encode_message};
use quorate_raft::NodeId;
use quorate_replica::Message;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Who we are and where the others are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our cluster.
    pub cluster: ClusterId,
    /// This member.
    pub id: NodeId,
    /// The other members, each with the addresses (`host:port`) to try in turn.
    pub peers: BTreeMap<NodeId, Vec<String>>,
}

/// The ways to all peers; cheap to clone.
#[derive(Clone, Debug)]
pub struct TcpNetwork {
    peers: Arc<BTreeMap<NodeId, Peer>>,
}

#[derive(Debug)]
struct Peer {
    queue: mpsc::Sender<Message>,
    traffic: Arc<Counters>,
}

/// What has gone to and come from a peer since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Bytes written to it.
    pub sent_bytes: u64,
    /// Bytes read from it.
    pub received_bytes: u64,
    /// Messages not sent: the queue was full, or the peer was away.
    pub send_failures: u64,
    /// Messages not received: connections that broke or brought what is no message, and messages that the
    /// node had no room for.
    pub receive_failures: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connected: AtomicBool,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    send_failures: AtomicU64,
    receive_failures: AtomicU64,
}

/// Why a connection has ended.
#[derive(Debug, Error)]
enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("timed out")]
    Timeout,
    #[error("the other side has closed it")]
    Closed,
    #[error(
        "it belongs to cluster {found}, this is cluster {expected}: check the initial members and the token \
         of both"
    )]
    OtherCluster { found: ClusterId, expected: ClusterId },
    #[error("it looks for member {sought:x}, this is member {id:x}: check the peer addresses")]
    OtherMember { sought: u64, id: u64 },
    #[error("member {0:x} is not the one expected here: check the peer addresses")]
    UnexpectedPeer(u64),
}

impl TcpNetwork {
    /// The network, and the tasks that it consists of, to be spawned by the caller.
    #[must_use]
    pub fn new(config: Config, listeners: Vec<TcpListener>, inbox: Inbox) -> (TcpNetwork, PeerTasks) {
        let mut peers = BTreeMap::new();
        let mut outgoing = Vec::new();
        for (id, addresses) in config.peers {
            let (queue, messages) = mpsc::channel(QUEUED_MESSAGES_MAX);
            let traffic = Arc::new(Counters::default());
            peers.insert(id, Peer { queue, traffic: traffic.clone() });
            let hello = Hello { cluster: config.cluster, from: config.id, to: id };
            outgoing.push(Outgoing { hello, addresses, messages, traffic });
        }
        let network = TcpNetwork { peers: Arc::new(peers) };
        let incoming = Incoming {
            cluster: config.cluster,
            id: config.id,
            inbox,
            network: network.clone(),
            connections: Arc::default(),
        };
        (network, PeerTasks { outgoing, incoming, listeners })
    }

    /// What has gone to and come from each peer.
    #[must_use]
    pub fn traffic(&self) -> Vec<(NodeId, Traffic)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let traffic = |counters: &Counters| Traffic {
            connected: counters.connected.load(Ordering::Relaxed),
            sent_bytes: read(&counters.sent_bytes),
            received_bytes: read(&counters.received_bytes),
            send_failures: read(&counters.send_failures),
            receive_failures: read(&counters.receive_failures),
        };
        self.peers.iter().map(|(id, peer)| (*id, traffic(&peer.traffic))).collect()
    }
}

impl Network for TcpNetwork {
    fn send(&self, to: NodeId, message: Message) {
        let Some(peer) = self.peers.get(&to) else {
            tracing::debug!(%to, "dropping a message to a member whose address is not known");
            return;
        };
        if peer.queue.try_send(message).is_err() {
            add(&peer.traffic.send_failures, 1);
        }
    }
}

/// All of a network's tasks. Dropping the future of [`run`](PeerTasks::run) ends them.
#[derive(Debug)]
pub struct PeerTasks {
    outgoing: Vec<Outgoing>,
    incoming: Incoming,
    listeners: Vec<TcpListener>,
}

impl PeerTasks {
    /// Runs for as long as it is polled.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        for outgoing in self.outgoing {
            tasks.spawn(outgoing.run());
        }
        for listener in self.listeners {
            tasks.spawn(self.incoming.clone().listen(listener));
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// The task that sends to one peer.
#[derive(Debug)]
struct Outgoing {
    hello: Hello,
    addresses: Vec<String>,
    messages: mpsc::Receiver<Message>,
    traffic: Arc<Counters>,
}

impl Outgoing {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut last_error = String::new();
        for attempt in 0.. {
            if self.messages.is_closed() {
                return;
            }
            let Some(address) = self.addresses.get(attempt % self.addresses.len().max(1)).cloned() else {
                return tracing::error!(peer = self.peer(), "no address is known for this member");
            };
            let error = match connect(&address, &self.hello).await {
                Ok(stream) => {
                    tracing::info!(peer = self.peer(), address, "connected");
                    backoff = BACKOFF_MIN;
                    last_error.clear();
                    self.traffic.connected.store(true, Ordering::Relaxed);
                    let result = self.send_all(stream).await;
                    self.traffic.connected.store(false, Ordering::Relaxed);
                    match result {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => {
                    // What waits is stale by the time that the peer is back.
                    while self.messages.try_recv().is_ok() {
                        add(&self.traffic.send_failures, 1);
                    }
                    error
                }
            };
            // Said once, not once a second.
            let error = error.to_string();
            if error != last_error {
                tracing::warn!(peer = self.peer(), address, error, "no connection to the peer; trying on");
                last_error = error;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn peer(&self) -> String {
        format!("{:x}", self.hello.to.0)
    }

    /// Sends what is queued, everything at once in one write, until the connection breaks. `Ok` when the
    /// node has stopped.
    async fn send_all(&mut self, mut stream: TcpStream) -> Result<(), ConnectionError> {
        let (mut reader, mut writer) = stream.split();
        let (mut batch, mut buffer) = (Vec::new(), Vec::new());
        let mut nothing = [0; 1];
        loop {
            tokio::select! {
                biased;
                count = self.messages.recv_many(&mut batch, QUEUED_MESSAGES_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                // The peer never speaks on this connection; that it has gone is all it can say.
                _ = reader.read(&mut nothing) => return Err(ConnectionError::Closed),
            }
            let mut messages = batch.drain(..).peekable();
            while let Some(message) = messages.next() {
                if let Err(error) = encode_message(&message, &mut buffer) {
                    tracing::error!(%error, "a message is too large to be sent");
                    add(&self.traffic.send_failures, 1);
                }
                if buffer.len() >= WRITE_BYTES || messages.peek().is_none() {
                    let written = timeout(WRITE_TIMEOUT, writer.write_all(&buffer)).await;
                    written.map_err(|_| ConnectionError::Timeout)??;
                    add(&self.traffic.sent_bytes, buffer.len() as u64);
                    buffer.clear();
                    buffer.shrink_to(2 * WRITE_BYTES);
                }
            }
        }
    }
}

/// Connects, and makes sure that the other side is whom we mean.
async fn connect(address: &str, hello: &Hello) -> Result<TcpStream, ConnectionError> {
    let connecting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&codec::encode_hello(hello)).await?;
        let answer = read_hello(&mut stream).await?;
        check_cluster(&answer, hello.cluster)?;
        if answer.from != hello.to {
            return Err(ConnectionError::UnexpectedPeer(answer.from.0));
        }
        Ok(stream)
    };
    timeout(HANDSHAKE_TIMEOUT, connecting).await.map_err(|_| ConnectionError::Timeout)?
}

/// What is received, and from whom.
#[derive(Clone, Debug)]
struct Incoming {
    cluster: ClusterId,
    id: NodeId,
    inbox: Inbox,
    network: TcpNetwork,
    /// The connection of each peer; a new one replaces the one before, which may hang half-open.
    connections: Arc<Mutex<BTreeMap<NodeId, AbortHandle>>>,
}

impl Incoming {
    async fn listen(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok(_) if connections.len() >= CONNECTIONS_MAX => {
                    tracing::warn!("too many connections from peers; refusing one");
                }
                Ok((stream, address)) => {
                    let this = self.clone();
                    connections.spawn(async move {
                        if let Err(error) = this.serve(stream).await {
                            tracing::warn!(%address, %error, "a peer's connection has ended");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: it passes.
                    tracing::warn!(%error, "cannot accept a peer's connection");
                    sleep(BACKOFF_MIN).await;
                }
            }
        }
    }

    async fn serve(&self, mut stream: TcpStream) -> Result<(), ConnectionError> {
        let greeting = timeout(HANDSHAKE_TIMEOUT, self.greet(&mut stream)).await;
        let from = greeting.map_err(|_| ConnectionError::Timeout)??;
        let peer = self.network.peers.get(&from).ok_or(ConnectionError::UnexpectedPeer(from.0))?;
        // Reading goes on in a task of its own, so that a newer connection can end it.
        let (inbox, traffic) = (self.inbox.clone(), peer.traffic.clone());
        let mut reading = JoinSet::new();
        let abort = reading.spawn(async move { receive_all(stream, from, &inbox, &traffic).await });
        let previous = self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(from, abort);
        if let Some(previous) = previous {
            previous.abort();
        }
        match reading.join_next().await {
            Some(Ok(Err(error))) => {
                add(&peer.traffic.receive_failures, 1);
                Err(error)
            }
            // Replaced by a newer connection.
            _ => Ok(()),
        }
    }

    /// Who is it, and does it mean us? Our own name goes out first, so that the other side can say what is
    /// wrong, too.
    async fn greet(&self, stream: &mut TcpStream) -> Result<NodeId, ConnectionError> {
        stream.set_nodelay(true)?;
        let hello = read_hello(stream).await?;
        let answer = Hello { cluster: self.cluster, from: self.id, to: hello.from };
        stream.write_all(&codec::encode_hello(&answer)).await?;
        check_cluster(&hello, self.cluster)?;
        if hello.to != self.id {
            return Err(ConnectionError::OtherMember { sought: hello.to.0, id: self.id.0 });
        }
        Ok(hello.from)
    }
}

/// Reads messages until the connection ends.
async fn receive_all(
    mut stream: TcpStream,
    from: NodeId,
    inbox: &Inbox,
    traffic: &Counters,
) -> Result<(), ConnectionError> {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
    loop {
        buffer.reserve(READ_BYTES);
        let count = stream.read_buf(&mut buffer).await?;
        if count == 0 {
            return Err(ConnectionError::Closed);
        }
        add(&traffic.received_bytes, count as u64);
        let mut taken = 0;
        while let Some(frame) = codec::decode_frame(&buffer[taken..])? {
            let message = frame.decode::<Message>(Kind::Message)?;
            if !inbox.message(from, message, frame.len()) {
                add(&traffic.receive_failures, 1);
            }
            taken += frame.len();
        }
        // What is left is the beginning of a frame, most often nothing.
        buffer.drain(..taken);
        if buffer.is_empty() {
            buffer.shrink_to(16 * READ_BYTES);
        }
    }
}

/// Reads a greeting and not a byte more.
async fn read_hello(stream: &mut TcpStream) -> Result<Hello, ConnectionError> {
    let mut bytes = Vec::with_capacity(HELLO_BYTES_MAX);
    loop {
        if let Some(frame) = codec::decode_frame(&bytes)? {
            return Ok(frame.decode(Kind::Hello)?);
        }
        if bytes.len() >= HELLO_BYTES_MAX {
            return Err(CodecError::TooLong { length: bytes.len(), max: HELLO_BYTES_MAX }.into());
        }
        bytes.push(stream.read_u8().await?);
    }
}

fn check_cluster(hello: &Hello, expected: ClusterId) -> Result<(), ConnectionError> {
    if hello.cluster == expected {
        Ok(())
    } else {
        Err(ConnectionError::OtherCluster { found: hello.cluster, expected })
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Messages that wait for one peer. They share their entries with the log, so they take little of their own.
const QUEUED_MESSAGES_MAX: usize = 4096;
/// Encoded bytes after which a write begins, though more may wait.
const WRITE_BYTES: usize = 1 << 20;
/// Room for one read.
const READ_BYTES: usize = 64 << 10;
/// A greeting is three numbers.
const HELLO_BYTES_MAX: usize = 64;
/// Incoming connections at one listener, those of strangers included.
const CONNECTIONS_MAX: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that takes nothing for so long is as good as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use quorate_node::{InboxReceiver, inbox};
    use quorate_replica::RequestId;
    use quorate_store::LeaseId;

    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    struct Member {
        network: TcpNetwork,
        inbox: InboxReceiver,
        /// Ends the member's tasks when it is dropped.
        _tasks: JoinSet<()>,
    }

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        (listener, address)
    }

    fn member(cluster: u64, id: NodeId, listener: TcpListener, peer: (NodeId, &str)) -> Member {
        let (sender, receiver) = inbox();
        let peers = BTreeMap::from([(peer.0, vec![peer.1.to_owned()])]);
        let config = Config { cluster: ClusterId(cluster), id, peers };
        let (network, tasks) = TcpNetwork::new(config, vec![listener], sender);
        let mut running = JoinSet::new();
        running.spawn(tasks.run());
        Member { network, inbox: receiver, _tasks: running }
    }

    fn message(sequence: u64) -> Message {
        Message::KeepAlive { id: RequestId { boot: 1, sequence }, lease: LeaseId(7) }
    }

    /// Waits until something holds of the traffic with the only peer.
    async fn until(network: &TcpNetwork, holds: impl Fn(&Traffic) -> bool) {
        while !holds(&network.traffic()[0].1) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn messages_arrive_in_order_and_are_counted() {
        let ((listener_one, address_one), (listener_two, address_two)) = (listener().await, listener().await);
        let one = member(7, ONE, listener_one, (TWO, &address_two));
        let mut two = member(7, TWO, listener_two, (ONE, &address_one));
        for sequence in 1..=1000 {
            one.network.send(TWO, message(sequence));
        }
        for sequence in 1..=1000 {
            assert_eq!(two.inbox.next_message().await, Some((ONE, message(sequence))));
        }
        let (sent, received) = (one.network.traffic()[0].1, two.network.traffic()[0].1);
        assert!(sent.connected);
        assert_eq!(sent.sent_bytes, received.received_bytes);
        assert_eq!((sent.send_failures, received.receive_failures), (0, 0));
    }

    #[tokio::test]
    async fn a_peer_that_comes_back_is_found_again() {
        let ((listener_one, address_one), (listener_two, address_two)) = (listener().await, listener().await);
        let one = member(7, ONE, listener_one, (TWO, &address_two));
        let two = member(7, TWO, listener_two, (ONE, &address_one));
        until(&one.network, |traffic| traffic.connected).await;
        drop(two);
        until(&one.network, |traffic| !traffic.connected).await;
        let listener = TcpListener::bind(&address_two).await.expect("it is free again");
        let mut two = member(7, TWO, listener, (ONE, &address_one));
        until(&one.network, |traffic| traffic.connected).await;
        one.network.send(TWO, message(1));
        assert_eq!(two.inbox.next_message().await, Some((ONE, message(1))));
    }

    #[tokio::test]
    async fn a_member_of_another_cluster_or_another_name_is_turned_away() {
        let ((listener_one, address_one), (_, address_nobody)) = (listener().await, listener().await);
        let _one = member(7, ONE, listener_one, (TWO, &address_nobody));
        let greet = async |cluster, from, to| {
            let hello = Hello { cluster: ClusterId(cluster), from: NodeId(from), to: NodeId(to) };
            connect(&address_one, &hello).await.map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(greet(7, 2, 1).await, Ok(()));
        assert_eq!(
            greet(8, 2, 1).await.expect_err("another cluster"),
            "it belongs to cluster 7, this is cluster 8: check the initial members and the token of both"
        );
        assert_eq!(
            greet(7, 2, 3).await.expect_err("another member"),
            "member 1 is not the one expected here: check the peer addresses"
        );
        // A stranger is greeted back, and then hears nothing but the end.
        let hello = Hello { cluster: ClusterId(7), from: NodeId(9), to: ONE };
        let mut stream = connect(&address_one, &hello).await.expect("greeted");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("no error"), 0);
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_end_the_connection() {
        let ((listener_one, address_one), (_, address_nobody)) = (listener().await, listener().await);
        let one = member(7, ONE, listener_one, (TWO, &address_nobody));
        let hello = Hello { cluster: ClusterId(7), from: TWO, to: ONE };
        let mut stream = connect(&address_one, &hello).await.expect("greeted");
        stream.write_all(b"GET / HTTP/1.1").await.expect("open");
        // It ends with a reset if we were fast enough to leave something unread.
        assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1)));
        until(&one.network, |traffic| traffic.receive_failures == 1).await;
    }
}
