//! Clients, watchers and probes of the whole depth: the workloads of the core depth, each as a task that uses the client
//! library.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use madsim::task::AbortHandle;
use quorate_client::{Transport, Watch};
use quorate_jepsen::etcd::{Put, Request, WatchResponse};
use quorate_jepsen_wire as convert;
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_raft::NodeId;
use quorate_sim::history::StreamId;
use quorate_sim::invariants::Liveness;
use quorate_sim::time::Time;
use quorate_sim::trace::Event;
use quorate_sim::workload::watch::Watcher;
use quorate_sim::workload::{self, Client, Outcome};
use tokio::sync::mpsc;

use super::caller::Caller;
use super::channel::{REFUSAL, SimTransport};
use super::clock::{lock, now};
use super::cluster::Shared;

/// Runs a client until all are to be silent. Every other one leaves the choice of a member to the library.
pub async fn client(shared: Arc<Shared>, mut client: Client) {
    let mut caller = Caller::new(&shared, client.patience());
    loop {
        madsim::time::sleep(client.think()).await;
        if lock(&shared.clients).silent {
            return;
        }
        let request = client.next(&mut lock(&shared.clients).known);
        let machines =
            if client.slot.is_multiple_of(2) { vec![client.member] } else { shared.options.member_ids() };
        let outcome = ask(&shared, &mut caller, client.process, &machines, &request).await;
        client.done(&request, &outcome);
    }
}

/// Asks for something, and records it.
pub async fn ask(
    shared: &Arc<Shared>,
    caller: &mut Caller,
    process: u64,
    machines: &[NodeId],
    request: &Request,
) -> Outcome {
    let node = machines[0];
    let asked = shared.times();
    let operation = {
        let mut clients = lock(&shared.clients);
        clients.asked.push((process, (machines.len() == 1).then_some(node)));
        clients.leases.on_ask(request);
        clients.recorder.invoke(process, now(), request.clone())
    };
    shared.note(Event::Request { process, node, what: workload::name(request) }, Some(node));
    let outcome = caller.ask(machines, request).await;
    let answered = shared.times();
    let leases = {
        let mut clients = lock(&shared.clients);
        clients.recorder.done(operation, now(), outcome.clone());
        clients.known.learn(&outcome);
        clients.leases.on_answer(request, &outcome, asked, (answered.time, &answered.readings))
    };
    shared.demand(leases);
    let revision = match &outcome {
        Outcome::Answered(response) => response.revision,
        Outcome::Refused | Outcome::Unknown => 0,
    };
    shared.note(Event::Answer { process, outcome: outcome.name(), revision }, None);
    outcome
}

/// Asks one member for a write until one is served; says when.
pub async fn probe(shared: Arc<Shared>, machine: NodeId, liveness: Liveness) -> Time {
    let mut process = PROBES + machine.0;
    let mut caller = Caller::new(&shared, shared.options.election_timeout * 2);
    loop {
        let value = lock(&shared.clients).known.fresh_value(0);
        let request = Request::Put(Put::new("probe", value));
        match ask(&shared, &mut caller, process, &[machine], &request).await {
            Outcome::Answered(_) => return now(),
            Outcome::Refused => madsim::time::sleep(REFUSAL).await,
            Outcome::Unknown => process += PROBES,
        }
        if now() > liveness.deadline() {
            return Time(u64::MAX);
        }
    }
}

/// A watcher that several tasks know of.
pub type SharedWatcher = Arc<Mutex<Watcher>>;

/// Runs a watcher for as long as the run goes on.
pub fn watch(shared: &Arc<Shared>, slot: u64, watcher: Watcher) -> SharedWatcher {
    let watcher = Arc::new(Mutex::new(watcher));
    let (shared, same) = (Arc::clone(shared), Arc::clone(&watcher));
    madsim::task::spawn(async move {
        let (_wish, mut wishes) = mpsc::unbounded_channel();
        watch_on(shared, slot, same, &mut wishes).await;
    });
    watcher
}

async fn watch_on(
    shared: Arc<Shared>,
    slot: u64,
    watcher: SharedWatcher,
    wishes: &mut mpsc::UnboundedReceiver<()>,
) {
    let mut caller = Caller::new(&shared, IDLE);
    loop {
        stream(&shared, &mut caller, slot, &watcher, wishes).await;
        lock(&watcher).lost();
        madsim::time::sleep(REFUSAL * 20).await;
    }
}

/// One stream of a watcher, until it ends.
async fn stream(
    shared: &Arc<Shared>,
    caller: &mut Caller,
    slot: u64,
    watcher: &SharedWatcher,
    wishes: &mut mpsc::UnboundedReceiver<()>,
) {
    let (machine, slow, request, id) = {
        let clients = &mut *lock(&shared.clients);
        let mut watcher = lock(watcher);
        let request = watcher.open(&clients.known);
        let id = clients.recorder.open_stream(WATCHERS + slot, request.clone());
        // A watcher that takes few events at a time is a slow one.
        let slow = if watcher.credit < SLOW { SLOWNESS } else { Duration::ZERO };
        (watcher.member, slow, request, id)
    };
    let machine = shared.in_place_of(machine);
    let create = convert::watch(&request);
    shared.note(Event::Request { process: WATCHERS + slot, node: machine, what: "watch" }, Some(machine));
    let client = caller.client(&[machine]);
    let transport = SimTransport::new(shared, IDLE);
    let Some(Ok(mut watch)) = transport.within(IDLE, client.watch(create)).await else { return };
    loop {
        let happened = {
            let mut next = std::pin::pin!(transport.within(IDLE, watch.next()));
            std::future::poll_fn(|context| match wishes.poll_recv(context) {
                Poll::Ready(Some(())) => Poll::Ready(None),
                _ => next.as_mut().poll(context).map(Some),
            })
            .await
        };
        let goes_on = match happened {
            None => ask_progress(&watch).await,
            Some(Some(Ok(response))) => {
                let response = convert::watch_response(response, now().0);
                receive(shared, slot, watcher, id, response, &watch).await
            }
            Some(_) => false,
        };
        if !goes_on {
            return;
        }
        if !slow.is_zero() {
            madsim::time::sleep(slow).await;
        }
    }
}

async fn ask_progress(watch: &Watch) -> bool {
    watch.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await.is_ok()
}

/// Takes a response; says whether the stream goes on.
async fn receive(
    shared: &Shared,
    slot: u64,
    watcher: &SharedWatcher,
    id: StreamId,
    response: WatchResponse,
    watch: &Watch,
) -> bool {
    let reaction = lock(watcher).receive(&response);
    let what = match &response {
        WatchResponse { created: true, .. } => "created",
        WatchResponse { canceled: true, .. } => "canceled",
        response if response.events.is_empty() => "progress",
        _ => "events",
    };
    shared.note(Event::Watch { watch: slot, what, revision: response.revision }, None);
    lock(&shared.clients).recorder.receive(id, response);
    if reaction.over || reaction.close {
        return false;
    }
    !reaction.progress || ask_progress(watch).await
}

/// A watcher that does what a scenario says.
pub struct Scripted {
    shared: Arc<Shared>,
    slot: u64,
    watcher: SharedWatcher,
    task: AbortHandle,
    wishes: mpsc::UnboundedSender<()>,
}

impl Scripted {
    /// It begins to watch.
    pub fn begin(shared: &Arc<Shared>, slot: u64, watcher: Watcher) -> Arc<Mutex<Scripted>> {
        let watcher = Arc::new(Mutex::new(watcher));
        let (task, wishes) = Scripted::run(shared, slot, &watcher);
        Arc::new(Mutex::new(Scripted { shared: Arc::clone(shared), slot, watcher, task, wishes }))
    }

    fn run(
        shared: &Arc<Shared>,
        slot: u64,
        watcher: &SharedWatcher,
    ) -> (AbortHandle, mpsc::UnboundedSender<()>) {
        let (shared, watcher) = (Arc::clone(shared), Arc::clone(watcher));
        let (wish, mut wishes) = mpsc::unbounded_channel();
        let task = madsim::task::spawn(async move { watch_on(shared, slot, watcher, &mut wishes).await });
        (task.abort_handle(), wish)
    }

    /// It has been told of everything up to this revision.
    pub fn sees(&self, revision: i64) -> bool {
        lock(&self.watcher).sees(revision)
    }

    /// It goes on at this member, where it was.
    pub fn resume(&mut self, member: NodeId) {
        self.task.abort();
        lock(&self.watcher).moves(member);
        lock(&self.watcher).lost();
        (self.task, self.wishes) = Scripted::run(&self.shared, self.slot, &self.watcher);
    }

    /// It asks how far it is.
    pub fn ask_progress(&self) {
        let _ = self.wishes.send(());
    }

    /// It ends.
    pub fn stop(&self) {
        self.task.abort();
    }
}

/// A watcher that hears nothing for so long (not even how far it is) tries elsewhere.
const IDLE: Duration = Duration::from_secs(5);

/// Watchers that take fewer events at a time are slow.
const SLOW: u32 = 10;
const SLOWNESS: Duration = Duration::from_millis(40);

/// Processes of watchers and probes begin here; those of clients are below.
pub const OTHERS: u64 = WATCHERS;
const WATCHERS: u64 = 1_000_000;
pub const PROBES: u64 = 2_000_000;
