//! Atomic: all events of a revision arrive in one response, or in the fragments of one.
//!
//! Source: "Atomic" of the API guarantees, `validateAtomic` of the robustness suite.

use super::{Event, Judge};
use crate::Violation;

pub(super) fn check(judge: &Judge<'_>) -> Result<(), Violation> {
    let mut last = None;
    for response in judge.stream.responses.iter().filter(|response| !response.events.is_empty()) {
        let first = response.events.first().map(Event::revision);
        if let Some((revision, false)) = last
            && first == Some(revision)
        {
            let what = format!("revision {revision} is split over two responses");
            return Err(judge.refute("watch-atomic", &what));
        }
        last = response.events.last().map(|event| (event.revision(), response.fragment));
    }
    Ok(())
}
