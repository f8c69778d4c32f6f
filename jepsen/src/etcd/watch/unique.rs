//! Unique: no event arrives twice.
//!
//! Source: "Unique" of the API guarantees, `validateUnique` of the robustness suite; issue 17247 (events twice
//! out of a cache of transactions). Events are [`ordered`](super::ordered), so twins stand in one revision.

use std::collections::BTreeSet;

use super::Judge;
use crate::Violation;
use crate::etcd::Bytes;

pub(super) fn check(judge: &Judge<'_>) -> Result<(), Violation> {
    let mut revision = i64::MIN;
    let mut keys: BTreeSet<&Bytes> = BTreeSet::new();
    // Twins in two responses are for `atomic` to name, unless the responses are parts of one.
    for response in &judge.stream.responses {
        for event in &response.events {
            if event.revision() != revision {
                keys.clear();
            }
            revision = event.revision();
            if !keys.insert(&event.kv.key) {
                return Err(judge.refute("watch-unique", &format!("the {event} arrived twice")));
            }
        }
        if !response.fragment {
            keys.clear();
        }
    }
    Ok(())
}
