//! Reliable: from the first revision to the last that a stream reaches, it has every matching event, and no other,
//! and none before somebody asked for the change.
//!
//! Source: "Reliable" of the API guarantees, `validateReliable` of the robustness suite; issues 17529 (events lost
//! when a stream starves) and 18089 (an event lost when its deletion was compacted).

use super::{Judge, Log, Window};
use crate::Violation;

pub(super) fn check(judge: &Judge<'_>, log: &Log) -> Result<(), Violation> {
    let stream = judge.stream;
    let Some(window) = Window::of(stream) else { return Ok(()) };
    let expected = log.between(window.first, window.last);
    let mut expected = expected
        .iter()
        .flat_map(|change| change.events.iter().map(move |event| (event, change.since)))
        .filter(|(event, _)| stream.request.wants(event));
    let mut any = false;
    for response in &stream.responses {
        for event in &response.events {
            let rule = if any { "watch-reliable" } else { "watch-resumable" };
            any = true;
            let Some((due, since)) = expected.next() else {
                return Err(judge.refute(rule, &format!("the {event} never happened")));
            };
            if (due.deleted, &due.kv) != (event.deleted, &event.kv) {
                return Err(judge.refute(rule, &format!("expected the {due}, received the {event}")));
            }
            if response.at < since {
                return Err(
                    judge.refute("watch-premature", &format!("the {event} arrived before it was asked for"))
                );
            }
        }
    }
    match expected.next() {
        Some((due, _)) => {
            let what = format!("the {due} is missing, though revision {} was reached", window.last);
            Err(judge.refute("watch-reliable", &what))
        }
        None => Ok(()),
    }
}
