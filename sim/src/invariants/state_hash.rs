//! Members that have applied the same entries are in the same state (state machine replication: Schneider,
//! "Implementing fault-tolerant services using the state machine approach", 1990). The etcd of 2022 broke
//! this for weeks before anybody noticed (v3.5 data inconsistency postmortem).

use quorate_raft::NodeId;

use super::{Check, broken};

/// The first hash seen at each applied index, and whose it was.
#[derive(Debug, Default)]
pub struct StateHash {
    hashes: Vec<Option<(u64, NodeId)>>,
}

impl StateHash {
    /// A member has applied everything up to an index.
    pub fn on_applied(&mut self, node: NodeId, applied: u64, hash: u64) -> Check {
        let at = applied as usize;
        if at >= self.hashes.len() {
            self.hashes.resize(at + 1, None);
        }
        let (first, other) = *self.hashes[at].get_or_insert((hash, node));
        if first == hash {
            return Ok(());
        }
        broken("equal states", || format!("n{node} and n{other} differ after entry {applied}"))
    }
}
