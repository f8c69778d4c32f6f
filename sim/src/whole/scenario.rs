//! A run of the whole depth: the same storm and calm as at the core depth.

use std::sync::Arc;
use std::time::Duration;

use quorate_jepsen::etcd::{Keys, Range, Request};
use quorate_replica::{Body, Consistency};
use quorate_sim::env::network::Quality;
use quorate_sim::invariants::{Check, Liveness, Member, TIMEOUTS_MAX, Violation, converged};
use quorate_sim::nemesis::{Nemesis, World};
use quorate_sim::time::Time;
use quorate_sim::trace::Event;
use quorate_sim::workload::watch::Watcher;
use quorate_sim::workload::{Client, Outcome};
use quorate_store::{Query, Response};

use super::clients::{self, PROBES};
use super::cluster::{Cluster, Shared};
use super::env::{lock, now, until};

/// Runs a storm and a calm. What breaks is left in `shared`.
pub async fn run(shared: Arc<Shared>) {
    let options = shared.options.clone();
    let mut cluster = Cluster(Arc::clone(&shared));
    let carrier = Arc::clone(&shared);
    madsim::task::spawn(async move {
        loop {
            for letter in carrier.post.due().await {
                carrier.deliver(&letter);
            }
        }
    });
    cluster.start_all();
    let mut tasks = Vec::new();
    for client in Client::all(&options) {
        tasks.push(madsim::task::spawn(clients::client(Arc::clone(&shared), client)));
    }
    for (slot, watcher) in Watcher::all(&options).into_iter().enumerate() {
        madsim::task::spawn(clients::watcher(Arc::clone(&shared), slot as u64, watcher));
    }
    let mut nemesis = Nemesis::new(&options);
    storm(&mut cluster, &mut nemesis, Time::ZERO + options.storm).await;
    if shared.violation().is_some() {
        return;
    }
    calm(&mut cluster, &mut nemesis).await;
    shared.note(Event::Phase("quiet"), None);
    lock(&shared.clients).silent = true;
    for task in tasks {
        let _ = task.await;
    }
    let settled = settle(&shared).await;
    shared.demand(settled);
    read_everywhere(&shared).await;
    shared.note(Event::Phase("end"), None);
}

async fn storm(cluster: &mut Cluster, nemesis: &mut Nemesis, end: Time) {
    let mut leader = None;
    while now() < end && cluster.0.violation().is_none() {
        let next = nemesis.next_at().unwrap_or(end).min(end).min(now() + LOOK);
        until(next).await;
        nemesis.step(now(), cluster);
        let leads = cluster.leader();
        if let Some(node) = leads.filter(|_| leads != leader) {
            nemesis.on_leader(now(), node);
        }
        leader = leads;
    }
}

/// Undoes everything, and demands that a write is served in time.
async fn calm(cluster: &mut Cluster, nemesis: &mut Nemesis) {
    let shared = Arc::clone(&cluster.0);
    let options = &shared.options;
    shared.note(Event::Phase("calm"), None);
    nemesis.finish(cluster);
    let quality = Quality { loss: 0, duplication: 0, reordering: 0, ..options.network };
    lock(&shared.network).set_quality(quality);
    cluster.correct_clocks();
    let mut liveness = Liveness::new(now(), options.election_timeout);
    let probes: Vec<_> = options
        .member_ids()
        .into_iter()
        .map(|id| madsim::task::spawn(clients::probe(Arc::clone(&shared), id, liveness)))
        .collect();
    let mut served = Time(u64::MAX);
    for probe in probes {
        served = served.min(probe.await.expect("a probe does not panic"));
    }
    liveness.on_served(served);
    shared.demand(liveness.check_served());
}

/// Waits until all members agree and all leases have expired.
async fn settle(shared: &Arc<Shared>) -> Check {
    let options = &shared.options;
    let deadline = now() + options.election_timeout * TIMEOUTS_MAX + LEASE_TTL_MAX * 2;
    loop {
        let check = match at_rest(shared).await {
            // Stores are compared by what they answer, in the history.
            Some(members) => converged(&members, |_| 0),
            None => Err(Violation {
                invariant: "liveness",
                detail: "a member does not run in the end".to_owned(),
            }),
        };
        if check.is_ok() || now() > deadline {
            return check;
        }
        madsim::time::sleep(options.election_timeout).await;
    }
}

async fn at_rest(shared: &Arc<Shared>) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    for id in shared.options.member_ids() {
        let (handle, status) = (shared.handle(id)?, shared.status(id)?);
        let leases =
            quorate_replica::Request::Query { query: Query::Leases, consistency: Consistency::Serializable };
        let answer = handle.request(leases).await.ok()?;
        let Body::Store(Response::Leases(leases)) = answer.body else { return None };
        members.push(Member { status, leases: leases.len() });
    }
    Some(members)
}

async fn read_everywhere(shared: &Arc<Shared>) {
    for id in shared.options.member_ids() {
        let request = Request::Range(Range::of(Keys::all()));
        let outcome = clients::ask(shared, PROBES - id.0, id, &request, READING).await;
        if !matches!(outcome, Outcome::Answered(_)) {
            let detail =
                format!("a read at n{id} was not answered within {READING:?}, long after the faults stopped");
            shared.demand(Err(Violation { invariant: "liveness", detail }));
        }
    }
}

/// How often the nemesis looks who leads.
const LOOK: Duration = Duration::from_millis(50);

/// The longest time to live that a workload asks for, and a little.
const LEASE_TTL_MAX: Duration = Duration::from_secs(5);

/// How long the last reads may take.
const READING: Duration = Duration::from_secs(2);
