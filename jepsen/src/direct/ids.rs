//! Unique ids: `generate` must never give the same twice. Source: Jepsen's `checker/unique-ids`.

use std::collections::BTreeMap;

use super::{NamedHistory, done, invalid};
use crate::value::Value;
use crate::verdict::Verdict;

/// Judges a generator of ids.
#[must_use]
pub fn unique_ids(history: &NamedHistory) -> Verdict {
    let mut seen: BTreeMap<&Value, usize> = BTreeMap::new();
    for (index, operation, value) in done(history, "generate") {
        if let Some(before) = seen.insert(value, index) {
            let sentence = format!(
                "processes {} and {} were both given {value}",
                history.operations[before].process, operation.process
            );
            return invalid("duplicate-id", [index, before], sentence);
        }
    }
    Verdict::Valid
}
