//! Violations in words.

use super::picture::{Bar, Break, Picture};
use crate::verdict::Verdict;

/// Why the verdict is not `valid`: first who did what after whom, then what every order leads to, then the
/// words of the engine.
pub(super) fn why(picture: &Picture, core: &[usize], verdict: &Verdict) -> Vec<String> {
    let violation = match verdict {
        Verdict::Valid => return Vec::new(),
        Verdict::Unknown(reason) => return vec![reason.clone()],
        Verdict::Invalid(violation) => violation,
    };
    let mut why = Vec::new();
    if let [_] = core {
        // An operation that is wrong by itself: the engine's words say it best.
        why.push(violation.sentence.clone());
    }
    if let Some((offender, others)) = core.split_first() {
        why.extend(story(picture, *offender, others));
        let part = &picture.parts[picture.bars[*offender].part];
        // A search that gave up has not come to the point, and one that ends elsewhere would confuse.
        let tells = |stuck: &&Break| stuck.exhaustive && core.contains(&stuck.bar);
        if let Some(stuck) = part.stuck.as_ref().filter(tells) {
            why.extend(stuck_at(picture, stuck, part.order.len()));
        }
    }
    if core.len() != 1 {
        why.push(violation.sentence.clone());
    }
    why
}

/// "process 3 read 5 at op 17, after process 1 wrote 6 at op 12, while …".
fn story(picture: &Picture, offender: usize, others: &[usize]) -> Option<String> {
    let this = &picture.bars[offender];
    let name = &picture.parts[this.part].name;
    let mut sentence = if name.is_empty() { String::new() } else { format!("key {name}: ") };
    sentence += &told(this);
    let bars = |meets: &dyn Fn(&Bar) -> bool| {
        let mut bars: Vec<&Bar> =
            others.iter().map(|at| &picture.bars[*at]).filter(|bar| meets(bar)).collect();
        bars.sort_by_key(|bar| (bar.call, bar.id));
        bars
    };
    let before = bars(&|bar| bar.end.is_some_and(|end| end < this.call));
    let after = bars(&|bar| this.end.is_some_and(|end| end < bar.call));
    let open = bars(&|bar| bar.end.is_none() && this.end.is_none_or(|end| bar.call <= end));
    let during = bars(&|bar| {
        bar.end.is_some_and(|end| end >= this.call) && this.end.is_none_or(|end| bar.call <= end)
    });
    if others.is_empty() {
        return None;
    }
    for (word, bars) in
        [("after", before), ("while", during), ("before", after), ("with open outcome:", open)]
    {
        if bars.is_empty() {
            continue;
        }
        // The last ones before something say most.
        let skipped = bars.len().saturating_sub(TOLD_MAX);
        let mut told: Vec<String> = bars[skipped..].iter().map(|bar| told(bar)).collect();
        if skipped > 0 {
            told.insert(0, format!("{skipped} others"));
        }
        sentence += &format!(", {word} {}", told.join(" and "));
    }
    Some(sentence)
}

/// "process 3 read 5 at op 17".
fn told(bar: &Bar) -> String {
    format!("process {} {} at op {}", bar.process, bar.text, bar.id)
}

/// What the longest orders lead to.
fn stuck_at(picture: &Picture, stuck: &Break, placed: usize) -> Option<String> {
    let this = &picture.bars[stuck.bar];
    let last = |last: &Vec<usize>| {
        let ids: Vec<String> = last.iter().map(|bar| picture.bars[*bar].id.to_string()).collect();
        if ids.is_empty() { "the beginning".to_owned() } else { format!("ops {}", ids.join(", ")) }
    };
    let states: Vec<String> = stuck
        .states
        .iter()
        .take(TOLD_MAX)
        .map(|(state, steps)| format!("{state} (after {})", last(steps)))
        .collect();
    if states.is_empty() {
        return None;
    }
    let rest = stuck.states.len().saturating_sub(TOLD_MAX);
    let more = if rest > 0 { format!(" and {rest} other states") } else { String::new() };
    Some(format!(
        "every order ends before op {} ({}) returns; the longest has {placed} {}; there the state is {}{more}",
        this.id,
        this.text,
        if placed == 1 { "step" } else { "steps" },
        states.join(" or "),
    ))
}

/// How many operations or states one sentence lists.
const TOLD_MAX: usize = 3;
