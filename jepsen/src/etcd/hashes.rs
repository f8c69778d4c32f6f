//! Members that say to be at the same revision have the same history.
//!
//! `HashKV` of etcd hashes the key-value history of one member up to a revision, from its last compaction on. Two
//! answers for the same revision and the same compaction must be equal, whichever members gave them and whenever:
//! the only check that sees a divergence before a client reads it.
//!
//! Sources: `server/etcdserver/corrupt.go`, which compares the same way; issues 13766 (members diverge after a kill
//! under load) and 14685 (after a crash in defragmentation); Jepsen compares hashes at the end of each test.

use std::collections::HashMap;

use crate::Violation;

/// An answer to `HashKV`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeen {
    /// Which member answered.
    pub member: u64,
    /// Up to which revision it hashed.
    pub revision: i64,
    /// From which compaction on.
    pub compact_revision: i64,
    /// The hash.
    pub hash: u32,
}

/// Equal histories have equal hashes.
pub fn check_hashes(seen: &[HashSeen]) -> Result<(), Violation> {
    let mut first: HashMap<(i64, i64), &HashSeen> = HashMap::new();
    for seen in seen {
        let other = *first.entry((seen.revision, seen.compact_revision)).or_insert(seen);
        if other.hash != seen.hash {
            let sentence = format!(
                "the histories of members {:x} and {:x} up to revision {}, compacted at {}, differ: their hashes are \
                 {:08x} and {:08x}",
                other.member, seen.member, seen.revision, seen.compact_revision, other.hash, seen.hash
            );
            return Err(Violation { rule: "history-hash", sentence, operations: Vec::new() });
        }
    }
    Ok(())
}
