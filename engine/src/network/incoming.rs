//! Listening to peers, and to those who ask.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError, RwLockWriteGuard};

use quorate_node::codec::{self, Kind};
use quorate_node::{Answer, Greeting, Hello, Inbox, Verdict, decode_question, encode_answer};
use quorate_raft::NodeId;
use quorate_replica::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::handshake::{self, ASK_TIMEOUT, check, frame};
use super::{
    BACKOFF_MIN, ConnectionError, Counters, HANDSHAKE_TIMEOUT, Me, Peers, Shared, TcpNetwork, add, addresses,
};

/// What is received, and from whom.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub network: TcpNetwork,
}

impl Incoming {
    /// Takes connections for as long as it is polled.
    pub async fn listen(self, listener: TcpListener) {
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
                        match this.serve(stream).await {
                            // The other side tries on, and says what it waits for.
                            Ok(()) | Err(ConnectionError::NotBegun) => {}
                            Err(error) => tracing::warn!(%address, %error, "a peer's connection has ended"),
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
        stream.set_nodelay(true)?;
        let first = timeout(HANDSHAKE_TIMEOUT, handshake::read_frame(&mut stream)).await;
        let first = first.map_err(|_| ConnectionError::Timeout)??;
        match frame(&first)?.kind {
            Kind::Question => self.answer(stream, &first).await,
            _ => self.receive(stream, frame(&first)?.decode(Kind::Hello)?).await,
        }
    }

    async fn answer(&self, mut stream: TcpStream, question: &[u8]) -> Result<(), ConnectionError> {
        let question = decode_question(question)?;
        let answer = timeout(ASK_TIMEOUT, self.shared().questions.ask(question)).await;
        let answer = answer.unwrap_or_else(|_| Answer::Later("it takes too long".into()));
        timeout(HANDSHAKE_TIMEOUT, stream.write_all(&encode_answer(&answer)?))
            .await
            .map_err(|_| ConnectionError::Timeout)??;
        Ok(())
    }

    async fn receive(&self, mut stream: TcpStream, hello: Hello) -> Result<(), ConnectionError> {
        let greeting = timeout(HANDSHAKE_TIMEOUT, self.greet(&mut stream, &hello)).await;
        let traffic = greeting.map_err(|_| ConnectionError::Timeout)??;
        // Reading goes on in a task of its own, so that a newer connection can end it.
        let (from, inbox, counters) = (hello.from, self.shared().inbox.clone(), Arc::clone(&traffic));
        let mut reading = JoinSet::new();
        let abort = reading.spawn(async move { receive_all(stream, from, &inbox, &counters).await });
        if let Some(previous) = self.connections().insert(from, abort) {
            previous.abort();
        }
        match reading.join_next().await {
            Some(Ok(Err(error))) => {
                add(&traffic.receive_failures, 1);
                self.peers().guests.remove(&from);
                Err(error)
            }
            // Replaced by a newer connection, or a peer no more.
            _ => Ok(()),
        }
    }

    /// Who is it, does it mean us, and is it a member? Our own name goes out with the verdict, so that the other side
    /// can say what is wrong, too.
    async fn greet(&self, stream: &mut TcpStream, hello: &Hello) -> Result<Arc<Counters>, ConnectionError> {
        let me = self.shared().me.get().ok_or(ConnectionError::NotBegun)?;
        let place = check(hello, me);
        let (verdict, result) = match place {
            Err(error) => (Verdict::WrongPlace, Err(error)),
            Ok(()) => self.admit(me, hello),
        };
        let greeting = Greeting { hello: me.hello(hello.from), verdict };
        stream.write_all(&codec::encode_greeting(&greeting)).await?;
        result
    }

    fn admit(&self, me: &Me, hello: &Hello) -> (Verdict, Result<Arc<Counters>, ConnectionError>) {
        let from = hello.from;
        let mut peers = self.peers();
        if let Some(peer) = peers.members.get(&from).or_else(|| peers.guests.get(&from)) {
            return (Verdict::Welcome, Ok(Arc::clone(&peer.traffic)));
        }
        if peers.removed.contains(&from) {
            return (Verdict::Removed, Err(ConnectionError::RemovedPeer(from.0)));
        }
        if peers.guests.len() >= GUESTS_MAX {
            return (Verdict::WrongPlace, Err(ConnectionError::TooManyGuests));
        }
        let guest = self.network.add_peer(me, from, addresses(from, &hello.peer_urls));
        let traffic = Arc::clone(&guest.traffic);
        peers.guests.insert(from, guest);
        (Verdict::Welcome, Ok(traffic))
    }

    fn peers(&self) -> RwLockWriteGuard<'_, Peers> {
        self.shared().peers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<NodeId, AbortHandle>> {
        self.shared().connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> &Shared {
        &self.network.shared
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

/// Room for one read.
const READ_BYTES: usize = 64 << 10;
/// Incoming connections at one listener, those of strangers included.
const CONNECTIONS_MAX: usize = 1024;
/// Members at a time that are not known here. A cluster has not many more in its life.
const GUESTS_MAX: usize = 16;
