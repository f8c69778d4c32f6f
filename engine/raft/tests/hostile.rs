//! Whatever a peer sends, no assertion fails and no arithmetic overflows: messages that no honest peer
//! would send, in any order, at any time.
//!
//! And nothing breaks safety that comes from one who is no member, or that a member has said before: messages
//! of any age are replayed to a working cluster, and a stranger says whatever it likes. (Except that it leads:
//! a member must believe a leader that it has never heard of, for the membership may have changed while it was away.
//! Who may speak at all is for the transport to say.)

use std::time::Duration;

use proptest::prelude::*;
use quorate_raft::testing::{Cluster, Envelope};
use quorate_raft::{
    Body, Change, Command, Config, Configuration, Entry, HardState, Index, Input, Instant, Membership,
    Message, NodeId, Output, Payload, Position, Raft, ReadId, Saved, SnapshotMeta, Term,
};

#[derive(Clone, Debug, PartialEq)]
struct Nothing;

impl Command for Nothing {
    fn size(&self) -> usize {
        0
    }
}

/// Mostly small numbers, which meet each other, and sometimes absurd ones.
fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![20 => 0u64..8, 1 => Just(u64::MAX), 1 => Just(u64::MAX / 2), 1 => any::<u64>()]
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(term, index)| Position { term: Term(term), index: Index(index) })
}

fn configuration(voters: u64) -> Configuration {
    Configuration { voters: (1..=voters).map(NodeId).collect(), ..Configuration::default() }
}

/// Sound ones, joint ones, and ones that make no sense.
fn any_configuration() -> impl Strategy<Value = Configuration> {
    let ids = |most| prop::collection::btree_set((0u64..6).prop_map(NodeId), 0..most);
    let any = (ids(4), ids(3), ids(3)).prop_map(|(voters, outgoing, learners)| Configuration {
        voters: voters.into_iter().collect(),
        outgoing: outgoing.into_iter().collect(),
        learners: learners.into_iter().collect(),
    });
    prop_oneof![(0u64..4).prop_map(configuration), any]
}

fn payload() -> impl Strategy<Value = Payload<Nothing>> {
    prop_oneof![
        Just(Payload::Noop),
        Just(Payload::Command(Nothing)),
        (any_configuration(), any::<bool>()).prop_map(|(configuration, command)| {
            Payload::Membership(Membership { configuration, command: command.then_some(Nothing) })
        }),
    ]
}

/// Entries that follow each other as they should, or do not.
fn entries(previous: Position) -> impl Strategy<Value = Vec<Entry<Nothing>>> {
    let well_formed = prop::collection::vec((0u64..2, payload()), 0..4).prop_map(move |parts| {
        let mut at = previous;
        let next = |(step, payload): (u64, _)| {
            at.index = Index(at.index.0.wrapping_add(1));
            at.term = Term(at.term.0.saturating_add(step));
            Entry { term: at.term, index: at.index, payload }
        };
        parts.into_iter().map(next).collect()
    });
    let any =
        (position(), payload()).prop_map(|(at, payload)| Entry { term: at.term, index: at.index, payload });
    prop_oneof![5 => well_formed, 1 => prop::collection::vec(any, 0..4)]
}

fn body() -> impl Strategy<Value = Body<Nothing>> {
    let append = (position(), number(), number()).prop_flat_map(|(previous, commit, round)| {
        let commit = Index(commit);
        entries(previous).prop_map(move |entries| Body::Append { previous, entries, commit, round })
    });
    prop_oneof![
        5 => append,
        1 => (number(), position()).prop_map(|(campaign, last)| Body::PreVote { campaign, last }),
        1 => (number(), any::<bool>())
            .prop_map(|(campaign, granted)| Body::PreVoteReply { campaign, granted }),
        1 => (position(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        3 => Just(Body::VoteReply { granted: true }),
        2 => (number(), number())
            .prop_map(|(matched, round)| Body::AppendAck { matched: Index(matched), round }),
        2 => (number(), position(), number())
            .prop_map(|(at, hint, round)| Body::AppendReject { rejected: Index(at), hint, round }),
        2 => (number(), number())
            .prop_map(|(commit, round)| Body::Heartbeat { commit: Index(commit), round }),
        2 => (number(), number())
            .prop_map(|(matched, round)| Body::HeartbeatAck { matched: Index(matched), round }),
        1 => Just(Body::Outdated),
        1 => Just(Body::CampaignNow),
        1 => number().prop_map(|request| Body::ReadIndex { request }),
        1 => (number(), number())
            .prop_map(|(request, index)| Body::ReadIndexReply { request, index: Index(index) }),
    ]
}

#[derive(Clone, Debug)]
enum Action {
    /// A message; without a term it gets the receiver's, so that it is not simply ignored.
    Message(u64, Option<u64>, Body<Nothing>),
    Snapshot(u64, u64, Position),
    Propose,
    Change(Vec<Change>),
    Transfer(Option<u64>),
    Read,
    Persist,
    /// Compacts what was applied.
    Compact,
    Pass(u64),
}

fn change() -> impl Strategy<Value = Change> {
    (0u64..5, 0u8..4).prop_map(|(id, what)| match what {
        0 => Change::AddLearner(NodeId(id)),
        1 => Change::AddVoter(NodeId(id)),
        2 => Change::Demote(NodeId(id)),
        _ => Change::Remove(NodeId(id)),
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => (1u64..5, prop::option::weighted(0.3, number()), body())
            .prop_map(|(from, term, body)| Action::Message(from, term, body)),
        1 => (1u64..4, number(), (0u64..8, 0u64..8)).prop_map(|(from, term, (at, index))| {
            Action::Snapshot(from, term % 8, Position { term: Term(at), index: Index(index) })
        }),
        2 => Just(Action::Propose),
        1 => prop::collection::vec(change(), 0..3).prop_map(Action::Change),
        1 => prop::option::of(0u64..5).prop_map(Action::Transfer),
        2 => Just(Action::Read),
        5 => Just(Action::Persist),
        1 => Just(Action::Compact),
        3 => (0u64..2000).prop_map(Action::Pass),
    ]
}

/// One member and its owner.
struct Victim {
    raft: Raft<Nothing>,
    now: Instant,
    persisted: Vec<quorate_raft::WriteId>,
    applied: Position,
    reads: u64,
}

impl Victim {
    fn new(pre_vote: bool) -> Victim {
        let snapshot = SnapshotMeta { position: Position::default(), configuration: configuration(3) };
        let saved = Saved { hard_state: HardState::default(), snapshot, entries: Vec::new() };
        let mut config = Config::new(NodeId(1));
        config.pre_vote = pre_vote;
        let raft = Raft::recover(config, 1, Instant(0), saved);
        Victim { raft, now: Instant(0), persisted: Vec::new(), applied: Position::default(), reads: 0 }
    }

    fn act(&mut self, action: Action) {
        let input = match action {
            Action::Message(from, term, body) => {
                let term = term.map_or(self.raft.status().term, Term);
                Input::Message { from: NodeId(from), message: Message { term, body } }
            }
            Action::Snapshot(from, term, position) => {
                let meta = SnapshotMeta { position, configuration: configuration(3) };
                Input::SnapshotReceived { from: NodeId(from), term: Term(term), meta }
            }
            Action::Propose => Input::Propose(Nothing),
            Action::Change(changes) => Input::ChangeMembership { changes, command: Nothing },
            Action::Transfer(to) => Input::Transfer { to: to.map(NodeId) },
            Action::Read => {
                self.reads += 1;
                Input::Read(ReadId(self.reads))
            }
            Action::Persist => match self.persisted.pop() {
                Some(write) => Input::Persisted(write),
                None => Input::Wake,
            },
            Action::Compact => {
                let meta = SnapshotMeta { position: self.applied, configuration: configuration(3) };
                Input::SnapshotTaken { meta, keep_after: self.applied.index }
            }
            Action::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                Input::Wake
            }
        };
        self.raft.handle(self.now, input);
        while let Some(output) = self.raft.poll_output() {
            match output {
                // The last write covers those before it.
                Output::Persist(write) => self.persisted = vec![write.id],
                Output::Committed(entries) => {
                    for entry in entries {
                        assert_eq!(
                            entry.index,
                            self.applied.index.next(),
                            "committed entries are consecutive"
                        );
                        self.applied = entry.position();
                    }
                }
                Output::Restore(meta) => self.applied = meta.position,
                _ => {}
            }
        }
        let _ = self.raft.deadline();
    }
}

/// What happens to a working cluster that has an enemy.
#[derive(Clone, Debug)]
enum Event {
    /// Messages arrive and writes become durable, so many of each.
    Settle(usize),
    Timeout(u64),
    Advance(u64, u64),
    Crash(u64),
    Propose,
    Change(Vec<Change>),
    HandOver(u64),
    /// A message that was sent before, be it long ago, arrives (once more).
    Replay(usize),
    /// A stranger says this to a member; without a term, in the member's own.
    Stranger(u64, Option<u64>, Body<Nothing>),
}

fn event() -> impl Strategy<Value = Event> {
    let member = || 1u64..6;
    prop_oneof![
        10 => (1usize..20).prop_map(Event::Settle),
        2 => member().prop_map(Event::Timeout),
        2 => (member(), 1u64..1500).prop_map(|(id, millis)| Event::Advance(id, millis)),
        1 => member().prop_map(Event::Crash),
        3 => Just(Event::Propose),
        2 => prop::collection::vec(change(), 1..3).prop_map(Event::Change),
        1 => member().prop_map(Event::HandOver),
        15 => any::<usize>().prop_map(Event::Replay),
        15 => (member(), prop::option::weighted(0.5, 0u64..20), body())
            .prop_map(|(to, term, body)| Event::Stranger(to, term, body)),
    ]
}

/// A cluster whose every message is kept by somebody.
struct Victims {
    cluster: Cluster<Nothing>,
    heard: Vec<Envelope<Nothing>>,
}

impl Victims {
    const STRANGER: NodeId = NodeId(99);

    fn new(seed: u64, pre_vote: bool) -> Victims {
        let mut cluster = Cluster::new(seed, &configuration(3), |config| config.pre_vote = pre_vote);
        cluster.join(NodeId(4));
        cluster.join(NodeId(5));
        cluster.timeout(NodeId(1));
        let mut victims = Victims { cluster, heard: Vec::new() };
        victims.settle(100);
        victims
    }

    fn settle(&mut self, steps: usize) {
        for _ in 0..steps {
            if let Some(envelope) = self.cluster.network.first() {
                self.heard.push(envelope.clone());
                self.cluster.deliver(0);
            }
            (1..=5).for_each(|id| _ = self.cluster.persist(NodeId(id), 1));
            if !self.cluster.transfers.is_empty() {
                self.cluster.finish_transfer(0, true);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let leader = self.cluster.leader().unwrap_or(NodeId(1));
        match event {
            Event::Settle(steps) => self.settle(steps),
            Event::Timeout(id) => _ = self.cluster.timeout(NodeId(id)),
            Event::Advance(id, millis) => {
                self.cluster.advance(NodeId(id), Duration::from_millis(millis));
                self.cluster.handle(NodeId(id), Input::Wake);
            }
            Event::Crash(id) => {
                self.cluster.crash(NodeId(id), 0, 0);
                self.cluster.restart(NodeId(id));
            }
            Event::Propose => self.cluster.handle(leader, Input::Propose(Nothing)),
            Event::Change(changes) => {
                self.cluster.handle(leader, Input::ChangeMembership { changes, command: Nothing });
            }
            Event::HandOver(to) => self.cluster.handle(leader, Input::Transfer { to: Some(NodeId(to)) }),
            Event::Replay(place) => {
                let Envelope { from, to, message } = self.heard[place % self.heard.len()].clone();
                self.cluster.handle(to, Input::Message { from, message });
            }
            // Who speaks like a leader is one, as far as anybody can know.
            Event::Stranger(_, _, Body::Append { .. } | Body::Heartbeat { .. }) => {}
            Event::Stranger(to, term, body) => {
                let to = NodeId(to);
                let own = self.cluster.members[&to].raft.as_ref().map_or(Term(0), |raft| raft.status().term);
                let message = Message { term: term.map_or(own, Term), body };
                self.cluster.handle(to, Input::Message { from: Self::STRANGER, message });
            }
        }
    }

    /// The enemy falls silent: the cluster has a leader, who commits.
    fn recover(&mut self) {
        for _ in 0..200 {
            for id in 1..=5 {
                self.cluster.advance(NodeId(id), Duration::from_millis(100));
                self.cluster.handle(NodeId(id), Input::Wake);
            }
            for _ in 0..1000 {
                let idle = self.cluster.members.values().all(|member| member.writes.is_empty());
                if idle && self.cluster.network.is_empty() && self.cluster.transfers.is_empty() {
                    break;
                }
                self.settle(1);
            }
        }
        let before = self.cluster.invariants.committed();
        let leader = self.cluster.leader().expect("a cluster without enemies has a leader");
        self.cluster.handle(leader, Input::Propose(Nothing));
        self.settle(200);
        assert!(self.cluster.invariants.committed() > before, "the leader commits");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_peers_send_makes_a_member_panic(
        pre_vote in any::<bool>(),
        actions in prop::collection::vec(action(), 0..200),
    ) {
        let mut victim = Victim::new(pre_vote);
        for action in actions {
            victim.act(action);
        }
    }

    #[test]
    fn neither_strangers_nor_replayed_messages_break_safety(
        seed in any::<u64>(),
        pre_vote in any::<bool>(),
        events in prop::collection::vec(event(), 0..200),
    ) {
        let mut victims = Victims::new(seed, pre_vote);
        for event in events {
            victims.happen(event);
        }
        victims.recover();
    }
}
