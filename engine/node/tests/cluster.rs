//! Whole nodes, driven by hand: three members, their disks in memory, and links that carry encoded frames.
//! Time passes when the test says so, and everything is polled in the same order every time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quorate_node::limits::{INBOX_REQUESTS_MAX, WATCH_CREDIT};
use quorate_node::testing::{MemoryDisk, Survival, identity, ready};
use quorate_node::{
    Answer, Clock, Config, Inbox, Network, NoAnswer, Node, NodeHandle, Question, WatchStream, decode_message,
    encode_message, questions,
};
use quorate_raft::{Instant, NodeId, Role};
use quorate_replica::{Body, Consistency, Error, Message, Request, Response};
use quorate_store::{
    Blob, Command, KeyRange, LeaseId, Put, Query, RangeQuery, Revision, WatchRequest, WatchUpdate,
};

/// A clock that stands still until it is moved.
#[derive(Clone, Debug, Default)]
struct ManualClock(Arc<AtomicU64>);

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    async fn sleep_until(&self, at: Instant) {
        poll_fn(|_| if self.now() >= at { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// Frames on their way.
#[derive(Clone, Debug, Default)]
struct Links(Arc<Mutex<Vec<Frame>>>);

#[derive(Debug)]
struct Frame {
    from: NodeId,
    to: NodeId,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Link {
    from: NodeId,
    links: Links,
}

impl Network for Link {
    fn send(&self, to: NodeId, message: Message) {
        let mut bytes = Vec::new();
        encode_message(&message, &mut bytes).expect("replicas make no message too large");
        self.links.0.lock().expect("one thread").push(Frame { from: self.from, to, bytes });
    }

    /// Frames find their way by id.
    fn set_peers(&self, _: Vec<(NodeId, Vec<String>)>, _: BTreeSet<NodeId>) {}

    async fn ask(&self, _: &str, _: Question) -> Result<Answer, NoAnswer> {
        unreachable!("the members know who they are")
    }
}

struct Member {
    handle: NodeHandle,
    inbox: Inbox,
    tasks: Vec<Pin<Box<dyn Future<Output = ()>>>>,
}

struct Cluster {
    clock: ManualClock,
    links: Links,
    disks: BTreeMap<NodeId, MemoryDisk>,
    members: BTreeMap<NodeId, Member>,
    snapshot_entries: u64,
}

const ROUNDS: usize = 60;

impl Cluster {
    fn new(size: u64, snapshot_entries: u64) -> Cluster {
        let mut cluster = Cluster {
            clock: ManualClock::default(),
            links: Links::default(),
            disks: (1..=size).map(|id| (NodeId(id), MemoryDisk::default())).collect(),
            members: BTreeMap::new(),
            snapshot_entries,
        };
        (1..=size).for_each(|id| cluster.start(id));
        cluster.elect();
        cluster
    }

    fn start(&mut self, id: u64) {
        let id = NodeId(id);
        let replica = quorate_replica::Config {
            raft: quorate_raft::Config::new(id),
            snapshot_entries: self.snapshot_entries,
            catchup_entries: self.snapshot_entries / 2,
            quota_bytes: 1 << 30,
            strict_reconfig_check: true,
            learners_max: 1,
            auto_promote: false,
            priority: 0,
            request_timeout: Duration::from_secs(7),
        };
        let voters: Vec<u64> = self.disks.keys().map(|id| id.0).collect();
        let mut config = Config::new(identity(7, id.0, &voters), replica);
        config.segment_bytes = 2000;
        let (inbox, receiver) = quorate_node::inbox();
        let env = (self.clock.clone(), self.disks[&id].clone(), Link { from: id, links: self.links.clone() });
        let (_, questions) = questions();
        let starting = Node::start(config, id.0, env, (inbox.clone(), receiver), questions);
        let node = ready(starting).expect("a legal disk");
        let (driver, storage, snapshots) = (node.driver, node.storage, node.snapshots);
        let tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> = vec![
            Box::pin(async move { driver.run().await.expect("nobody is removed") }),
            Box::pin(async move { storage.run().await.expect("memory does not fail") }),
            Box::pin(async move { snapshots.run().await.expect("memory does not fail") }),
        ];
        self.members.insert(id, Member { handle: node.handle, inbox, tasks });
    }

    /// The power goes at one member: what was not synced is lost.
    fn crash(&mut self, id: u64) {
        self.members.remove(&NodeId(id));
        let disk = self.disks[&NodeId(id)].after_power_cut(Survival::Nothing);
        self.disks.insert(NodeId(id), disk);
    }

    fn handle(&self, id: u64) -> NodeHandle {
        self.members[&NodeId(id)].handle.clone()
    }

    fn leader(&self) -> Option<u64> {
        let leads = |member: &Member| member.handle.status().raft.role == Role::Leader;
        self.members.iter().find(|(_, member)| leads(member)).map(|(id, _)| id.0)
    }

    fn elect(&mut self) -> u64 {
        for _ in 0..200 {
            self.wait(Duration::from_millis(50));
            if let Some(leader) = self.leader() {
                self.wait(Duration::from_millis(200));
                return leader;
            }
        }
        panic!("no leader after ten seconds");
    }

    /// Everything that happens without time passing further.
    fn wait(&mut self, duration: Duration) {
        self.clock.0.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
        (0..ROUNDS).for_each(|_| self.round());
    }

    fn round(&mut self) {
        for member in self.members.values_mut() {
            member.tasks.retain_mut(|task| task.as_mut().poll(&mut context()).is_pending());
        }
        let frames = std::mem::take(&mut *self.links.0.lock().expect("one thread"));
        for Frame { from, to, bytes } in frames {
            if let Some(member) = self.members.get(&to) {
                let message = decode_message(&bytes).expect("it was encoded by us");
                member.inbox.message(from, message, bytes.len());
            }
        }
    }

    /// The result of a future that needs no time to pass; `None` if it does.
    fn run<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        for _ in 0..ROUNDS {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context()) {
                return Some(output);
            }
            self.round();
        }
        None
    }

    fn put(&mut self, id: u64, key: &str, value: &str) -> Revision {
        let handle = self.handle(id);
        let answer = self.run(handle.request(put(key, value))).expect("answered").expect("accepted");
        answer.revision
    }

    fn get(&mut self, id: u64, key: &str, consistency: Consistency) -> Option<String> {
        let handle = self.handle(id);
        let query = Query::Range(RangeQuery::of(KeyRange::single(key)));
        let request = Request::Query { query, consistency };
        let answer = self.run(handle.request(request)).expect("answered").expect("accepted");
        let Body::Store(quorate_store::Response::Range(range)) = answer.body else { panic!("{answer:?}") };
        range.kvs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned())
    }
}

/// Nobody needs to be woken: everything is polled again and again.
fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn put(key: &str, value: &str) -> Request {
    Request::Command(Command::Put(Put {
        key: Blob::from(key),
        value: Some(Blob::from(value)),
        lease: Some(LeaseId::NONE),
        previous: false,
    }))
}

fn everything(start: Option<Revision>) -> WatchRequest {
    WatchRequest {
        range: KeyRange::from_wire(b"\0", b"\0"),
        start,
        previous: false,
        no_put: false,
        no_delete: false,
    }
}

/// How many events a stream has for us.
fn drain(cluster: &mut Cluster, stream: &mut WatchStream) -> usize {
    let mut count = 0;
    while let Some(update) = cluster.run(stream.next()) {
        match update.expect("the node runs").1 {
            WatchUpdate::Events { events, .. } => count += events.len(),
            WatchUpdate::Created { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    count
}

#[test]
fn what_is_put_through_a_follower_is_read_everywhere() {
    let mut cluster = Cluster::new(3, 10_000);
    let follower = (1..=3).find(|id| Some(*id) != cluster.leader()).expect("three members");
    cluster.put(follower, "key", "value");
    for id in 1..=3 {
        assert_eq!(cluster.get(id, "key", Consistency::Linearizable).as_deref(), Some("value"));
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_everywhere() {
    let mut cluster = Cluster::new(3, 10_000);
    let mut revision = Revision(0);
    for i in 0..50 {
        revision = cluster.put(1 + i % 3, &format!("key{i}"), "value");
    }
    (1..=3).for_each(|id| cluster.crash(id));
    (1..=3).for_each(|id| cluster.start(id));
    cluster.elect();
    for i in 0..50 {
        let found = cluster.get(1 + i % 3, &format!("key{i}"), Consistency::Linearizable);
        assert_eq!(found.as_deref(), Some("value"), "key{i}");
    }
    assert_eq!(cluster.put(1, "one", "more"), revision.next(), "every put took effect once");
}

#[test]
fn a_member_that_was_away_gets_a_snapshot_and_keeps_it() {
    let mut cluster = Cluster::new(3, 20);
    let leader = cluster.leader().expect("there is one");
    let away = (1..=3).find(|id| *id != leader).expect("three members");
    cluster.crash(away);
    for i in 0..100 {
        cluster.put(leader, &format!("key{}", i % 10), &format!("value{i}"));
    }
    cluster.start(away);
    for _ in 0..100 {
        cluster.wait(Duration::from_millis(50));
    }
    assert_eq!(cluster.get(away, "key9", Consistency::Serializable).as_deref(), Some("value99"));
    let names = ready(quorate_node::Disk::list(&cluster.disks[&NodeId(away)])).expect("in memory");
    assert!(names.iter().any(|name| name.starts_with("snap-")), "{names:?}");

    // And on, from its own disk.
    cluster.put(leader, "after", "the snapshot");
    (1..=3).for_each(|id| cluster.crash(id));
    (1..=3).for_each(|id| cluster.start(id));
    cluster.elect();
    assert_eq!(cluster.get(away, "after", Consistency::Linearizable).as_deref(), Some("the snapshot"));
    assert_eq!(cluster.get(away, "key9", Consistency::Linearizable).as_deref(), Some("value99"));
}

#[test]
fn a_client_that_goes_away_is_forgotten() {
    let mut cluster = Cluster::new(3, 10_000);
    let leader = cluster.leader().expect("there is one");
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    others.iter().for_each(|id| cluster.crash(*id));
    let handle = cluster.handle(leader);
    {
        let mut first = Box::pin(handle.request(put("a", "1")));
        let mut second = Box::pin(handle.request(put("b", "2")));
        assert!(first.as_mut().poll(&mut context()).is_pending());
        assert!(second.as_mut().poll(&mut context()).is_pending());
        cluster.wait(Duration::ZERO);
        assert_eq!(handle.status().pending, 2);
        drop(first);
        cluster.wait(Duration::ZERO);
        assert_eq!(handle.status().pending, 1);
    }
    cluster.wait(Duration::ZERO);
    assert_eq!(handle.status().pending, 0);
}

#[test]
fn a_full_inbox_refuses_and_empties_again() {
    let mut cluster = Cluster::new(1, 10_000);
    let handle = cluster.handle(1);
    let mut waiting: Vec<_> =
        (0..INBOX_REQUESTS_MAX).map(|_| Box::pin(handle.request(put("k", "v")))).collect();
    for future in &mut waiting {
        assert!(future.as_mut().poll(&mut context()).is_pending());
    }
    let refused = cluster.run(handle.request(put("k", "v")));
    assert_eq!(refused, Some(Err(Error::TooManyRequests)));
    drop(waiting);
    cluster.wait(Duration::from_millis(100));
    assert!(cluster.run(handle.request(put("k", "v"))).expect("answered").is_ok());
}

#[test]
fn a_stream_that_is_not_read_is_sent_no_more_than_its_credit() {
    let mut cluster = Cluster::new(1, 10_000);
    let handle = cluster.handle(1);
    let mut stream = handle.watch_stream();
    let watch = stream.create(everything(None));
    let created = cluster.run(stream.next()).expect("in place").expect("the node runs");
    assert_eq!(created, (watch, WatchUpdate::Created { revision: Revision(1) }));
    let puts = WATCH_CREDIT as usize + 500;
    for i in 0..puts {
        cluster.put(1, &format!("key{}", i % 7), "value");
    }
    // What lies in the stream, while the node does not run and so cannot add to it.
    let mut delivered = 0;
    while let Poll::Ready(update) = pin!(stream.next()).poll(&mut context()) {
        let Some((_, WatchUpdate::Events { events, .. })) = update else { panic!("{update:?}") };
        delivered += events.len();
    }
    assert_eq!(delivered, WATCH_CREDIT as usize);
    // Taking them has made room for the rest.
    assert_eq!(drain(&mut cluster, &mut stream), puts - delivered);
    cluster.put(1, "key", "value");
    assert_eq!(drain(&mut cluster, &mut stream), 1);
}

#[test]
fn a_cancelled_watcher_is_silent_and_a_dropped_stream_leaves_nothing_behind() {
    let mut cluster = Cluster::new(1, 10_000);
    let handle = cluster.handle(1);
    let mut stream = handle.watch_stream();
    let (first, second) = (stream.create(everything(None)), stream.create(everything(None)));
    assert_eq!(drain(&mut cluster, &mut stream), 0);
    assert_eq!(handle.status().watchers, 2);
    cluster.put(1, "key", "value");
    // Its event is in the channel already.
    stream.cancel(first);
    let update = cluster.run(stream.next()).expect("one is left").expect("the node runs");
    assert_eq!(update.0, second);
    assert!(cluster.run(stream.next()).is_none());
    stream.request_progress(second);
    let progress = cluster.run(stream.next()).expect("it is up to date").expect("the node runs");
    assert_eq!(progress, (second, WatchUpdate::Progress { revision: Revision(2) }));
    drop(stream);
    cluster.wait(Duration::ZERO);
    assert_eq!(handle.status().watchers, 0);
}

#[test]
fn a_node_that_stops_tells_everybody() {
    let mut cluster = Cluster::new(3, 10_000);
    let leader = cluster.leader().expect("there is one");
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    others.iter().for_each(|id| cluster.crash(*id));
    let handle = cluster.handle(leader);
    let mut stream = handle.watch_stream();
    stream.create(everything(None));
    assert_eq!(drain(&mut cluster, &mut stream), 0);
    let mut waiting = Box::pin(handle.request(put("k", "v")));
    assert!(waiting.as_mut().poll(&mut context()).is_pending());
    cluster.wait(Duration::ZERO);
    handle.stop();
    let stopped: Option<Result<Response, Error>> = cluster.run(waiting);
    assert_eq!(stopped, Some(Err(Error::Stopped)));
    assert_eq!(cluster.run(stream.next()), Some(None));
    assert_eq!(cluster.run(handle.request(put("k", "v"))), Some(Err(Error::Stopped)));
    cluster.wait(Duration::ZERO);
    assert!(cluster.members[&NodeId(leader)].tasks.is_empty(), "the storage tasks have ended too");
}
