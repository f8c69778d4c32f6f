//! A scenario's lines at this depth: each is a task that waits for its time, or for what it waits for, and then acts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_jepsen::etcd::Bytes;
use quorate_raft::{NodeId, Role};
use quorate_replica::{Body, Consistency, Request};
use quorate_sim::invariants::Violation;
use quorate_sim::nemesis::{Nemesis, Target, World};
use quorate_sim::scenario::{
    Action, Condition, Fact, Operation, Scenario, Standing, Step, WatcherAction, When, Who,
};
use quorate_sim::time::Time;
use quorate_sim::workload::Outcome;
use quorate_sim::workload::watch::Watcher;
use quorate_store::{KeyRange, LeaseId, Query, RangeQuery, Response};
use tokio::sync::mpsc;

use super::caller::Caller;
use super::clients;
use super::clock::{lock, now, until};
use super::cluster::Shared;
use super::operator;
use super::world::Cluster;

/// A scenario that is under way.
pub struct Script {
    shared: Arc<Shared>,
    nemesis: Arc<Mutex<Nemesis>>,
    scenario: Arc<Scenario>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    happened: Vec<bool>,
    /// Lines whose condition has to become so.
    awaited: Vec<usize>,
    clients: BTreeMap<u64, Asker>,
    watchers: BTreeMap<u64, Arc<Mutex<clients::Scripted>>>,
}

/// A client: what it has still to do.
struct Asker {
    queue: mpsc::UnboundedSender<(usize, Vec<NodeId>, Operation)>,
    waiting: u64,
}

impl Script {
    /// Begins with the lines.
    pub fn begin(
        shared: &Arc<Shared>,
        nemesis: &Arc<Mutex<Nemesis>>,
        scenario: Arc<Scenario>,
    ) -> Arc<Script> {
        let happened = vec![false; scenario.steps.len()];
        let script = Arc::new(Script {
            shared: Arc::clone(shared),
            nemesis: Arc::clone(nemesis),
            scenario,
            progress: Mutex::new(Progress { happened, ..Progress::default() }),
        });
        for (step, line) in script.scenario.steps.iter().enumerate() {
            if step == 0 || matches!(line.when, When::At(_)) {
                madsim::task::spawn(Arc::clone(&script).follow(step));
            }
        }
        script
    }

    /// This line, and those that wait for the line before them.
    async fn follow(self: Arc<Self>, first: usize) {
        for step in first..self.scenario.steps.len() {
            match &self.scenario.steps[step].when {
                When::At(at) if step == first => until(*at).await,
                When::At(_) => return,
                When::After(delay) => madsim::time::sleep(*delay).await,
                When::On(condition, delay) => {
                    self.becomes(condition, Time(u64::MAX)).await;
                    madsim::time::sleep(*delay).await;
                }
            }
            if self.is_over() {
                return;
            }
            lock(&self.progress).happened[step] = true;
            self.act(step).await;
        }
    }

    fn is_over(&self) -> bool {
        now() >= Time::ZERO + self.shared.options.storm || self.shared.violation().is_some()
    }

    /// Waits until something is so; false if it is not by then.
    async fn becomes(&self, condition: &Condition, deadline: Time) -> bool {
        loop {
            if self.holds(condition).await {
                return true;
            }
            if now() >= deadline || self.is_over() {
                return false;
            }
            madsim::time::sleep(GLANCE).await;
        }
    }

    async fn act(self: &Arc<Self>, step: usize) {
        let Step { line, action, .. } = self.scenario.steps[step].clone();
        match action {
            Action::Fault { fault, lasts } => {
                let lasts = lasts.unwrap_or(self.shared.options.storm);
                let world = &mut Cluster(Arc::clone(&self.shared));
                // The operator does one thing after the other, and how long each takes is the seed's to say.
                let patience = now() + self.shared.options.election_timeout * 2;
                let mut begun = lock(&self.nemesis).strike(now(), lasts, fault, world);
                while !begun && !world.admits(&fault) && now() < patience && !self.is_over() {
                    madsim::time::sleep(GLANCE).await;
                    begun = lock(&self.nemesis).strike(now(), lasts, fault, world);
                }
                if !begun {
                    let detail = format!("line {line}: {fault} would cost a quorum, or makes no sense now");
                    self.shared.demand(Err(Violation { invariant: "fault budget", detail }));
                }
            }
            Action::Heal(name) => {
                lock(&self.nemesis).heal(name, &mut Cluster(Arc::clone(&self.shared)));
            }
            Action::Operation(operation) => self.ask(line, operation),
            Action::Watcher(number, action) => self.watch(number, action),
            Action::Require(condition, None) => {
                if !self.holds(&condition).await {
                    self.breaks(format!("line {line}: {condition} is required, and is not so"));
                }
            }
            // The next line comes when it has become so.
            Action::Require(condition, Some(period)) => {
                let deadline = now() + period.length(&self.shared.options);
                lock(&self.progress).awaited.push(step);
                if self.becomes(&condition, deadline).await {
                    lock(&self.progress).awaited.retain(|awaited| *awaited != step);
                } else if now() >= deadline {
                    self.breaks(format!("line {line}: it has not become so: {condition}"));
                }
            }
            Action::Never(condition, lasts) => {
                let deadline = now() + lasts.unwrap_or(self.shared.options.storm);
                let this = Arc::clone(self);
                madsim::task::spawn(async move {
                    if this.becomes(&condition, deadline).await {
                        this.breaks(format!("line {line}: {condition}, which it never is to be"));
                    }
                });
            }
        }
    }

    fn breaks(&self, detail: String) {
        self.shared.demand(Err(Violation { invariant: "scenario", detail }));
    }

    /// A client asks this when it has asked everything before.
    fn ask(self: &Arc<Self>, line: usize, operation: Operation) {
        let machines = match operation.member {
            Some(Target::Node(machine)) => vec![machine],
            Some(Target::Leader(otherwise)) => vec![self.shared.leader().unwrap_or(otherwise)],
            None => self.shared.options.member_ids(),
        };
        let mut progress = lock(&self.progress);
        let number = operation.client;
        let asker = progress.clients.entry(number).or_insert_with(|| {
            let (queue, queued) = mpsc::unbounded_channel();
            madsim::task::spawn(Arc::clone(self).client(number, queued));
            Asker { queue, waiting: 0 }
        });
        for _ in 0..operation.times {
            asker.waiting += 1;
            let _ = asker.queue.send((line, machines.clone(), operation.clone()));
        }
    }

    async fn client(
        self: Arc<Self>,
        number: u64,
        mut queued: mpsc::UnboundedReceiver<(usize, Vec<NodeId>, Operation)>,
    ) {
        let mut caller = Caller::new(&self.shared, self.shared.options.load.patience);
        let mut process = number;
        while let Some((line, machines, operation)) = queued.recv().await {
            let Operation { request, outcome: wanted, .. } = operation;
            let outcome = clients::ask(&self.shared, &mut caller, process, &machines, &request).await;
            if matches!(outcome, Outcome::Unknown) {
                process += self.shared.options.load.clients;
            }
            if let Some(wanted) = wanted.filter(|wanted| !wanted.fits(&outcome)) {
                let said = match &outcome {
                    Outcome::Answered(response) => format!("{:?}", response.result),
                    other => other.name().to_owned(),
                };
                let machine = machines[0];
                self.breaks(format!(
                    "line {line}: the answer of n{machine} was to be {wanted}, and is {said}"
                ));
            }
            if let Some(asker) = lock(&self.progress).clients.get_mut(&number) {
                asker.waiting -= 1;
            }
        }
    }

    fn watch(self: &Arc<Self>, number: u64, action: WatcherAction) {
        let mut progress = lock(&self.progress);
        let told = progress.watchers.get(&number).cloned();
        match (action, told) {
            (WatcherAction::Watch { member, keys, from, prev_kv, slowly }, told) => {
                told.iter().for_each(|told| lock(told).stop());
                let watcher = Watcher::scripted(member, keys, from, prev_kv, if slowly { 1 } else { 1_000 });
                // The first numbers are those of watchers that nobody tells what to do.
                let slot = self.shared.options.load.watchers + number;
                let scripted = clients::Scripted::begin(&self.shared, slot, watcher);
                progress.watchers.insert(number, scripted);
            }
            (WatcherAction::Resume(member), Some(told)) => lock(&told).resume(member),
            (WatcherAction::Progress, Some(told)) => lock(&told).ask_progress(),
            (WatcherAction::Stop, Some(told)) => lock(&told).stop(),
            (_, None) => unreachable!("the reader has seen that it watches"),
        }
    }

    /// The storm is over: a line that waits still would make the scenario say less than it seems to.
    pub fn must_be_over(&self) {
        let progress = lock(&self.progress);
        let waits = |(line, happened): &(&Step, &bool)| !**happened && !matches!(line.when, When::At(_));
        if let Some((line, _)) = self.scenario.steps.iter().zip(&progress.happened).find(waits) {
            return self.breaks(format!("line {} never happened: {line}", line.line));
        }
        if let Some(step) = progress.awaited.first() {
            let Step { line, action, .. } = &self.scenario.steps[*step];
            self.breaks(format!("line {line}: it has not become so when the storm ended: {action}"));
        }
    }

    // --- What is so ---

    async fn holds(&self, condition: &Condition) -> bool {
        let so = match &condition.fact {
            Fact::ClientIdle(client) => {
                lock(&self.progress).clients.get(client).is_none_or(|asker| asker.waiting == 0)
            }
            Fact::WatcherSees(watcher, revision) => {
                let told = lock(&self.progress).watchers.get(watcher).cloned();
                told.is_some_and(|told| lock(&told).sees(*revision))
            }
            Fact::OperatorIdle => operator::is_idle(&self.shared),
            Fact::Members(who, standing) => self.stand(*who, standing).await,
        };
        so != condition.not
    }

    async fn stand(&self, who: Who, standing: &Standing) -> bool {
        let (wanted, all) = match who {
            Who::Node(machine) => return self.stands(machine, standing).await,
            Who::Any => (true, false),
            Who::All => (false, true),
        };
        for machine in self.shared.machine_ids() {
            let runs = self.shared.handle(machine).is_some();
            if runs && self.stands(machine, standing).await == wanted {
                return !all;
            }
        }
        all
    }

    async fn stands(&self, machine: NodeId, standing: &Standing) -> bool {
        let shared = &self.shared;
        match standing {
            Standing::Votes | Standing::Learns | Standing::Belongs => {
                return operator::stands(shared, machine, standing).await;
            }
            Standing::Has(key, value) => {
                let found = found(shared, machine, key).await;
                return found.is_some_and(|found| value.as_ref().is_none_or(|value| *value == found));
            }
            Standing::KeepsLease(lease) => {
                let Some(Response::Leases(leases)) = query(shared, machine, Query::Leases).await else {
                    return false;
                };
                return leases.contains(&LeaseId(*lease));
            }
            _ => {}
        }
        let (Some(line), Some(status)) = (shared.status(machine), shared.full_status(machine)) else {
            return false;
        };
        match standing {
            Standing::Leads => line.role == Role::Leader,
            Standing::Follows => line.role == Role::Follower && line.leader != 0,
            Standing::Commits(index) => line.commit >= *index,
            Standing::Applies(index) => line.applied >= *index,
            Standing::Holds(index) => line.last >= *index,
            Standing::Term(term) => line.term >= *term,
            Standing::Snapshots(index) => status.snapshot.0 >= *index,
            _ => true,
        }
    }
}

/// The value of a key in a member's own store, whatever the others have.
async fn found(shared: &Shared, machine: NodeId, key: &Bytes) -> Option<Bytes> {
    let range = Query::Range(RangeQuery::of(KeyRange::from_wire(key.as_slice(), &[])));
    let Response::Range(range) = query(shared, machine, range).await? else { return None };
    range.kvs.first().map(|found| Bytes::from(found.value.as_slice().to_vec()))
}

/// Asks a member about itself; a member that stands still does not answer.
async fn query(shared: &Shared, machine: NodeId, query: Query) -> Option<Response> {
    let request = Request::Query { query, consistency: Consistency::Serializable };
    let handle = shared.handle(machine)?;
    let answer = madsim::time::timeout(GLANCE * 2, handle.request(request)).await.ok()?.ok()?;
    match answer.body {
        Body::Store(response) => Some(response),
        _ => None,
    }
}

/// How often is looked whether something is so.
const GLANCE: Duration = Duration::from_micros(500);
