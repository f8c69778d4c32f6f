//! Majorities (Raft §5) and joint majorities (Raft §6).
//!
//! Everything a Raft asks of a quorum is one question: what is the greatest number that a quorum has
//! reached? The numbers are match indexes (what is committed), read rounds (which reads are confirmed),
//! times of contact (does the leader still have its quorum), or votes (one if granted, zero if not).
//!
//! - A quorum is a majority of `voters`, and while a joint change is under way also one of `outgoing`.
//! - Any two quorums of one configuration share a member, and so do those of a configuration and of the
//!   joint configuration next to it. All safety rests on this.
//! - Learners never count.

use alloc::collections::BTreeSet;

use crate::entry::Configuration;
use crate::types::NodeId;

impl Configuration {
    /// The greatest number that a quorum has reached, given what each voter has reached.
    pub(crate) fn agreed(&self, reached: impl Fn(NodeId) -> u64) -> u64 {
        let joint = if self.outgoing.is_empty() { u64::MAX } else { majority(&self.outgoing, &reached) };
        majority(&self.voters, &reached).min(joint)
    }

    /// Whether a quorum says yes.
    pub(crate) fn agrees(&self, yes: impl Fn(NodeId) -> bool) -> bool {
        self.agreed(|id| u64::from(yes(id))) == 1
    }
}

/// The greatest number that more than half of these voters have reached; zero if there are none.
///
/// Quadratic, but for the handful of voters of a cluster faster than sorting, and it allocates nothing.
fn majority(voters: &BTreeSet<NodeId>, reached: &impl Fn(NodeId) -> u64) -> u64 {
    let mut best = 0;
    for &candidate in voters {
        let value = reached(candidate);
        let supporters = voters.iter().filter(|&&id| reached(id) >= value).count();
        if value > best && 2 * supporters > voters.len() {
            best = value;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// The commit index of voters (and, if any, outgoing voters) that have reached these numbers.
    fn agreed(voters: &[u64], outgoing: &[u64], reached: &[u64]) -> u64 {
        let configuration =
            Configuration { voters: ids(voters), outgoing: ids(outgoing), learners: BTreeSet::new() };
        configuration.agreed(|id| reached[usize::try_from(id.0).expect("a small number") - 1])
    }

    #[test]
    fn majorities() {
        assert_eq!(agreed(&[], &[], &[]), 0);
        assert_eq!(agreed(&[1], &[], &[7]), 7);
        assert_eq!(agreed(&[1, 2], &[], &[7, 3]), 3);
        assert_eq!(agreed(&[1, 2, 3], &[], &[7, 3, 5]), 5);
        assert_eq!(agreed(&[1, 2, 3, 4], &[], &[4, 3, 2, 1]), 2);
        assert_eq!(agreed(&[1, 2, 3, 4, 5], &[], &[9, 9, 4, 0, 0]), 4);
        assert_eq!(agreed(&[1, 2, 3], &[], &[6, 6, 6]), 6);
    }

    #[test]
    fn a_joint_quorum_needs_both_majorities() {
        assert_eq!(agreed(&[1, 2, 3], &[3, 4, 5], &[9, 9, 9, 2, 1]), 2);
        assert_eq!(agreed(&[1, 2, 3], &[3, 4, 5], &[1, 2, 9, 9, 9]), 2);
        assert_eq!(agreed(&[1], &[2], &[5, 0]), 0);
    }
}
