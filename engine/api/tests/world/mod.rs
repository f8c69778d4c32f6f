//! A cluster of one member without a runtime: all of its tasks are polled in turn, and time passes when told to.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quorate_api::{Api, Config, Limits};
use quorate_node::testing::{MemoryDisk, identity, ready};
use quorate_node::{Answer, Clock, Network, NoAnswer, Node, Question};
use quorate_raft::{Instant, NodeId};
use quorate_replica::Message;

/// A cluster of one member.
pub struct World {
    pub api: Arc<Api<ManualClock>>,
    clock: ManualClock,
    tasks: Vec<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Everything that can happen without time passing has happened after so many rounds.
const ROUNDS: usize = 50;

impl World {
    pub fn new() -> World {
        let clock = ManualClock::default();
        let replica = quorate_replica::Config {
            raft: quorate_raft::Config::new(NodeId(1)),
            snapshot_entries: 10_000,
            catchup_entries: 5_000,
            quota_bytes: 1 << 30,
            strict_reconfig_check: true,
            learners_max: 1,
            auto_promote: false,
            priority: 0,
            request_timeout: Duration::from_secs(7),
        };
        let config = quorate_node::Config::new(identity(7, 1, &[1]), replica);
        let env = (clock.clone(), MemoryDisk::default(), Nowhere);
        let (_, questions) = quorate_node::questions();
        let starting = Node::start(config, 1, env, quorate_node::inbox(), questions);
        let node = ready(starting).expect("the disk is empty");
        let config = Config {
            cluster_id: 7,
            member_id: 1,
            election_timeout: Duration::from_secs(1),
            watch_progress_interval: Duration::from_secs(600),
            limits: Limits { request_bytes_max: 1000, ..Limits::default() },
            seed: 1,
        };
        let api = Arc::new(Api::new(node.handle, clock.clone(), config));
        let (driver, storage, snapshots) = (node.driver, node.storage, node.snapshots);
        let tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> = vec![
            Box::pin(async move { driver.run().await.expect("nobody is removed") }),
            Box::pin(async move { storage.run().await.expect("memory does not fail") }),
            Box::pin(async move { snapshots.run().await.expect("memory does not fail") }),
        ];
        World { api, clock, tasks }
    }

    /// Lets time pass until there is a leader.
    pub fn elect(&mut self) {
        for _ in 0..100 {
            self.wait_millis(100);
            if self.api.node_status().raft.leader.is_some() {
                return;
            }
        }
        panic!("no leader after ten seconds");
    }

    /// The result of a future that needs no time to pass.
    pub fn run<F: Future>(&mut self, future: F) -> F::Output {
        self.run_while_it_moves(future).expect("the future waits for something that does not come")
    }

    /// The result of a future, or `None` if it comes only when something else happens.
    pub fn run_while_it_moves<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        for _ in 0..ROUNDS {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context()) {
                return Some(output);
            }
            self.round();
        }
        None
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.wait_millis(100);
        }
    }

    fn wait_millis(&mut self, millis: u64) {
        self.clock.0.fetch_add(millis * 1_000_000, Ordering::Relaxed);
        for _ in 0..ROUNDS {
            self.round();
        }
    }

    fn round(&mut self) {
        for task in &mut self.tasks {
            assert!(task.as_mut().poll(&mut context()).is_pending(), "a task has ended");
        }
    }
}

/// Nobody needs to be woken: everything is polled again and again.
fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A clock that stands still until it is moved.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }

    async fn sleep_until(&self, at: Instant) {
        std::future::poll_fn(|_| if self.now() >= at { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// A network without anybody on it.
#[derive(Clone, Debug)]
struct Nowhere;

impl Network for Nowhere {
    fn send(&self, _to: NodeId, _message: Message) {}

    fn set_peers(&self, _peers: Vec<(NodeId, Vec<String>)>, _removed: BTreeSet<NodeId>) {}

    async fn ask(&self, _url: &str, _question: Question) -> Result<Answer, NoAnswer> {
        unreachable!("the member knows who it is")
    }
}
