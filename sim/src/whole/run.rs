//! A run of the whole depth: the same storm and calm as at the core depth.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_jepsen::etcd::{Keys, Range, Request};
use quorate_raft::NodeId;
use quorate_replica::{Body, Consistency};
use quorate_sim::env::network::Quality;
use quorate_sim::invariants::{
    Check, Liveness, Member, TIMEOUTS_MAX, Violation, converged, leases_end, no_lease_is_left,
};
use quorate_sim::nemesis::{Nemesis, World};
use quorate_sim::scenario::Scenario;
use quorate_sim::time::Time;
use quorate_sim::trace::Event;
use quorate_sim::workload::watch::Watcher;
use quorate_sim::workload::{Client, Outcome};
use quorate_store::{KeyRange, Query, RangeQuery, Response};
use tokio::sync::mpsc;

use super::caller::Caller;
use super::clients::{self, PROBES, SharedWatcher};
use super::clock::{lock, now, until};
use super::cluster::{Closed, Shared};
use super::hashes;
use super::life::{self, Ending};
use super::operator;
use super::script::Script;
use super::world::Cluster;

/// Runs a storm and a calm, drawn or as a scenario says. What breaks is left in `shared`.
pub async fn run(
    shared: Arc<Shared>,
    mut ended: mpsc::UnboundedReceiver<Ending>,
    scenario: Option<Arc<Scenario>>,
) {
    let options = shared.options.clone();
    let mut cluster = Cluster(Arc::clone(&shared));
    let carrier = Arc::clone(&shared);
    madsim::task::spawn(async move {
        loop {
            for letter in carrier.post.due().await {
                carrier.deliver(letter);
            }
        }
    });
    let caretaker = Arc::clone(&shared);
    madsim::task::spawn(async move {
        while let Some(ending) = ended.recv().await {
            life::bury(&caretaker, ending);
        }
    });
    cluster.start_all();
    madsim::task::spawn(operator::look_after(Arc::clone(&shared)));
    madsim::task::spawn(hashes::compare(Arc::clone(&shared)));
    let (mut tasks, mut watchers) = (Vec::new(), Vec::new());
    let mut nemesis = if scenario.is_some() { Nemesis::idle(&options) } else { Nemesis::new(&options) };
    if scenario.as_ref().is_some_and(|scenario| !scenario.budget) {
        nemesis.without_budget();
    }
    let nemesis = Arc::clone(shared.nemesis.get_or_init(|| Arc::new(Mutex::new(nemesis))));
    let script = scenario.map(|scenario| Script::begin(&shared, &nemesis, scenario));
    if script.is_none() {
        for client in Client::all(&options) {
            tasks.push(madsim::task::spawn(clients::client(Arc::clone(&shared), client)));
        }
    }
    for (slot, watcher) in Watcher::all(&options).into_iter().enumerate() {
        watchers.push(clients::watch(&shared, slot as u64, watcher));
    }
    storm(&mut cluster, &nemesis, Time::ZERO + options.storm, script.is_some()).await;
    if let Some(script) = script {
        script.must_be_over();
    }
    if shared.violation().is_some() {
        return;
    }
    calm(&mut cluster, &nemesis).await;
    shared.note(Event::Phase("quiet"), None);
    lock(&shared.clients).silent = true;
    for task in tasks {
        let _ = task.await;
    }
    if shared.violation().is_some() {
        return;
    }
    let settled = settle(&shared).await;
    shared.demand(settled);
    read_everywhere(&shared).await;
    watchers_catch_up(&shared, &watchers).await;
    shared.note(Event::Phase("end"), None);
}

async fn storm(cluster: &mut Cluster, nemesis: &Mutex<Nemesis>, end: Time, scripted: bool) {
    let mut leader = None;
    let look = if scripted { LOOK_SCRIPTED } else { LOOK };
    while now() < end && cluster.0.violation().is_none() {
        let next = lock(nemesis).next_at().unwrap_or(end).min(end).min(now() + look);
        until(next).await;
        lock(nemesis).step(now(), cluster);
        for machine in cluster.0.machine_ids() {
            cluster.0.observe(machine);
            cluster.0.check_waiting(machine);
        }
        let leads = cluster.leader();
        if let Some(node) = leads.filter(|_| leads != leader) {
            lock(nemesis).on_leader(now(), node);
        }
        leader = leads;
    }
}

/// Undoes everything, and demands that a write is served in time.
async fn calm(cluster: &mut Cluster, nemesis: &Mutex<Nemesis>) {
    let shared = Arc::clone(&cluster.0);
    let options = &shared.options;
    shared.note(Event::Phase("calm"), None);
    lock(nemesis).finish(cluster);
    let quality = Quality { loss: 0, duplication: 0, reordering: 0, ..options.network };
    lock(&shared.network).set_quality(quality);
    cluster.correct_clocks();
    cluster.start_whoever_is_down();
    let mut liveness = Liveness::new(now(), options.election_timeout);
    let probes: Vec<_> = shared
        .machine_ids()
        .into_iter()
        .filter(|machine| may_run(&shared, *machine))
        .map(|machine| madsim::task::spawn(clients::probe(Arc::clone(&shared), machine, liveness)))
        .collect();
    let mut served = Time(u64::MAX);
    for probe in probes {
        served = served.min(probe.await.expect("a probe does not panic"));
    }
    liveness.on_served(served);
    shared.demand(liveness.check_served());
}

/// Whether there is a member on a machine, or may be one.
fn may_run(shared: &Shared, machine: NodeId) -> bool {
    shared.with(machine, |it| !matches!(it.closed, Some(Closed::Removed | Closed::NotAdded))).unwrap_or(false)
}

/// Waits until all members agree and all leases have expired.
async fn settle(shared: &Arc<Shared>) -> Check {
    let options = &shared.options;
    let leases_end = leases_end(now(), LEASE_TTL_MAX, options.election_timeout);
    let deadline = now() + options.election_timeout * TIMEOUTS_MAX + LEASE_TTL_MAX * 2;
    loop {
        let check = match operator::check_members(shared).await {
            Ok(()) => rest(shared, leases_end).await,
            Err(violation) => Err(violation),
        };
        let final_word = matches!(&check, Err(violation) if violation.invariant != "liveness");
        if check.is_ok() || final_word || now() > deadline {
            return check;
        }
        madsim::time::sleep(options.election_timeout).await;
    }
}

/// Whether all members stand at the same place, and hold the same.
async fn rest(shared: &Arc<Shared>, leases_end: Time) -> Check {
    let (mut members, mut contents) = (Vec::new(), Vec::new());
    for machine in shared.machine_ids().into_iter().filter(|machine| may_run(shared, *machine)) {
        match at_rest(shared, machine).await {
            Some((member, content)) => {
                if now() > leases_end {
                    no_lease_is_left(member.leases, machine.0, now())?;
                }
                members.push(member);
                contents.push(content);
            }
            None => {
                let detail = format!("n{machine} does not run in the end, or does not come to rest");
                return Err(Violation { invariant: "liveness", detail });
            }
        }
    }
    converged(&members, |member| contents[member])
}

/// Where a member stands, and a hash of all that its store tells when it is asked about itself.
async fn at_rest(shared: &Arc<Shared>, machine: NodeId) -> Option<(Member, u64)> {
    let (handle, status) = (shared.handle(machine)?, shared.status(machine)?);
    let mut content = 0xcbf2_9ce4_8422_2325_u64;
    let mut leases = 0;
    let everything = Query::Range(RangeQuery::of(KeyRange::from_wire(&[0], &[0])));
    for query in [Query::Leases, Query::Members, Query::Alarms, everything] {
        let request = quorate_replica::Request::Query { query, consistency: Consistency::Serializable };
        let Body::Store(response) = handle.request(request).await.ok()?.body else { return None };
        if let Response::Leases(held) = &response {
            leases = held.len();
        }
        for byte in format!("{response:?}").bytes() {
            content = (content ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    // What was asked for must be of one moment.
    (shared.status(machine)? == status).then_some((Member { status, leases }, content))
}

async fn read_everywhere(shared: &Arc<Shared>) {
    let mut caller = Caller::new(shared, READING);
    for machine in shared.machine_ids().into_iter().filter(|machine| may_run(shared, *machine)) {
        // A learner refuses.
        if shared.full_status(machine).is_some_and(|status| status.learner) {
            continue;
        }
        let request = Request::Range(Range::of(Keys::all()));
        let outcome = clients::ask(shared, &mut caller, PROBES - machine.0, &[machine], &request).await;
        if !matches!(outcome, Outcome::Answered(_)) {
            let detail = format!(
                "a read at n{machine} was not answered within {READING:?}, long after the faults stopped"
            );
            shared.demand(Err(Violation { invariant: "liveness", detail }));
        }
    }
}

/// Every watcher is told of everything that has happened, by events or by how far it is.
async fn watchers_catch_up(shared: &Shared, watchers: &[SharedWatcher]) {
    let revision = lock(&shared.clients).known.revision;
    let deadline = now() + WATCHING;
    for (slot, watcher) in watchers.iter().enumerate() {
        while !lock(watcher).sees(revision) {
            if now() > deadline {
                let detail =
                    format!("watcher {slot} was not told of revision {revision} within {WATCHING:?}");
                return shared.demand(Err(Violation { invariant: "liveness", detail }));
            }
            madsim::time::sleep(READING / 20).await;
        }
    }
}

/// How often the nemesis looks who leads.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_SCRIPTED: Duration = Duration::from_millis(2);

/// The longest time to live that a workload asks for, and a little.
const LEASE_TTL_MAX: Duration = Duration::from_secs(5);

/// How long a watcher may take: it loses patience with a silent stream, opens another one and is told.
const WATCHING: Duration = Duration::from_secs(15);

/// How long the last reads may take.
const READING: Duration = Duration::from_secs(2);
