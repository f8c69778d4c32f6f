//! From one configuration to the next.
//!
//! Two configurations that follow each other in a log must never let two disjoint quorums decide: each member
//! acts by the latest that it has, and members get it at different times. Both ways below see to that:
//!
//! - *One voter more or less* at a time: a majority of n and one of n + 1 of the same voters share a member
//!   (thesis §4.1).
//! - *Anything else* goes through a joint configuration, in which majorities of the old *and* of the new voters
//!   must agree (Raft §6); once it is committed, the leader appends the new one alone.
//!
//! That the one before is committed before the next is appended, and that a new leader first commits an entry
//! of its own term (Ongaro, raft-dev 2015, without which steps of one voter are unsafe), is checked in
//! `raft/change.rs`, which knows.

use thiserror::Error;

use crate::entry::Configuration;
use crate::few::NodeSet;
use crate::types::NodeId;

/// One change of who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member receives the log, and does not vote.
    AddLearner(NodeId),
    /// A new member votes, or a learner is promoted.
    AddVoter(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A member takes no part any more.
    Remove(NodeId),
}

/// Why a change of the membership was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// Only the leader changes anything.
    #[error("this member does not lead")]
    NotLeader,
    /// The change before is not committed yet, or nothing of this leader's term is: ask again later.
    #[error("another change of the membership is not finished yet")]
    Busy,
    /// The leader is handing over: ask the next.
    #[error("the leader is handing over to another")]
    Transferring,
    /// A cluster without voters could never decide anything again.
    #[error("the last voter cannot be removed")]
    NoVoters,
    /// The configuration would be what it is.
    #[error("nothing would change")]
    Unchanged,
    /// A voter becomes a learner by `Demote` only.
    #[error("n{0} votes already")]
    AlreadyVoter(NodeId),
    /// Who takes no part cannot be removed or demoted.
    #[error("n{0} is not a member")]
    NotMember(NodeId),
    /// Zero is never a member.
    #[error("a member's id must not be zero")]
    NoId,
}

impl Change {
    /// Whom it is about.
    #[must_use]
    pub const fn member(self) -> NodeId {
        match self {
            Change::AddLearner(id) | Change::AddVoter(id) | Change::Demote(id) | Change::Remove(id) => id,
        }
    }
}

impl Configuration {
    /// Whether an honest leader could have made this configuration.
    pub(crate) fn is_sound(&self) -> bool {
        let zero = self.contains(NodeId(0));
        !zero && !self.voters.is_empty() && self.voters.is_disjoint(&self.learners)
    }
}

/// The configuration to append so that `changes` come about; a joint one if several voters change.
pub(crate) fn plan(current: &Configuration, changes: &[Change]) -> Result<Configuration, ChangeError> {
    assert!(!current.is_joint(), "a joint configuration is left before the next change");
    let mut next = current.clone();
    for &change in changes {
        next.change(change)?;
    }
    if next.voters.is_empty() {
        return Err(ChangeError::NoVoters);
    }
    if next == *current {
        return Err(ChangeError::Unchanged);
    }
    if next.voters.differences(&current.voters) > 1 {
        next.outgoing.clone_from(&current.voters);
    }
    assert!(next.is_sound(), "a planned configuration is sound");
    Ok(next)
}

/// What comes after a joint configuration.
pub(crate) fn leave(joint: &Configuration) -> Configuration {
    Configuration { outgoing: NodeSet::new(), ..joint.clone() }
}

impl Configuration {
    fn change(&mut self, change: Change) -> Result<(), ChangeError> {
        let id = change.member();
        if id == NodeId(0) {
            return Err(ChangeError::NoId);
        }
        match change {
            Change::AddLearner(_) if self.voters.contains(&id) => return Err(ChangeError::AlreadyVoter(id)),
            Change::AddLearner(_) => {
                self.learners.insert(id);
            }
            Change::AddVoter(_) => {
                self.learners.remove(&id);
                self.voters.insert(id);
            }
            Change::Demote(_) | Change::Remove(_) if !self.contains(id) => {
                return Err(ChangeError::NotMember(id));
            }
            Change::Demote(_) => {
                self.voters.remove(&id);
                self.learners.insert(id);
            }
            Change::Remove(_) => {
                self.voters.remove(&id);
                self.learners.remove(&id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> NodeSet {
        ids.iter().copied().map(NodeId).collect()
    }

    fn configuration(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Configuration {
        Configuration { voters: ids(voters), outgoing: ids(outgoing), learners: ids(learners) }
    }

    #[test]
    fn one_voter_at_a_time_needs_no_joint_configuration() {
        use Change::{AddLearner, AddVoter, Demote, Remove};
        let current = configuration(&[1, 2, 3], &[], &[4]);
        let planned = |changes: &[Change]| plan(&current, changes);
        let id = NodeId;
        assert_eq!(planned(&[AddVoter(id(5))]), Ok(configuration(&[1, 2, 3, 5], &[], &[4])));
        assert_eq!(planned(&[AddVoter(id(4))]), Ok(configuration(&[1, 2, 3, 4], &[], &[])));
        assert_eq!(planned(&[Demote(id(3))]), Ok(configuration(&[1, 2], &[], &[3, 4])));
        assert_eq!(planned(&[AddLearner(id(5)), AddLearner(id(6))]).map(|c| c.is_joint()), Ok(false));
        // A member whose disk was lost comes back under a new id.
        let replaced = planned(&[Remove(id(3)), AddLearner(id(5))]);
        assert_eq!(replaced, Ok(configuration(&[1, 2], &[], &[4, 5])));
    }

    #[test]
    fn several_voters_change_by_a_joint_configuration() {
        use Change::{AddVoter, Demote, Remove};
        let current = configuration(&[1, 2, 3], &[], &[4]);
        let joint = plan(&current, &[AddVoter(NodeId(4)), Demote(NodeId(1))]).expect("a change");
        assert_eq!(joint, configuration(&[2, 3, 4], &[1, 2, 3], &[1]));
        assert_eq!(leave(&joint), configuration(&[2, 3, 4], &[], &[1]));
        assert!(joint.is_voter(NodeId(1)), "until the end, who is demoted still votes");
        let joint = plan(&current, &[Remove(NodeId(1)), Remove(NodeId(2))]).expect("a change");
        assert_eq!(joint, configuration(&[3], &[1, 2, 3], &[4]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        use Change::{AddLearner, AddVoter, Demote, Remove};
        let current = configuration(&[1], &[], &[2]);
        let refused = |change: Change| plan(&current, &[change]).expect_err("makes no sense");
        assert_eq!(refused(Remove(NodeId(1))), ChangeError::NoVoters);
        assert_eq!(refused(Demote(NodeId(1))), ChangeError::NoVoters);
        assert_eq!(refused(Demote(NodeId(2))), ChangeError::Unchanged);
        assert_eq!(refused(AddVoter(NodeId(1))), ChangeError::Unchanged);
        assert_eq!(refused(AddLearner(NodeId(2))), ChangeError::Unchanged);
        assert_eq!(refused(AddLearner(NodeId(1))), ChangeError::AlreadyVoter(NodeId(1)));
        assert_eq!(refused(Remove(NodeId(3))), ChangeError::NotMember(NodeId(3)));
        assert_eq!(refused(AddVoter(NodeId(0))), ChangeError::NoId);
        assert_eq!(plan(&current, &[]), Err(ChangeError::Unchanged));
    }
}
