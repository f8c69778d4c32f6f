//! Once something of a process has taken effect, nothing of an earlier process of the same member does.
//!
//! Whoever waited for the earlier one's commands is gone, and of what had taken effect then the cluster keeps no record: a
//! copy of a command that arrives late could not be told from the command. (At most once: Ongaro's thesis §6.3.)
//!
//! Looked for where it is certain: the revision has risen by more than the other commands can account for.

use std::collections::BTreeMap;

use quorate_raft::{NodeId, Payload};
use quorate_replica::{SharedProposal, Write};

use super::logs::Logs;
use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;
use crate::trace::StatusLine;

/// An entry, by its index and term.
type Place = (u64, u64);

/// Which processes' commands are in logs, and which of those come after a later process's.
#[derive(Debug, Default)]
pub struct EarlierBoots {
    /// Of each member, for clients' commands and its own: its latest boot in any log, and the first entry of that.
    latest: [[(u64, Place); 2]; MEMBERS_MAX],
    /// Entries of an earlier boot, and the entry of a later one before them.
    late: BTreeMap<Place, Place>,
}

impl EarlierBoots {
    /// A member writes entries.
    pub fn on_write(&mut self, write: &Write) {
        for entry in &write.entries {
            let Payload::Command(SharedProposal(proposal)) = &entry.payload else { continue };
            let place = (entry.index.0, entry.term.0);
            let own = usize::from(proposal.id.is_own());
            let (boot, first) = &mut self.latest[proposal.origin.0 as usize][own];
            if proposal.id.boot > *boot {
                (*boot, *first) = (proposal.id.boot, place);
            } else if proposal.id.boot < *boot && *first < place && first.0 < place.0 {
                self.late.insert(place, *first);
            }
        }
    }

    /// A member has applied more.
    pub fn on_applied(&self, node: NodeId, logs: &Logs, before: &StatusLine, now: &StatusLine) -> Check {
        if self.late.is_empty() || now.revision == before.revision || before.applied == 0 {
            return Ok(());
        }
        let chosen = |(index, term): Place| logs.chosen(index).is_some_and(|entry| entry.term.0 == term);
        let is_late = |index: u64| {
            let mut written = self.late.range((index, 0)..=(index, u64::MAX));
            written.any(|(late, later)| chosen(*late) && chosen(*later))
        };
        // Each command raises the revision by one at most.
        let (late, others): (Vec<u64>, Vec<u64>) =
            (before.applied + 1..=now.applied).partition(|index| is_late(*index));
        let Some(late) = late.last().filter(|_| now.revision - before.revision > others.len() as i64) else {
            return Ok(());
        };
        broken("earlier boots are over", || {
            format!(
                "entry {late} has taken effect at n{node}; one before it is of a later process of its origin"
            )
        })
    }
}
