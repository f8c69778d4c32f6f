//! A set that is read all the time: what was once known to be in it must not vanish.
//!
//! An element is *known* from when its addition was acknowledged or a read showed it. It is *lost* if a read
//! that was called after that did not show it, and no read that was called later did. It is *stale* if a later
//! one did: forbidden only if the set is to be linearizable. Source: Jepsen's `checker/set-full`.

use std::collections::{BTreeMap, BTreeSet};

use super::{NamedHistory, NamedOperation, done, failed, invalid, members, unexpected};
use crate::value::Value;
use crate::verdict::Verdict;

/// What is known of an element.
struct Element {
    add: usize,
    add_call: u64,
    /// Since when it is known, and by which operation: its addition or a read.
    known: u64,
    known_by: usize,
    /// The calls of the last read that showed it, and of the last that did not and could have.
    last_present: Option<(u64, usize)>,
    last_absent: Option<(u64, usize)>,
    /// The first read that missed it though it was known.
    stale: Option<usize>,
}

impl Element {
    fn learn(&mut self, at: u64, by: usize) {
        if at < self.known {
            (self.known, self.known_by) = (at, by);
        }
    }
}

/// Judges a set; `linearizable`: stale reads count, too.
pub fn set_full(history: &NamedHistory, linearizable: bool) -> Result<Verdict, String> {
    let mut numbers: BTreeMap<&Value, usize> = BTreeMap::new();
    let mut elements: Vec<Element> = Vec::new();
    for (index, add) in history.operations.iter().enumerate().filter(|(_, add)| add.input.f == "add") {
        if failed(add) {
            continue;
        }
        let number = *numbers.entry(&add.input.value).or_insert(elements.len());
        if number == elements.len() {
            elements.push(Element {
                add: index,
                add_call: add.call,
                known: u64::MAX,
                known_by: index,
                last_present: None,
                last_absent: None,
                stale: None,
            });
        }
        let element = &mut elements[number];
        element.learn(add.return_time(), index);
        element.add_call = element.add_call.min(add.call);
    }
    let mut reads: Vec<(usize, &NamedOperation, Vec<usize>)> = Vec::new();
    for (index, read, value) in done(history, "read") {
        let values = members(value).ok_or_else(|| unexpected(index, "the elements of the set", value))?;
        let mut present = Vec::with_capacity(values.len());
        let mut phantom = None;
        for value in values {
            match numbers.get(value) {
                Some(number) => present.push(*number),
                None => phantom = phantom.or(Some(value)),
            }
        }
        present.sort_unstable();
        if let Some(twice) = present.windows(2).find(|pair| pair[0] == pair[1]) {
            let value = &history.operations[elements[twice[0]].add].input.value;
            let sentence = format!("process {} read {value} twice at once", read.process);
            return Ok(invalid("set-duplicate", [index], sentence));
        }
        if let Some(value) = phantom {
            let sentence = format!("process {} read {value}, which nobody added", read.process);
            return Ok(invalid("set-unexpected", [index], sentence));
        }
        for number in &present {
            let element = &mut elements[*number];
            element.learn(read.return_time(), index);
            element.last_present = element.last_present.max(Some((read.call, index)));
        }
        reads.push((index, read, present));
    }
    note_absences(&mut elements, &reads);
    Ok(conclude(history, &elements, linearizable))
}

/// Notes for each element the reads that did not show it although it may have been there.
fn note_absences(elements: &mut [Element], reads: &[(usize, &NamedOperation, Vec<usize>)]) {
    for (index, read, present) in reads {
        let mut present = present.iter().peekable();
        for (number, element) in elements.iter_mut().enumerate() {
            if present.next_if(|other| **other == number).is_some() || element.add_call > read.return_time() {
                continue;
            }
            element.last_absent = element.last_absent.max(Some((read.call, *index)));
            if read.call > element.known && element.stale.is_none() {
                element.stale = Some(*index);
            }
        }
    }
}

fn conclude(history: &NamedHistory, elements: &[Element], linearizable: bool) -> Verdict {
    let value = |element: &Element| &history.operations[element.add].input.value;
    let lost = |element: &&Element| {
        element.last_absent.is_some_and(|(call, _)| call > element.known)
            && element.last_absent.map(|(call, _)| call) > element.last_present.map(|(call, _)| call)
    };
    let count = elements.iter().filter(lost).count();
    if let Some(element) = elements.iter().find(lost) {
        let others = if count > 1 { format!(", like {} others", count - 1) } else { String::new() };
        let absent = element.last_absent.map(|(_, index)| index).expect("it was missed");
        let shown = BTreeSet::from([element.add, element.known_by]);
        let shown = std::iter::once(absent).chain(shown);
        let sentence = format!(
            "{} was lost{others}: it was known to be in the set, and process {} and all later reads did not find it",
            value(element),
            history.operations[absent].process
        );
        return invalid("set-lost", shown, sentence);
    }
    if let Some((element, stale)) =
        elements.iter().filter(|_| linearizable).find_map(|element| Some((element, element.stale?)))
    {
        let sentence = format!(
            "process {} did not find {}, which was known to be in the set before",
            history.operations[stale].process,
            value(element)
        );
        let shown = BTreeSet::from([element.add, element.known_by]);
        return invalid("set-stale", std::iter::once(stale).chain(shown), sentence);
    }
    if !elements.is_empty() && elements.iter().all(|element| element.last_present.is_none()) {
        return Verdict::Unknown("no read showed any element, so nothing can be said of the set".to_owned());
    }
    Verdict::Valid
}
