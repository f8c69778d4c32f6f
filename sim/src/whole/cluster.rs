//! What all tasks of a run share: the machines, the links, what clients saw, and what has happened.
//!
//! A *machine* has a number, a clock, a disk and an address (n1, n2, …); who it is as a member (an id) is written on its
//! disk. So a machine that has lost its disk becomes somebody else. Faults, the trace and scenarios speak of machines.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use madsim::runtime::NodeHandle as Spawner;
use madsim::task::{AbortHandle, JoinHandle};
use quorate_node::{Inbox, NodeHandle, Questions};
use quorate_raft::{NodeId, Role};
use quorate_replica::{Message, Status};
use quorate_sim::coverage::Coverage;
use quorate_sim::env::clock::{NodeClock, TRUE_RATE};
use quorate_sim::env::network::Network;
use quorate_sim::history::Recorder;
use quorate_sim::invariants::{
    AskedAt, Check, LeasesSeen, Violation, Waiting, WireInvariants, check_waiting,
};
use quorate_sim::nemesis::{Nemesis, Step};
use quorate_sim::options::Options;
use quorate_sim::random::{Random, Stream};
use quorate_sim::time::Time;
use quorate_sim::trace::{Arrow, Event, StatusLine, Trace};
use quorate_sim::workload::Known;
use tokio::sync::mpsc;

use super::clock::{SimClock, lock, now};
use super::disk::SimDisk;
use super::durable::{self, Entries};
use super::life::Ending;
use super::network::{Caller, Letter, Post, SimNetwork};
use super::operator::Operator;

/// The services of one member.
pub type Api = quorate_api::Api<SimClock>;

/// Everything that tasks of all machines and clients share.
pub struct Shared {
    /// The run's options.
    pub options: Options,
    /// The links.
    pub network: Mutex<Network>,
    /// What is on its way between members.
    pub post: Post,
    /// What clients saw, and know.
    pub clients: Mutex<Clients>,
    /// Which interesting states were reached.
    pub coverage: Mutex<Coverage>,
    /// Who adds and removes members.
    pub operator: Mutex<Operator>,
    /// The machines, n1 first.
    pub machines: Mutex<Vec<Machine>>,
    /// Who breaks things, once that has begun.
    pub nemesis: OnceLock<Arc<Mutex<Nemesis>>>,
    /// Where lives that end by themselves say so.
    pub endings: mpsc::UnboundedSender<Ending>,
    /// Every member that there ever was, by id, and its machine.
    ids: Mutex<BTreeMap<NodeId, NodeId>>,
    trace: Mutex<Trace>,
    wire: Mutex<WireInvariants>,
    entries: Mutex<Entries>,
    violation: Mutex<Option<Violation>>,
    crashes: Mutex<u64>,
}

/// What clients saw, and know.
#[derive(Default)]
pub struct Clients {
    /// The history.
    pub recorder: Recorder,
    /// Who asked whom, for each operation of the history; nobody, if the library was to choose.
    pub asked: Vec<(u64, Option<NodeId>)>,
    /// What they know together.
    pub known: Known,
    /// What they were told of leases.
    pub leases: LeasesSeen,
    /// Whether they ask nothing more.
    pub silent: bool,
}

/// One machine, through all the lives of its member.
pub struct Machine {
    /// Its clock.
    pub clock: SimClock,
    /// The clock's rate when nobody meddles with it.
    pub clock_rate: u64,
    /// Its disk.
    pub disk: SimDisk,
    /// How often a process was started.
    pub boots: u64,
    /// The process.
    pub life: Option<Life>,
    /// Whether a member that starts here on an empty disk is to join a cluster that exists.
    pub joins: bool,
    /// Whether its processes stand still.
    pub paused: bool,
    /// How late it looks at what arrives, because its processor is busy.
    pub delay: Duration,
    /// Why nothing may be started here.
    pub closed: Option<Closed>,
    /// Where its member stood when somebody last looked.
    pub seen: StatusLine,
}

/// Why nothing may be started on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its member was removed.
    Removed,
    /// It has no disk.
    NoDisk,
    /// It waits until the cluster has a place for it.
    NotAdded,
}

/// A member from its start to its end.
pub struct Life {
    /// Where its tasks are spawned.
    pub spawner: Spawner,
    /// The how-manieth of its machine.
    pub number: u64,
    /// Where messages go.
    pub inbox: Inbox,
    /// Where it is asked who it is.
    pub questions: Questions,
    /// Its way to its peers.
    pub network: SimNetwork,
    /// Once it has recovered.
    pub ready: Option<(Arc<Api>, NodeHandle)>,
    /// What it does for clients.
    pub calls: Vec<AbortHandle>,
}

impl Shared {
    /// A cluster of members that never ran, and where those that end by themselves are heard of.
    pub fn new(options: &Options, trace: Trace) -> (Shared, mpsc::UnboundedReceiver<Ending>) {
        let clock_random = &mut Random::new(options.seed, Stream::Clock);
        let machines = options.member_ids().into_iter().map(|id| {
            let clock_rate = options.clock_rate(clock_random);
            Machine { clock_rate, ..Machine::new(id, options) }
        });
        let (endings, ended) = mpsc::unbounded_channel();
        let shared = Shared {
            network: Mutex::new(Network::new(options.network, Random::new(options.seed, Stream::Network))),
            post: Post::default(),
            clients: Mutex::default(),
            coverage: Mutex::default(),
            operator: Mutex::default(),
            machines: Mutex::new(machines.collect()),
            nemesis: OnceLock::new(),
            endings,
            ids: Mutex::default(),
            trace: Mutex::new(trace),
            wire: Mutex::default(),
            entries: Mutex::default(),
            violation: Mutex::new(None),
            crashes: Mutex::new(0),
            options: options.clone(),
        };
        (shared, ended)
    }

    // --- What has happened ---

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
    pub fn with_trace<T>(&self, look: impl FnOnce(&mut Trace) -> T) -> T {
        look(&mut lock(&self.trace))
    }

    /// Every fault that has begun.
    pub fn faults_begun(&self) -> Vec<Step> {
        self.nemesis.get().map(|nemesis| lock(nemesis).begun().to_vec()).unwrap_or_default()
    }

    /// How many crashes there were.
    pub fn crashes(&self) -> u64 {
        *lock(&self.crashes)
    }

    /// There was another crash.
    pub fn count_crash(&self) {
        *lock(&self.crashes) += 1;
    }

    /// Takes note of an event.
    pub fn note(&self, event: Event, machine: Option<NodeId>) {
        let status = machine.and_then(|machine| self.observe(machine));
        lock(&self.trace).record(now(), event, status.as_ref());
    }

    /// When it is, by true time and by every machine's clock.
    pub fn times(&self) -> AskedAt {
        let readings = lock(&self.machines).iter().map(|machine| machine.clock.reading()).collect();
        AskedAt { time: now(), readings }
    }

    // --- Members ---

    /// All machines that there are.
    pub fn machine_ids(&self) -> Vec<NodeId> {
        (1..=lock(&self.machines).len() as u64).map(NodeId).collect()
    }

    /// Does something with a machine.
    pub fn with<T>(&self, machine: NodeId, act: impl FnOnce(&mut Machine) -> T) -> Option<T> {
        lock(&self.machines).get_mut(place(machine)).map(act)
    }

    /// Does something with the member that runs on a machine.
    pub fn with_life<T>(&self, machine: NodeId, act: impl FnOnce(&mut Life) -> T) -> Option<T> {
        self.with(machine, |machine| machine.life.as_mut().map(act))?
    }

    /// A machine has found out who it is.
    pub fn register(&self, machine: NodeId, id: NodeId) {
        lock(&self.ids).insert(id, machine);
    }

    /// The machine of the member with this id.
    pub fn machine_of(&self, id: NodeId) -> Option<NodeId> {
        lock(&self.ids).get(&id).copied()
    }

    /// Who a machine is now.
    pub fn id_of(&self, machine: NodeId) -> Option<NodeId> {
        self.with_life(machine, |life| life.network.me())?
    }

    /// The way to a member that runs.
    pub fn handle(&self, machine: NodeId) -> Option<NodeHandle> {
        self.with_life(machine, |life| life.ready.as_ref().map(|(_, handle)| handle.clone()))?
    }

    /// How a member was at the end of its last turn; `None` if it does not run.
    pub fn full_status(&self, machine: NodeId) -> Option<Status> {
        Some(self.handle(machine)?.status())
    }

    /// Where a member stood at the end of its last turn, its peers named by their machines.
    pub fn status(&self, machine: NodeId) -> Option<StatusLine> {
        let line = StatusLine::from(&self.full_status(machine)?);
        let leader = self.machine_of(NodeId(line.leader)).map_or(0, |leader| leader.0);
        Some(StatusLine { node: machine.0, leader, ..line })
    }

    /// Who leads, as far as the members know; the one of the highest term if several think so.
    pub fn leader(&self) -> Option<NodeId> {
        let lines = self.machine_ids().into_iter().filter_map(|machine| self.status(machine));
        let leaders = lines.filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| NodeId(status.node))
    }

    /// Whom to ask in place of a machine: itself, unless its member was removed or learns, and so serves nobody; then any that
    /// votes.
    pub fn in_place_of(&self, machine: NodeId) -> NodeId {
        let learns = |machine| self.handle(machine).map(|handle| handle.is_learner());
        let removed = self.with(machine, |it| it.closed) == Some(Some(Closed::Removed));
        if !removed && learns(machine) != Some(true) {
            return machine;
        }
        self.machine_ids().into_iter().find(|other| learns(*other) == Some(false)).unwrap_or(machine)
    }

    /// Looks where a member stands, and whether it may.
    pub fn observe(&self, machine: NodeId) -> Option<StatusLine> {
        let line = self.status(machine)?;
        let before = self.with(machine, |machine| std::mem::replace(&mut machine.seen, line))?;
        if before != line {
            let others: Vec<StatusLine> = lock(&self.machines).iter().map(|machine| machine.seen).collect();
            lock(&self.coverage).on_status(&before, &line, others.into_iter());
            let check = lock(&self.wire).on_status(&before, &line);
            self.demand(check);
            if line.commit > before.commit {
                self.demand(self.check_commit(line.commit));
            }
        }
        Some(line)
    }

    /// What waits in a member and on the links stays within bounds.
    pub fn check_waiting(&self, machine: NodeId) {
        let Some(status) = self.full_status(machine) else { return };
        let waiting = Waiting { pending: status.pending, inbox: 0, scheduled: self.post.waiting() };
        let load = &self.options.load;
        // Members ask, too: to make themselves known.
        let askers = load.clients + load.watchers + self.machine_ids().len() as u64;
        self.demand(check_waiting(machine, waiting, askers));
    }

    /// While all founders vote, and nobody else, their disks are those that count.
    fn check_commit(&self, index: u64) -> Check {
        if lock(&self.operator).has_changed_members() {
            return Ok(());
        }
        let disks: Vec<SimDisk> = lock(&self.machines).iter().map(|machine| machine.disk.clone()).collect();
        durable::check_commit(index, &disks)
    }

    /// A member has started: it stands where its disk says.
    pub fn check_start(&self, machine: NodeId) {
        let disk = self.with(machine, |machine| machine.disk.clone());
        if let (Some(disk), Some(line)) = (disk, self.status(machine)) {
            self.demand(disk.with_durable(|durable| durable.on_start(machine, &line)));
        }
    }

    /// The services of a member that runs.
    pub fn api(&self, machine: NodeId) -> Option<Arc<Api>> {
        self.with_life(machine, |life| life.ready.as_ref().map(|(api, _)| Arc::clone(api)))?
    }

    /// Where a machine is asked who it is.
    pub fn questions(&self, machine: NodeId) -> Option<Questions> {
        self.with_life(machine, |life| life.questions.clone())
    }

    /// Lets a member work for a client, on its own machine. `None` if nobody listens there.
    pub fn serve<F, W>(&self, machine: NodeId, work: W) -> Option<JoinHandle<()>>
    where
        F: Future<Output = ()> + Send + 'static,
        W: FnOnce(Arc<Api>) -> F,
    {
        self.with_life(machine, |life| {
            let (api, _) = life.ready.as_ref()?;
            let task = life.spawner.spawn(work(Arc::clone(api)));
            life.calls.retain(|call| !call.is_finished());
            life.calls.push(task.abort_handle());
            Some(task)
        })?
    }

    // --- Messages ---

    /// Looks at a message that a member sends.
    pub fn on_wire(&self, (machine, from): (NodeId, NodeId), to: NodeId, message: &Message) {
        let check = lock(&self.wire).on_send(from, to, message);
        self.demand(check);
        let Some(disk) = self.with(machine, |machine| machine.disk.clone()) else { return };
        let check = disk.with_durable(|durable| {
            durable.compare(machine, &mut lock(&self.entries))?;
            durable.on_send(machine, to, message)
        });
        self.demand(check);
    }

    /// A letter is on its way, or lost.
    pub fn post(&self, letter: Letter) {
        let Letter { from: (from, _), to: (to, _), sent, line, .. } = letter;
        let arrivals = {
            let mut network = lock(&self.network);
            let arrivals = network.send(sent, from, to);
            network.meddle(from, to, || line.kind, arrivals)
        };
        if arrivals.first.is_none() {
            let lost = || Arrow { sent, arrives: None, delivered: false, from, to, message: line };
            self.with_trace(|trace| trace.arrow(lost));
        }
        for at in [arrivals.first, arrivals.second].into_iter().flatten() {
            self.post.send(at, letter.clone());
        }
    }

    /// A letter arrives: decoded here, it reaches the inbox of whom it is for, if the link is whole.
    pub fn deliver(&self, letter: Letter) {
        let Letter { from, to, sent, line, waited, bytes } = &letter;
        let delay = self.with(to.0, |machine| machine.delay).unwrap_or_default();
        if !waited && !delay.is_zero() {
            return self.post.send(now() + delay, Letter { waited: true, ..letter });
        }
        let forgotten = self.options.is_forgotten(*sent, now());
        let connected = !forgotten && lock(&self.network).connected(from.0, to.0);
        let welcome = || self.with_life(to.0, |life| life.network.greet(*from, to.1));
        let caller = connected.then(welcome).flatten();
        let delivered = caller == Some(Caller::Welcome);
        let (sent, arrives, message) = (*sent, Some(now()), *line);
        self.with_trace(|trace| {
            trace.arrow(|| Arrow { sent, arrives, delivered, from: from.0, to: to.0, message });
        });
        match caller {
            Some(Caller::Welcome) => {
                let message = quorate_node::decode_message(bytes).expect("what was encoded can be decoded");
                self.with_life(to.0, |life| life.inbox.message(from.1, message, bytes.len()));
                self.note(Event::Deliver { from: from.0, to: to.0, message: *line }, Some(to.0));
            }
            Some(Caller::Removed) => self.tell_removed(*from, *to),
            Some(Caller::Lost) | None => {}
        }
    }

    /// A member refuses another one that was removed, which hears of it if the way back is whole.
    pub fn tell_removed(&self, whom: (NodeId, NodeId), by: (NodeId, NodeId)) {
        if lock(&self.network).connected(by.0, whom.0) && self.id_of(whom.0) == Some(whom.1) {
            self.with_life(whom.0, |life| life.inbox.removed(by.1));
        }
    }

    /// Changes a machine's clock.
    pub fn change_clock(&self, machine: NodeId, change: impl FnOnce(&mut NodeClock, Time)) {
        if let Some(clock) = self.with(machine, |machine| machine.clock.clone()) {
            clock.change(change);
        }
    }
}

impl Machine {
    /// A machine that nobody has used.
    pub fn new(id: NodeId, options: &Options) -> Machine {
        Machine {
            clock: SimClock::default(),
            clock_rate: TRUE_RATE,
            disk: SimDisk::new(options.disk, Random::numbered(options.seed, Stream::Disk, id.0)),
            boots: 0,
            life: None,
            joins: false,
            paused: false,
            delay: Duration::ZERO,
            closed: None,
            seen: StatusLine::default(),
        }
    }
}

/// Where a machine is in the list of machines.
fn place(machine: NodeId) -> usize {
    (machine.0 as usize).wrapping_sub(1)
}
