//! etcd's Watch service: one stream, many watchers.
//!
//! [`WatchSession`] is one stream without its transport: requests go in by [`handle`](WatchSession::handle),
//! responses come out of [`next`](WatchSession::next). The node does the watching (see `store/watch.rs`);
//! here it gets etcd's manners:
//!
//! - The first response of a watcher says that it was created, the last that it is cancelled.
//! - What concerns no watcher in particular has the id -1: a refused creation, and the answer to a progress
//!   request, which comes when every watcher of the stream has been told everything up to its revision.
//! - Several revisions may come in one response, but no revision in two, unless the watcher allowed
//!   fragments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use prost::Message;
use quorate_node::{Clock, WatchStream};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_raft::Instant;
use quorate_store::{Event, Revision, WatchId, WatchUpdate};

use super::{Api, Metadata};
use crate::config::Limits;
use crate::convert::{self, Rejection};
use crate::error::Error;

/// The id of what concerns no watcher in particular.
const NO_WATCHER: i64 = -1;

impl<C: Clock> Api<C> {
    /// Opens a watch stream.
    pub fn watch(self: &Arc<Self>, metadata: Metadata) -> Result<WatchSession<C>, Error> {
        self.admit(metadata)?;
        let check_at = self.clock.now() + self.config.election_timeout;
        let mut session = WatchSession {
            stream: self.node.watch_stream(),
            api: Arc::clone(self),
            watchers: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            progress: None,
            progress_again: false,
            notify_at: None,
            leader_check: metadata.require_leader.then_some(LeaderCheck { at: check_at, missed: 0 }),
            timer: None,
        };
        session.set_timer();
        Ok(session)
    }
}

/// One watch stream.
pub struct WatchSession<C> {
    api: Arc<Api<C>>,
    stream: WatchStream,
    /// By the id the client knows.
    watchers: BTreeMap<i64, Watcher>,
    /// From the node's id to the client's.
    ids: BTreeMap<WatchId, i64>,
    /// Where the search for a free id starts.
    next_id: i64,
    /// Responses to hand out.
    ready: VecDeque<pb::WatchResponse>,
    /// The progress request that is being answered.
    progress: Option<ProgressRound>,
    /// Another came meanwhile.
    progress_again: bool,
    /// When idle watchers are told how far they are.
    notify_at: Option<Instant>,
    /// If the client insists on a leader.
    leader_check: Option<LeaderCheck>,
    /// Completes at the earlier of the two instants above.
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

struct Watcher {
    node_id: WatchId,
    /// The first revision it wants, or zero.
    start: i64,
    fragment: bool,
    /// It wants to be told from time to time how far it is.
    notify: bool,
    /// Nothing was sent since the last time.
    idle: bool,
    /// It waits to be told.
    notify_due: bool,
    /// The node has answered its creation.
    created: bool,
    /// The client cancelled it before that.
    cancelled: bool,
}

struct ProgressRound {
    /// Watchers that have not answered.
    waiting: BTreeSet<WatchId>,
    /// The least revision that was answered.
    revision: Option<Revision>,
}

/// A stream that insists on a leader ends when there was none at three looks in a row, an election
/// timeout apart.
struct LeaderCheck {
    at: Instant,
    missed: u32,
}

enum Happening {
    Update(WatchId, WatchUpdate),
    Timer,
    Stopped,
}

impl<C: Clock> WatchSession<C> {
    /// Takes note of a request.
    pub fn handle(&mut self, request: &pb::WatchRequest) {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.request_progress(),
            // etcd ignores what it does not know.
            None => {}
        }
    }

    /// The next response. Cancel safe. After an error the stream is over.
    pub async fn next(&mut self) -> Result<pb::WatchResponse, Error> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Ok(response);
            }
            match self.happening().await {
                Happening::Update(id, update) => self.on_update(id, update),
                Happening::Timer => self.on_timer()?,
                Happening::Stopped => return Err(Error::Stopped),
            }
        }
    }

    // --- Requests ---

    fn create(&mut self, request: &pb::WatchCreateRequest) {
        let watch = match self.admit(request) {
            Ok(watch) => watch,
            Err(rejection) => {
                return self.respond_now(pb::WatchResponse {
                    watch_id: NO_WATCHER,
                    created: true,
                    canceled: true,
                    cancel_reason: rejection.reason().to_owned(),
                    ..Default::default()
                });
            }
        };
        let id = if request.watch_id == 0 { self.free_id() } else { request.watch_id };
        let node_id = self.stream.create(watch);
        let watcher = Watcher {
            node_id,
            start: request.start_revision,
            fragment: request.fragment,
            notify: request.progress_notify,
            idle: true,
            notify_due: false,
            created: false,
            cancelled: false,
        };
        self.watchers.insert(id, watcher);
        self.ids.insert(node_id, id);
        if request.progress_notify && self.notify_at.is_none() {
            self.notify_at = Some(self.next_notification());
            self.set_timer();
        }
        // A client applies the answer of a progress request to every watcher it knows by then.
        if let Some(round) = &mut self.progress {
            round.waiting.insert(node_id);
            self.stream.request_progress(node_id);
        }
    }

    fn admit(&self, request: &pb::WatchCreateRequest) -> Result<quorate_store::WatchRequest, Rejection> {
        if self.watchers.contains_key(&request.watch_id) && request.watch_id != 0 {
            return Err(Rejection::DuplicateId);
        }
        if self.watchers.len() >= self.api.config.limits.watchers_per_stream_max {
            return Err(Rejection::TooManyWatchers);
        }
        convert::watch(request)
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    fn cancel(&mut self, id: i64) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if !watcher.created {
            watcher.cancelled = true;
            return;
        }
        let node_id = watcher.node_id;
        self.stream.cancel(node_id);
        self.forget(id, node_id);
        self.respond_now(pb::WatchResponse { watch_id: id, canceled: true, ..Default::default() });
    }

    fn request_progress(&mut self) {
        if self.progress.is_some() {
            self.progress_again = true;
            return;
        }
        let waiting: BTreeSet<WatchId> = self.ids.keys().copied().collect();
        if waiting.is_empty() {
            return self.respond_now(pb::WatchResponse { watch_id: NO_WATCHER, ..Default::default() });
        }
        for node_id in &waiting {
            self.stream.request_progress(*node_id);
        }
        self.progress = Some(ProgressRound { waiting, revision: None });
    }

    // --- Updates ---

    fn on_update(&mut self, node_id: WatchId, update: WatchUpdate) {
        // An update may still be under way when its watcher is cancelled.
        let Some(&id) = self.ids.get(&node_id) else {
            return;
        };
        let watcher = self.watchers.get_mut(&id).expect("every id of the node's has a watcher");
        match update {
            WatchUpdate::Created { revision } => {
                watcher.created = true;
                let cancelled = watcher.cancelled;
                let header = Some(self.api.header_at(revision));
                self.ready.push_back(pb::WatchResponse {
                    header,
                    watch_id: id,
                    created: true,
                    ..Default::default()
                });
                if cancelled {
                    self.cancel(id);
                }
            }
            WatchUpdate::Events { revision, events } => {
                watcher.idle = false;
                let header = self.api.header_at(revision);
                let response = events_response(header, id, &events);
                if watcher.fragment {
                    let bytes_max = self.api.config.limits.request_bytes_max + Limits::OVERHEAD_BYTES;
                    self.ready.extend(fragments(response, bytes_max));
                } else {
                    self.ready.push_back(response);
                }
            }
            WatchUpdate::Progress { revision } => self.on_progress(id, node_id, revision),
            WatchUpdate::Compacted { compact_revision, revision } => {
                self.forget(id, node_id);
                self.ready.push_back(pb::WatchResponse {
                    header: Some(self.api.header_at(revision)),
                    watch_id: id,
                    canceled: true,
                    compact_revision: compact_revision.0,
                    ..Default::default()
                });
            }
        }
    }

    fn on_progress(&mut self, id: i64, node_id: WatchId, revision: Revision) {
        let watcher = self.watchers.get_mut(&id).expect("the caller has seen it");
        // A watcher that waits for a revision to come must not be told of an earlier one than its
        // client has already seen (etcd issue 20221).
        if revision.0 + 1 < watcher.start {
            watcher.notify_due = false;
            // etcd, too, leaves such a request without an answer.
            self.progress = None;
            self.progress_again = false;
            return;
        }
        if watcher.notify_due {
            watcher.notify_due = false;
            let header = Some(self.api.header_at(revision));
            self.ready.push_back(pb::WatchResponse { header, watch_id: id, ..Default::default() });
        }
        if let Some(round) = &mut self.progress
            && round.waiting.remove(&node_id)
        {
            round.revision = Some(round.revision.map_or(revision, |least| least.min(revision)));
            self.maybe_finish_progress();
        }
    }

    fn maybe_finish_progress(&mut self) {
        let Some(round) = self.progress.take_if(|round| round.waiting.is_empty()) else {
            return;
        };
        let response = pb::WatchResponse { watch_id: NO_WATCHER, ..Default::default() };
        match round.revision {
            Some(revision) => {
                let header = Some(self.api.header_at(revision));
                self.ready.push_back(pb::WatchResponse { header, ..response });
            }
            // Every watcher went before it could answer.
            None => self.respond_now(response),
        }
        if std::mem::take(&mut self.progress_again) {
            self.request_progress();
        }
    }

    fn forget(&mut self, id: i64, node_id: WatchId) {
        self.watchers.remove(&id);
        self.ids.remove(&node_id);
        if let Some(round) = &mut self.progress
            && round.waiting.remove(&node_id)
        {
            self.maybe_finish_progress();
        }
    }

    /// Responds to something that no update from the node belongs to.
    fn respond_now(&mut self, response: pb::WatchResponse) {
        let header = Some(self.api.header_now());
        self.ready.push_back(pb::WatchResponse { header, ..response });
    }

    // --- Time ---

    /// The next update, or the timer.
    async fn happening(&mut self) -> Happening {
        let mut update = pin!(self.stream.next());
        let timer = &mut self.timer;
        poll_fn(|context| {
            match update.as_mut().poll(context) {
                Poll::Ready(Some((id, update))) => return Poll::Ready(Happening::Update(id, update)),
                Poll::Ready(None) => return Poll::Ready(Happening::Stopped),
                Poll::Pending => {}
            }
            match timer {
                Some(timer) => timer.as_mut().poll(context).map(|()| Happening::Timer),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn set_timer(&mut self) {
        let check_at = self.leader_check.as_ref().map(|check| check.at);
        let Some(at) = [self.notify_at, check_at].into_iter().flatten().min() else {
            return;
        };
        let clock = self.api.clock.clone();
        self.timer = Some(Box::pin(async move { clock.sleep_until(at).await }));
    }

    /// Does what is due.
    fn on_timer(&mut self) -> Result<(), Error> {
        let now = self.api.clock.now();
        if let Some(check) = &mut self.leader_check
            && now >= check.at
        {
            let leader = self.api.node_status().raft.leader;
            check.missed = if leader.is_some() { 0 } else { check.missed + 1 };
            if check.missed == 3 {
                return Err(Error::NoLeader);
            }
            check.at = now + self.api.config.election_timeout;
        }
        if self.notify_at.is_some_and(|at| now >= at) {
            self.notify_at = Some(self.next_notification());
            for watcher in self.watchers.values_mut().filter(|watcher| watcher.notify) {
                if std::mem::replace(&mut watcher.idle, true) {
                    watcher.notify_due = true;
                    self.stream.request_progress(watcher.node_id);
                }
            }
        }
        self.set_timer();
        Ok(())
    }

    /// After the interval and up to a tenth of it, so that streams do not all speak at once.
    fn next_notification(&self) -> Instant {
        let interval = self.api.config.watch_progress_interval;
        let jitter_max = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX).max(1);
        self.api.clock.now() + interval + Duration::from_nanos(self.api.random.number() % jitter_max)
    }
}

fn events_response(header: pb::ResponseHeader, watch_id: i64, events: &[Event]) -> pb::WatchResponse {
    let events = events.iter().map(convert::event).collect();
    pb::WatchResponse { header: Some(header), watch_id, events, ..Default::default() }
}

/// Splits a response that is too long: as many events in each as fit, at least one.
fn fragments(mut response: pb::WatchResponse, bytes_max: usize) -> Vec<pb::WatchResponse> {
    if response.events.len() < 2 || response.encoded_len() < bytes_max {
        return vec![response];
    }
    let events = std::mem::take(&mut response.events);
    let empty = response;
    let mut fragments = vec![empty.clone()];
    let mut len = empty.encoded_len();
    for event in events {
        let event_len = event.encoded_len() + EVENT_OVERHEAD_BYTES;
        let mut last = fragments.last_mut().expect("there is one from the start");
        if !last.events.is_empty() && len + event_len >= bytes_max {
            last.fragment = true;
            fragments.push(empty.clone());
            last = fragments.last_mut().expect("one was just pushed");
            len = empty.encoded_len();
        }
        len += event_len;
        last.events.push(event);
    }
    fragments
}

/// At most so much do the tag and the length of an event take.
const EVENT_OVERHEAD_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_proto::mvccpb;

    use super::*;

    /// A response with one event per value.
    fn response(values: &[usize]) -> pb::WatchResponse {
        let event = |len: &usize| {
            let kv = mvccpb::KeyValue { value: Bytes::from(vec![b'v'; *len]), ..Default::default() };
            mvccpb::Event { kv: Some(kv), ..Default::default() }
        };
        pb::WatchResponse { watch_id: 7, events: values.iter().map(event).collect(), ..Default::default() }
    }

    #[test]
    fn fragments_are_as_large_as_they_may() {
        // Lengths of values; how many events each fragment has when a hundred bytes are the limit.
        let table: [(&[usize], &[usize]); 6] = [
            (&[10, 10], &[2]),
            (&[30, 30, 30, 30], &[2, 2]),
            // What does not fit comes alone.
            (&[200, 200], &[1, 1]),
            (&[200], &[1]),
            (&[10, 200, 10], &[1, 1, 1]),
            (&[], &[0]),
        ];
        for (values, expected) in table {
            let fragments = fragments(response(values), 100);
            let counts: Vec<usize> = fragments.iter().map(|fragment| fragment.events.len()).collect();
            assert_eq!(counts, expected, "{values:?}");
            let (last, others) = fragments.split_last().expect("there is at least one");
            assert!(!last.fragment && others.iter().all(|other| other.fragment));
            assert!(
                fragments.iter().all(|f| f.watch_id == 7 && (f.events.len() < 2 || f.encoded_len() < 100))
            );
        }
    }
}
