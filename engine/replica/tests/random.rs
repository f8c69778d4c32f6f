//! Random schedules of a small cluster: messages are lost, repeated and reordered, members crash with
//! unsaved writes and start again, processes freeze, clients ask all members for things, members come and go and
//! lose their disks, leadership is moved. Whatever happens,
//!
//! - all members have the same state at the same index, and the same change at the same revision;
//! - no command takes effect twice, and none that was refused takes effect at all;
//! - what was acknowledged is there, at the revision that the answer named;
//! - a linearizable read sees all that was acknowledged before it was asked;
//! - a lease that was kept alive is not revoked early;
//! - no member is taken for an old copy of itself, and only members that were removed say so;
//! - in the end, when nothing fails any more, every request has been answered once and all members agree.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::{Cluster, Event, Options};
use proptest::prelude::*;
use quorate_raft::{Index, Instant, NodeId};
use quorate_replica::{Body, Consistency, Error, Input, Replica, Request, RequestId};
use quorate_store::{
    Blob, Command, EventKind, KeyRange, LeaseId, Member, Put, Query, RangeEnd, RangeQuery, Response,
    Revision, WatchId, WatchRequest, WatchUpdate,
};

/// One step of a schedule. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    /// A client asks a member for something.
    Ask(u64, Asked),
    /// A message arrives: the one at this place, so that messages overtake each other.
    Deliver(usize),
    /// A message arrives and stays under way.
    Duplicate(usize),
    /// A message is lost.
    Lose(usize),
    /// A write becomes durable.
    Persist(u64),
    /// A chunk of a snapshot becomes durable.
    Save(u64),
    /// A process ends.
    Crash(u64),
    /// It starts again.
    Start(u64),
    /// A process is frozen.
    Pause(u64),
    /// It goes on.
    Resume(u64),
    /// A link is cut, one way.
    Cut(u64, u64),
    /// All links are mended.
    Heal,
    /// Everything happens that needs no time to pass.
    Settle,
    /// In a time of peace a voter loses its disk, and another takes its place.
    Replace(u64),
    /// Milliseconds pass; deadlines are noticed, but nothing else happens.
    Tick(u64),
    /// Milliseconds pass, and everything happens.
    Elapse(u64),
}

#[derive(Clone, Debug)]
enum Asked {
    Put(u8),
    Get(u8),
    /// Grants the one lease of the test, with a key attached.
    Grant,
    KeepAlive,
    /// Adds a member, if there are not too many.
    Add {
        learner: bool,
        auto_promote: bool,
    },
    Remove(u64),
    Promote(u64),
    Demote(u64),
    /// A directory joins, under the addresses of a member that has been added.
    Join,
    MoveLeader(Option<u64>),
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        6 => (0..3u8).prop_map(Asked::Put),
        4 => (0..3u8).prop_map(Asked::Get),
        1 => Just(Asked::Grant),
        2 => Just(Asked::KeepAlive),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(learner, auto_promote)| Asked::Add { learner, auto_promote }),
        1 => any::<u64>().prop_map(Asked::Remove),
        1 => any::<u64>().prop_map(Asked::Promote),
        1 => any::<u64>().prop_map(Asked::Demote),
        1 => prop::option::of(any::<u64>()).prop_map(Asked::MoveLeader),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (any::<u64>(), asked()).prop_map(|(member, asked)| Step::Ask(member, asked)),
        20 => any::<usize>().prop_map(Step::Deliver),
        4 => any::<usize>().prop_map(Step::Duplicate),
        4 => any::<usize>().prop_map(Step::Lose),
        12 => any::<u64>().prop_map(Step::Persist),
        4 => any::<u64>().prop_map(Step::Save),
        2 => any::<u64>().prop_map(Step::Crash),
        3 => any::<u64>().prop_map(Step::Start),
        1 => any::<u64>().prop_map(Step::Pause),
        2 => any::<u64>().prop_map(Step::Resume),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(from, to)| Step::Cut(from, to)),
        2 => Just(Step::Heal),
        3 => Just(Step::Settle),
        1 => any::<u64>().prop_map(Step::Replace),
        8 => (0..300u64).prop_map(Step::Tick),
        3 => (0..3_000u64).prop_map(Step::Elapse),
    ]
}

/// The lease that the test grants, and its time to live in seconds.
const LEASE: LeaseId = LeaseId(7);
const TTL: u64 = 2;
const LEASED_KEY: &str = "leased";

/// A request that was asked, and what must hold of its answer.
#[derive(Debug)]
struct Open {
    asked: Asked,
    value: String,
    at: Instant,
    /// The highest revision that had been acknowledged then.
    floor: Revision,
}

/// Everything that is known to be true.
struct Judge {
    cluster: Cluster,
    open: BTreeMap<(NodeId, RequestId), Open>,
    /// What each revision changed, as first seen on any member.
    history: BTreeMap<Revision, (String, Option<String>)>,
    /// What each acknowledged put must have changed.
    acknowledged: BTreeMap<Revision, String>,
    /// Values whose puts were refused for good.
    refused: BTreeSet<String>,
    /// The state at each applied index, as first seen on any member.
    states: BTreeMap<Index, u64>,
    /// The highest revision of an answer.
    floor: Revision,
    /// Until when the lease may not end.
    kept_until: Instant,
    watches: u64,
    /// The id of the latest member that was added.
    newest: u64,
}

impl Judge {
    fn new() -> Judge {
        let options =
            Options { snapshot_entries: 8, catchup_entries: 2, learners_max: 2, ..Options::default() };
        let mut judge = Judge {
            cluster: Cluster::new(options, 1),
            open: BTreeMap::new(),
            history: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            refused: BTreeSet::new(),
            states: BTreeMap::new(),
            floor: Revision(0),
            kept_until: Instant::default(),
            watches: 0,
            newest: 10,
        };
        judge.cluster.ids().into_iter().for_each(|id| judge.watch_everything(id));
        judge
    }

    /// Has a member tell its whole history from the beginning.
    fn watch_everything(&mut self, id: NodeId) {
        self.watches += 1;
        let watch = WatchId(self.watches);
        let range = KeyRange { start: Blob::from("\0"), end: RangeEnd::Unbounded };
        let start = Some(Revision(1));
        let request = WatchRequest { range, start, previous: false, no_put: false, no_delete: false };
        self.cluster.handle(id, Input::Watch { watch, request });
        self.cluster.handle(id, Input::Credit { watch, events: u32::MAX });
    }

    fn now(&self) -> Instant {
        // All clocks show the same time in this test.
        self.cluster.members.values().next().expect("somebody is there").now
    }

    fn step(&mut self, step: Step) {
        let ids = self.cluster.ids();
        let member = |number: u64| ids[number as usize % ids.len()];
        let place = |number: usize| number % self.cluster.network.len().max(1);
        match step {
            Step::Ask(number, asked) => self.ask(member(number), asked),
            Step::Deliver(number) | Step::Duplicate(number) => {
                let place = place(number);
                let Some(packet) = self.cluster.network.get(place).cloned() else { return };
                if self.cluster.members.get(&packet.to).is_some_and(|member| member.paused) {
                    return;
                }
                self.cluster.deliver(place);
                if matches!(step, Step::Duplicate(_)) {
                    self.cluster.network.push_back(packet);
                }
            }
            Step::Lose(number) => drop(self.cluster.network.remove(place(number))),
            Step::Persist(number) if self.is_running(member(number)) => {
                self.cluster.persist(member(number));
            }
            Step::Save(number) if self.is_running(member(number)) => {
                self.cluster.save(member(number));
            }
            Step::Persist(_) | Step::Save(_) => {}
            Step::Crash(number) => self.crash(member(number)),
            Step::Start(number) => self.start(member(number)),
            Step::Pause(number) => self.cluster.member(member(number)).paused = true,
            Step::Resume(number) if self.cluster.members[&member(number)].paused => {
                self.cluster.resume(member(number));
            }
            Step::Resume(_) => {}
            Step::Cut(from, to) => drop(self.cluster.cut.insert((member(from), member(to)))),
            Step::Heal => self.cluster.cut.clear(),
            Step::Settle => {
                let events = self.cluster.settle();
                self.judge_all(events);
            }
            Step::Replace(number) => self.replace(member(number)),
            Step::Tick(millis) => self.tick(Duration::from_millis(millis)),
            Step::Elapse(millis) => self.elapse(Duration::from_millis(millis)),
        }
        self.poll_all();
    }

    fn is_running(&self, id: NodeId) -> bool {
        self.cluster.is_up(id) && !self.cluster.members[&id].paused
    }

    fn crash(&mut self, id: NodeId) {
        self.cluster.crash(id);
        // Nobody will ever answer these.
        self.open.retain(|(member, _), _| *member != id);
    }

    fn start(&mut self, id: NodeId) {
        if !self.cluster.is_up(id) {
            self.cluster.start(id);
            self.watch_everything(id);
        }
    }

    /// Everything works for a while, so that the fault is one that a cluster can survive. Then a voter's disk is lost,
    /// and an empty directory with its addresses joins.
    fn replace(&mut self, id: NodeId) {
        self.repair();
        self.elapse(Duration::from_secs(3));
        self.forget_removed();
        let members = self.furthest().store().members().clone();
        let running = |it: &Member| self.cluster.members.contains_key(&NodeId(it.id));
        if !members.iter().all(running) || !self.open.is_empty() {
            // Somebody is on the way in or out; it might be one too many.
            return;
        }
        let replaceable = |it: &&Member| !it.learner && it.is_started() && members.voters().count() > 2;
        let Some(lost) = members.get(id.0).filter(replaceable).cloned() else { return };
        let asked =
            self.cluster.ids().into_iter().find(|other| *other != id).expect("there are several voters");
        self.crash(id);
        self.cluster.members.remove(&id);
        self.elapse(Duration::from_secs(2));
        self.newest += 1;
        let (new, owner, name) = (self.newest, self.newest, lost.name);
        let command = Command::MemberJoin { id: new, owner, name, peer_urls: lost.peer_urls };
        let request = self.cluster.request(asked, Request::Command(command));
        let open = Open { asked: Asked::Join, value: String::new(), at: self.now(), floor: self.floor };
        self.open.insert((asked, request), open);
        self.elapse(Duration::from_secs(5));
        assert!(self.cluster.members.contains_key(&NodeId(new)), "a lost disk is replaced");
    }

    /// Nothing is broken any more, and whoever is a member has a process.
    fn repair(&mut self) {
        self.cluster.cut.clear();
        for id in self.cluster.ids() {
            self.start(id);
            self.cluster.resume(id);
        }
        // Not everybody who was added has been started, and not all are in every log yet.
        let configured: BTreeSet<NodeId> = self
            .cluster
            .ids()
            .into_iter()
            .flat_map(|id| {
                let configuration = self.cluster.replica(id).raft().configuration();
                configuration.members().collect::<Vec<_>>()
            })
            .collect();
        for id in configured {
            self.start_new(id);
        }
    }

    fn start_new(&mut self, id: NodeId) {
        let known = self.cluster.members.contains_key(&id);
        let removed = self.cluster.members.values().filter_map(|member| member.replica.as_ref());
        let removed = removed.into_iter().any(|replica| replica.store().members().is_removed(id.0));
        if !known && !removed {
            self.cluster.start_new(id);
            self.watch_everything(id);
        }
    }

    /// A member says that it has been removed: its process ends for good.
    fn end_removed(&mut self, id: NodeId) {
        let known = self.cluster.members[&id].replica.as_ref().expect("it has just spoken").store().members();
        assert!(known.is_removed(id.0), "n{id} has been removed");
        self.crash(id);
        self.cluster.members.remove(&id);
    }

    fn tick(&mut self, time: Duration) {
        self.cluster.members.values_mut().for_each(|member| member.now += time);
        for id in self.cluster.ids() {
            let member = &self.cluster.members[&id];
            if !member.paused && member.time_to_deadline() == Some(Duration::ZERO) {
                self.cluster.handle(id, Input::Wake);
            }
        }
    }

    /// In small steps, so that what is judged knows the time rather well.
    fn elapse(&mut self, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(Duration::from_millis(50));
            time -= step;
            let events = self.cluster.elapse(step);
            self.judge_all(events);
        }
    }

    fn ask(&mut self, id: NodeId, asked: Asked) {
        if !self.is_running(id) {
            return;
        }
        let member = &self.cluster.members[&id];
        // A value that nothing else ever writes.
        let value = format!("{id}.{}.{}", member.disk.boot, member.sequence + 1);
        let put = |key: String, lease| {
            let (key, value) = (Blob::from(key.as_str()), Some(Blob::from(value.as_str())));
            Request::Command(Command::Put(Put { key, value, lease: Some(lease), previous: false }))
        };
        let request = match asked {
            Asked::Put(key) => put(format!("k{key}"), LeaseId::NONE),
            Asked::Get(key) => {
                let query = Query::Range(RangeQuery::of(KeyRange::single(format!("k{key}").as_str())));
                Request::Query { query, consistency: Consistency::Linearizable }
            }
            Asked::Grant => Request::Command(Command::LeaseGrant { id: LEASE, ttl: TTL as i64 }),
            Asked::KeepAlive => Request::KeepAlive(LEASE),
            ref change => match self.change(id, change) {
                Some(request) => request,
                None => return,
            },
        };
        let attach = put(LEASED_KEY.into(), LEASE);
        let open = Open { asked: asked.clone(), value, at: self.now(), floor: self.floor };
        let request_id = self.cluster.request(id, request);
        self.open.insert((id, request_id), open);
        if matches!(asked, Asked::Grant) {
            self.cluster.request(id, attach);
        }
    }

    /// The request that changes the members or the leader.
    fn change(&mut self, id: NodeId, asked: &Asked) -> Option<Request> {
        let members = self.cluster.replica(id).store().members();
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        let pick = |number: &u64| ids[*number as usize % ids.len()];
        Some(Request::Command(match asked {
            Asked::Add { learner, auto_promote } => {
                if ids.len() > 4 {
                    return None;
                }
                self.newest += 1;
                let (id, learner, auto_promote) = (self.newest, *learner, *auto_promote);
                Command::MemberAdd { id, peer_urls: vec![format!("p{id}")], learner, auto_promote }
            }
            Asked::Remove(number) => Command::MemberRemove { id: pick(number) },
            Asked::Promote(number) => Command::MemberPromote { id: pick(number) },
            Asked::Demote(number) => Command::MemberDemote { id: pick(number) },
            Asked::MoveLeader(to) => return Some(Request::MoveLeader { to: to.as_ref().map(pick) }),
            other => panic!("{other:?} is not about members"),
        }))
    }

    /// A member has been added: its directory joins.
    fn join(&mut self, at: NodeId, new: u64) {
        let (name, peer_urls) = (format!("m{new}"), vec![format!("p{new}")]);
        if self.is_running(at) {
            let request = self.cluster.request(at, Request::Join { owner: new, name, peer_urls });
            let (asked, value) = (Asked::Join, String::new());
            let open = Open { asked, value, at: self.now(), floor: self.floor };
            self.open.insert((at, request), open);
        }
    }

    fn poll_all(&mut self) {
        for id in self.cluster.ids() {
            if !self.is_running(id) {
                continue;
            }
            let events = self.cluster.poll(id);
            self.judge_all(events.into_iter().map(|event| (id, event)).collect());
            if !self.cluster.members.contains_key(&id) {
                continue;
            }
            let replica = self.cluster.replica(id);
            assert_eq!(replica.status().members_corrected, 0, "the table follows from the commands alone");
            let (applied, hash) = (replica.status().applied, replica.state_hash());
            let known = *self.states.entry(applied).or_insert(hash);
            assert_eq!(known, hash, "the states at {applied} differ");
        }
    }

    fn judge_all(&mut self, events: Vec<(NodeId, Event)>) {
        // Changes first: answers are held against them.
        let (changes, answers): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|(_, event)| matches!(event, Event::Watch(..)));
        for (_, event) in changes {
            if let Event::Watch(_, update) = event {
                self.judge_update(update);
            }
        }
        for (id, event) in answers {
            match event {
                Event::Respond(request, result) => self.judge_answer(id, request, result),
                Event::Removed => self.end_removed(id),
                Event::Disowned => panic!("n{id} is no old copy"),
                Event::Watch(..) | Event::Changed(_) => {}
            }
        }
    }

    fn judge_update(&mut self, update: WatchUpdate) {
        let WatchUpdate::Events { events, .. } = update else { return };
        for event in events {
            let text = |blob: &Blob| String::from_utf8(blob.to_vec()).expect("the test writes text");
            let (revision, change) = match event.kind {
                EventKind::Put(kv) => (kv.mod_revision, (text(&kv.key), Some(text(&kv.value)))),
                EventKind::Delete { key, revision } => (revision, (text(&key), None)),
            };
            if let Some(known) = self.history.get(&revision) {
                assert_eq!(*known, change, "members disagree about revision {revision}");
                continue;
            }
            if change.0 == LEASED_KEY && change.1.is_none() {
                assert!(self.now() >= self.kept_until, "the lease ended early");
            }
            if let Some(value) = &change.1 {
                assert!(!self.refused.contains(value), "{value} was refused, and took effect");
                let twice = self.history.values().any(|(_, before)| before.as_ref() == Some(value));
                assert!(!twice, "{value} took effect twice");
            }
            self.history.insert(revision, change);
        }
    }

    fn judge_answer(
        &mut self,
        id: NodeId,
        request: RequestId,
        result: Result<quorate_replica::Response, Error>,
    ) {
        let Some(open) = self.open.remove(&(id, request)) else {
            // Those that attach a key to the lease are not followed up; all others are answered once.
            return;
        };
        let response = match result {
            Ok(response) => response,
            Err(Error::NoLeader) => {
                self.refused.insert(open.value);
                return;
            }
            Err(_) => return,
        };
        // (A keep-alive is answered by the leader, but carries the revision of the member that was asked.)
        let ordered = !matches!(open.asked, Asked::KeepAlive | Asked::MoveLeader(_));
        assert!(!ordered || response.revision >= open.floor, "an answer from before the question: {open:?}");
        match (open.asked, response.body) {
            (Asked::Put(_), Body::Store(Response::Put { .. })) => {
                assert!(response.revision > open.floor, "a put has a revision of its own");
                self.acknowledged.insert(response.revision, open.value);
            }
            (Asked::Get(key), Body::Store(Response::Range(range))) => {
                let key = format!("k{key}");
                let mut changes = self.history.range(..=response.revision).rev();
                let expected = changes.find(|(_, change)| change.0 == key).and_then(|(_, it)| it.1.clone());
                let found = range.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).expect("text"));
                assert_eq!(found, expected, "a read at revision {}", response.revision);
            }
            (Asked::KeepAlive, Body::KeptAlive { ttl, .. }) if ttl > 0 => {
                self.kept_until = self.kept_until.max(open.at + Duration::from_secs(TTL));
            }
            (Asked::Grant, _) | (Asked::KeepAlive, _) | (Asked::MoveLeader(_), _) => {}
            (Asked::Add { .. }, Body::Store(Response::Members(members))) => {
                // It may be somebody else's, too; the directory of a member that has one is answered the same again.
                let unstarted = members.iter().filter(|member| !member.is_started());
                let added: Vec<u64> = unstarted.map(|member| member.id).collect();
                added.into_iter().for_each(|new| self.join(id, new));
            }
            (Asked::Join, Body::Store(Response::Joined { id: new })) => self.start_new(NodeId(new)),
            (_, Body::Store(Response::Members(_))) => {}
            (asked, body) => panic!("{asked:?} was answered with {body:?}"),
        }
        self.floor = self.floor.max(response.revision);
    }

    /// Nothing fails any more: everything must come to its end.
    fn finish(&mut self) {
        for _ in 0..4 {
            self.repair();
            self.elapse(Duration::from_secs(6));
        }
        self.poll_all();
        assert!(self.open.is_empty(), "unanswered: {:?}", self.open);
        self.forget_removed();
        let ids = self.cluster.ids();
        let members = self.furthest().store().members();
        assert!(members.iter().map(|it| NodeId(it.id)).eq(ids.iter().copied()), "every member has a process");
        let applied: BTreeSet<Index> =
            ids.iter().map(|id| self.cluster.replica(*id).status().applied).collect();
        assert_eq!(applied.len(), 1, "members have applied different amounts");
        for (revision, value) in &self.acknowledged {
            let change = self.history.get(revision).and_then(|change| change.1.as_ref());
            assert_eq!(change, Some(value), "what was acknowledged at {revision} is gone");
        }
        self.step(Step::Ask(0, Asked::Put(0)));
        self.elapse(Duration::from_millis(200));
        assert!(self.open.is_empty(), "the cluster does not serve");
    }
}

impl Judge {
    /// Whoever has applied most.
    fn furthest(&self) -> &Replica {
        let all = self.cluster.members.values().filter_map(|member| member.replica.as_ref());
        all.max_by_key(|replica| replica.status().applied).expect("somebody is there")
    }

    /// Takes away the processes of members that were removed while they could not hear of it.
    fn forget_removed(&mut self) {
        let members: BTreeSet<u64> = self.furthest().store().members().iter().map(|it| it.id).collect();
        self.cluster.members.retain(|id, _| members.contains(&id.0));
        self.open.retain(|(id, _), _| members.contains(&id.0));
    }
}

/// As many cases as `PROPTEST_CASES` says, or what takes a few seconds.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 64 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn promises_are_kept(steps in prop::collection::vec(step(), 1..400)) {
        let mut judge = Judge::new();
        // A leader to begin with, so that short schedules are not about elections only.
        judge.elapse(Duration::from_secs(3));
        steps.into_iter().for_each(|step| judge.step(step));
        judge.finish();
    }
}
