//! Whatever a peer sends, no assertion fails and no arithmetic overflows: messages that no honest peer
//! would send, in any order, at any time. (What a hostile peer does to safety is another matter: Raft
//! trusts its members.)

use std::time::Duration;

use proptest::prelude::*;
use quorate_raft::{
    Body, Command, Config, Configuration, Entry, HardState, Index, Input, Instant, Message, NodeId, Output,
    Payload, Position, Raft, ReadId, Saved, SnapshotMeta, Term,
};

#[derive(Clone, Debug)]
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

fn payload() -> impl Strategy<Value = Payload<Nothing>> {
    prop_oneof![
        Just(Payload::Noop),
        Just(Payload::Command(Nothing)),
        (0u64..4).prop_map(|voters| {
            let configuration = configuration(voters);
            Payload::Membership(quorate_raft::Membership { configuration, command: None })
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
    Read,
    Persist,
    /// Compacts what was applied.
    Compact,
    Pass(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => (1u64..5, prop::option::weighted(0.3, number()), body())
            .prop_map(|(from, term, body)| Action::Message(from, term, body)),
        1 => (1u64..4, number(), (0u64..8, 0u64..8)).prop_map(|(from, term, (at, index))| {
            Action::Snapshot(from, term % 8, Position { term: Term(at), index: Index(index) })
        }),
        2 => Just(Action::Propose),
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

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
}
