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
            return Ok(invalid("counter-bounds", [index], sentence));
        }
    }
    Ok(Verdict::Valid)
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
