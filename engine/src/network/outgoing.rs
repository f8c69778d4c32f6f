//! Sending to one peer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quorate_node::{Hello, Inbox, encode_message};
use quorate_replica::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::handshake::connect;
use super::{Addresses, BACKOFF_MAX, BACKOFF_MIN, ConnectionError, Counters, QUEUED_MESSAGES_MAX, add};

/// The task that sends to one peer.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub hello: Hello,
    pub addresses: Addresses,
    pub messages: mpsc::Receiver<Message>,
    pub traffic: Arc<Counters>,
    pub inbox: Inbox,
}

impl Outgoing {
    /// Runs until the other one is a peer no more.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut last_error = String::new();
        for attempt in 0.. {
            if self.messages.is_closed() {
                return;
            }
            let error = match self.address(attempt) {
                None => "no address of it is known".to_owned(),
                Some(address) => match connect(&address, &self.hello).await {
                    Ok(stream) => {
                        tracing::info!(peer = self.peer(), address, "connected");
                        backoff = BACKOFF_MIN;
                        last_error.clear();
                        self.traffic.connected.store(true, Ordering::Relaxed);
                        let result = self.send_all(stream).await;
                        self.traffic.connected.store(false, Ordering::Relaxed);
                        match result {
                            Ok(()) => return,
                            Err(error) => format!("{error} at {address}"),
                        }
                    }
                    Err(ConnectionError::Removed) => return self.inbox.removed(self.hello.to),
                    Err(error) => format!("{error} at {address}"),
                },
            };
            if !self.traffic.connected.load(Ordering::Relaxed) {
                // What waits is stale by the time that the peer is back.
                while self.messages.try_recv().is_ok() {
                    add(&self.traffic.send_failures, 1);
                }
            }
            // Said once, not once a second.
            if error != last_error {
                tracing::warn!(peer = self.peer(), error, "no connection to the peer; trying on");
                last_error = error;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn address(&self, attempt: usize) -> Option<String> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(attempt % addresses.len().max(1)).cloned()
    }

    fn peer(&self) -> String {
        format!("{:x}", self.hello.to.0)
    }

    /// Sends what is queued, everything at once in one write, until the connection breaks. `Ok` when the
    /// node has stopped, or the other one is a peer no more.
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

/// Encoded bytes after which a write begins, though more may wait.
const WRITE_BYTES: usize = 1 << 20;
/// A peer that takes nothing for so long is as good as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
