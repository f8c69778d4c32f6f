//! How the rest of the process talks to a node.

use quorate_replica::{Error, Request, Response};
use quorate_store::{WatchId, WatchRequest, WatchUpdate};

/// A way to a running node; cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {}

impl NodeHandle {
    /// Asks, and waits for the answer. Dropping the future cancels the wait, not the command.
    pub async fn request(&self, request: Request) -> Result<Response, Error> {
        let _ = request;
        todo!()
    }

    /// A new stream that any number of watchers share.
    pub fn watch_stream(&self) -> WatchStream {
        todo!()
    }
}

/// Watchers that share one ordered stream of updates. Credit is managed here: a watcher is given more
/// as its updates are taken.
#[derive(Debug)]
pub struct WatchStream {}

impl WatchStream {
    /// Adds a watcher; its first update is `Created`.
    pub fn create(&mut self, request: WatchRequest) -> WatchId {
        let _ = request;
        todo!()
    }
    /// Removes a watcher; an update already under way may still come.
    pub fn cancel(&mut self, watch: WatchId) {
        let _ = watch;
        todo!()
    }
    /// Asks for a `Progress` update of one watcher, once it is up to date.
    pub fn request_progress(&mut self, watch: WatchId) {
        let _ = watch;
        todo!()
    }
    /// The next update of any watcher; `None` when the node has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<(WatchId, WatchUpdate)> {
        todo!()
    }
}
