//! Which configuration is in force: the latest one in the log, committed or not (Raft §6), so that it
//! changes when a membership entry is appended and changes back when that entry is truncated.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::entry::{Configuration, Entry, Membership, Payload};
use crate::types::{Index, NodeId};

mod change;

pub use change::{Change, ChangeError};
pub(crate) use change::{leave, plan};

/// The configurations that may still be in force, each with the index of its entry, in ascending order.
///
/// The first is at or below the start of the log and is committed; it is never removed without a
/// successor. There is nearly always only that one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Memberships<C> {
    history: Vec<(Index, Membership<C>)>,
    /// The owner does not know of the one in force.
    news: bool,
}

impl<C: Clone> Memberships<C> {
    /// The configuration of a snapshot, and nothing after it.
    pub(crate) fn new(index: Index, configuration: Configuration) -> Memberships<C> {
        Memberships { history: vec![(index, Membership { configuration, command: None })], news: false }
    }

    /// The configuration in force.
    pub(crate) fn latest(&self) -> &Configuration {
        &self.last().1.configuration
    }

    /// Where the configuration in force is in the log.
    pub(crate) fn index(&self) -> Index {
        self.last().0
    }

    fn last(&self) -> &(Index, Membership<C>) {
        self.history.last().expect("the first configuration is never removed")
    }

    /// The configuration before the one in force, unless that is known to be committed. Until it is, the log may
    /// go back to the one before, or need its members to go on.
    pub(crate) fn replaced(&self, commit: Index) -> Option<&Configuration> {
        match &self.history[..] {
            [.., (_, before), (index, _)] if *index > commit => Some(&before.configuration),
            _ => None,
        }
    }

    /// Whether this member may have to lead.
    ///
    /// One that its own log removes may hold the only copies of the entries before the removal, which then nobody
    /// else can be elected without. So until it knows the removal to be committed, it still stands for
    /// election (thesis §4.2.2), although its own vote does not count.
    pub(crate) fn may_lead(&self, id: NodeId, commit: Index) -> bool {
        self.latest().is_voter(id) || self.replaced(commit).is_some_and(|before| before.is_voter(id))
    }

    /// Takes note of an entry appended to the log.
    pub(crate) fn on_append(&mut self, entry: &Entry<C>) {
        if let Payload::Membership(membership) = &entry.payload {
            self.history.push((entry.index, membership.clone()));
            self.news = true;
        }
    }

    /// Forgets the configurations of entries truncated from the log, `from` and after.
    pub(crate) fn on_truncate(&mut self, from: Index) {
        assert!(self.history[0].0 < from, "a committed configuration is never truncated");
        let before = self.history.len();
        self.history.retain(|&(index, _)| index < from);
        self.news |= self.history.len() < before;
    }

    /// Forgets what the log's new start makes unreachable by truncation.
    pub(crate) fn on_compact(&mut self, start: Index) {
        let obsolete = self.history.iter().skip(1).take_while(|&&(index, _)| index <= start).count();
        self.history.drain(..obsolete);
    }

    /// Begins anew after a snapshot.
    pub(crate) fn restore(&mut self, index: Index, configuration: Configuration) {
        let news = self.news || *self.latest() != configuration;
        *self = Memberships { news, ..Memberships::new(index, configuration) };
    }

    /// The one in force, if the owner does not know of it yet.
    pub(crate) fn take_news(&mut self) -> Option<Membership<C>> {
        core::mem::take(&mut self.news).then(|| self.last().1.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn configuration(voters: &[u64]) -> Configuration {
        Configuration { voters: voters.iter().copied().map(NodeId).collect(), ..Configuration::default() }
    }

    fn entry(index: u64, voters: &[u64]) -> Entry<()> {
        let membership = Membership { configuration: configuration(voters), command: Some(()) };
        Entry { term: Term(1), index: Index(index), payload: Payload::Membership(membership) }
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

    #[test]
    fn one_that_its_own_log_removes_may_lead_until_it_knows_the_removal_committed() {
        let mut memberships = Memberships::new(Index(0), configuration(&[1, 2]));
        memberships.on_append(&entry(5, &[2]));
        assert!(memberships.may_lead(NodeId(1), Index(4)));
        assert!(!memberships.may_lead(NodeId(1), Index(5)));
        assert!(memberships.may_lead(NodeId(2), Index(5)));
        assert!(!memberships.may_lead(NodeId(3), Index(4)));
    }
}
