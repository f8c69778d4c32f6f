//! Which configuration is in force: the latest one in the log, committed or not (Raft §6), so that it
//! changes when a membership entry is appended and changes back when that entry is truncated.

use alloc::vec::Vec;
use core::iter;

use crate::entry::{Configuration, Entry, Payload};
use crate::types::Index;

/// The configurations that may still be in force, each with the index of its entry, in ascending order.
///
/// The first is at or below the start of the log and is committed; it is never removed without a
/// successor. There is nearly always only that one.
#[derive(Debug)]
pub(crate) struct Memberships {
    history: Vec<(Index, Configuration)>,
}

impl Memberships {
    /// The configuration of a snapshot, and nothing after it.
    pub(crate) fn new(index: Index, configuration: Configuration) -> Memberships {
        Memberships { history: Vec::from_iter(iter::once((index, configuration))) }
    }

    /// The configuration in force.
    pub(crate) fn latest(&self) -> &Configuration {
        &self.history.last().expect("the first configuration is never removed").1
    }

    /// Takes note of an entry appended to the log.
    pub(crate) fn on_append<C>(&mut self, entry: &Entry<C>) {
        if let Payload::Membership(configuration) = &entry.payload {
            self.history.push((entry.index, configuration.clone()));
        }
    }

    /// Forgets the configurations of entries truncated from the log, `from` and after.
    pub(crate) fn on_truncate(&mut self, from: Index) {
        assert!(self.history[0].0 < from, "a committed configuration is never truncated");
        self.history.retain(|&(index, _)| index < from);
    }

    /// Forgets what the log's new start makes unreachable by truncation.
    pub(crate) fn on_compact(&mut self, start: Index) {
        let obsolete = self.history.iter().skip(1).take_while(|&&(index, _)| index <= start).count();
        self.history.drain(..obsolete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, Term};

    fn configuration(voters: &[u64]) -> Configuration {
        Configuration { voters: voters.iter().copied().map(NodeId).collect(), ..Configuration::default() }
    }

    fn entry(index: u64, voters: &[u64]) -> Entry<()> {
        Entry { term: Term(1), index: Index(index), payload: Payload::Membership(configuration(voters)) }
    }

    #[test]
    fn truncation_reverts_and_compaction_keeps_the_one_in_force() {
        let mut memberships = Memberships::new(Index(0), configuration(&[1]));
        memberships.on_append(&entry(5, &[1, 2]));
        memberships.on_append(&entry(9, &[1, 2, 3]));
        assert_eq!(*memberships.latest(), configuration(&[1, 2, 3]));
        memberships.on_truncate(Index(9));
        assert_eq!(*memberships.latest(), configuration(&[1, 2]));
        memberships.on_compact(Index(4));
        memberships.on_truncate(Index(5));
        assert_eq!(*memberships.latest(), configuration(&[1]));
        memberships.on_append(&entry(5, &[2]));
        memberships.on_append(&entry(6, &[3]));
        memberships.on_compact(Index(5));
        memberships.on_truncate(Index(6));
        assert_eq!(*memberships.latest(), configuration(&[2]));
    }
}
