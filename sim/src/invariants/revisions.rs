//! Revisions follow from the log: whoever has applied the same entries has the same revision, whether it
//! applied them, began with a snapshot or has started again; and an entry raises it by one at most. (etcd's
//! API guarantees: a revision is never reused. Issue 17780: after a crash in the middle of a compaction the
//! revision fell.)

use quorate_raft::NodeId;

use super::{Check, broken};
use crate::trace::StatusLine;

/// The revision after each entry, as far as some member was seen there, and who that was.
#[derive(Debug, Default)]
pub struct Revisions {
    known: Vec<Option<(i64, NodeId)>>,
}

impl Revisions {
    /// A member has applied more.
    pub fn on_applied(&mut self, node: NodeId, before: &StatusLine, now: &StatusLine) -> Check {
        let at = now.applied as usize;
        if at >= self.known.len() {
            self.known.resize(at + 1, None);
        }
        let (revision, other) = *self.known[at].get_or_insert((now.revision, node));
        if revision != now.revision {
            return broken("equal revisions", || {
                format!(
                    "after entry {at}, n{node} is at revision {} and n{other} was at {revision}",
                    now.revision
                )
            });
        }
        let (entries, revisions) = (now.applied - before.applied, now.revision - before.revision);
        if before.applied > 0 && revisions.unsigned_abs() > entries {
            return broken("equal revisions", || {
                format!("n{node} goes {revisions} revisions on in {entries} entries: [{before}] to [{now}]")
            });
        }
        Ok(())
    }
}
