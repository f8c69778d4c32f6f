//! One life of a member: the tasks that a process consists of, and how they end.
//!
//! Each life is a node of madsim's own. A process that ends by itself (its disk fails, it was removed) says so to the
//! caretaker, which takes the rest of it away; a real process would be gone as a whole.

use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::Handle;
use quorate_api::Api;
use quorate_node::{
    ClusterId, Config, Error, Inbox, InboxReceiver, Node, NodeHandle, Plan, QuestionReceiver, establish,
};
use quorate_raft::NodeId;
use quorate_replica::{Founder, Request};
use quorate_sim::invariants::Violation;
use quorate_sim::options::Options;
use quorate_sim::random::{Random, Stream};
use quorate_sim::trace::{Event, StatusLine};
use quorate_store::Command;

use super::clock::SimClock;
use super::cluster::{Closed, Life, Shared};
use super::disk::{IO_ERROR, SimDisk};
use super::network::{SimNetwork, client_url_of, url_of};

/// A life that has ended by itself.
#[derive(Debug)]
pub struct Ending {
    /// Where.
    pub machine: NodeId,
    /// The how-manieth life of the machine.
    pub number: u64,
    /// Why.
    pub error: Error,
}

/// What a process needs to begin.
struct Begin {
    machine: NodeId,
    number: u64,
    seed: u64,
    plan: Plan,
    clock: SimClock,
    disk: SimDisk,
    network: SimNetwork,
    inbox: (Inbox, InboxReceiver),
    questions: QuestionReceiver,
}

/// Starts a process on a machine, unless one runs there or nothing may.
pub fn start(shared: &Arc<Shared>, machine: NodeId) {
    let (inbox, receiver) = quorate_node::inbox();
    let (asking, questions) = quorate_node::questions();
    let network = SimNetwork::new(machine, Arc::clone(shared));
    let founders: Vec<Founder> = founders(shared, machine);
    let begun = shared.with(machine, |it| {
        if it.life.is_some() || it.closed.is_some() {
            return None;
        }
        it.boots += 1;
        let number = it.boots;
        // Drawn from who starts, and how often that was, and from nothing else.
        let seed = Random::keyed(shared.options.seed, Stream::Members, machine.0, number).any();
        let spawner = Handle::current().create_node().name(format!("n{machine}.{number}")).build();
        if it.paused {
            Handle::current().pause(spawner.id());
        }
        it.life = Some(Life {
            spawner: spawner.clone(),
            number,
            inbox: inbox.clone(),
            questions: asking,
            network: network.clone(),
            ready: None,
            calls: Vec::new(),
        });
        it.seen = StatusLine::default();
        let plan = Plan { cluster: CLUSTER, id: machine, founders, existing: it.joins };
        let (clock, disk) = (it.clock.clone(), it.disk.open_for_life());
        let inbox = (inbox, receiver);
        Some((spawner, Begin { machine, number, seed, plan, clock, disk, network, inbox, questions }))
    });
    let Some((spawner, begin)) = begun.flatten() else { return };
    begin.clock.change(|clock, time| clock.restart(time));
    let shared = Arc::clone(shared);
    spawner.spawn(async move {
        let (machine, number) = (begin.machine, begin.number);
        if let Err(error) = live(&shared, begin).await {
            let _ = shared.endings.send(Ending { machine, number, error });
        }
    });
}

/// What a member is told of its cluster: the founders; if it joins, whoever there is.
fn founders(shared: &Shared, machine: NodeId) -> Vec<Founder> {
    let joins = shared.with(machine, |it| it.joins).unwrap_or(false);
    let told = if joins { shared.machine_ids() } else { shared.options.member_ids() };
    let founder = |id: NodeId| Founder { id, owner: 0, name: format!("m{id}"), peer_urls: vec![url_of(id)] };
    told.into_iter().map(founder).collect()
}

/// Finds out who the member is, recovers it, and runs it.
async fn live(shared: &Arc<Shared>, begin: Begin) -> Result<(), Error> {
    let Begin { machine, number, seed, plan, clock, disk, network, inbox, mut questions } = begin;
    let mut random = Random::numbered(seed, Stream::Members, 0);
    let identity = establish(&plan, (&clock, &disk, &network), &mut questions, || random.any()).await?;
    let id = identity.member;
    network.begin(id);
    shared.register(machine, id);
    let mut config = Config::new(identity, shared.options.replica_config(id));
    // Small enough that a run of seconds closes and prunes many segments.
    config.segment_bytes = SEGMENT_BYTES;
    let world = (clock.clone(), disk.clone(), network);
    let node = Node::start(config, seed, world, inbox, questions).await?;
    if disk.must_be_refused() {
        let detail = format!("n{machine} starts from files in which bytes that were synced have changed");
        shared.demand(Err(Violation { invariant: "damage is noticed", detail }));
    }
    let api = Arc::new(Api::new(node.handle.clone(), clock, api_config(&shared.options, id, seed)));
    shared.with_life(machine, |life| life.ready = Some((api, node.handle.clone())));
    shared.check_start(machine);
    shared.note(Event::Start { node: machine, boot: number }, Some(machine));
    let failed = |shared: &Arc<Shared>| {
        let shared = Arc::clone(shared);
        move |error| drop(shared.endings.send(Ending { machine, number, error }))
    };
    let (log, snapshots) = (failed(shared), failed(shared));
    madsim::task::spawn(async move { node.storage.run().await.map_or_else(log, drop) });
    madsim::task::spawn(async move { node.snapshots.run().await.map_or_else(snapshots, drop) });
    madsim::task::spawn(node.answering.run());
    madsim::task::spawn(publish(node.handle.clone(), machine, id));
    let ended = node.driver.run().await;
    if matches!(ended, Err(Error::Removed { .. })) {
        // So that it does not even try to start again.
        quorate_node::retire(&disk).await?;
    }
    ended
}

/// As the server does: makes its name and its clients' URL known, trying until it is done.
async fn publish(node: NodeHandle, machine: NodeId, id: NodeId) {
    let command = Command::MemberPublish {
        id: id.0,
        name: format!("m{machine}"),
        client_urls: vec![client_url_of(machine)],
        priority: 0,
    };
    loop {
        match node.request(Request::Command(command.clone())).await {
            Ok(_) | Err(quorate_replica::Error::Stopped) => return,
            Err(_) => madsim::time::sleep(PUBLISH_PAUSE).await,
        }
    }
}

/// Takes away what is left of a life that has ended by itself, and says what that means.
pub fn bury(shared: &Arc<Shared>, ending: Ending) {
    let Ending { machine, number, error } = ending;
    let taken = shared.with(machine, |it| {
        let life = it.life.take_if(|life| life.number == number)?;
        it.seen = StatusLine::default();
        Some((life, it.disk.clone()))
    });
    let Some((life, disk)) = taken.flatten() else { return };
    Handle::current().kill(life.spawner.id());
    shared.count_crash();
    shared.note(Event::Crash(machine), None);
    let failing = disk.is_failing();
    disk.process_over();
    match error {
        Error::Removed { .. } => {
            shared.with(machine, |it| it.closed = Some(Closed::Removed));
        }
        // The cluster has no place for it yet (or no more): the operator looks after it.
        Error::JoinRefused { .. } => {
            shared.with(machine, |it| it.closed = Some(Closed::NotAdded));
        }
        // It starts again when the disk is repaired; if that was just now, now.
        _ if failing => {}
        Error::Io { source, .. } if is_injected(&source) => start(shared, machine),
        Error::Disowned { .. } => violated(shared, "identity", machine, &error),
        error => violated(shared, "recovery", machine, &error),
    }
}

/// Whether this is how a disk of ours says that it fails.
fn is_injected(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StorageFull || error.to_string() == IO_ERROR
}

fn violated(shared: &Shared, invariant: &'static str, machine: NodeId, error: &Error) {
    let detail = format!("n{machine} ends or cannot start, though its disk does what disks do: {error}");
    shared.demand(Err(Violation { invariant, detail }));
}

fn api_config(options: &Options, id: NodeId, seed: u64) -> quorate_api::Config {
    quorate_api::Config {
        cluster_id: CLUSTER.0,
        member_id: id.0,
        election_timeout: options.election_timeout,
        watch_progress_interval: Duration::from_secs(1),
        limits: quorate_api::Limits::default(),
        seed,
    }
}

/// Until a member tries again to make itself known.
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);
const CLUSTER: ClusterId = ClusterId(7);
const SEGMENT_BYTES: u64 = 32 << 10;
