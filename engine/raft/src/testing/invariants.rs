//! What no schedule of messages, crashes and delays may ever break (Raft figure 3, and what this
//! implementation promises beyond it). Everything that leaves a member is looked at once.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;

use super::Member;
use crate::{
    Body, Command, Configuration, Entry, Index, Message, NodeId, Payload, Position, Raft, ReadId, Role, Term,
    Write,
};

/// What was seen so far, and must never be contradicted.
#[derive(Clone, Debug)]
pub struct Invariants<C> {
    /// Who led in each term.
    leaders: BTreeMap<Term, NodeId>,
    /// For whom each member voted in each term.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// What each entry says, and its predecessor's term.
    entries: BTreeMap<Position, (Term, Payload<C>)>,
    /// Every committed entry, and the lowest term in which somebody knew.
    committed: BTreeMap<Index, (Position, Term)>,
    /// Each member's term and commit index, while it runs.
    progress: BTreeMap<NodeId, (Term, Index)>,
    /// The configuration as of each index that has committed one.
    configurations: BTreeMap<Index, Configuration>,
    /// Members whose disk was replaced, so that they may have lost what they had.
    disks_replaced: BTreeSet<NodeId>,
    /// Reads without an answer, and the least index that may answer them.
    reads: BTreeMap<ReadId, Index>,
    /// Configurations that were committed.
    pub configurations_committed: u64,
    /// Reads that were answered.
    pub reads_answered: u64,
}

impl<C: Command + PartialEq + fmt::Debug> Invariants<C> {
    pub(super) fn new(configuration: Configuration) -> Invariants<C> {
        Invariants {
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            entries: BTreeMap::new(),
            committed: BTreeMap::new(),
            progress: BTreeMap::new(),
            configurations: [(Index(0), configuration)].into(),
            disks_replaced: BTreeSet::new(),
            reads: BTreeMap::new(),
            configurations_committed: 0,
            reads_answered: 0,
        }
    }

    /// The highest index known to be committed anywhere.
    pub fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index(0), |(&index, _)| index)
    }

    pub(super) fn on_crash(&mut self, id: NodeId) {
        self.progress.remove(&id);
    }

    /// What a member promises in a message must be on its disk.
    pub(super) fn on_send(&mut self, from: NodeId, to: NodeId, message: &Message<C>, member: &Member<C>) {
        let durable = &member.disk.hard_state;
        if !matches!(message.body, Body::PreVote { .. }) {
            assert!(durable.term >= message.term, "n{from} speaks of a term that it could forget");
        }
        let vote = match message.body {
            Body::Vote { .. } => Some(from),
            Body::VoteReply { granted: true } => Some(to),
            _ => None,
        };
        if let Some(candidate) = vote {
            assert!(
                durable.term > message.term || durable.vote == Some(candidate),
                "n{from} gives a vote that it could forget"
            );
            let earlier = *self.votes.entry((from, message.term)).or_insert(candidate);
            assert!(earlier == candidate, "n{from} voted twice in term {}", message.term);
        }
        if let Body::AppendAck { matched, .. } | Body::HeartbeatAck { matched, .. } = message.body {
            assert!(member.disk.last() >= matched, "n{from} acknowledges entries that it could lose");
        }
    }

    /// Log matching (Raft §5.3): by induction it is enough that one position never has two contents or
    /// two predecessors.
    pub(super) fn on_write(&mut self, write: &Write<C>, member: &Member<C>) {
        let Some(first) = write.entries.first() else { return };
        let raft = member.raft.as_ref().expect("who writes runs");
        let mut previous = raft.term_at(first.index.prev()).unwrap_or_default();
        for entry in &write.entries {
            let seen = (previous, entry.payload.clone());
            let known = self.entries.entry(entry.position()).or_insert_with(|| seen.clone());
            assert!(*known == seen, "two logs differ at or before {}", entry.position());
            previous = entry.term;
            if let Payload::Membership(_) = entry.payload {
                check_settled(entry, raft);
            }
        }
    }

    /// State-machine safety (Raft §5.4.3), and durability of what is committed.
    pub(super) fn on_committed(
        &mut self,
        id: NodeId,
        entry: &Entry<C>,
        members: &BTreeMap<NodeId, Member<C>>,
    ) {
        let position = entry.position();
        let term = members[&id].raft.as_ref().map_or(Term(0), |raft| raft.status().term);
        let raft = members[&id].raft.as_ref().expect("who commits runs");
        let configuration = match &entry.payload {
            Payload::Membership(membership) => &membership.configuration,
            _ => raft.configuration(),
        };
        let mut news = None;
        let (known, lowest) = self.committed.entry(entry.index).or_insert_with(|| {
            let holds = |id: &NodeId| members.get(id).is_some_and(|member| member.disk.holds(position));
            let held = majority(&configuration.voters, holds) && majority(&configuration.outgoing, holds);
            assert!(held, "{position} is committed without a durable quorum of {configuration}");
            if matches!(entry.payload, Payload::Membership(_)) {
                news = Some(configuration);
            }
            (position, term)
        });
        assert!(*known == position, "n{id} commits {position}, others {known}");
        *lowest = (*lowest).min(term);
        if let Some(configuration) = news {
            self.check_step(entry.index, configuration);
        }
        let content = self.entries.get(&position).map(|(_, payload)| payload);
        assert!(content == Some(&entry.payload), "n{id} applies what was never written at {position}");
    }

    /// A member starts from another disk than its own.
    pub(super) fn on_disk_replaced(&mut self, id: NodeId) {
        self.disks_replaced.insert(id);
    }

    /// A leader says that a peer has lost what it had acknowledged.
    pub(super) fn on_lost_log(&self, peer: NodeId) {
        let lost = self.disks_replaced.contains(&peer);
        assert!(lost, "n{peer} is said to have lost its log, and has not");
    }

    /// Configurations that follow each other must not allow disjoint quorums (Raft §6, thesis §4.1).
    fn check_step(&mut self, index: Index, next: &Configuration) {
        let before = self.configurations.range(..index).next_back().map(|(_, before)| before);
        let before = before.expect("the first configuration is at index zero");
        let overlap = match (before.is_joint(), next.is_joint()) {
            (false, false) => before.voters.differences(&next.voters) <= 1,
            (false, true) => before.voters == next.outgoing,
            (true, false) => before.voters == next.voters,
            (true, true) => false,
        };
        assert!(overlap, "{index}: from {before} to {next} in one step");
        self.configurations.insert(index, next.clone());
        self.configurations_committed += 1;
    }

    /// A read must see everything that anybody knew to be committed before.
    pub(super) fn on_read(&mut self, read: ReadId) {
        self.reads.insert(read, self.committed());
    }

    pub(super) fn on_read_ready(&mut self, read: ReadId, index: Index) {
        let least = self.reads.remove(&read).expect("a read is answered once");
        assert!(index >= least, "read {read} at {index} misses what was committed at {least}");
        self.reads_answered += 1;
    }

    pub(super) fn on_read_dropped(&mut self, read: ReadId) {
        self.reads.remove(&read).expect("a read is dropped once, and not after an answer");
    }

    /// What must hold after each turn of a member.
    pub(super) fn check(&mut self, id: NodeId, members: &BTreeMap<NodeId, Member<C>>) {
        let member = &members[&id];
        let Some(raft) = &member.raft else { return };
        let status = raft.status();
        let (term, commit) = self.progress.entry(id).or_insert((status.term, status.commit));
        assert!(status.term >= *term, "the term of n{id} went down");
        assert!(status.commit >= *commit, "the commit index of n{id} went down");
        (*term, *commit) = (status.term, status.commit);
        self.check_configuration(id, raft);
        if status.role == Role::Leader {
            let leader = *self.leaders.entry(status.term).or_insert(id);
            assert!(leader == id, "term {} has two leaders, n{leader} and n{id}", status.term);
            self.check_completeness(id, status.term, raft);
        }
    }

    /// The latest configuration in a log is the one in force (Raft §6), be it in an entry or before the first one.
    fn check_configuration(&self, id: NodeId, raft: &Raft<C>) {
        let start = raft.log().next().map_or(raft.status().last.index, |entry| entry.index.prev());
        let snapshot =
            self.configurations.range(..=start).next_back().map(|(_, configuration)| configuration);
        let latest = raft.log().filter_map(|entry| match &entry.payload {
            Payload::Membership(membership) => Some(&membership.configuration),
            _ => None,
        });
        let latest = latest.last().or(snapshot);
        let found = raft.configuration();
        assert!(latest == Some(found), "n{id} is in {found}, which is not the latest in its log");
    }

    /// Leader completeness (Raft §5.4): a leader has everything committed in earlier terms. (Not in
    /// later ones: a slow election can be won when a later term has long committed something.)
    fn check_completeness(&self, id: NodeId, term: Term, raft: &Raft<C>) {
        let first = raft.log().next().map_or(raft.status().last.index, |entry| entry.index);
        for (&index, (position, known_in)) in self.committed.range(first..) {
            let has = *known_in >= term || raft.term_at(index) == Some(position.term);
            assert!(has, "n{id} leads term {term} without the committed {position}");
        }
    }
}

/// Whether more than half of these say yes, if there are any. (Not by the code that is being tested.)
fn majority(voters: &crate::NodeSet, yes: impl Fn(&NodeId) -> bool) -> bool {
    voters.is_empty() || 2 * voters.iter().filter(|&id| yes(id)).count() > voters.len()
}

/// A leader appends a configuration only when the one before it, and an entry of its own term, are committed (thesis
/// §4.1; Ongaro, raft-dev 2015). What is committed only now, in the turn that writes the entry, is let pass.
fn check_settled<C: Command>(entry: &Entry<C>, raft: &Raft<C>) {
    let status = raft.status();
    if status.role != Role::Leader || entry.term != status.term {
        return;
    }
    let own = raft.term_at(status.commit).is_none_or(|term| term == status.term);
    assert!(own, "n{} changes the membership before anything of its term is committed", status.id);
    let earlier = raft.log().take_while(|earlier| earlier.index < entry.index);
    let before = earlier.filter(|entry| matches!(entry.payload, Payload::Membership(_))).last();
    let settled = before.is_none_or(|before| before.index <= status.commit);
    assert!(settled, "n{} changes the membership while another change is not committed", status.id);
}
