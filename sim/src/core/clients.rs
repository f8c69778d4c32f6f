//! Clients and watchers: their requests and answers as events.

use std::collections::VecDeque;

use quorate_jepsen::etcd::{Event as WatchEvent, KeyValue, Reply, Request, Response, WatchResponse};
use quorate_raft::NodeId;
use quorate_replica::{Consistency, Error, Input, RequestId};
use quorate_store::{EventKind, KeyRange, Revision, WatchId, WatchUpdate};

use super::calm::Phase;
use super::convert;
use super::member::Asker;
use super::operator::OPERATOR;
use super::{Event, REFUSAL, Simulation, place};
use crate::env::network::MEMBERS_MAX;
use crate::history::{OperationId, StreamId};
use crate::invariants::{Check, Readings};
use crate::nemesis::Nemesis;
use crate::options::Options;
use crate::scenario::{Expected, Operation};
use crate::time::Time;
use crate::trace::Event as Traced;
use crate::workload::watch::Watcher;
use crate::workload::{self, Client, Outcome};

/// A client and what it waits for. Behind the clients of the workloads there is one for each member, that
/// asks for what the end of a run needs.
#[derive(Debug)]
pub struct ClientSlot {
    role: Role,
    process: u64,
    serial: u64,
    waiting: Option<Waiting>,
    /// Whether it will look at how long it has waited: one such event per client, not one per request, for most
    /// are answered long before.
    timed: bool,
}

/// Who decides what a client asks.
#[derive(Debug)]
enum Role {
    /// A workload.
    Worker(Box<Client>),
    /// A scenario: what it says so far, with its line.
    Scripted(VecDeque<(usize, NodeId, Operation)>),
    /// Code of somebody else's.
    Guest,
    /// The end of a run.
    Probe,
}

/// A request that is under way.
#[derive(Debug)]
struct Waiting {
    member: NodeId,
    /// What is asked is in the history.
    operation: OperationId,
    /// When it was asked.
    asked: Time,
    /// How long it waits.
    until: Option<Time>,
    /// What the clocks read when a lease was granted or renewed.
    readings: Option<Box<Readings>>,
    /// What a scenario wants to become of it, and in which line.
    wanted: Option<(usize, Expected)>,
}

/// A watcher and its stream.
#[derive(Debug)]
pub struct WatcherSlot {
    watcher: Watcher,
    /// The member that its stream is at.
    member: NodeId,
    process: u64,
    serial: u64,
    stream: Option<StreamId>,
    request: Option<quorate_jepsen::etcd::WatchRequest>,
    /// When the latest response arrives: a stream keeps its order.
    last: Time,
}

impl ClientSlot {
    /// All clients of a run.
    pub fn all(options: &Options, scripted: bool) -> Vec<ClientSlot> {
        let workers = Client::all(options).into_iter().map(|client| {
            let slot = client.slot;
            let script = || Role::Scripted(VecDeque::new());
            ClientSlot::new(slot, if scripted { script() } else { Role::Worker(Box::new(client)) })
        });
        let probes = (1..MEMBERS_MAX as u64).map(|id| ClientSlot::new(PROBES + id, Role::Probe));
        workers.chain(probes).collect()
    }

    /// The clients of a run whose clients are somebody else's.
    pub fn guests(options: &Options) -> Vec<ClientSlot> {
        let guests = (0..options.load.clients).map(|slot| ClientSlot::new(slot, Role::Guest));
        let probes = (1..MEMBERS_MAX as u64).map(|id| ClientSlot::new(PROBES + id, Role::Probe));
        guests.chain(probes).collect()
    }

    fn new(process: u64, role: Role) -> ClientSlot {
        ClientSlot { role, process, serial: 0, waiting: None, timed: false }
    }

    /// A scenario wants it to ask this when it has asked everything before.
    pub fn queue(&mut self, line: usize, member: NodeId, operation: Operation) {
        match &mut self.role {
            Role::Scripted(queue) => queue.push_back((line, member, operation)),
            _ => unreachable!("only scenarios say what clients ask"),
        }
    }

    /// Whether it waits for nothing and has nothing more to ask for now.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && !matches!(&self.role, Role::Scripted(queue) if !queue.is_empty())
    }

    /// Whether it waits for an answer.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

impl WatcherSlot {
    /// All watchers of a run.
    pub fn all(options: &Options) -> Vec<WatcherSlot> {
        let slots = Watcher::all(options).into_iter().enumerate();
        slots.map(|(slot, watcher)| WatcherSlot::new(slot as u32, watcher)).collect()
    }

    /// A watcher that has not begun.
    pub fn new(slot: u32, watcher: Watcher) -> WatcherSlot {
        WatcherSlot {
            member: watcher.member,
            watcher,
            process: WATCHERS + u64::from(slot),
            serial: 0,
            stream: None,
            request: None,
            last: Time::ZERO,
        }
    }

    /// Whether it has been told of everything up to a revision.
    pub fn sees(&self, revision: i64) -> bool {
        self.watcher.sees(revision)
    }
}

/// Processes of watchers and probes begin here; those of clients are below.
const WATCHERS: u64 = 1_000_000;
const PROBES: u64 = 2_000_000;

impl Simulation {
    pub(super) fn client_thinks(&mut self, slot: u32) {
        let Role::Worker(client) = &mut self.clients[slot as usize].role else { return };
        let thinks = client.think();
        self.queue.push(self.time + thinks, Event::Client { slot });
    }

    /// A client asks the next thing.
    pub(super) fn client_asks(&mut self, slot: u32) {
        if !matches!(self.phase, Phase::Storm | Phase::Calm) {
            return;
        }
        let client_slot = &mut self.clients[slot as usize];
        let Role::Worker(client) = &mut client_slot.role else { return };
        let request = client.next(&mut self.known);
        let (member, process) = (self.operator.occupant(client.member), client.process);
        client_slot.process = process;
        self.ask_patiently(slot, member, request);
    }

    /// A client asks the next thing that a scenario has for it, if it waits for nothing.
    pub(super) fn ask_queued(&mut self, slot: u32) {
        let client = &mut self.clients[slot as usize];
        let Role::Scripted(queue) = &mut client.role else { return };
        if client.waiting.is_some() || !matches!(self.phase, Phase::Storm | Phase::Calm) {
            return;
        }
        let Some((line, member, operation)) = queue.pop_front() else { return };
        if operation.times > 1 {
            queue.push_front((line, member, Operation { times: operation.times - 1, ..operation.clone() }));
        }
        self.ask_patiently(slot, member, operation.request);
        if let Some(waiting) = &mut self.clients[slot as usize].waiting {
            waiting.wanted = operation.outcome.map(|outcome| (line, outcome));
        }
    }

    /// A client asks, and waits as long as clients wait.
    pub(super) fn ask_patiently(&mut self, slot: u32, member: NodeId, request: Request) {
        self.ask(slot, member, request);
        let until = self.time + self.options.load.patience;
        let client = &mut self.clients[slot as usize];
        client.waiting.as_mut().expect("it has just asked").until = Some(until);
        if !std::mem::replace(&mut client.timed, true) {
            self.queue.push(until, Event::Patience { slot });
        }
    }

    /// A probe asks a member, however long that takes.
    pub(super) fn ask_once(&mut self, member: NodeId, request: Request) {
        let slot = self.options.load.clients as u32 + member.0 as u32 - 1;
        if self.clients[slot as usize].is_waiting() {
            return;
        }
        self.ask(slot, member, request);
    }

    fn ask(&mut self, slot: u32, member: NodeId, request: Request) {
        let renews = matches!(request, Request::LeaseGrant { .. } | Request::LeaseKeepAlive { .. });
        let readings = renews.then(|| Box::new(self.readings()));
        let client = &mut self.clients[slot as usize];
        client.serial += 1;
        let operation = self.recorder.invoke(client.process, self.time, request);
        client.waiting =
            Some(Waiting { member, operation, asked: self.time, until: None, readings, wanted: None });
        self.asked.push((slot, member));
        let asker = Asker { slot, serial: client.serial };
        match self.network.send_client(self.time, member) {
            Some(at) => self.queue.push(at, Event::Request { asker }),
            // The connection cannot be made: the request never left.
            None => self.queue.push(self.time + REFUSAL, Event::Answer { asker, outcome: Outcome::Refused }),
        }
    }

    /// A request arrives at its member.
    pub(super) fn request_arrives(&mut self, asker: Asker) {
        let client = &self.clients[asker.slot as usize];
        let Some(waiting) = client.waiting.as_ref().filter(|_| client.serial == asker.serial) else { return };
        let asked = self.recorder.request(waiting.operation);
        let (node, process, what) = (waiting.member, client.process, workload::name(asked));
        let request = convert::request(asked);
        if !self.member(node).is_up() {
            let outcome = Outcome::Refused;
            return self.queue.push(self.time + REFUSAL, Event::Answer { asker, outcome });
        }
        let id = self.member(node).admit(asker);
        if matches!(&request, quorate_replica::Request::Query { consistency: Consistency::Linearizable, .. })
        {
            self.invariants.on_read(node, id.sequence, self.time);
        }
        let asks_of_lease = matches!(
            &request,
            quorate_replica::Request::KeepAlive(_) | quorate_replica::Request::TimeToLive { .. }
        );
        let status = &self.members[place(node)].status;
        if asks_of_lease && status.role == quorate_raft::Role::Leader {
            self.invariants.on_lease_asked(node, id.sequence, status.term, self.time);
        }
        self.input(node, Input::Request { id, request });
        self.note(Traced::Request { process, node, what }, Some(node));
    }

    /// A member answers a request.
    pub(super) fn respond(
        &mut self,
        node: NodeId,
        id: RequestId,
        result: Result<quorate_replica::Response, quorate_replica::Error>,
    ) {
        let status = &self.members[place(node)].status;
        let check = self.invariants.on_answered(node, id.sequence, status, result.is_ok());
        self.demand(check);
        let Some(asker) = self.member(node).answered(id) else { return };
        if asker.slot == OPERATOR {
            return self.operator_told(id, asker.serial, &result);
        }
        let client = &self.clients[asker.slot as usize];
        let Some(waiting) = client.waiting.as_ref().filter(|_| client.serial == asker.serial) else { return };
        if matches!(result, Err(Error::Timeout | Error::TimeoutLeaderChanged | Error::NoLeader)) {
            let check = self.check_silence(node, waiting.asked);
            self.violation = self.violation.take().or(check.err());
        }
        let outcome = convert::outcome(node, self.recorder.request(waiting.operation), result);
        if let Some(at) = self.network.send_client(self.time, node) {
            self.queue.push(at, Event::Answer { asker, outcome });
        }
    }

    /// An answer arrives at its client.
    pub(super) fn answer_arrives(&mut self, asker: Asker, outcome: Outcome) {
        let client = &mut self.clients[asker.slot as usize];
        if client.serial != asker.serial {
            return;
        }
        let Some(waiting) = client.waiting.take() else { return };
        self.settle(asker, waiting, outcome);
    }

    /// A client gives up waiting, unless it waits for something that it has asked for later.
    pub(super) fn patience_ends(&mut self, slot: u32) {
        let client = &mut self.clients[slot as usize];
        client.timed = false;
        match client.waiting.as_ref().and_then(|waiting| waiting.until) {
            Some(until) if until <= self.time => {
                let asker = Asker { slot, serial: client.serial };
                self.give_up(asker);
            }
            Some(until) => {
                client.timed = true;
                self.queue.push(until, Event::Patience { slot });
            }
            None => {}
        }
    }

    /// A client's connection breaks, or it does not wait any longer: nobody knows what became of its request.
    fn give_up(&mut self, asker: Asker) {
        let Some(waiting) = self.clients[asker.slot as usize].waiting.take() else { return };
        let node = waiting.member;
        if let Some(id) = self.member(node).abandon(asker) {
            let check = self.check_silence(node, waiting.asked);
            self.demand(check);
            self.input(node, Input::Cancel { id });
        }
        self.settle(asker, waiting, Outcome::Unknown);
    }

    /// Whether it is right that a member has left a request without an answer for so long. It is if there is a fault now, if
    /// it does not follow who leads, if it or that has to catch up first, or if it is on its way out.
    fn check_silence(&self, node: NodeId, asked: Time) -> Check {
        let member = &self.members[place(node)].status;
        let leader = self.members.iter().map(|member| &member.status).find(|it| {
            it.role == quorate_raft::Role::Leader && it.node == member.leader && it.term == member.term
        });
        let Some(leader) = leader else { return Ok(()) };
        let under_way = self.options.load.clients + MEMBERS_MAX as u64;
        let votes = self.members[place(node)].replica.as_ref().is_some_and(|replica| {
            replica.store().members().voters().any(|voter| voter.id == node.0) && !replica.status().removed
        });
        let excused = self.nemesis.as_ref().is_some_and(Nemesis::is_busy)
            || leader.last > leader.commit + under_way
            || leader.commit > member.applied + under_way
            || !self.operator_is_idle()
            || !votes;
        if excused { Ok(()) } else { self.invariants.on_silence(node, asked) }
    }

    /// Every connection between clients and a member breaks.
    pub(super) fn break_connections(&mut self, node: NodeId) {
        for slot in 0..self.clients.len() {
            let client = &self.clients[slot];
            if client.waiting.as_ref().is_some_and(|waiting| waiting.member == node) {
                let asker = Asker { slot: slot as u32, serial: client.serial };
                self.give_up(asker);
            }
        }
        for (watch, asker) in self.member(node).streams() {
            self.close_watch(node, watch, asker);
        }
    }

    fn settle(&mut self, asker: Asker, waiting: Waiting, outcome: Outcome) {
        let Waiting { operation, readings, member, wanted, asked, until: _ } = waiting;
        self.known.learn(&outcome);
        self.lease_renewed(&outcome, readings.as_deref());
        if let Outcome::Answered(response) = &outcome {
            let request = self.recorder.request(operation);
            let check = self.invariants.on_answer(request, asked, self.time, response);
            self.demand(check);
        }
        let clients = self.options.load.clients;
        let client = &mut self.clients[asker.slot as usize];
        let process = client.process;
        let revision = match &outcome {
            Outcome::Answered(response) => response.revision,
            Outcome::Refused | Outcome::Unknown => 0,
        };
        let name = outcome.name();
        match &mut client.role {
            Role::Worker(client) => client.done(self.recorder.request(operation), &outcome),
            Role::Scripted(_) | Role::Guest if matches!(outcome, Outcome::Unknown) => {
                client.process += clients;
            }
            Role::Scripted(_) | Role::Guest => {}
            Role::Probe => {
                let request = self.recorder.request(operation).clone();
                self.probe_settled(member, request, &outcome);
            }
        }
        self.note(Traced::Answer { process, outcome: name, revision }, None);
        if let Some((line, wanted)) = wanted.filter(|(_, wanted)| !wanted.fits(&outcome)) {
            self.unexpected(line, member, &wanted, &outcome);
        }
        let told = (!self.guests.is_empty()).then(|| outcome.clone());
        self.recorder.done(operation, self.time, outcome);
        self.client_thinks(asker.slot);
        self.ask_queued(asker.slot);
        if let Some(outcome) = told {
            self.guest_told(asker.slot, outcome);
        }
        self.check_script();
    }

    /// What was asked for after the storm: the first write that is served counts; one that is not is asked
    /// for again.
    fn probe_settled(&mut self, member: NodeId, request: Request, outcome: &Outcome) {
        let slot = self.options.load.clients as usize + member.0 as usize - 1;
        let served = matches!(outcome, Outcome::Answered(Response { result: Ok(_), .. }));
        match (&request, served) {
            (Request::Put(_), true) => {
                if let Some(liveness) = &mut self.liveness {
                    liveness.on_served(self.time);
                }
            }
            (Request::Put(_), false) => {
                // As with clients: who does not know what it did is over.
                self.clients[slot].process += PROBES;
                self.ask_once(member, self.probe_of(member));
            }
            (_, false) => {
                self.clients[slot].process += PROBES;
                self.ask_once(member, request);
            }
            _ => {}
        }
    }

    /// A client may have been told that a lease lives on; `readings` are there if that is what it had asked for.
    fn lease_renewed(&mut self, outcome: &Outcome, readings: Option<&Readings>) {
        let Outcome::Answered(Response { result: Ok(Reply::Lease { id, ttl }), .. }) = outcome else {
            return;
        };
        let Some(readings) = readings else { return };
        if *ttl > 0 {
            let check = self.invariants.on_lease_renewed(*id, *ttl, readings);
            self.demand(check);
        }
    }

    /// A watcher opens a stream.
    pub(super) fn watch_opens(&mut self, slot: u32) {
        if !matches!(self.phase, Phase::Storm | Phase::Calm) {
            return;
        }
        let watcher = &mut self.watchers[slot as usize];
        watcher.serial += 1;
        watcher.member = self.operator.occupant(watcher.watcher.member);
        let request = watcher.watcher.open(&self.known);
        watcher.stream = Some(self.recorder.open_stream(watcher.process, request.clone()));
        watcher.request = Some(request);
        let asker = Asker { slot, serial: watcher.serial };
        match self.network.send_client(self.time, watcher.member) {
            Some(at) => self.queue.push(at, Event::WatchRequest { asker }),
            None => self.queue.push(self.time + REFUSAL * 20, Event::WatchLost { asker }),
        }
    }

    /// A watcher's request arrives at its member.
    pub(super) fn watch_arrives(&mut self, asker: Asker) {
        let watcher = &mut self.watchers[asker.slot as usize];
        let Some(request) = watcher.request.take().filter(|_| watcher.serial == asker.serial) else { return };
        let (node, process, credit) = (watcher.member, watcher.process, watcher.watcher.credit);
        if !self.member(node).is_up() {
            return self.queue.push(self.time + REFUSAL * 20, Event::WatchLost { asker });
        }
        let watch = self.member(node).watch(asker);
        let request = quorate_store::WatchRequest {
            range: KeyRange::from_wire(request.keys.key.as_slice(), request.keys.range_end.as_slice()),
            start: (request.start_revision > 0).then_some(Revision(request.start_revision)),
            previous: request.prev_kv,
            no_put: request.no_put,
            no_delete: request.no_delete,
        };
        self.input(node, Input::Watch { watch, request });
        self.input(node, Input::Credit { watch, events: credit });
        self.note(Traced::Request { process, node, what: "watch" }, Some(node));
    }

    /// A member tells a watcher something. Streams keep their order and break when clients are cut off.
    pub(super) fn tell_watcher(&mut self, node: NodeId, watch: WatchId, update: WatchUpdate) {
        let Some(asker) = self.member(node).watcher(watch) else { return };
        let response = response(update);
        let arrival = self.network.send_client(self.time, node);
        let watcher = &mut self.watchers[asker.slot as usize];
        match arrival {
            Some(at) => {
                watcher.last = watcher.last.max(at);
                let at = watcher.last;
                self.queue.push(at, Event::WatchResponse { asker, response });
            }
            None => self.close_watch(node, watch, asker),
        }
    }

    /// A watcher receives something.
    pub(super) fn watch_response(&mut self, asker: Asker, mut response: WatchResponse) {
        let time = self.time;
        let slot = &mut self.watchers[asker.slot as usize];
        let Some(stream) = slot.stream.filter(|_| slot.serial == asker.serial) else { return };
        response.at = time.0;
        let reaction = slot.watcher.receive(&response);
        let (node, events, revision) = (slot.member, response.events.len() as u32, response.revision);
        let what = match &response {
            WatchResponse { created: true, .. } => "created",
            WatchResponse { canceled: true, .. } => "canceled",
            response if response.events.is_empty() => "progress",
            _ => "events",
        };
        self.recorder.receive(stream, response);
        self.note(Traced::Watch { watch: u64::from(asker.slot), what, revision }, None);
        let Some(watch) = self.member(node).stream_of(asker) else { return };
        if reaction.over || reaction.close {
            return self.close_watch(node, watch, asker);
        }
        if events > 0 && self.options.load.watch_pause.is_zero() {
            self.input(node, Input::Credit { watch, events });
        } else if events > 0 {
            self.queue.push(time + self.options.load.watch_pause, Event::WatchCredit { asker, events });
        }
        if reaction.progress {
            self.input(node, Input::Progress { watch });
        }
        self.check_script();
    }

    /// A watcher asks how far its stream is.
    pub(super) fn watcher_asks_progress(&mut self, slot: u32) {
        let Some((node, watch, _)) = self.open_stream(slot) else { return };
        self.input(node, Input::Progress { watch });
    }

    /// A watcher goes on at another member.
    pub(super) fn watcher_moves(&mut self, slot: u32, member: NodeId) {
        self.watchers[slot as usize].watcher.moves(member);
        if let Some((node, watch, asker)) = self.open_stream(slot) {
            self.close_watch(node, watch, asker);
        }
    }

    /// A watcher ends.
    pub(super) fn watcher_stops(&mut self, slot: u32) {
        let stream = self.open_stream(slot);
        let watcher = &mut self.watchers[slot as usize];
        watcher.serial += 1;
        watcher.stream = None;
        if let Some((node, watch, _)) = stream {
            self.member(node).unwatch(watch);
            self.input(node, Input::CancelWatch { watch });
        }
    }

    /// The stream of a watcher, if it is open at its member.
    fn open_stream(&mut self, slot: u32) -> Option<(NodeId, WatchId, Asker)> {
        let watcher = &self.watchers[slot as usize];
        let (node, asker) = (watcher.member, Asker { slot, serial: watcher.serial });
        let watch = self.member(node).stream_of(asker)?;
        Some((node, watch, asker))
    }

    /// A slow watcher has looked at what it was told.
    pub(super) fn watch_goes_on(&mut self, asker: Asker, events: u32) {
        let slot = &self.watchers[asker.slot as usize];
        if slot.stream.is_none() || slot.serial != asker.serial {
            return;
        }
        let node = slot.member;
        if let Some(watch) = self.member(node).stream_of(asker) {
            self.input(node, Input::Credit { watch, events });
        }
    }

    fn close_watch(&mut self, node: NodeId, watch: WatchId, asker: Asker) {
        self.member(node).unwatch(watch);
        self.input(node, Input::CancelWatch { watch });
        self.queue.push(self.time + REFUSAL * 20, Event::WatchLost { asker });
    }

    /// A watcher's stream is over: it opens another.
    pub(super) fn watch_lost(&mut self, asker: Asker) {
        let watcher = &mut self.watchers[asker.slot as usize];
        if watcher.serial == asker.serial {
            watcher.stream = None;
            watcher.watcher.lost();
            self.queue.push(self.time, Event::WatchOpen { slot: asker.slot });
        }
    }
}

/// An update in the checker's words.
fn response(update: WatchUpdate) -> WatchResponse {
    let empty = WatchResponse::default();
    match update {
        WatchUpdate::Created { revision } => WatchResponse { revision: revision.0, created: true, ..empty },
        WatchUpdate::Progress { revision } => WatchResponse { revision: revision.0, ..empty },
        WatchUpdate::Compacted { compact_revision, revision } => WatchResponse {
            revision: revision.0,
            canceled: true,
            compact_revision: compact_revision.0,
            ..empty
        },
        WatchUpdate::Events { revision, events } => {
            WatchResponse { revision: revision.0, events: events.iter().map(event).collect(), ..empty }
        }
    }
}

fn event(event: &quorate_store::Event) -> WatchEvent {
    let previous = event.previous.as_deref().map(convert::key_value);
    match &event.kind {
        EventKind::Put(kv) => WatchEvent { deleted: false, kv: convert::key_value(kv), previous },
        EventKind::Delete { key, revision } => {
            let kv = KeyValue { key: key.as_slice().into(), mod_revision: revision.0, ..KeyValue::default() };
            WatchEvent { deleted: true, kv, previous }
        }
    }
}
