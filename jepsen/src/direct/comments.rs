//! Comments: `write` of ids, and `read` of all ids that there are.
//!
//! Who sees a write must see every write that had ended before it began. Source: Jepsen's tests of CockroachDB
//! (`comments`), which look for this violation of strict serializability.

use std::collections::BTreeMap;

use super::{NamedHistory, done, happened, invalid, members, possible, unexpected};
use crate::value::Value;
use crate::verdict::Verdict;

/// Judges comments.
pub fn comments(history: &NamedHistory) -> Result<Verdict, String> {
    // Acknowledged writes by when they ended, and all by their ids.
    let mut ended: Vec<(u64, &Value, usize)> = Vec::new();
    let mut writes: BTreeMap<&Value, usize> = BTreeMap::new();
    for (index, write) in possible(history, "write") {
        writes.insert(&write.input.value, index);
        if happened(write) {
            ended.push((write.return_time(), &write.input.value, index));
        }
    }
    ended.sort_unstable_by_key(|(at, _, _)| *at);
    for (index, read, value) in done(history, "read") {
        let seen = members(value).ok_or_else(|| unexpected(index, "the ids that were read", value))?;
        let seen: std::collections::BTreeSet<&Value> = seen.iter().collect();
        let written = seen.iter().filter_map(|id| writes.get(*id).copied());
        let Some(latest) = written.max_by_key(|write| history.operations[*write].call) else { continue };
        let begun = history.operations[latest].call;
        let earlier = &ended[..ended.partition_point(|(at, _, _)| *at < begun)];
        // The last one that is missed is the easiest to follow.
        if let Some((_, missed, write)) = earlier.iter().rfind(|(_, id, _)| !seen.contains(*id)) {
            let sentence = format!(
                "process {} saw {} and not {missed}, which had been written before",
                read.process, history.operations[latest].input.value
            );
            return Ok(invalid("missed-write", [index, latest, *write], sentence));
        }
    }
    Ok(Verdict::Valid)
}
