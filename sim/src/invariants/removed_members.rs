//! Nothing of a removed member takes effect after its removal.
//!
//! Its requests may still be on their way, or in the log: once the cluster has forgotten what of it has taken effect,
//! nobody could tell a request from its repetition. (etcd refuses messages of removed members.)

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::{NodeId, Payload};
use quorate_replica::{SharedProposal, Write};

use super::logs::Logs;
use super::{Check, broken};
use crate::trace::StatusLine;

/// Who was removed, by which entry, and what is in logs of them after it.
#[derive(Debug, Default)]
pub struct RemovedMembers {
    /// Everybody who was ever in a configuration that somebody wrote, and the entry that left them out, by index and
    /// term.
    seen: BTreeMap<NodeId, Option<(u64, u64)>>,
    /// The entries that say who the members are: whoever lags writes them again.
    written: BTreeSet<(u64, u64)>,
    /// Entries after such a one, whose origin it removed.
    late: BTreeMap<(u64, u64), NodeId>,
}

impl RemovedMembers {
    /// A member writes entries.
    pub fn on_write(&mut self, write: &Write) {
        for entry in &write.entries {
            let key = (entry.index.0, entry.term.0);
            match &entry.payload {
                Payload::Noop => {}
                Payload::Membership(_) if !self.written.insert(key) => {}
                Payload::Membership(membership) => {
                    for member in membership.configuration.members() {
                        self.seen.insert(member, None);
                    }
                    for (member, removal) in &mut self.seen {
                        let stays = membership.configuration.members().any(|other| other == *member);
                        if !stays && removal.is_none() {
                            *removal = Some(key);
                        }
                    }
                }
                Payload::Command(SharedProposal(proposal)) => {
                    let removal = self.seen.get(&proposal.origin).copied().flatten();
                    if removal.is_some_and(|(index, _)| index < key.0) {
                        self.late.insert(key, proposal.origin);
                    }
                }
            }
        }
    }

    /// A member has applied more.
    pub fn on_applied(&self, node: NodeId, logs: &Logs, before: &StatusLine, now: &StatusLine) -> Check {
        if self.late.is_empty() || now.revision == before.revision || before.applied == 0 {
            return Ok(());
        }
        let chosen = |index: u64, term: u64| logs.chosen(index).is_some_and(|entry| entry.term.0 == term);
        let origin = |index: u64| {
            let mut written = self.late.range((index, 0)..=(index, u64::MAX));
            let origin =
                written.find(|((index, term), _)| chosen(*index, *term)).map(|(_, origin)| *origin)?;
            let (at, term) = self.seen.get(&origin).copied().flatten()?;
            (at < index && chosen(at, term)).then_some(origin)
        };
        // Each command raises the revision by one at most, and nothing else does.
        let changes_members =
            |index: u64| logs.chosen(index).is_some_and(|it| self.written.contains(&(index, it.term.0)));
        let (mut removed, mut others) = (None, 0);
        for index in before.applied + 1..=now.applied {
            match origin(index) {
                Some(origin) => removed = Some((index, origin)),
                None => others += i64::from(!changes_members(index)),
            }
        }
        let Some((index, origin)) = removed.filter(|_| now.revision - before.revision > others) else {
            return Ok(());
        };
        broken("removed members are not served", || {
            format!("entry {index} of n{origin}, which had been removed, has taken effect at n{node}")
        })
    }
}
