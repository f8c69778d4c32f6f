//! What only grows: a member's term, and the indices it has committed and applied, and its store's revision, for as long as it
//! runs; and its term across restarts as well (Raft figure 2: the latest term is persistent state). And what never
//! overtakes: applied ≤ committed ≤ last.

use quorate_raft::NodeId;
use quorate_replica::Saved;

use super::{Check, broken};
use crate::env::network::MEMBERS_MAX;
use crate::trace::StatusLine;

/// What each member last had.
#[derive(Debug, Default)]
pub struct Monotonic {
    /// The highest term that a member was seen to send or store in.
    durable_terms: [u64; MEMBERS_MAX],
}

impl Monotonic {
    /// A member starts from this.
    pub fn on_start(&mut self, node: NodeId, saved: &Saved) -> Check {
        let term = saved.hard_state.term.0;
        let latest = &mut self.durable_terms[node.0 as usize];
        if term < *latest {
            return broken("monotonic term", || {
                format!("n{node} starts in term {term}, after term {latest}")
            });
        }
        *latest = term;
        Ok(())
    }

    /// A member stood there, and stands here now.
    pub fn on_status(&mut self, before: &StatusLine, now: &StatusLine) -> Check {
        let grows = before.term <= now.term
            && before.commit <= now.commit
            && before.applied <= now.applied
            && before.revision <= now.revision;
        if !grows {
            return broken("monotonic state", || format!("from [{before}] to [{now}]"));
        }
        if now.applied > now.commit || now.commit > now.last {
            return broken("ordered indices", || format!("[{now}]"));
        }
        Ok(())
    }
}
