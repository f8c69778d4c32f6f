//! Log matching: if two logs contain an entry with the same index and term, the logs are identical up to and
//! including that entry (Raft §5.3, figure 3).

use std::collections::BTreeMap;

use quorate_raft::{Index, NodeId};

use super::logs::Logs;
use super::{Check, broken};

/// The log that leads to each index and term, as its hash.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// The first entry ever seen at each index: nearly always the only one.
    first: Vec<(u64, u64)>,
    /// Entries of other terms.
    others: BTreeMap<(u64, u64), u64>,
}

impl LogMatching {
    /// A member's log has changed from this index on.
    pub fn check(&mut self, logs: &Logs, node: NodeId, from: Index) -> Check {
        let log = logs.log(node);
        for index in from.0..=log.last() {
            let link = log.link(index).expect("within the log");
            let known = self.known(index, link.term.0, link.chain);
            if known != link.chain {
                return broken("log matching", || {
                    format!("n{node}'s log differs from another's below or at entry {index}@{}", link.term)
                });
            }
        }
        Ok(())
    }

    /// The hash that belongs to an entry: this one, if none is known yet.
    fn known(&mut self, index: u64, term: u64, chain: u64) -> u64 {
        let at = index as usize - 1;
        if at >= self.first.len() {
            self.first.resize(at + 1, (0, 0));
        }
        let first = &mut self.first[at];
        if first.0 == 0 {
            *first = (term, chain);
        }
        if first.0 == term { first.1 } else { *self.others.entry((index, term)).or_insert(chain) }
    }
}
