//! A mirror of what every member's log and disk hold, as an onlooker sees it: not a property, but what the
//! properties of the log are stated in.
//!
//! Each entry is one number: a hash of the entry and of the number before it. Two logs are equal up to an
//! index if and only if (up to collisions) their numbers at that index are equal.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use quorate_raft::{Configuration, Entry, NodeId, NodeSet, Payload, Role, Term, WriteId};
use quorate_replica::{Saved, SharedProposal, Write};

use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;
use crate::trace::StatusLine;

/// One entry of one member's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The entry's term.
    pub term: Term,
    /// The hash of the log up to it.
    pub chain: u64,
    /// The write that put it there; zero if it was there when the member started.
    write: u64,
}

/// An entry that was committed.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// The entry's term.
    pub term: Term,
    /// The hash of the log up to it.
    pub chain: u64,
    /// The term of the member that was first seen to know it committed.
    pub commit_term: u64,
}

/// One member's log, and what of it is durable.
#[derive(Clone, Debug, Default)]
pub struct MemberLog {
    /// The entry at index *i* is at *i − 1*.
    links: Vec<Link>,
    /// Every write up to this one is durable.
    persisted: u64,
    /// The term and vote that are durable.
    pub durable_term: u64,
    /// The durable vote.
    pub durable_vote: Option<NodeId>,
    /// Terms and votes that are on their way to the disk.
    unsynced: Vec<(u64, u64, Option<NodeId>)>,
    /// What its newest complete snapshot file covers.
    snapshot: u64,
    /// The term that it leads in, zero if it does not.
    leads: u64,
}

/// All members' logs, and the entries that were committed.
#[derive(Debug)]
pub struct Logs {
    /// The configuration at position zero.
    founded: Configuration,
    /// Every other configuration that was ever in a log, by its index and its entry's hash.
    configurations: BTreeMap<(u64, u64), Configuration>,
    logs: [MemberLog; MEMBERS_MAX],
    chosen: Vec<Chosen>,
}

/// Whether a quorum of a configuration is so: a majority of its voters, and of those it replaces (Raft §6).
pub fn quorum(configuration: &Configuration, is_so: impl Fn(NodeId) -> bool) -> bool {
    let majority = |voters: &NodeSet| voters.iter().filter(|id| is_so(**id)).count() * 2 > voters.len();
    majority(&configuration.voters) && (!configuration.is_joint() || majority(&configuration.outgoing))
}

impl Logs {
    /// Empty logs.
    pub fn new(founders: &[NodeId]) -> Logs {
        let voters = founders.iter().copied().collect();
        Logs {
            founded: Configuration { voters, ..Configuration::default() },
            configurations: BTreeMap::new(),
            logs: Default::default(),
            chosen: Vec::new(),
        }
    }

    /// A member loses power: it does not lead any more.
    pub fn crash(&mut self, node: NodeId) {
        self.logs[node.0 as usize].leads = 0;
    }

    /// Takes a member's log away, because the member starts again.
    pub fn take(&mut self, node: NodeId) -> MemberLog {
        std::mem::take(&mut self.logs[node.0 as usize])
    }

    /// A member starts with this log.
    pub fn recover(&mut self, node: NodeId, saved: &Saved) -> Check {
        let snapshot = saved.snapshot.position.index.0;
        let links = self.prefix(snapshot);
        if (links.len() as u64) < snapshot {
            return broken("state-machine safety", || {
                format!(
                    "n{node} starts from a snapshot at {snapshot}, but only {} entries were chosen",
                    links.len()
                )
            });
        }
        let mut log = MemberLog {
            links,
            durable_term: saved.hard_state.term.0,
            durable_vote: saved.hard_state.vote,
            snapshot,
            ..MemberLog::default()
        };
        for entry in &saved.entries {
            log.append(entry, 0);
        }
        self.logs[node.0 as usize] = log;
        Ok(())
    }

    /// A member writes entries.
    pub fn write(&mut self, node: NodeId, write: &Write) -> Check {
        let id = write.id.0;
        if let Some(first) = write.entries.first() {
            let keep = first.index.0 as usize - 1;
            self.follow_snapshot(node, keep as u64);
            let log = &mut self.logs[node.0 as usize];
            if keep > log.links.len() {
                return broken("log matching", || {
                    format!("n{node} writes {} but its log ends at {}", first.position(), log.links.len())
                });
            }
            log.links.truncate(keep);
            for entry in &write.entries {
                log.append(entry, id);
                if let (Payload::Membership(membership), Some(link)) = (&entry.payload, log.links.last()) {
                    let at = (entry.index.0, link.chain);
                    self.configurations.entry(at).or_insert_with(|| membership.configuration.clone());
                }
            }
        }
        if let Some(hard_state) = write.hard_state {
            self.logs[node.0 as usize].unsynced.push((id, hard_state.term.0, hard_state.vote));
        }
        Ok(())
    }

    /// A member's writes are durable.
    pub fn persisted(&mut self, node: NodeId, id: WriteId) {
        let log = &mut self.logs[node.0 as usize];
        log.persisted = id.0;
        let done = log.unsynced.partition_point(|&(write, ..)| write <= id.0);
        if let Some((_, term, vote)) = log.unsynced.drain(..done).next_back() {
            (log.durable_term, log.durable_vote) = (term, vote);
        }
    }

    /// A member's snapshot file is complete and durable.
    pub fn snapshot_saved(&mut self, node: NodeId, index: u64) {
        let log = &mut self.logs[node.0 as usize];
        log.snapshot = log.snapshot.max(index);
    }

    /// A member's last entry changed without a write: a snapshot took its log's place.
    pub fn on_last(&mut self, node: NodeId, now: &StatusLine) {
        let log = &self.logs[node.0 as usize];
        let last = now.last as usize;
        if log.links.len() > last || log.links.last().is_some_and(|link| link.term.0 != now.last_term) {
            self.logs[node.0 as usize].links.clear();
        }
        self.fill(node, now.last);
    }

    /// A member's role after an event.
    pub fn on_role(&mut self, node: NodeId, now: &StatusLine) {
        self.logs[node.0 as usize].leads = if now.role == Role::Leader { now.term } else { 0 };
    }

    /// The entry of a member's log at an index.
    pub fn link(&self, node: NodeId, index: u64) -> Option<&Link> {
        self.logs[node.0 as usize].links.get((index as usize).checked_sub(1)?)
    }

    /// One member's log.
    pub fn log(&self, node: NodeId) -> &MemberLog {
        &self.logs[node.0 as usize]
    }

    /// The committed entry at an index.
    pub fn chosen(&self, index: u64) -> Option<&Chosen> {
        self.chosen.get((index as usize).checked_sub(1)?)
    }

    /// The highest committed index.
    pub fn chosen_len(&self) -> u64 {
        self.chosen.len() as u64
    }

    /// The next committed entry is known.
    pub fn choose(&mut self, chosen: Chosen) {
        self.chosen.push(chosen);
    }

    /// The configuration that a member's log says is in force at an index.
    pub fn configuration(&self, node: NodeId, index: u64) -> &Configuration {
        self.in_force(node, 0..=index).next().unwrap_or(&self.founded)
    }

    /// Those that a member's log has at these indices, the latest one first.
    pub fn in_force(
        &self,
        node: NodeId,
        indices: RangeInclusive<u64>,
    ) -> impl Iterator<Item = &Configuration> {
        let log = self.log(node);
        let (from, to) = indices.into_inner();
        let known = self.configurations.range((from, 0)..=(to.max(from), u64::MAX));
        let held = known
            .rev()
            .filter(move |((index, chain), _)| log.link(*index).is_some_and(|link| link.chain == *chain));
        held.map(|(_, configuration)| configuration)
    }

    /// If a snapshot has taken the place of a member's log, up to this index it holds what was chosen.
    fn follow_snapshot(&mut self, node: NodeId, until: u64) {
        let log = &self.logs[node.0 as usize];
        let chain = |link: Option<u64>| link.filter(|_| until <= log.snapshot);
        let chosen = chain(self.chosen(until).map(|chosen| chosen.chain));
        if chosen.is_some() && log.link(until).map(|link| link.chain) != chosen {
            self.logs[node.0 as usize].links = self.prefix(until);
        }
    }

    /// A member whose log begins with a snapshot holds, up to there, what was chosen.
    fn fill(&mut self, node: NodeId, until: u64) {
        let have = self.logs[node.0 as usize].links.len();
        for index in have..until as usize {
            let Some(chosen) = self.chosen.get(index) else { break };
            let link = Link { term: chosen.term, chain: chosen.chain, write: 0 };
            self.logs[node.0 as usize].links.push(link);
        }
    }

    fn prefix(&self, length: u64) -> Vec<Link> {
        let chosen = self.chosen.iter().take(length as usize);
        chosen.map(|chosen| Link { term: chosen.term, chain: chosen.chain, write: 0 }).collect()
    }
}

impl MemberLog {
    /// Whether the entry at an index is there and durable.
    pub fn is_durable(&self, index: u64) -> bool {
        let link = (index as usize).checked_sub(1).and_then(|at| self.links.get(at));
        link.is_some_and(|link| link.write <= self.persisted)
    }

    /// What its newest complete snapshot file covers.
    pub fn snapshot(&self) -> u64 {
        self.snapshot
    }

    /// The last index.
    pub fn last(&self) -> u64 {
        self.links.len() as u64
    }

    /// The entry at an index.
    pub fn link(&self, index: u64) -> Option<&Link> {
        self.links.get((index as usize).checked_sub(1)?)
    }

    /// The term that it leads in, zero if it does not.
    pub fn leads(&self) -> u64 {
        self.leads
    }

    fn append(&mut self, entry: &Entry<SharedProposal>, write: u64) {
        let before = self.links.last().map_or(0, |link| link.chain);
        let chain = chain(before, entry);
        self.links.push(Link { term: entry.term, chain, write });
    }
}

fn chain(before: u64, entry: &Entry<SharedProposal>) -> u64 {
    let mut hash = mix(before ^ 0x5851_f42d_4c95_7f2d, entry.term.0);
    match &entry.payload {
        Payload::Noop => hash = mix(hash, 1),
        Payload::Command(SharedProposal(proposal)) => {
            // What a proposal says is compared by the state's hash; here its name is enough.
            hash = mix(hash, 2 | proposal.origin.0 << 8);
            hash = mix(hash, proposal.id.boot);
            hash = mix(hash, proposal.id.sequence);
        }
        Payload::Membership(membership) => {
            hash = mix(hash, 3);
            for (place, ids) in [
                &membership.configuration.voters,
                &membership.configuration.outgoing,
                &membership.configuration.learners,
            ]
            .into_iter()
            .enumerate()
            {
                hash = ids.iter().fold(mix(hash, place as u64), |hash, id| mix(hash, id.0));
            }
        }
    }
    hash
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(31)
}
