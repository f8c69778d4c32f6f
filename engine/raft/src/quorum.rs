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

use alloc::vec::Vec;

use crate::entry::Configuration;
use crate::few::NodeSet;
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
/// In ascending order, that is the number in the middle, or the last one before it: itself and all after it are
/// more than half. Leaders ask in every turn, so the voters of any sensible cluster are sorted on the stack.
fn majority(voters: &NodeSet, reached: &impl Fn(NodeId) -> u64) -> u64 {
    let mut few = [0; FEW_VOTERS];
    let mut many = Vec::new();
    let numbers = if voters.len() <= FEW_VOTERS {
        &mut few[..voters.len()]
    } else {
        many.resize(voters.len(), 0);
        &mut many[..]
    };
    for (count, &id) in voters.iter().enumerate() {
        let number = reached(id);
        let mut place = count;
        while place > 0 && numbers[place - 1] > number {
            numbers[place] = numbers[place - 1];
            place -= 1;
        }
        numbers[place] = number;
    }
    numbers.get((voters.len().max(1) - 1) / 2).copied().unwrap_or(0)
}

/// More voters than anybody should have.
const FEW_VOTERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> NodeSet {
        ids.iter().copied().map(NodeId).collect()
    }

    /// The commit index of voters (and, if any, outgoing voters) that have reached these numbers.
    fn agreed(voters: &[u64], outgoing: &[u64], reached: &[u64]) -> u64 {
        let configuration =
            Configuration { voters: ids(voters), outgoing: ids(outgoing), learners: NodeSet::new() };
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
        let many: [u64; 21] = core::array::from_fn(|i| i as u64 + 1);
        assert_eq!(agreed(&many, &[], &many), 11);
        assert_eq!(agreed(&many[..20], &[], &many), 10);
    }

    #[test]
    fn a_joint_quorum_needs_both_majorities() {
        assert_eq!(agreed(&[1, 2, 3], &[3, 4, 5], &[9, 9, 9, 2, 1]), 2);
        assert_eq!(agreed(&[1, 2, 3], &[3, 4, 5], &[1, 2, 9, 9, 9]), 2);
        assert_eq!(agreed(&[1], &[2], &[5, 0]), 0);
    }
}
