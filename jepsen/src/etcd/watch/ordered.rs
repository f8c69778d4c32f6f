//! Ordered: events arrive by revision, and no response is older than what it brings.
//!
//! Source: "Ordered" of the API guarantees, `validateOrdered` of the robustness suite; issue 15271 (a watch
//! went back in time after a partition and a snapshot).

use super::Judge;
use crate::Violation;

pub(super) fn check(judge: &Judge<'_>) -> Result<(), Violation> {
    let mut newest = i64::MIN;
    for response in &judge.stream.responses {
        for event in &response.events {
            if event.revision() < newest {
                let what = format!("the {event} arrived after revision {newest}");
                return Err(judge.refute("watch-ordered", &what));
            }
            newest = event.revision();
        }
        if !response.events.is_empty() && response.revision > 0 && response.revision < newest {
            let what = format!("a header of revision {} brought revision {newest}", response.revision);
            return Err(judge.refute("watch-header", &what));
        }
    }
    Ok(())
}
