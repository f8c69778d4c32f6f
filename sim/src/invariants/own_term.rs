//! A leader commits what its predecessors left through an entry of its own term, and has one.
//!
//! - It begins its term with an entry (Raft §8): without one it could not commit what is there, nor answer a read,
//!   until some client happens to write.
//! - The entry at its commit index, when it moves that, is of its own term (Raft §5.4.2): an entry of an older
//!   term that a majority holds can still be overwritten, as figure 8 shows. That takes three leaders in a row; to
//!   count such an entry takes one.
//! - It changes the membership only when an entry of its term is committed (Ongaro, raft-dev 2015, "bug in
//!   single-server membership changes").

use quorate_raft::{NodeId, Role};
use quorate_replica::Write;

use super::logs::Logs;
use super::{Check, broken};
use crate::trace::StatusLine;

/// A member stood there, and stands here.
pub fn on_status(logs: &Logs, before: &StatusLine, now: &StatusLine) -> Check {
    if now.role != Role::Leader {
        return Ok(());
    }
    if now.last_term != now.term {
        return broken("own term", || {
            format!(
                "n{} leads in term {} and its last entry is of term {}",
                now.node, now.term, now.last_term
            )
        });
    }
    let led = before.role == Role::Leader && before.term == now.term;
    if led && now.commit > before.commit {
        let term = logs.link(NodeId(now.node), now.commit).map(|link| link.term.0);
        if term.is_some_and(|term| term != now.term) {
            return broken("own term", || {
                format!("n{} commits entry {} of an older term by counting: [{now}]", now.node, now.commit)
            });
        }
    }
    Ok(())
}

/// A member writes this, whose commit index is there.
pub fn on_write(logs: &Logs, node: NodeId, write: &Write, commit: u64) -> Check {
    let leads = logs.log(node).leads();
    let changes = |entry: &&_| {
        let quorate_raft::Entry { term, payload, .. } = entry;
        term.0 == leads && matches!(payload, quorate_raft::Payload::Membership(_))
    };
    let Some(change) = write.entries.iter().find(changes) else { return Ok(()) };
    match logs.link(node, commit) {
        Some(link) if link.term.0 == leads => Ok(()),
        _ => broken("own term", || {
            format!(
                "n{node} changes the membership with entry {} before anything of term {leads} is committed",
                change.index
            )
        }),
    }
}
