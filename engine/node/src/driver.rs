//! The loop that runs a replica: wait, feed it, carry out what it asks for.
//!
//! The driver decides nothing and has no duties of order: the replica never asks for anything before its
//! precondition holds. The same loop runs on tokio and in the simulator, so there is nothing here that
//! depends on chance: no `select!`, no map with a random order, and inbox and clock are polled in a fixed
//! order.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use quorate_raft::{Instant, NodeId, Role};
use quorate_replica::{Error, Input, Output, Replica, RequestId, Response, Status};
use quorate_store::{WatchId, WatchUpdate};

use crate::env::{Clock, Network};
use crate::error::Error as NodeError;
use crate::flight::Recorder;
use crate::handle::Shared;
use crate::inbox::{Answer, Event, InboxReceiver, StreamId, Updates};
use crate::limits;
use crate::storage::{StorageQueue, StorageStopped};

/// The task that owns the replica.
pub struct Driver<C, N> {
    pub(crate) replica: Replica,
    pub(crate) clock: C,
    pub(crate) network: N,
    pub(crate) inbox: InboxReceiver,
    pub(crate) storage: StorageQueue,
    pub(crate) shared: Arc<Shared>,
    pub(crate) requests: Requests,
    pub(crate) watchers: Watchers,
    /// Why the driver ends after this turn.
    pub(crate) ending: Option<NodeError>,
    pub(crate) said: Said,
    /// Writes down what the replica is given, if that is wanted.
    pub(crate) recorder: Option<Recorder>,
}

impl<C: Clock, N: Network> Driver<C, N> {
    /// Runs until the node is stopped or its storage has failed, or until it must not go on: then the error says why.
    pub async fn run(mut self) -> Result<(), NodeError> {
        let clock = self.clock.clone();
        let mut sleep = None;
        let mut events = Vec::with_capacity(limits::INPUTS_PER_TURN);
        self.shared.publish(self.replica.status());
        loop {
            // 1. Wait, for the inbox or for the replica's deadline. The only await of the loop.
            let deadline = self.replica.deadline().map(|(at, _)| at);
            // A pending sleep that ends too early does no harm but a turn without news; so it is only
            // replaced when it would end too late.
            if deadline.is_some_and(|at| sleep.as_ref().is_none_or(|(until, _)| at < *until)) {
                sleep = deadline.map(|at| (at, Box::pin(clock.sleep_until(at))));
            }
            if !wait(&mut self.inbox, &mut events, &mut sleep).await {
                return Ok(());
            }

            // 2. Feed what has arrived, then time. Inputs first: what came while the process was frozen
            //    should be seen before deadlines are judged.
            let now = clock.now();
            if let Some(recorder) = &mut self.recorder {
                recorder.turn(now);
            }
            for event in events.drain(..) {
                self.inbox.taken(&event);
                match event {
                    Event::Stop => return Ok(()),
                    Event::Removed { by } => return Err(self.removed(Some(by))),
                    event => self.handle(now, event),
                }
            }
            for id in self.requests.take_abandoned() {
                self.feed(now, Input::Cancel { id });
            }
            self.feed(now, Input::Wake);

            // 3. Carry out what the replica asks for. Nothing here waits.
            while let Some(output) = self.replica.poll_output() {
                if self.perform(output).is_err() {
                    tracing::error!("the storage task has ended; so does the driver");
                    return Ok(());
                }
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.end(&mut self.replica);
            }
            self.shared.publish(self.replica.status());
            if let Some(error) = self.ending.take() {
                return Err(error);
            }
        }
    }

    fn handle(&mut self, now: Instant, event: Event) {
        let input = match event {
            Event::Request { request, answer } => Input::Request { id: self.requests.add(answer), request },
            Event::Abandoned => return self.requests.note_abandoned(),
            Event::Message { from, message, bytes: _ } => Input::Message { from, message },
            Event::Persisted(id) => Input::Persisted(id),
            Event::SnapshotSaved { position, sequence } => Input::SnapshotSaved { position, sequence },
            Event::OpenStream { stream, updates } => return self.watchers.open(stream, updates),
            Event::CloseStream(stream) => return self.watchers.close(stream),
            Event::Watch { stream, watch, request } => {
                self.watchers.add(stream, watch);
                Input::Watch { watch, request }
            }
            Event::Credit { watch, events } => Input::Credit { watch, events },
            Event::Progress(watch) => Input::Progress { watch },
            Event::CancelWatch(watch) => {
                self.watchers.remove(watch);
                Input::CancelWatch { watch }
            }
            Event::Stop | Event::Removed { .. } => unreachable!("the loop has ended"),
        };
        self.feed(now, input);
    }

    /// The one place where the replica is given something.
    fn feed(&mut self, now: Instant, input: Input) {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(&input);
        }
        self.replica.handle(now, input);
    }

    /// This member is none any more.
    fn removed(&self, by: Option<NodeId>) -> NodeError {
        let member = self.replica.status().raft.id.0;
        let by = by.map_or_else(|| "the log".to_owned(), |by| format!("member {:x}", by.0));
        tracing::error!(
            member = format!("{member:x}"),
            told_by = by,
            "this member has been removed from the cluster"
        );
        NodeError::Removed { member }
    }

    fn perform(&mut self, output: Output) -> Result<(), StorageStopped> {
        if let Some(recorder) = &mut self.recorder {
            recorder.output(&output);
        }
        match output {
            Output::Send { to, message } => self.network.send(to, message),
            Output::Persist(write) => self.storage.write(write)?,
            Output::SaveSnapshot { chunk, keep_after } => self.storage.save(chunk, keep_after)?,
            Output::Respond { id, result } => self.requests.answer(id, result),
            Output::Watch { watch, update } => self.watchers.notify(watch, update),
            Output::Peers(peers) => {
                let removed = self.replica.store().members().removed().map(NodeId).collect();
                self.network.set_peers(peers, removed);
            }
            Output::Removed => self.ending = Some(self.removed(None)),
            Output::Disowned => {
                let member = self.replica.status().raft.id.0;
                self.ending = Some(NodeError::Disowned { member, boot: self.requests.boot });
            }
            Output::Changed(status) => self.said.change(&status),
        }
        Ok(())
    }
}

/// What the log has been told of the cluster, so that it is told once.
#[derive(Debug, Default)]
pub(crate) struct Said {
    leadership: (Option<Role>, u64, Option<NodeId>),
    membership: (usize, usize, bool),
    quorum: bool,
}

impl Said {
    /// Says who leads, who takes part, and whether that is enough. Members are named as etcd's tools name them, in
    /// hexadecimal.
    fn change(&mut self, status: &Status) {
        let member = format!("{:x}", status.raft.id.0);
        let (role, term, applied) = (status.raft.role, status.raft.term.0, status.applied.0);
        let leadership = (Some(role), term, status.raft.leader);
        if std::mem::replace(&mut self.leadership, leadership) != leadership {
            let leader =
                status.raft.leader.map_or_else(|| "none".to_owned(), |leader| format!("{:x}", leader.0));
            tracing::info!(member, %role, term, leader, applied, "role, term or leader changed");
        }
        let (voters, learners, learner) = (status.voters, status.learners, status.learner);
        let membership = (voters, learners, learner);
        if std::mem::replace(&mut self.membership, membership) != membership {
            tracing::info!(member, voters, learners, learner, applied, "membership changed");
        }
        match (std::mem::replace(&mut self.quorum, status.raft.quorum), status.raft.quorum) {
            (true, false) => tracing::warn!(
                member,
                voters,
                "no contact with a majority of the voters: writes and linearizable reads wait until it is back"
            ),
            (false, true) => tracing::info!(member, voters, "in contact with a majority of the voters"),
            _ => {}
        }
    }
}

/// Waits until there are events or the sleep is over. False when no more events can come.
async fn wait<S: Future<Output = ()>>(
    inbox: &mut InboxReceiver,
    events: &mut Vec<Event>,
    sleep: &mut Option<(Instant, Pin<Box<S>>)>,
) -> bool {
    poll_fn(|context| {
        match inbox.receiver.poll_recv_many(context, events, limits::INPUTS_PER_TURN) {
            Poll::Ready(count) => return Poll::Ready(count > 0),
            Poll::Pending => {}
        }
        if sleep.as_mut().is_some_and(|(_, future)| future.as_mut().poll(context).is_ready()) {
            *sleep = None;
            return Poll::Ready(true);
        }
        Poll::Pending
    })
    .await
}

/// The clients that wait for an answer.
///
/// Ids are given out here, when a request leaves the inbox: so they reach the replica in ascending order,
/// whatever thread a request came from.
#[derive(Debug)]
pub(crate) struct Requests {
    boot: u64,
    /// The sequence number of the first of `waiting`.
    first: u64,
    waiting: VecDeque<Option<Answer>>,
    /// Whether somebody has stopped waiting since the last look.
    abandoned: bool,
}

impl Requests {
    pub fn new(boot: u64) -> Requests {
        Requests { boot, first: 1, waiting: VecDeque::new(), abandoned: false }
    }

    fn add(&mut self, answer: Answer) -> RequestId {
        self.waiting.push_back(Some(answer));
        RequestId { boot: self.boot, sequence: self.first + self.waiting.len() as u64 - 1 }
    }

    fn answer(&mut self, id: RequestId, result: Result<Response, Error>) {
        assert_eq!(id.boot, self.boot, "only requests of this life are answered");
        let at = id.sequence.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let waiting = at.and_then(|at| self.waiting.get_mut(at)).and_then(Option::take);
        // The client may be gone by now; an id that was cancelled is not here any more.
        if let Some(answer) = waiting {
            let _ = answer.send(result);
        }
        self.forget_first();
    }

    fn note_abandoned(&mut self) {
        self.abandoned = true;
    }

    /// Those that nobody waits for any more. One look over all that wait, at most once a turn, is cheaper
    /// than giving every request a name by which it could be cancelled.
    fn take_abandoned(&mut self) -> Vec<RequestId> {
        if !std::mem::take(&mut self.abandoned) {
            return Vec::new();
        }
        let mut ids = Vec::new();
        for (at, waiting) in self.waiting.iter_mut().enumerate() {
            if waiting.as_ref().is_some_and(Answer::is_closed) {
                *waiting = None;
                ids.push(RequestId { boot: self.boot, sequence: self.first + at as u64 });
            }
        }
        self.forget_first();
        ids
    }

    fn forget_first(&mut self) {
        while self.waiting.front().is_some_and(Option::is_none) {
            self.waiting.pop_front();
            self.first += 1;
        }
    }
}

/// Where the updates of each watcher go.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    streams: BTreeMap<StreamId, Updates>,
    watchers: BTreeMap<WatchId, Updates>,
}

impl Watchers {
    fn open(&mut self, stream: StreamId, updates: Updates) {
        self.streams.insert(stream, updates);
    }

    /// The stream's watchers have been cancelled before.
    fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    fn add(&mut self, stream: StreamId, watch: WatchId) {
        let updates = self.streams.get(&stream).expect("a stream is opened before it is used");
        self.watchers.insert(watch, updates.clone());
    }

    fn remove(&mut self, watch: WatchId) {
        self.watchers.remove(&watch);
    }

    fn notify(&mut self, watch: WatchId, update: WatchUpdate) {
        let ends = matches!(update, WatchUpdate::Compacted { .. });
        if let Some(updates) = self.watchers.get(&watch) {
            // The stream may have been dropped; its cancellations are on their way.
            let _ = updates.send((watch, update));
        }
        if ends {
            self.remove(watch);
        }
    }
}
