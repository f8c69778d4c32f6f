//! A counter: `add` of a number, and `read`.
//!
//! A read must find at least what surely had been added when it was called, and at most what may have been
//! added when it returned. Source: Jepsen's `checker/counter`; negative additions the other way round.

use super::{NamedHistory, done, happened, invalid, possible, unexpected};
use crate::value::Value;
use crate::verdict::Verdict;

/// Judges a counter that is zero at first.
pub fn counter(history: &NamedHistory) -> Result<Verdict, String> {
    let (mut certain, mut attempted) = (Sums::default(), Sums::default());
    for (index, operation) in possible(history, "add") {
        let Value::Int(number) = operation.input.value else {
            return Err(unexpected(index, "a number to add", &operation.input.value));
        };
        attempted.events.push((operation.call, i128::from(number)));
        if happened(operation) {
            certain.events.push((operation.return_time(), i128::from(number)));
        }
    }
    let (certain_up, certain_down) = certain.split();
    let (attempted_up, attempted_down) = attempted.split();
    for (index, operation, value) in done(history, "read") {
        let found = match value {
            Value::Int(found) => i128::from(*found),
            Value::Nil => continue,
            other => return Err(unexpected(index, "a number that was read", other)),
        };
        // Equal times are concurrent: what returned before the call is certain, what was called up to the
        // return is possible.
        let (call, end) = (operation.call, operation.return_time());
        let least = certain_up.before(call) + attempted_down.before(end.saturating_add(1));
        let most = attempted_up.before(end.saturating_add(1)) + certain_down.before(call);
        if !(least..=most).contains(&found) {
            let sentence = format!(
                "process {} read {found}, but by what was added the counter stood between {least} and {most}",
                operation.process
            );
            let shown = std::iter::once(index).chain(additions_that_matter(
                history,
                operation.call,
                found,
                found < least,
            ));
            return Ok(invalid("counter-bounds", shown, sentence));
        }
    }
    Ok(Verdict::Valid)
}

/// The fewest additions that alone make a read impossible: that surely had happened, the largest first, until
/// they go beyond what was read.
fn additions_that_matter(history: &NamedHistory, call: u64, found: i128, up: bool) -> Vec<usize> {
    let surely = possible(history, "add").filter(|(_, add)| happened(add) && add.return_time() < call);
    let mut additions: Vec<(i128, usize)> = surely
        .filter_map(|(index, add)| match add.input.value {
            Value::Int(number) if (number > 0) == up => Some((i128::from(number), index)),
            _ => None,
        })
        .collect();
    additions.sort_by_key(|(number, index)| (-number.abs(), *index));
    let mut sum = 0;
    let beyond = |sum: i128| if up { sum > found } else { sum < found };
    let mut shown = Vec::new();
    for (number, index) in additions {
        if beyond(sum) {
            break;
        }
        sum += number;
        shown.push(index);
    }
    // A read of what was never added needs no addition to be impossible.
    if beyond(sum) { shown } else { Vec::new() }
}

/// Numbers by time; once sorted, the second ones are sums.
#[derive(Default)]
struct Sums {
    events: Vec<(u64, i128)>,
}

impl Sums {
    /// The positive and the negative ones.
    fn split(self) -> (Sums, Sums) {
        let (up, down): (Vec<_>, Vec<_>) = self.events.into_iter().partition(|(_, number)| *number >= 0);
        (Sums::sorted(up), Sums::sorted(down))
    }

    fn sorted(mut events: Vec<(u64, i128)>) -> Sums {
        events.sort_unstable_by_key(|(at, _)| *at);
        let mut sum = 0;
        for (_, number) in &mut events {
            sum += *number;
            *number = sum;
        }
        Sums { events }
    }

    /// The sum of all strictly before a time.
    fn before(&self, at: u64) -> i128 {
        let end = self.events.partition_point(|(other, _)| *other < at);
        end.checked_sub(1).map_or(0, |last| self.events[last].1)
    }
}
