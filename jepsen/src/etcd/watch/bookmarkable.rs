//! Bookmarkable: a progress notification says that everything up to its revision has arrived.
//!
//! So nothing of that revision or an older one arrives later, notifications never go back, and none is behind
//! an event that has arrived.
//!
//! Source: "Bookmarkable" of the API guarantees, `validateBookmarkable` of the robustness suite; issues 15220
//! (a notification overtook events) and 20221 (one before the first revision asked for).

use super::Judge;
use crate::Violation;

pub(super) fn check(judge: &Judge<'_>) -> Result<(), Violation> {
    let (mut reached, mut bookmark) = (judge.before(), 0);
    for response in &judge.stream.responses {
        if response.is_progress() {
            let (revision, least) = (response.revision, reached.max(bookmark));
            if revision < least {
                let what = format!("progress to revision {revision} was notified after revision {least}");
                return Err(judge.refute("watch-bookmarkable", &what));
            }
            bookmark = revision;
        }
        for event in &response.events {
            if event.revision() <= bookmark {
                let what = format!("the {event} arrived after progress to {bookmark} was notified");
                return Err(judge.refute("watch-bookmarkable", &what));
            }
            reached = event.revision();
        }
    }
    Ok(())
}
