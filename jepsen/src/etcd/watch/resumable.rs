//! Resumable: a watch begins at the revision asked for, if history still has it, and ends when it says so.
//!
//! That the first event is the first one there is comes out of the comparison with the order of changes, see
//! [`reliable`](super::reliable).
//!
//! Source: "Resumable" of the API guarantees, `validateResumable` of the robustness suite; issues 19179 (a
//! deletion missing at the compacted revision) and 20221 (old events on a watch of the future).

use super::{Judge, WatchResponse};
use crate::Violation;

pub(super) fn check_shape(judge: &Judge<'_>) -> Result<(), Violation> {
    if let Some(event) = judge.events().next().filter(|event| event.revision() <= judge.before()) {
        let what = format!("the {event} is older than what was asked for");
        return Err(judge.refute("watch-resumable", &what));
    }
    let mut over = false;
    for response in &judge.stream.responses {
        if over {
            return Err(judge.refute("watch-canceled", "a response arrived after it was canceled"));
        }
        over = response.canceled;
        if response.canceled && response.compact_revision > 0 {
            check_cancel(judge, response)?;
        }
    }
    Ok(())
}

/// A watch is canceled for compaction only if it still needs what was compacted.
fn check_cancel(judge: &Judge<'_>, response: &WatchResponse) -> Result<(), Violation> {
    let start = judge.stream.request.start_revision;
    if start == 0 || start < response.compact_revision {
        return Ok(());
    }
    let what =
        format!("canceled for a compaction to revision {}, which it did not need", response.compact_revision);
    Err(judge.refute("watch-resumable", &what))
}
