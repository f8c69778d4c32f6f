//! State machine safety: if a member has applied an entry at an index, no other member ever applies a
//! different one there (Raft §5.4.3, figure 3). Checked one step earlier, for what members know to be
//! committed.

use quorate_raft::NodeId;

use super::logs::{Chosen, Logs};
use super::{Check, broken};
use crate::trace::StatusLine;

/// A member's commit index has moved.
pub fn on_commit(logs: &mut Logs, node: NodeId, before: u64, now: &StatusLine) -> Check {
    for index in before + 1..=now.commit {
        let Some(&link) = logs.link(node, index) else {
            return broken("state-machine safety", || {
                format!("n{node} knows entry {index} to be committed, which is not in its log")
            });
        };
        match logs.chosen(index) {
            Some(chosen) if chosen.chain == link.chain => {}
            Some(chosen) => {
                return broken("state-machine safety", || {
                    format!(
                        "n{node} commits {index}@{}, but {index}@{} was committed",
                        link.term, chosen.term
                    )
                });
            }
            None => logs.choose(Chosen { term: link.term, chain: link.chain, commit_term: now.term }),
        }
    }
    Ok(())
}
