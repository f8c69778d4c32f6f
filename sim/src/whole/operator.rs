//! Members that come and go, and leadership that is moved: an operator with the client library, as `quoratectl` has it.
//!
//! The operator does one thing after the other. From time to time it asks for the members: whoever was added and is not
//! started gets its process on the machine that its URL names, and a lost disk counts as replaced when somebody else is
//! in its place who is as much as who was lost.
//!
//! # What is survivable
//!
//! Refusing a change that would cost a quorum is the product's part. A lost disk, though, never comes back: one is lost
//! only when every machine runs, all members know the same members and have applied all that there is, none is on the way
//! in or out, every change that was asked for has been answered, and two other voters are left.

use std::sync::Arc;
use std::time::Duration;

use quorate_client::{Client, Error, Options as ClientOptions};
use quorate_proto::etcdserverpb as pb;
use quorate_raft::NodeId;
use quorate_replica::{Body, Consistency, Request, Status};
use quorate_sim::env::network::MEMBERS_MAX;
use quorate_sim::invariants::Violation;
use quorate_sim::nemesis::{Fault, Target};
use quorate_sim::scenario::Standing;
use quorate_store::{Query, Response};

use super::channel::SimTransport;
use super::clock::lock;
use super::cluster::{Closed, Machine, Shared};
use super::life;
use super::network::{client_url_of, machine_of, url_of};

/// What the operator knows.
#[derive(Debug, Default)]
pub struct Operator {
    /// It is doing something.
    busy: bool,
    /// It has begun to change who the members are, or somebody's disk was lost.
    changed: bool,
    /// Changes whose outcome is not known: they may take effect at any time.
    unanswered: u64,
    /// The disk that was lost last, until its member is replaced.
    lost: Option<Lost>,
}

/// A lost disk.
#[derive(Clone, Copy, Debug)]
struct Lost {
    machine: NodeId,
    old: Option<NodeId>,
    learner: bool,
}

impl Operator {
    /// Whether the members may be others than the founders by now.
    pub fn has_changed_members(&self) -> bool {
        self.changed
    }
}

/// Whether a fault makes sense now, and can be survived.
pub fn may_happen(shared: &Shared, fault: &Fault) -> bool {
    let (busy, lost) = {
        let operator = lock(&shared.operator);
        (operator.busy, operator.lost.is_some())
    };
    let room = shared.machine_ids().len() + 1 < MEMBERS_MAX;
    match *fault {
        Fault::Transfer(_) => !busy,
        Fault::Add { .. } => !busy && !lost && room,
        Fault::Promote | Fault::Demote(_) | Fault::Remove(_) => !busy && !lost,
        // At this depth addresses are machines, and a machine has one directory.
        Fault::Impostor(_) => false,
        Fault::LostDisk(Target::Node(machine)) => !busy && !lost && may_lose_disk(shared, machine),
        _ => match fault.target() {
            Some(Target::Node(machine)) => shared.with(machine, |it| it.closed.is_none()).unwrap_or(false),
            _ => true,
        },
    }
}

fn may_lose_disk(shared: &Shared, machine: NodeId) -> bool {
    if lock(&shared.operator).unanswered > 0 {
        return false;
    }
    let mut all: Vec<Status> = Vec::new();
    let mut tables = Vec::new();
    for id in shared.machine_ids() {
        match shared.with(id, |it| it.closed) {
            Some(Some(Closed::Removed | Closed::NotAdded)) => continue,
            Some(None) => {}
            _ => return false,
        }
        let Some(status) = shared.full_status(id) else { return false };
        let Some(table) = shared.with_life(id, |life| life.network.members()) else { return false };
        all.push(status);
        tables.push(table);
    }
    let here = shared.with(machine, |it| it.closed.is_none()).unwrap_or(false);
    let first = all.first().map(|status| (status.applied, status.members, status.voters));
    let same = |status: &Status| {
        Some((status.applied, status.members, status.voters)) == first
            && status.applied == status.raft.last.index
    };
    let settled = all.iter().all(same) && tables.windows(2).all(|pair| pair[0] == pair[1]);
    let everybody = tables.first().is_some_and(|table| table.len() == all.len());
    here && settled
        && everybody
        && all.first().is_some_and(|status| status.voters > 2 && status.learners == 0)
}

/// Whether the operator waits for nothing.
pub fn is_idle(shared: &Shared) -> bool {
    !lock(&shared.operator).busy
}

/// Whether a machine's member votes, learns or belongs, as whoever has applied most knows.
pub async fn stands(shared: &Shared, machine: NodeId, standing: &Standing) -> bool {
    let known = shared.machine_ids().into_iter().filter_map(|machine| shared.handle(machine));
    let Some(handle) = known.max_by_key(|handle| handle.status().applied) else { return false };
    let request = Request::Query { query: Query::Members, consistency: Consistency::Serializable };
    let Ok(answer) = handle.request(request).await else { return false };
    let Body::Store(Response::Members(members)) = answer.body else { return false };
    let here = members.iter().find(|it| it.peer_urls.contains(&url_of(machine)));
    here.is_some_and(|member| match standing {
        Standing::Votes => !member.learner,
        Standing::Learns => member.learner,
        _ => true,
    })
}

/// The operator does something.
pub fn operate(shared: &Arc<Shared>, fault: Fault) {
    {
        let mut operator = lock(&shared.operator);
        operator.busy = true;
        operator.changed |= fault.changes_members();
    }
    let added = if matches!(fault, Fault::Add { .. }) { Some(new_machine(shared)) } else { None };
    let shared = Arc::clone(shared);
    madsim::task::spawn(async move {
        let result = act(&shared, fault, added).await;
        let mut operator = lock(&shared.operator);
        operator.busy = false;
        let lasting = fault.changes_members();
        operator.unanswered += u64::from(lasting && result.is_err_and(|error| !error.had_no_effect()));
    });
}

async fn act(shared: &Arc<Shared>, fault: Fault, added: Option<NodeId>) -> Result<(), Error> {
    let leader = shared.leader();
    let led = |machine: NodeId| leader == Some(machine);
    match fault {
        Fault::Transfer(to) => {
            let leader = leader.ok_or_else(nobody)?;
            match to.and_then(|to| shared.id_of(to)) {
                Some(id) => drop(client(shared, &[leader]).move_leader(id.0).await?),
                // As a process does that ends.
                None => {
                    let moving = Request::MoveLeader { to: None };
                    let handle = shared.handle(leader).ok_or_else(nobody)?;
                    handle
                        .request(moving)
                        .await
                        .map_err(|error| Error::Unknown { reason: error.to_string() })?;
                }
            }
            lock(&shared.coverage).on_moved();
        }
        Fault::Add { learner } => {
            let machine = added.expect("there is a machine for it");
            everybody(shared).member_add(vec![url_of(machine)], learner).await?;
            admit(shared, machine);
        }
        Fault::Promote => {
            let list = everybody(shared).member_list(true).await?;
            let learner = list.members.iter().find(|it| it.is_learner && !it.name.is_empty());
            let Some(learner) = learner else { return Ok(()) };
            everybody(shared).member_promote(learner.id).await?;
            lock(&shared.coverage).on_promoted();
        }
        Fault::Demote(Target::Node(machine)) => {
            let id = shared.id_of(machine).ok_or_else(nobody)?;
            everybody(shared).member_demote(id.0).await?;
            lock(&shared.coverage).on_voter_less(false, led(machine));
        }
        Fault::Remove(Target::Node(machine)) => {
            let id = shared.id_of(machine).ok_or_else(nobody)?;
            everybody(shared).member_remove(id.0).await?;
            lock(&shared.coverage).on_voter_less(true, led(machine));
        }
        _ => {}
    }
    Ok(())
}

fn nobody() -> Error {
    Error::Unreachable { reason: "nobody is there".into() }
}

/// A machine for a member that is to be added.
fn new_machine(shared: &Shared) -> NodeId {
    let machine = NodeId(shared.machine_ids().len() as u64 + 1);
    let mut new = Machine::new(machine, &shared.options);
    (new.joins, new.closed) = (true, Some(Closed::NotAdded));
    lock(&shared.machines).push(new);
    machine
}

/// The cluster has a place for a machine's member.
fn admit(shared: &Arc<Shared>, machine: NodeId) {
    shared.with(machine, |it| it.closed.take_if(|closed| *closed == Closed::NotAdded));
    life::start(shared, machine);
}

/// A disk is about to be lost.
pub fn disk_is_lost(shared: &Shared, machine: NodeId) {
    let learner = shared.full_status(machine).is_some_and(|status| status.learner);
    let old = shared.id_of(machine);
    let mut operator = lock(&shared.operator);
    operator.lost = Some(Lost { machine, old, learner });
    operator.changed = true;
}

/// Looks after the members for as long as the run goes on.
pub async fn look_after(shared: Arc<Shared>) {
    loop {
        madsim::time::sleep(shared.options.election_timeout.max(LOOK)).await;
        let changes = {
            let operator = lock(&shared.operator);
            operator.lost.is_some() || operator.unanswered > 0
        };
        if !changes && shared.machine_ids().len() as u64 == shared.options.members {
            tell_removed(&shared);
            continue;
        }
        if let Ok(list) = everybody(&shared).member_list(true).await {
            for member in list.members.iter().filter(|member| member.name.is_empty()) {
                if let Some(machine) = machine(member) {
                    admit(&shared, machine);
                }
            }
            note_replacement(&shared, &list.members);
        }
        tell_removed(&shared);
    }
}

fn machine(member: &pb::Member) -> Option<NodeId> {
    member.peer_ur_ls.iter().find_map(|url| machine_of(url))
}

/// A connection to a member that knows the caller to be removed is refused with that reason, and members connect by
/// themselves.
fn tell_removed(shared: &Shared) {
    let machines = shared.machine_ids();
    for &whom in &machines {
        let Some(id) = shared.id_of(whom) else { continue };
        for &by in machines.iter().filter(|by| **by != whom) {
            let knows = shared.with_life(by, |life| life.network.has_removed(id)).unwrap_or(false);
            let paused = shared.with(by, |it| it.paused).unwrap_or(true);
            let called = lock(&shared.network).connected(whom, by);
            if let Some(me) = shared.id_of(by).filter(|_| knows && !paused && called) {
                shared.tell_removed((whom, id), (by, me));
            }
        }
    }
}

fn note_replacement(shared: &Shared, members: &[pb::Member]) {
    let Some(lost) = lock(&shared.operator).lost else { return };
    let new = members.iter().find(|it| machine(it) == Some(lost.machine));
    let gone = lost.old.is_none_or(|old| members.iter().all(|it| it.id != old.0));
    let replaced = new.is_some_and(|it| !it.name.is_empty() && it.is_learner == lost.learner);
    if gone && replaced {
        lock(&shared.operator).lost = None;
        if !lost.learner {
            lock(&shared.coverage).on_replaced();
        }
    }
}

/// Whoever is a member in the end runs, and whoever runs is a member.
pub async fn check_members(shared: &Arc<Shared>) -> Result<(), Violation> {
    let late = |detail: String| Violation { invariant: "liveness", detail };
    let list = everybody(shared).member_list(true).await;
    let list = list.map_err(|error| late(format!("nobody tells who the members are in the end: {error}")))?;
    for member in &list.members {
        let runs = machine(member).and_then(|machine| shared.id_of(machine));
        if member.name.is_empty() || runs != Some(NodeId(member.id)) {
            return Err(late(format!("member {:x} ({}) has not joined in the end", member.id, member.name)));
        }
    }
    for machine in shared.machine_ids() {
        if let Some(id) = shared.id_of(machine)
            && list.members.iter().all(|member| member.id != id.0)
        {
            return Err(late(format!("n{machine} is no member in the end and goes on")));
        }
    }
    match lock(&shared.operator).lost {
        Some(lost) => Err(late(format!("n{} has not got back the place of its lost disk", lost.machine))),
        None => Ok(()),
    }
}

/// A client of all members that run.
fn everybody(shared: &Arc<Shared>) -> Client<SimTransport> {
    let machines = shared.machine_ids();
    let there: Vec<NodeId> =
        machines.into_iter().filter(|machine| shared.handle(*machine).is_some()).collect();
    client(shared, if there.is_empty() { &[NodeId(1)] } else { &there })
}

fn client(shared: &Arc<Shared>, machines: &[NodeId]) -> Client<SimTransport> {
    let options =
        ClientOptions { dial_timeout: PATIENCE, request_timeout: shared.options.request_timeout * 2 };
    let urls: Vec<String> = machines.iter().map(|machine| client_url_of(*machine)).collect();
    Client::over(SimTransport::new(shared, PATIENCE), urls, options).expect("our own URLs are well formed")
}

/// How often the operator looks, at most.
const LOOK: Duration = Duration::from_millis(200);

/// How long it waits for a connection.
const PATIENCE: Duration = Duration::from_millis(500);
