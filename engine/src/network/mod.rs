//! The peers in production: frames over TCP.
//!
//! A member sends to each peer over a connection that it has made, and receives over those that its peers
//! have made: one connection and one task per direction, so that neither waits for the other. Both sides
//! say first who they are and whom they mean; a member of another cluster, one that is not who it was
//! taken for, or one that was removed, gets no further and is told why.
//!
//! Who the peers are changes while the network runs ([`Network::set_peers`]); those that stay notice nothing.
//! Questions of those who are no members yet come to the same port, one connection each.
//!
//! Nothing here is reliable, and nothing needs to be: Raft expects messages to be lost. So a queue that is
//! full or whose peer is away drops, and a connection that has failed is made anew.

mod handshake;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use quorate_node::{
    Answer, ClusterId, CodecError, Hello, Identity, Inbox, Network, NoAnswer, Question, Questions,
};
use quorate_raft::NodeId;
use quorate_replica::Message;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::config::url::Url;
use incoming::Incoming;
use outgoing::Outgoing;

/// The ways to all peers; cheap to clone.
#[derive(Clone, Debug)]
pub struct TcpNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Who we are, once that is known. Before, only questions are answered.
    me: OnceLock<Me>,
    peers: RwLock<Peers>,
    /// The incoming connection of each peer; a new one replaces the one before, which may hang half-open.
    connections: Mutex<BTreeMap<NodeId, AbortHandle>>,
    inbox: Inbox,
    questions: Questions,
    /// New senders, to be run.
    senders: mpsc::UnboundedSender<Outgoing>,
}

/// What a member says of itself.
#[derive(Debug)]
struct Me {
    cluster: ClusterId,
    genesis: u64,
    id: NodeId,
    peer_urls: Vec<String>,
}

impl Me {
    fn hello(&self, to: NodeId) -> Hello {
        let peer_urls = self.peer_urls.clone();
        Hello { cluster: self.cluster, genesis: self.genesis, from: self.id, to, peer_urls }
    }
}

/// Everybody that is known.
#[derive(Debug, Default)]
struct Peers {
    members: BTreeMap<NodeId, Peer>,
    /// Members of the same cluster that this one has not heard of: it is behind, and one of them may be the leader
    /// from which alone it can learn of them. Each is known for as long as its connection lasts.
    guests: BTreeMap<NodeId, Peer>,
    removed: BTreeSet<NodeId>,
}

/// The way to one peer. When it is dropped, what waits is still sent if the connection stands.
#[derive(Debug)]
struct Peer {
    queue: mpsc::Sender<Message>,
    addresses: Addresses,
    traffic: Arc<Counters>,
}

/// Where a peer is, as `host:port`, to be tried in turn.
type Addresses = Arc<Mutex<Vec<String>>>;

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
    #[error("this member does not know yet who it is")]
    NotBegun,
    #[error(
        "it belongs to cluster {found}, this is cluster {expected}: check the initial members and the token \
         of both"
    )]
    OtherCluster { found: ClusterId, expected: ClusterId },
    #[error(
        "it belongs to another cluster that was started with the same flags: one of the two has lost all its data \
         directories and begun anew; empty the data directory of the one that is to go"
    )]
    OtherGenesis,
    #[error("it looks for member {sought:x}, this is member {id:x}: check the peer addresses")]
    OtherMember { sought: u64, id: u64 },
    #[error("member {0:x} is not the one expected here: check the peer addresses")]
    UnexpectedPeer(u64),
    #[error("too many members that are not known here have called before")]
    TooManyGuests,
    #[error("it does not take this member for a member of its cluster")]
    WrongPlace,
    #[error("member {0:x} has been removed from the cluster")]
    RemovedPeer(u64),
    #[error("this member has been removed from the cluster")]
    Removed,
}

impl TcpNetwork {
    /// The network, and the tasks that it consists of, to be spawned by the caller. It answers questions from then
    /// on, and has no peers before it has [begun](TcpNetwork::begin).
    #[must_use]
    pub fn new(listeners: Vec<TcpListener>, inbox: Inbox, questions: Questions) -> (TcpNetwork, PeerTasks) {
        let (senders, new_senders) = mpsc::unbounded_channel();
        let shared = Shared {
            me: OnceLock::new(),
            peers: RwLock::default(),
            connections: Mutex::default(),
            inbox,
            questions,
            senders,
        };
        let network = TcpNetwork { shared: Arc::new(shared) };
        (network.clone(), PeerTasks { network, new_senders, listeners })
    }

    /// From now on this is who we are, and where others reach us.
    ///
    /// # Panics
    /// When it has been said before.
    pub fn begin(&self, identity: &Identity, peer_urls: Vec<String>) {
        let (cluster, id) = (identity.cluster, identity.member);
        let me = Me { cluster, genesis: identity.genesis.fingerprint(), id, peer_urls };
        self.shared.me.set(me).expect("a member knows who it is once");
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
        let peers = self.shared.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.members.iter().map(|(id, peer)| (*id, traffic(&peer.traffic))).collect()
    }

    fn add_peer(&self, me: &Me, id: NodeId, addresses: Vec<String>) -> Peer {
        let (queue, messages) = mpsc::channel(QUEUED_MESSAGES_MAX);
        let traffic = Arc::new(Counters::default());
        let addresses = Arc::new(Mutex::new(addresses));
        let sender = Outgoing {
            hello: me.hello(id),
            addresses: Arc::clone(&addresses),
            messages,
            traffic: Arc::clone(&traffic),
            inbox: self.shared.inbox.clone(),
        };
        // If nobody runs the tasks, nothing is sent; so it is when the process ends.
        let _ = self.shared.senders.send(sender);
        Peer { queue, addresses, traffic }
    }
}

impl Network for TcpNetwork {
    fn send(&self, to: NodeId, message: Message) {
        let peers = self.shared.peers.read().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = peers.members.get(&to).or_else(|| peers.guests.get(&to)) else {
            tracing::debug!(%to, "dropping a message to a member whose address is not known");
            return;
        };
        if peer.queue.try_send(message).is_err() {
            add(&peer.traffic.send_failures, 1);
        }
    }

    fn set_peers(&self, peers: Vec<(NodeId, Vec<String>)>, removed: BTreeSet<NodeId>) {
        let me = self.shared.me.get().expect("the network begins before it has peers");
        let mut known = self.shared.peers.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut known.members);
        for (id, urls) in peers.into_iter().filter(|(id, _)| *id != me.id) {
            let addresses = addresses(id, &urls);
            let peer = match before.remove(&id).or_else(|| known.guests.remove(&id)) {
                Some(peer) => {
                    *peer.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
                    peer
                }
                None => self.add_peer(me, id, addresses),
            };
            known.members.insert(id, peer);
        }
        for id in &removed {
            before.extend(known.guests.remove(id).map(|guest| (*id, guest)));
        }
        known.removed = removed;
        drop(known);
        // Those that are left in `before` are peers no more. They find out why when they connect again.
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in before.keys().filter_map(|id| connections.remove(id)) {
            connection.abort();
        }
    }

    async fn ask(&self, url: &str, question: Question) -> Result<Answer, NoAnswer> {
        let url = Url::parse(url).map_err(|error| NoAnswer(error.to_string()))?;
        let answer = handshake::ask(&url.address(), &question).await;
        answer.map_err(|error| NoAnswer(format!("{error} at {url}")))
    }
}

/// The places that URLs stand for. Those that cannot be read are left out; whoever added them was told.
fn addresses(id: NodeId, urls: &[String]) -> Vec<String> {
    let mut addresses = Vec::new();
    for url in urls {
        match Url::parse(url) {
            Ok(url) => addresses.push(url.address()),
            Err(error) => {
                tracing::warn!(peer = format!("{:x}", id.0), %error, "cannot use a peer's URL");
            }
        }
    }
    addresses
}

/// All of a network's tasks. Dropping the future of [`run`](PeerTasks::run) ends them.
#[derive(Debug)]
pub struct PeerTasks {
    network: TcpNetwork,
    new_senders: mpsc::UnboundedReceiver<Outgoing>,
    listeners: Vec<TcpListener>,
}

impl PeerTasks {
    /// Runs for as long as it is polled.
    pub async fn run(mut self) {
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            tasks.spawn(Incoming { network: self.network.clone() }.listen(listener));
        }
        while let Some(sender) = self.new_senders.recv().await {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(sender.run());
        }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Messages that wait for one peer. They share their entries with the log, so they take little of their own.
const QUEUED_MESSAGES_MAX: usize = 4096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
