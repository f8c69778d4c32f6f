//! A queue that is drained at the end: `enqueue`, `dequeue`, and `drain` of all that is left.
//!
//! Whatever was enqueued must come out, and nothing else; the order is not judged. Coming out twice is
//! forbidden as well, unless one of the answers never arrived. Source: Jepsen's `checker/total-queue`, which
//! lets duplicates pass if asked.

use std::collections::BTreeMap;

use super::{NamedHistory, happened, invalid, members, possible, unexpected};
use crate::value::Value;
use crate::verdict::Verdict;

/// Where a value went in and where it came out.
#[derive(Default)]
struct Traffic {
    attempted: Vec<usize>,
    acknowledged: Vec<usize>,
    out: Vec<usize>,
}

/// Judges a queue. `may_repeat`: values may come out more often than they went in.
pub fn total_queue(history: &NamedHistory, may_repeat: bool) -> Result<Verdict, String> {
    let mut traffic: BTreeMap<&Value, Traffic> = BTreeMap::new();
    let mut is_drained = false;
    for (index, enqueue) in possible(history, "enqueue") {
        let entry = traffic.entry(&enqueue.input.value).or_default();
        entry.attempted.push(index);
        if happened(enqueue) {
            entry.acknowledged.push(index);
        }
    }
    // A dequeue of unknown outcome may have taken anything with it.
    let vanished = possible(history, "dequeue").filter(|(_, operation)| !happened(operation)).count()
        + possible(history, "drain").filter(|(_, operation)| !happened(operation)).count();
    for (index, dequeue) in possible(history, "dequeue").filter(|(_, operation)| happened(operation)) {
        let value = dequeue.output().map_or(&Value::Nil, |answer| &answer.value);
        if *value != Value::Nil {
            traffic.entry(value).or_default().out.push(index);
        }
    }
    for (index, drain) in possible(history, "drain").filter(|(_, operation)| happened(operation)) {
        let value = drain.output().map_or(&Value::Nil, |answer| &answer.value);
        is_drained = true;
        for value in members(value).ok_or_else(|| unexpected(index, "the values drained", value))? {
            traffic.entry(value).or_default().out.push(index);
        }
    }
    let process = |index: usize| history.operations[index].process;
    for (value, traffic) in &traffic {
        if traffic.attempted.is_empty() {
            let sentence =
                format!("process {} took out {value}, which nobody put in", process(traffic.out[0]));
            return Ok(invalid("queue-unexpected", traffic.out.iter().copied().take(1), sentence));
        }
        if traffic.out.len() > traffic.attempted.len() && !may_repeat {
            let sentence = format!(
                "{value} was taken out {} times and put in {} times",
                traffic.out.len(),
                traffic.attempted.len()
            );
            let shown = traffic.out.iter().chain(&traffic.attempted).copied();
            return Ok(invalid("queue-duplicate", shown, sentence));
        }
    }
    let lost: Vec<(&&Value, &Traffic)> =
        traffic.iter().filter(|(_, traffic)| traffic.out.len() < traffic.acknowledged.len()).collect();
    match lost.first() {
        Some((value, traffic)) if is_drained && lost.len() > vanished => {
            let others =
                if lost.len() > 1 { format!(", like {} others", lost.len() - 1) } else { String::new() };
            let by = process(traffic.acknowledged[0]);
            let sentence = format!("{value}, put in by process {by}, never came out{others}");
            Ok(invalid("queue-lost", traffic.acknowledged.iter().copied().take(1), sentence))
        }
        Some(_) if !is_drained => Ok(Verdict::Unknown(
            "the queue was not drained, so what did not come out may still be there".to_owned(),
        )),
        _ => Ok(Verdict::Valid),
    }
}
