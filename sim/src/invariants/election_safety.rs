//! Election safety: at most one leader can be elected in a given term (Raft §5.2, figure 3).

use std::collections::BTreeMap;

use quorate_raft::NodeId;

use super::{Check, broken};

/// Who led in which term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, NodeId>,
}

impl ElectionSafety {
    /// A member leads.
    pub fn on_leader(&mut self, node: NodeId, term: u64) -> Check {
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader == node {
            return Ok(());
        }
        broken("election safety", || format!("n{node} leads in term {term}, and so did n{leader}"))
    }
}
