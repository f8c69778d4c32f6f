//! Leader completeness: an entry committed in a term is in the logs of the leaders of all higher terms (Raft
//! §5.4.3, figure 3).
//!
//! It says *committed in a term*, not *at a time*: a quorum of delayed votes may elect the leader of an old
//! term after entries of a newer term were committed. Such a leader is harmless, and nothing is demanded of
//! it.

use quorate_raft::NodeId;

use super::logs::Logs;
use super::{Check, broken};

/// A member leads in this term.
pub fn on_leader(logs: &Logs, node: NodeId, term: u64) -> Check {
    let mut index = logs.chosen_len();
    while logs.chosen(index).is_some_and(|chosen| chosen.commit_term >= term) {
        index -= 1;
    }
    // The hash at an index stands for the whole log up to it.
    let Some(chosen) = logs.chosen(index) else { return Ok(()) };
    match logs.link(node, index) {
        Some(link) if link.chain == chosen.chain => Ok(()),
        link => broken("leader completeness", || {
            let has =
                link.map_or("nothing".to_owned(), |link| format!("another entry, of term {}", link.term));
            format!(
                "n{node} leads in term {term}; {index}@{} was committed in term {} and it has {has} there",
                chosen.term, chosen.commit_term
            )
        }),
    }
}
