//! Changes of the membership, as a leader makes them (Raft §6, thesis §4).
//!
//! - One at a time: the one before is committed, and so is an entry of this leader's term.
//! - A configuration is in force when it is appended. [`Raft::sync_peers`] is where a leader begins and ends to
//!   talk to members.
//! - A joint configuration is left as soon as it is committed.
//! - A leader that its own change removes or demotes leads on, without counting itself, until that is committed;
//!   then it hands over.

use super::leader::Leader;
use super::{Raft, State};
use crate::entry::{Command, Configuration, Entry, Membership, Payload};
use crate::io::Output;
use crate::membership::{Change, ChangeError, leave, plan};
use crate::progress::Progress;
use crate::types::Instant;

impl Leader {
    /// When to stop serving those who have left.
    pub(super) fn leaving_until(&self) -> Option<Instant> {
        // Asked after every turn, and nearly always there are none.
        if self.leaving.is_empty() { None } else { self.leaving.iter().filter_map(|(_, until)| *until).min() }
    }
}

impl<C: Command> Raft<C> {
    pub(super) fn on_change_membership(&mut self, changes: &[Change], command: C) {
        let planned = self.may_change().and_then(|()| plan(self.configuration(), changes));
        match planned {
            Ok(configuration) => self.append_membership(Membership { configuration, command: Some(command) }),
            Err(reason) => self.outputs.push_back(Output::ChangeRefused { command, reason }),
        }
    }

    /// Whether this member may append a configuration now.
    fn may_change(&self) -> Result<(), ChangeError> {
        let State::Leader(leader) = &self.state else { return Err(ChangeError::NotLeader) };
        if leader.transferee().is_some() {
            return Err(ChangeError::Transferring);
        }
        let commit = self.log.commit();
        // What a predecessor left may never be committed, and then two leaders would each have gone one step from
        // the same configuration, to two with disjoint majorities (Ongaro, raft-dev 2015).
        let settled = commit >= leader.first && commit >= self.memberships.index();
        if settled && !self.configuration().is_joint() { Ok(()) } else { Err(ChangeError::Busy) }
    }

    fn append_membership(&mut self, membership: Membership<C>) {
        let index = self.log.last().index.next();
        self.append(Entry { term: self.term, index, payload: Payload::Membership(membership) });
    }

    /// Begins to talk to members that are new in the configuration in force, and ends with those that it does not
    /// contain, when they have had the time to learn of it.
    pub(super) fn sync_peers(&mut self) {
        let State::Leader(leader) = &mut self.state else { return };
        let (index, commit) = (self.memberships.index(), self.log.commit());
        let configuration = self.memberships.latest();
        if leader.synced.replace(index) != Some(index) {
            let before = self.memberships.replaced(commit);
            let all = configuration.members().chain(before.into_iter().flat_map(Configuration::members));
            for id in all.filter(|&id| id != self.config.id) {
                let last = self.log.last().index;
                leader.peers.insert_new(id, || Progress::new(last, self.now));
            }
            let gone = leader.peers.iter().filter(|&(id, _)| !configuration.contains(id));
            leader.leaving = gone.map(|(id, _)| (id, None)).collect();
        }
        if !leader.leaving.is_empty() && commit >= index {
            let until = self.now + self.config.election_timeout;
            leader.leaving.iter_mut().for_each(|(_, time)| _ = time.get_or_insert(until));
            let waits = |time: Option<Instant>| time.is_some_and(|time| self.now < time);
            let over = |id| leader.leaving.iter().any(|&(it, time)| it == id && !waits(time));
            leader.peers.retain(|id| !over(id));
            leader.leaving.retain(|&(_, time)| waits(time));
        }
    }

    /// Leaves a joint configuration that is committed.
    pub(super) fn maybe_leave_joint(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let commit = self.log.commit();
        let committed = commit >= leader.first && commit >= self.memberships.index();
        if committed && self.configuration().is_joint() && leader.transferee().is_none() {
            let configuration = leave(self.configuration());
            self.append_membership(Membership { configuration, command: None });
        }
    }
}
