//! What only grows: a member's term, and the indices it has committed and applied, and its store's revision,
//! for as long as it runs (what must survive a restart is in `durability.rs`). And what never overtakes:
//! applied ≤ committed ≤ last. (Raft figure 2: "increases monotonically".)

use super::{Check, broken};
use crate::trace::StatusLine;

/// A member stood there, and stands here now.
pub fn on_status(before: &StatusLine, now: &StatusLine) -> Check {
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
