//! Which faults may happen at the same time.
//!
//! Two rules, and why:
//!
//! - **Survivable.** Nothing is injected that no correct system could survive. Any
//!   number of members may lose power at once: what they acknowledged, they still have. A whole disk is lost only
//!   when nobody is on the way in or out and a quorum is left, and the next one only when a new member votes in
//!   its place (`core/operator.rs`). A disk that is full, does not sync or has rotted ends its member's process, and the member must refuse to start from
//!   damaged bytes, until the fault ends and the right bytes are back (the mirror had them); no member could
//!   tell a rotted end of its log from a torn one, so only what a later record witnesses is damaged.
//! - **Not idle.** A cluster without a quorum is perfectly safe and shows nothing. At any time at most a
//!   minority is *impaired* (down, paused, cut off, or with a clock that stands still); only a power loss of
//!   all members, which ends at once, is exempt.

use quorate_raft::NodeId;

use crate::env::network::MEMBERS_MAX;

/// Who is impaired now.
#[derive(Clone, Debug)]
pub struct FaultBudget {
    members: u64,
    most: u64,
    impaired: [u8; MEMBERS_MAX],
}

impl FaultBudget {
    /// Nobody is.
    #[must_use]
    pub fn new(members: u64) -> FaultBudget {
        // A single member is its own majority: it may still crash and pause, or nothing would be tested.
        let most = ((members - 1) / 2).max(u64::from(members == 1));
        FaultBudget { members, most, impaired: [0; MEMBERS_MAX] }
    }

    /// A budget that allows everything: for schedules whose author knows what they do.
    #[must_use]
    pub fn unlimited(&self) -> FaultBudget {
        FaultBudget { most: self.members, ..self.clone() }
    }

    /// How many members the cluster has.
    #[must_use]
    pub fn members(&self) -> u64 {
        self.members
    }

    /// Whether these members may be impaired as well; if so they are from now on.
    pub fn admit(&mut self, nodes: NodeSet) -> bool {
        let with = self.impaired().union(nodes);
        if u64::from(with.0.count_ones()) > self.most {
            return false;
        }
        nodes.each(|node| self.impaired[node] += 1);
        true
    }

    /// The fault that impaired these members has ended.
    pub fn release(&mut self, nodes: NodeSet) {
        nodes.each(|node| {
            assert!(self.impaired[node] > 0, "a fault ended that never began");
            self.impaired[node] -= 1;
        });
    }

    fn impaired(&self) -> NodeSet {
        let bits = self.impaired.iter().enumerate().filter(|&(_, &count)| count > 0);
        NodeSet(bits.fold(0, |set, (node, _)| set | 1 << node))
    }
}

/// A set of members, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet(pub u8);

impl NodeSet {
    /// The set of these.
    #[must_use]
    pub fn of(nodes: &[NodeId]) -> NodeSet {
        NodeSet(nodes.iter().fold(0, |set, node| set | 1 << node.0))
    }

    /// The members.
    pub fn members(self) -> impl Iterator<Item = NodeId> {
        (0..MEMBERS_MAX as u64).filter(move |node| self.0 & 1 << node != 0).map(NodeId)
    }

    fn union(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 | other.0)
    }

    fn each(self, mut visit: impl FnMut(usize)) {
        for node in 0..MEMBERS_MAX {
            if self.0 & 1 << node != 0 {
                visit(node);
            }
        }
    }
}

impl std::fmt::Display for NodeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.members().map(|node| format!("n{node}")).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_a_minority_is_impaired() {
        let mut budget = FaultBudget::new(5);
        let of = |ids: &[u64]| NodeSet::of(&ids.iter().copied().map(NodeId).collect::<Vec<_>>());
        assert!(budget.admit(of(&[1])));
        assert!(budget.admit(of(&[2])));
        assert!(budget.admit(of(&[1, 2])), "the same two may be struck again");
        assert!(!budget.admit(of(&[3])));
        budget.release(of(&[1]));
        assert!(!budget.admit(of(&[3])), "one is still struck by the third fault");
        budget.release(of(&[1, 2]));
        assert!(budget.admit(of(&[3])));
    }
}
