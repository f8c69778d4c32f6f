//! Clients and watchers of the whole depth: the workloads of the core depth, each as a task that calls
//! services.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use quorate_api::Metadata;
use quorate_jepsen::etcd::{Put, Request, WatchResponse};
use quorate_proto::etcdserverpb as pb;
use quorate_proto::etcdserverpb::watch_request::RequestUnion;
use quorate_raft::NodeId;
use quorate_sim::invariants::Liveness;
use quorate_sim::time::Time;
use quorate_sim::trace::Event;
use quorate_sim::workload::watch::Watcher;
use quorate_sim::workload::{self, Client, Outcome};
use tokio::sync::mpsc;

use super::cluster::Shared;
use super::env::{lock, now, until};
use super::{convert, rpc};

/// Runs a client until all are to be silent.
pub async fn client(shared: Arc<Shared>, mut client: Client) {
    loop {
        madsim::time::sleep(client.think()).await;
        if lock(&shared.clients).silent {
            return;
        }
        let request = client.next(&mut lock(&shared.clients).known);
        let outcome = ask(&shared, client.process, client.member, &request, client.patience()).await;
        client.done(&request, &outcome);
    }
}

/// Asks for something, and records it.
pub async fn ask(
    shared: &Arc<Shared>,
    process: u64,
    node: NodeId,
    request: &Request,
    patience: Duration,
) -> Outcome {
    let operation = lock(&shared.clients).recorder.invoke(process, now(), request.clone());
    shared.note(Event::Request { process, node, what: workload::name(request) }, Some(node));
    let outcome = rpc::call(shared, node, request, patience).await;
    {
        let mut clients = lock(&shared.clients);
        clients.recorder.done(operation, now(), &outcome);
        clients.known.learn(&outcome);
    }
    let revision = match &outcome {
        Outcome::Answered(response) => response.revision,
        Outcome::Refused | Outcome::Unknown => 0,
    };
    shared.note(Event::Answer { process, outcome: outcome.name(), revision }, None);
    outcome
}

/// Asks one member for a write until one is served; says when.
pub async fn probe(shared: Arc<Shared>, node: NodeId, liveness: Liveness) -> Time {
    let mut process = PROBES + node.0;
    loop {
        let value = lock(&shared.clients).known.fresh_value(0);
        let request = Request::Put(Put::new("probe", value));
        let patience = shared.options.election_timeout * 2;
        if let Outcome::Answered(_) = ask(&shared, process, node, &request, patience).await {
            return now();
        }
        if now() > liveness.deadline() {
            return now();
        }
        process += PROBES;
    }
}

/// Runs a watcher until all are to be silent.
pub async fn watcher(shared: Arc<Shared>, slot: u64, mut watcher: Watcher) {
    while !lock(&shared.clients).silent {
        stream(&shared, slot, &mut watcher).await;
        watcher.lost();
        madsim::time::sleep(rpc::REFUSAL * 20).await;
    }
}

/// One stream of a watcher, until it ends.
async fn stream(shared: &Arc<Shared>, slot: u64, watcher: &mut Watcher) {
    let node = watcher.member;
    let (request, id) = {
        let clients = &mut *lock(&shared.clients);
        let request = watcher.open(&clients.known);
        let id = clients.recorder.open_stream(WATCHERS + slot, request.clone());
        (request, id)
    };
    let create = pb::WatchCreateRequest { progress_notify: true, ..convert::watch(&request) };
    let bytes = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }.encode_to_vec();
    let Some(arrival) = lock(&shared.network).send_client(now(), node) else { return };
    until(arrival).await;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let for_server = Arc::clone(shared);
    let served = shared.serve(node, move |api| async move {
        let request = pb::WatchRequest::decode(&bytes[..]).expect("what was encoded can be decoded");
        let mut session = api.watch(Metadata::default()).expect("no leader is asked for");
        session.handle(&request);
        while let Ok(response) = session.next().await {
            // A stream breaks when its client is cut off.
            let Some(arrival) = lock(&for_server.network).send_client(now(), node) else { return };
            if sender.send((arrival, response.encode_to_vec())).is_err() {
                return;
            }
        }
    });
    let Some(task) = served else { return };
    let mut last = Time::ZERO;
    while let Ok(Some((arrival, bytes))) = madsim::time::timeout(IDLE, receiver.recv()).await {
        last = arrival.max(last);
        until(last).await;
        let response = pb::WatchResponse::decode(&bytes[..]).expect("what was encoded can be decoded");
        let response = convert::watch_response(&response, now().0);
        if receive(shared, slot, watcher, id, response) {
            break;
        }
    }
    task.abort();
}

/// Takes a response; says whether the stream is over.
fn receive(
    shared: &Shared,
    slot: u64,
    watcher: &mut Watcher,
    id: quorate_sim::history::StreamId,
    response: WatchResponse,
) -> bool {
    let reaction = watcher.receive(&response);
    let what = match &response {
        WatchResponse { created: true, .. } => "created",
        WatchResponse { canceled: true, .. } => "canceled",
        response if response.events.is_empty() => "progress",
        _ => "events",
    };
    shared.note(Event::Watch { watch: slot, what, revision: response.revision }, None);
    lock(&shared.clients).recorder.receive(id, response);
    reaction.over || reaction.close
}

/// A watcher that hears nothing for so long (not even how far it is) tries elsewhere.
const IDLE: Duration = Duration::from_secs(5);

/// Processes of watchers and probes begin here; those of clients are below.
const WATCHERS: u64 = 1_000_000;
pub const PROBES: u64 = 2_000_000;
