//! How the rest of the process talks to a node.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quorate_replica::{Error, Request, Response, Status};
use quorate_store::{WatchId, WatchRequest, WatchUpdate};
use tokio::sync::{mpsc, oneshot};

use crate::inbox::{Event, Inbox, StreamId};
use crate::limits;

/// A way to a running node; cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    inbox: Inbox,
    shared: Arc<Shared>,
}

/// What the driver and all handles share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    status: Mutex<Status>,
    /// Of the status, what every request needs.
    learner: AtomicBool,
    /// Numbers watchers and streams.
    numbers: AtomicU64,
}

impl Shared {
    pub fn publish(&self, status: &Status) {
        self.learner.store(status.learner, Ordering::Relaxed);
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone_from(status);
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

impl NodeHandle {
    pub(crate) fn new(inbox: Inbox, shared: Arc<Shared>) -> NodeHandle {
        NodeHandle { inbox, shared }
    }

    /// Asks, and waits for the answer. Dropping the future cancels the wait, not the command.
    pub async fn request(&self, request: Request) -> Result<Response, Error> {
        let (answer, receiver) = oneshot::channel();
        self.inbox.request(request, answer)?;
        Waiting { receiver: Some(receiver), inbox: &self.inbox }.await
    }

    /// A new stream that any number of watchers share.
    #[must_use]
    pub fn watch_stream(&self) -> WatchStream {
        let (updates, receiver) = mpsc::unbounded_channel();
        let stream = StreamId(self.shared.number());
        self.inbox.send(Event::OpenStream { stream, updates });
        WatchStream { handle: self.clone(), stream, receiver, watchers: BTreeMap::new() }
    }

    /// How the member was at the end of the driver's last turn. Does not ask it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the member was a learner then.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.shared.learner.load(Ordering::Relaxed)
    }

    /// Ends the driver, and with it the storage tasks once they have written what they were given. Whoever
    /// waits is told `Stopped`.
    pub fn stop(&self) {
        self.inbox.send(Event::Stop);
    }
}

/// Waits for an answer; if dropped before it has come, tells the driver that nobody waits any more.
struct Waiting<'a> {
    receiver: Option<oneshot::Receiver<Result<Response, Error>>>,
    inbox: &'a Inbox,
}

impl Future for Waiting<'_> {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let receiver = self.receiver.as_mut().expect("not polled after it was ready");
        let answer = std::task::ready!(Pin::new(receiver).poll(context));
        self.receiver = None;
        // The sender is dropped unanswered only with the driver.
        Poll::Ready(answer.unwrap_or(Err(Error::Stopped)))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // First the receiver, so that the driver finds it gone when it looks.
        if self.receiver.take().is_some() {
            self.inbox.send(Event::Abandoned);
        }
    }
}

/// Watchers that share one ordered stream of updates. Credit is managed here: a watcher is given more
/// as its updates are taken, so a stream that is not read holds a bounded number of events.
#[derive(Debug)]
pub struct WatchStream {
    handle: NodeHandle,
    stream: StreamId,
    receiver: mpsc::UnboundedReceiver<(WatchId, WatchUpdate)>,
    /// The watchers, each with the events taken since credit was last given.
    watchers: BTreeMap<WatchId, u32>,
}

impl WatchStream {
    /// Adds a watcher; its first update is `Created`.
    pub fn create(&mut self, request: WatchRequest) -> WatchId {
        let watch = WatchId(self.handle.shared.number());
        self.watchers.insert(watch, 0);
        self.handle.inbox.send(Event::Watch { stream: self.stream, watch, request });
        self.handle.inbox.send(Event::Credit { watch, events: limits::WATCH_CREDIT });
        watch
    }

    /// Removes a watcher; no update of it comes any more.
    pub fn cancel(&mut self, watch: WatchId) {
        if self.watchers.remove(&watch).is_some() {
            self.handle.inbox.send(Event::CancelWatch(watch));
        }
    }

    /// Asks for a `Progress` update of one watcher, once it is up to date.
    pub fn request_progress(&mut self, watch: WatchId) {
        if self.watchers.contains_key(&watch) {
            self.handle.inbox.send(Event::Progress(watch));
        }
    }

    /// The next update of any watcher; `None` when the node has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<(WatchId, WatchUpdate)> {
        loop {
            let (watch, update) = self.receiver.recv().await?;
            // An update of a watcher that has been cancelled may have been under way.
            let Some(taken) = self.watchers.get_mut(&watch) else { continue };
            match &update {
                WatchUpdate::Events { events, .. } => {
                    *taken = taken.saturating_add(u32::try_from(events.len()).unwrap_or(u32::MAX));
                    if *taken >= limits::WATCH_CREDIT / 2 {
                        let events = std::mem::take(taken);
                        self.handle.inbox.send(Event::Credit { watch, events });
                    }
                }
                WatchUpdate::Compacted { .. } => {
                    self.watchers.remove(&watch);
                }
                WatchUpdate::Created { .. } | WatchUpdate::Progress { .. } => {}
            }
            return Some((watch, update));
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        for watch in std::mem::take(&mut self.watchers).into_keys() {
            self.handle.inbox.send(Event::CancelWatch(watch));
        }
        self.handle.inbox.send(Event::CloseStream(self.stream));
    }
}
