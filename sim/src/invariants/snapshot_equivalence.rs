//! A snapshot is worth the entries it stands for: a member that began with one holds, version by version,
//! what those hold who applied the entries. (Raft §7. The running hash of `state_hash.rs` travels inside the
//! snapshot and cannot tell; so what the store really holds is hashed, now and then. etcd issues 13766 and
//! 14648: snapshots whose content and index did not belong together.)

use std::collections::BTreeMap;

use quorate_raft::NodeId;

use super::{Check, broken};

/// What was held after some of the entries, by its hash, and whose it was.
#[derive(Debug, Default)]
pub struct SnapshotEquivalence {
    held: BTreeMap<u64, (u64, NodeId)>,
}

impl SnapshotEquivalence {
    /// A member has applied everything up to an index. `content` walks over all that it holds.
    pub fn on_applied(&mut self, node: NodeId, applied: u64, content: impl FnOnce() -> u64) -> Check {
        if !applied.is_multiple_of(STRIDE) {
            return Ok(());
        }
        let content = content();
        let (held, other) = *self.held.entry(applied).or_insert((content, node));
        if held == content {
            return Ok(());
        }
        broken("snapshot equivalence", || {
            format!("n{node} and n{other} hold different things after {applied}")
        })
    }
}

/// A walk over everything is not for every entry. What a snapshot has lost stays lost for a while.
const STRIDE: u64 = 128;
