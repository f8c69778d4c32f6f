//! The one queue through which everything reaches the driver.
//!
//! The queue itself is unbounded, because what the disk has to say must never be lost and what it has to
//! say is bounded by what it was asked. Clients and peers are bounded at the entrance, each by its own
//! measure: a client is refused, a peer's message is dropped, as a network might have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quorate_raft::{NodeId, Position, WriteId};
use quorate_replica::{Error, Message, Request, Response};
use quorate_store::{WatchId, WatchRequest, WatchUpdate};
use tokio::sync::{mpsc, oneshot};

use crate::limits;

/// Makes an inbox, before the node that empties it.
#[must_use]
pub fn inbox() -> (Inbox, InboxReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let load = Arc::new(Load::default());
    (Inbox { sender, load: load.clone() }, InboxReceiver { receiver, load })
}

/// The entrance; cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: mpsc::UnboundedSender<Event>,
    load: Arc<Load>,
}

/// The driver's end.
#[derive(Debug)]
pub struct InboxReceiver {
    pub(crate) receiver: mpsc::UnboundedReceiver<Event>,
    load: Arc<Load>,
}

/// What lies in the queue, by those measures that are bounded.
#[derive(Debug, Default)]
struct Load {
    requests: AtomicUsize,
    message_bytes: AtomicUsize,
}

pub(crate) type Answer = oneshot::Sender<Result<Response, Error>>;
pub(crate) type Updates = mpsc::UnboundedSender<(WatchId, WatchUpdate)>;

/// A stream of watch updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub u64);

/// What can happen to the driver.
#[derive(Debug)]
pub(crate) enum Event {
    Request {
        request: Request,
        answer: Answer,
    },
    /// Somebody has stopped waiting for an answer.
    Abandoned,
    Message {
        from: NodeId,
        message: Message,
        /// What it counts against the limit.
        bytes: usize,
    },
    Persisted(WriteId),
    SnapshotSaved {
        position: Position,
        sequence: u32,
    },
    OpenStream {
        stream: StreamId,
        updates: Updates,
    },
    CloseStream(StreamId),
    Watch {
        stream: StreamId,
        watch: WatchId,
        request: WatchRequest,
    },
    Credit {
        watch: WatchId,
        events: u32,
    },
    Progress(WatchId),
    CancelWatch(WatchId),
    /// A peer says that this member was removed from the cluster.
    Removed {
        by: NodeId,
    },
    Stop,
}

impl Inbox {
    /// Hands over a peer's message that took so many bytes to arrive. False if it was dropped, because the
    /// node has more than it can take already, or has stopped.
    pub fn message(&self, from: NodeId, message: Message, bytes: usize) -> bool {
        let waiting = self.load.message_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting.saturating_add(bytes) > limits::INBOX_MESSAGE_BYTES_MAX {
            self.load.message_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.sender.send(Event::Message { from, message, bytes }).is_ok()
    }

    /// A peer of the same cluster says that this member was removed, for ever. The node ends.
    pub fn removed(&self, by: NodeId) {
        self.send(Event::Removed { by });
    }

    pub(crate) fn request(&self, request: Request, answer: Answer) -> Result<(), Error> {
        if self.load.requests.fetch_add(1, Ordering::Relaxed) >= limits::INBOX_REQUESTS_MAX {
            self.load.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::TooManyRequests);
        }
        self.sender.send(Event::Request { request, answer }).map_err(|_| Error::Stopped)
    }

    pub(crate) fn persisted(&self, id: WriteId) {
        self.send(Event::Persisted(id));
    }

    pub(crate) fn snapshot_saved(&self, position: Position, sequence: u32) {
        self.send(Event::SnapshotSaved { position, sequence });
    }

    /// Sends what needs no limit. A node that has stopped does not care.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.sender.send(event);
    }
}

impl InboxReceiver {
    /// The next peer's message, for tests of networks. Everything else is dropped.
    #[cfg(any(test, feature = "testing"))]
    pub async fn next_message(&mut self) -> Option<(NodeId, Message)> {
        loop {
            let event = self.receiver.recv().await?;
            self.taken(&event);
            if let Event::Message { from, message, .. } = event {
                return Some((from, message));
            }
        }
    }

    /// The next peer that says that this member was removed, for tests of networks. Everything else is dropped.
    #[cfg(any(test, feature = "testing"))]
    pub async fn next_removal(&mut self) -> Option<NodeId> {
        loop {
            if let Event::Removed { by } = self.receiver.recv().await? {
                return Some(by);
            }
        }
    }

    /// Takes note that an event has left the queue.
    pub(crate) fn taken(&self, event: &Event) {
        match event {
            Event::Request { .. } => {
                self.load.requests.fetch_sub(1, Ordering::Relaxed);
            }
            Event::Message { bytes, .. } => {
                self.load.message_bytes.fetch_sub(*bytes, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
