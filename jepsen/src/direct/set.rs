//! A set that is read at the end: `add` of elements, and a last `read` of all of them.
//!
//! Everything whose addition was acknowledged must be there, and nothing that nobody added. Source: Jepsen's
//! `checker/set`.

use std::collections::{BTreeMap, BTreeSet};

use super::{NamedHistory, done, happened, invalid, members, possible, unexpected};
use crate::value::Value;
use crate::verdict::Verdict;

/// Judges a set by its last read.
pub fn set(history: &NamedHistory) -> Result<Verdict, String> {
    let last = done(history, "read").max_by_key(|(_, operation, _)| operation.return_time());
    let Some((read, operation, value)) = last else {
        return Ok(Verdict::Unknown("nobody read the set, so nothing can be said of it".to_owned()));
    };
    let values = members(value).ok_or_else(|| unexpected(read, "the elements of the set", value))?;
    let present: BTreeSet<&Value> = values.iter().collect();
    let mut added: BTreeMap<&Value, usize> = BTreeMap::new();
    let mut lost = Vec::new();
    for (index, add) in possible(history, "add") {
        let element = &add.input.value;
        added.insert(element, index);
        // What is added while the last read runs need not be in it.
        if happened(add) && add.precedes(operation) && !present.contains(element) {
            lost.push((index, element));
        }
    }
    if let Some((index, element)) = lost.first() {
        let others = if lost.len() > 1 { format!(", like {} others", lost.len() - 1) } else { String::new() };
        let sentence = format!(
            "process {} did not read {element} at the end, which was added{others}",
            operation.process
        );
        return Ok(invalid("set-lost", [read, *index], sentence));
    }
    match present.iter().find(|element| !added.contains_key(**element)) {
        Some(element) => {
            let sentence = format!("process {} read {element}, which nobody added", operation.process);
            Ok(invalid("set-unexpected", [read], sentence))
        }
        None => Ok(Verdict::Valid),
    }
}
