//! The members of a simulated cluster, each a real node: driver, log, snapshots and services as tasks of one
//! madsim node per life. A crash kills that node; the next life gets another.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use madsim::runtime::{Handle, NodeHandle as Machine};
use madsim::task::JoinHandle;
use quorate_node::{
    ClusterId, Config, Inbox, InboxReceiver, Node, NodeHandle, Plan, QuestionReceiver, Questions, establish,
};
use quorate_raft::{NodeId, Role};
use quorate_replica::{Founder, Message};
use quorate_sim::env::network::Network;
use quorate_sim::history::Recorder;
use quorate_sim::invariants::{Check, Violation, WireInvariants};
use quorate_sim::messages;
use quorate_sim::nemesis::{DiskFailure, FaultLine, World};
use quorate_sim::options::Options;
use quorate_sim::random::{Random, Stream};
use quorate_sim::time::Time;
use quorate_sim::trace::{Event, StatusLine, Trace};
use quorate_sim::workload::Known;

use super::env::{Letter, Post, SimClock, SimDisk, SimNetwork, lock, now, url_of};

/// The services of one member.
pub type Api = quorate_api::Api<SimClock>;

/// Everything that tasks of all members and clients share.
pub struct Shared {
    /// The run's options.
    pub options: Options,
    /// The links.
    pub network: Mutex<Network>,
    /// What is on its way between members.
    pub post: Post,
    /// What clients saw, and know.
    pub clients: Mutex<Clients>,
    trace: Mutex<Trace>,
    wire: Mutex<WireInvariants>,
    members: Mutex<Vec<Member>>,
    seeds: Mutex<Random>,
    violation: Mutex<Option<Violation>>,
    crashes: Mutex<u64>,
}

/// What clients saw, and know.
#[derive(Default)]
pub struct Clients {
    /// The history.
    pub recorder: Recorder,
    /// What they know together.
    pub known: Known,
    /// Whether they ask nothing more.
    pub silent: bool,
}

/// One member, through all its lives.
struct Member {
    clock: SimClock,
    clock_rate: u64,
    disk: SimDisk,
    boots: u64,
    life: Option<Life>,
}

/// A member from its start to its crash.
struct Life {
    machine: Machine,
    inbox: Inbox,
    questions: Questions,
    /// Once it has recovered.
    ready: Option<(Arc<Api>, NodeHandle)>,
}

impl Shared {
    /// A cluster of members that never ran.
    pub fn new(options: &Options, print: bool) -> Shared {
        let clock_random = &mut Random::new(options.seed, Stream::Clock);
        let members = options.member_ids().into_iter().map(|id| {
            let random = Random::numbered(options.seed, Stream::Disk, id.0);
            Member {
                clock: SimClock::default(),
                clock_rate: options.clock_rate(clock_random),
                disk: SimDisk::new(options.disk, random),
                boots: 0,
                life: None,
            }
        });
        Shared {
            network: Mutex::new(Network::new(options.network, Random::new(options.seed, Stream::Network))),
            post: Post::default(),
            clients: Mutex::default(),
            trace: Mutex::new(Trace::new(200, print)),
            wire: Mutex::default(),
            members: Mutex::new(members.collect()),
            seeds: Mutex::new(Random::new(options.seed, Stream::Members)),
            violation: Mutex::new(None),
            crashes: Mutex::new(0),
            options: options.clone(),
        }
    }

    /// A property must hold; the first that does not is remembered.
    pub fn demand(&self, check: Check) {
        if let Err(violation) = check {
            lock(&self.violation).get_or_insert(violation);
        }
    }

    /// The first broken property.
    pub fn violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    /// The trace.
    pub fn with_trace<T>(&self, look: impl FnOnce(&Trace) -> T) -> T {
        look(&lock(&self.trace))
    }

    /// How many crashes there were.
    pub fn crashes(&self) -> u64 {
        *lock(&self.crashes)
    }

    /// Takes note of an event.
    pub fn note(&self, event: Event, node: Option<NodeId>) {
        let status = node.and_then(|node| self.status(node));
        lock(&self.trace).record(now(), event, status);
    }

    /// Where a member stood at the end of its last turn; `None` if it does not run.
    pub fn status(&self, node: NodeId) -> Option<StatusLine> {
        let members = lock(&self.members);
        let (_, handle) = members[place(node)].life.as_ref()?.ready.as_ref()?;
        Some(StatusLine::from(&handle.status()))
    }

    /// The way to a member that runs.
    pub fn handle(&self, node: NodeId) -> Option<NodeHandle> {
        let members = lock(&self.members);
        let (_, handle) = members[place(node)].life.as_ref()?.ready.as_ref()?;
        Some(handle.clone())
    }

    /// Where a member that runs is asked who it is.
    pub fn questions(&self, node: NodeId) -> Option<Questions> {
        let members = lock(&self.members);
        Some(members[place(node)].life.as_ref()?.questions.clone())
    }

    /// Lets a member work for a client, on the member's own machine. `None` if nobody listens there.
    pub fn serve<F, W>(&self, node: NodeId, work: W) -> Option<JoinHandle<()>>
    where
        F: Future<Output = ()> + Send + 'static,
        W: FnOnce(Arc<Api>) -> F,
    {
        let members = lock(&self.members);
        let life = members[place(node)].life.as_ref()?;
        let (api, _) = life.ready.as_ref()?;
        Some(life.machine.spawn(work(Arc::clone(api))))
    }

    /// Looks at a message that a member sends.
    pub fn on_wire(&self, from: NodeId, to: NodeId, message: &Message) {
        let check = lock(&self.wire).on_send(from, to, message);
        self.demand(check);
    }

    /// A letter arrives: decoded here, it reaches the member's inbox, if the member runs and the link is
    /// whole.
    pub fn deliver(&self, letter: &Letter) {
        let Letter { from, to, bytes } = letter;
        if !lock(&self.network).connected(*from, *to) {
            return;
        }
        let message = quorate_node::decode_message(bytes).expect("what was encoded can be decoded");
        let line = messages::line(&message);
        if let Some(life) = &lock(&self.members)[place(*to)].life {
            life.inbox.message(*from, message, bytes.len());
        } else {
            return;
        }
        self.note(Event::Deliver { from: *from, to: *to, message: line }, Some(*to));
    }

    /// Changes a member's clock.
    fn change_clock(&self, node: NodeId, change: impl FnOnce(&mut quorate_sim::env::clock::NodeClock, Time)) {
        let clock = lock(&self.members)[place(node)].clock.clone();
        clock.change(change);
    }
}

/// The cluster in the hands of the nemesis.
pub struct Cluster(pub Arc<Shared>);

impl Cluster {
    /// Gives all clocks their usual rate, and starts all members.
    pub fn start_all(&mut self) {
        for id in self.0.options.member_ids() {
            self.set_clock_rate(id, None);
            self.start(id);
        }
    }

    /// From now on all clocks are right.
    pub fn correct_clocks(&mut self) {
        for id in self.0.options.member_ids() {
            lock(&self.0.members)[place(id)].clock_rate = quorate_sim::env::clock::TRUE_RATE;
            self.set_clock_rate(id, None);
        }
    }
}

impl World for Cluster {
    fn leader(&self) -> Option<NodeId> {
        let ids = self.0.options.member_ids();
        let leaders = ids.into_iter().filter_map(|id| self.0.status(id)).filter(|s| s.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| NodeId(status.node))
    }

    fn network(&mut self, change: &mut dyn FnMut(&mut Network)) {
        change(&mut lock(&self.0.network));
    }

    fn crash(&mut self, node: NodeId) {
        let (life, disk) = {
            let member = &mut lock(&self.0.members)[place(node)];
            (member.life.take(), member.disk.clone())
        };
        let Some(life) = life else { return };
        Handle::current().kill(life.machine.id());
        // From here on nothing of that life runs any more, so nothing of it reaches the disk.
        disk.crash();
        *lock(&self.0.crashes) += 1;
        self.0.note(Event::Crash(node), None);
    }

    fn start(&mut self, node: NodeId) {
        let shared = &self.0;
        let seed = lock(&shared.seeds).any();
        let (inbox, receiver) = quorate_node::inbox();
        let (asking, questions) = quorate_node::questions();
        let (clock, disk, boot, machine) = {
            let member = &mut lock(&shared.members)[place(node)];
            if member.life.is_some() {
                return;
            }
            member.boots += 1;
            let machine = Handle::current().create_node().name(format!("n{node}.{}", member.boots)).build();
            member.life =
                Some(Life { machine: machine.clone(), inbox: inbox.clone(), questions: asking, ready: None });
            (member.clock.clone(), member.disk.clone(), member.boots, machine)
        };
        clock.change(|clock, time| clock.restart(time));
        let network = SimNetwork::new(node, Arc::clone(shared));
        let shared = Arc::clone(shared);
        machine.spawn(async move {
            let world = (clock.clone(), disk, network);
            let running = match begin(&shared.options, node, seed, world, (inbox, receiver), questions).await
            {
                Ok(running) => running,
                Err(error) => return shared.demand(cannot_start(node, &error)),
            };
            madsim::task::spawn(running.answering.run());
            let api = Api::new(running.handle.clone(), clock, api_config(&shared.options, node, seed));
            if let Some(life) = &mut lock(&shared.members)[place(node)].life {
                life.ready = Some((Arc::new(api), running.handle));
            }
            shared.note(Event::Start { node, boot }, Some(node));
            let (log, snapshots) = (running.storage, running.snapshots);
            let (for_log, for_snapshots) = (Arc::clone(&shared), Arc::clone(&shared));
            madsim::task::spawn(
                async move { for_log.demand(log.run().await.map_err(|e| disk_failed(node, &e))) },
            );
            madsim::task::spawn(async move {
                for_snapshots.demand(snapshots.run().await.map_err(|e| disk_failed(node, &e)));
            });
            if let Err(error) = running.driver.run().await {
                shared.demand(Err(driver_ended(node, &error)));
            }
        });
    }

    fn pause(&mut self, node: NodeId) {
        if let Some(life) = &lock(&self.0.members)[place(node)].life {
            Handle::current().pause(life.machine.id());
        }
    }

    fn resume(&mut self, node: NodeId) {
        if let Some(life) = &lock(&self.0.members)[place(node)].life {
            Handle::current().resume(life.machine.id());
        }
    }

    fn set_clock_rate(&mut self, node: NodeId, rate: Option<u64>) {
        let rate = rate.unwrap_or(lock(&self.0.members)[place(node)].clock_rate);
        self.0.change_clock(node, |clock, time| clock.set_rate(time, rate));
    }

    fn jump_clock(&mut self, node: NodeId, by: Duration) {
        self.0.change_clock(node, |clock, time| clock.jump(time, by));
    }

    fn slow_disk(&mut self, node: NodeId, factor: u32, until: Time) {
        lock(&self.0.members)[place(node)].disk.set_slower(factor, until);
    }

    // What follows is injected at the core depth only (`CORE_FAULTS`).

    fn slow_cpu(&mut self, _node: NodeId, _by: Duration) {
        unreachable!("not drawn at this depth");
    }

    fn disconnect(&mut self, _node: NodeId) {
        unreachable!("not drawn at this depth");
    }

    fn fail_disk(&mut self, _node: NodeId, _failure: DiskFailure) {
        unreachable!("not drawn at this depth");
    }

    fn repair_disk(&mut self, _node: NodeId, _failure: DiskFailure) {
        unreachable!("not drawn at this depth");
    }

    fn note(&mut self, line: FaultLine) {
        self.0.note(Event::Fault(line), None);
    }
}

/// Finds out who the member is, with the others if this is the first start, and recovers it.
async fn begin(
    options: &Options,
    node: NodeId,
    seed: u64,
    world: (SimClock, SimDisk, SimNetwork),
    inbox: (Inbox, InboxReceiver),
    mut questions: QuestionReceiver,
) -> Result<Node<SimClock, SimDisk, SimNetwork>, quorate_node::Error> {
    let founder = |id: NodeId| Founder { id, owner: 0, name: format!("n{id}"), peer_urls: vec![url_of(id)] };
    let founders = options.member_ids().into_iter().map(founder).collect();
    let plan = Plan { cluster: CLUSTER, id: node, founders, existing: false };
    let (clock, disk, network) = &world;
    let identity = establish(&plan, (clock, disk, network), &mut questions, || seed).await?;
    let mut config = Config::new(identity, options.replica_config(node));
    // Small enough that a run of seconds closes and prunes many segments.
    config.segment_bytes = SEGMENT_BYTES;
    Node::start(config, seed, world, inbox, questions).await
}

fn api_config(options: &Options, node: NodeId, seed: u64) -> quorate_api::Config {
    quorate_api::Config {
        cluster_id: CLUSTER.0,
        member_id: node.0,
        election_timeout: options.election_timeout,
        watch_progress_interval: Duration::from_secs(1),
        limits: quorate_api::Limits::default(),
        seed,
    }
}

fn cannot_start(node: NodeId, error: &quorate_node::Error) -> Check {
    let detail = format!("n{node} cannot start from what a crash has left on its disk: {error}");
    Err(Violation { invariant: "recovery", detail })
}

fn driver_ended(node: NodeId, error: &quorate_node::Error) -> Violation {
    Violation { invariant: "identity", detail: format!("n{node} ended although nobody removed it: {error}") }
}

fn disk_failed(node: NodeId, error: &quorate_node::Error) -> Violation {
    Violation {
        invariant: "storage",
        detail: format!("n{node}'s storage failed on a disk that works: {error}"),
    }
}

/// Where a member is in the list of members.
fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}

const CLUSTER: ClusterId = ClusterId(7);
const SEGMENT_BYTES: u64 = 32 << 10;
