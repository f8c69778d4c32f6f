//! A service of one's own, with a bug that the simulator finds: a counter, whose clients send a request again when no
//! answer comes. The first version counts it twice. The second remembers, for each client, the last request it has
//! counted and what it said, so that a repetition is answered and not counted.
//!
//! `cargo run --release -p quorate-sim --example counter_service`

use std::collections::BTreeMap;

use quorate_sim::own::{self, Service};
use quorate_sim::random::Random;

struct Counter {
    remembers: bool,
}

/// The count, and by client its last request and the answer.
type State = (u64, BTreeMap<u64, (u64, u64)>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Increment {
    client: u64,
    number: u64,
}

impl Service for Counter {
    type State = State;
    type Command = Increment;
    type Response = u64;

    fn begin(&self) -> State {
        State::default()
    }

    fn apply(&self, (count, last): &mut State, Increment { client, number }: &Increment) -> u64 {
        let (seen, answer) = last.get(client).copied().unwrap_or_default();
        if self.remembers && *number <= seen {
            return answer;
        }
        *count += 1;
        last.insert(*client, (*number, *count));
        *count
    }

    fn draw(&self, client: u64, number: u64, _: &mut Random) -> Increment {
        Increment { client, number }
    }
}

/// Finds the bug, and that it is gone.
pub fn main() {
    quorate_sim::report::install_panic_hook();
    let failure = own::sweep(&Counter { remembers: false }, 0..100).expect_err("it counts twice");
    println!("without memory: {failure}");
    assert_eq!(failure.violation.invariant, "linearizability");

    let summary = own::sweep(&Counter { remembers: true }, 0..20).expect("a repetition is not counted");
    println!("with memory: {summary}");
}
