//! The target of Raft's messages: a working cluster of three that has an enemy, or one member whose peers are all
//! enemies.
//!
//! The input is a schedule: the first byte says which of the two, and each event takes a byte for its kind and a few for
//! its numbers. Numbers are small, so that they meet those that are in use; now and then one is absurd.

use std::time::Duration;

use quorate_raft::testing::{Cluster, Envelope};
use quorate_raft::{
    Body, Change, Command, Config, Configuration, Entry, HardState, Index, Input, Instant, Membership,
    Message, NodeId, Output, Payload, Position, Raft, Saved, SnapshotMeta, Term, WriteId,
};

/// Events of one schedule at most: an input says more in few than in many.
const EVENTS_MAX: usize = 400;

/// Messages to Rafts, in any order, of any content.
///
/// Members among enemies do not panic. In a cluster whose members are honest, replayed messages and those of
/// strangers (but for those who say that they lead, which must be believed) break no invariant of Raft's.
pub fn raft_messages(data: &[u8]) {
    let mut source = Source(data);
    if source.byte().is_multiple_of(2) {
        besiege(&mut source);
    } else {
        surround(&mut source);
    }
}

/// Three honest members, a stranger, and somebody who keeps every message.
fn besiege(source: &mut Source<'_>) {
    let mut cluster = Cluster::new(7, &voters(), |_| {});
    let mut heard: Vec<Envelope<Nothing>> = Vec::new();
    cluster.timeout(NodeId(1));
    for _ in 0..EVENTS_MAX {
        let Some(kind) = source.next() else { return };
        let id = NodeId(1 + u64::from(source.byte() % 3));
        let leader = cluster.leader().unwrap_or(id);
        match kind % 10 {
            0..=2 => settle(&mut cluster, &mut heard, usize::from(source.byte() % 16)),
            3 => _ = cluster.timeout(id),
            4 => {
                cluster.advance(id, Duration::from_millis(u64::from(source.byte()) * 8));
                cluster.handle(id, Input::Wake);
            }
            5 => {
                cluster.crash(id, 0, 0);
                cluster.restart(id);
            }
            6 => cluster.handle(leader, Input::Propose(Nothing)),
            7 => {
                let changes = vec![source.change()];
                cluster.handle(leader, Input::ChangeMembership { changes, command: Nothing });
            }
            8 => {
                let place = usize::from(source.byte()) << 2;
                if let Some(envelope) = heard.get(place % heard.len().max(1)).cloned() {
                    let Envelope { from, to, message } = envelope;
                    cluster.handle(to, Input::Message { from, message });
                }
            }
            _ => {
                let own = cluster.members[&id].raft.as_ref().map_or(Term(0), |raft| raft.status().term);
                let message = source.message(own);
                if !matches!(message.body, Body::Append { .. } | Body::Heartbeat { .. }) {
                    cluster.handle(id, Input::Message { from: NodeId(99), message });
                }
            }
        }
    }
}

/// Messages arrive, writes become durable, snapshots end.
fn settle(cluster: &mut Cluster<Nothing>, heard: &mut Vec<Envelope<Nothing>>, steps: usize) {
    for _ in 0..steps {
        if let Some(envelope) = cluster.network.first() {
            heard.push(envelope.clone());
            cluster.deliver(0);
        }
        (1..=3).for_each(|id| _ = cluster.persist(NodeId(id), 1));
        if !cluster.transfers.is_empty() {
            cluster.finish_transfer(0, true);
        }
    }
}

/// One member, and peers that say whatever they like.
fn surround(source: &mut Source<'_>) {
    let snapshot = SnapshotMeta { position: Position::default(), configuration: voters() };
    let saved = Saved { hard_state: HardState::default(), snapshot, entries: Vec::new() };
    let mut now = Instant(0);
    let mut raft = Raft::recover(Config::new(NodeId(1)), 1, now, saved);
    let (mut written, mut applied) = (WriteId(0), Index(0));
    for _ in 0..EVENTS_MAX {
        let Some(kind) = source.next() else { return };
        let input = match kind % 8 {
            0 => {
                now += Duration::from_millis(u64::from(source.byte()) * 8);
                Input::Wake
            }
            1 => Input::Propose(Nothing),
            2 => Input::ChangeMembership { changes: vec![source.change()], command: Nothing },
            3 => Input::Transfer { to: Some(NodeId(u64::from(source.byte() % 5))) },
            4 if written > WriteId(0) => Input::Persisted(written),
            _ => {
                let from = NodeId(1 + u64::from(source.byte() % 4));
                let message = source.message(raft.status().term);
                Input::Message { from, message }
            }
        };
        raft.handle(now, input);
        while let Some(output) = raft.poll_output() {
            match output {
                Output::Persist(write) => written = write.id,
                Output::Committed(entries) => {
                    for entry in entries {
                        assert_eq!(entry.index, applied.next(), "committed entries are consecutive");
                        applied = entry.index;
                    }
                }
                _ => {}
            }
        }
    }
}

fn voters() -> Configuration {
    Configuration { voters: (1..=3).map(NodeId).collect(), ..Configuration::default() }
}

/// A command of no size.
#[derive(Clone, Debug, PartialEq)]
struct Nothing;

impl Command for Nothing {
    fn size(&self) -> usize {
        0
    }
}

/// What is left of the input.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// The next byte, or zero at the end.
    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX / 2,
            small => u64::from(small % 32),
        }
    }

    fn position(&mut self) -> Position {
        Position { term: Term(self.number()), index: Index(self.number()) }
    }

    fn change(&mut self) -> Change {
        let id = NodeId(u64::from(self.byte() % 6));
        match self.byte() % 4 {
            0 => Change::AddLearner(id),
            1 => Change::AddVoter(id),
            2 => Change::Demote(id),
            _ => Change::Remove(id),
        }
    }

    /// Entries that mostly follow each other as they should.
    fn entries(&mut self, previous: Position) -> Vec<Entry<Nothing>> {
        let mut at = previous;
        let count = self.byte() % 4;
        let entry = |_| {
            let odd = self.byte();
            at.index = Index(at.index.0.wrapping_add(if odd == 255 { 2 } else { 1 }));
            at.term = Term(at.term.0.saturating_add(u64::from(odd % 5 == 4)));
            let payload = match odd % 3 {
                0 => Payload::Noop,
                1 => Payload::Command(Nothing),
                _ => Payload::Membership(Membership { configuration: self.configuration(), command: None }),
            };
            Entry { term: at.term, index: at.index, payload }
        };
        (0..count).map(entry).collect()
    }

    /// A configuration by the bits of three bytes, sound or not.
    fn configuration(&mut self) -> Configuration {
        let mut ids = || {
            let bits = self.byte();
            (0..6).filter(|bit| bits & (1 << bit) != 0).map(NodeId).collect()
        };
        Configuration { voters: ids(), outgoing: ids(), learners: ids() }
    }

    /// A message, mostly of the receiver's own term.
    fn message(&mut self, own: Term) -> Message<Nothing> {
        let term = match self.byte() {
            near @ 0..=191 => Term(own.0.saturating_add(u64::from(near % 3))),
            _ => Term(self.number()),
        };
        let body = match self.byte() % 13 {
            0 => Body::PreVote { campaign: self.number(), last: self.position() },
            1 => Body::PreVoteReply { campaign: self.number(), granted: true },
            2 => Body::Vote { last: self.position(), transfer: self.byte().is_multiple_of(2) },
            3 => Body::VoteReply { granted: true },
            4 | 5 => {
                let (previous, commit) = (self.position(), Index(self.number()));
                let (entries, round) = (self.entries(previous), self.number());
                Body::Append { previous, entries, commit, round }
            }
            6 => Body::AppendAck { matched: Index(self.number()), round: self.number() },
            7 => {
                let (rejected, hint) = (Index(self.number()), self.position());
                Body::AppendReject { rejected, hint, round: self.number() }
            }
            8 => Body::Heartbeat { commit: Index(self.number()), round: self.number() },
            9 => Body::HeartbeatAck { matched: Index(self.number()), round: self.number() },
            10 => Body::ReadIndexReply { request: self.number(), index: Index(self.number()) },
            11 => Body::ReadIndex { request: self.number() },
            _ if self.byte().is_multiple_of(2) => Body::CampaignNow,
            _ => Body::Outdated,
        };
        Message { term, body }
    }
}

/// An election that is replayed, a change of the membership among strangers, and a siege.
pub(crate) fn raft_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let elected = [0, 0, 15, 0, 0, 15, 0, 0, 15];
    let replayed =
        [&[0][..], &elected, &[6, 0, 0, 0, 15, 8, 0, 1, 8, 1, 2, 8, 2, 3, 3, 1, 0, 0, 15]].concat();
    let changed =
        [&[0][..], &elected, &[7, 0, 4, 1, 0, 0, 15, 9, 1, 1, 2, 3, 3, 1, 7, 0, 1, 3, 0, 0, 15]].concat();
    let surrounded =
        [1, 0, 255, 7, 1, 0, 3, 4, 7, 1, 0, 4, 0, 0, 0, 2, 1, 2, 7, 14, 0, 0, 7, 2, 1, 8, 3, 3].to_vec();
    vec![("replayed", replayed), ("changed", changed), ("surrounded", surrounded)]
}
