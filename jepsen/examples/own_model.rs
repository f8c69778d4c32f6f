//! An object of your own, judged: a stack, and a history that no stack explains.
//!
//! `cargo run -p quorate-jepsen --example own_model`
//!
//! A model needs an initial state and a step; two more functions make checks faster and counterexamples
//! readable. Record a history with `invoke` when a client asks and `ok` when it is answered. What is never
//! answered may have happened at any time after, or never; the checker knows.

use quorate_jepsen::{History, Limits, Model, Verdict, check};

/// A stack of numbers, empty at first.
struct Stack;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Push(i64),
    Pop,
    /// Looks without taking.
    Top,
}

impl Model for Stack {
    type Input = Ask;
    /// To `Pop` and `Top`: what was there. To `Push`: nothing.
    type Output = Option<i64>;
    type State = Vec<i64>;

    fn init(&self) -> Vec<i64> {
        Vec::new()
    }

    /// The state afterwards, or `None` if the stack would never answer so. Without an answer (`None`) nobody
    /// knows what was said: then any answer will do.
    fn step(&self, stack: &Vec<i64>, ask: &Ask, answer: Option<&Option<i64>>) -> Option<Vec<i64>> {
        let mut next = stack.clone();
        let said = match ask {
            Ask::Push(number) => {
                next.push(*number);
                None
            }
            Ask::Pop => next.pop(),
            Ask::Top => next.last().copied(),
        };
        answer.is_none_or(|answer| *answer == said).then_some(next)
    }

    /// A promise that makes searches shorter: these leave every state as it is.
    fn is_read(&self, ask: &Ask, answer: Option<&Option<i64>>) -> bool {
        *ask == Ask::Top || (*ask == Ask::Pop && answer == Some(&None))
    }

    /// For people.
    fn describe(&self, ask: &Ask, answer: Option<&Option<i64>>) -> String {
        match (ask, answer) {
            (Ask::Push(number), Some(_)) => format!("pushed {number}"),
            (Ask::Push(number), None) => format!("may have pushed {number}"),
            (Ask::Pop, Some(Some(number))) => format!("popped {number}"),
            (Ask::Top, Some(Some(number))) => format!("saw {number} on top"),
            (_, Some(None)) => "found it empty".to_owned(),
            (_, None) => "was not answered".to_owned(),
        }
    }
}

fn main() {
    let mut history = History::new();
    // Process, time, question; then time and answer. Operations that overlap in time may happen in any order.
    let one = history.invoke(1, 10, Ask::Push(1));
    let two = history.invoke(2, 11, Ask::Push(2));
    history.ok(one, 20, None);
    history.ok(two, 21, None);
    let top = history.invoke(1, 30, Ask::Top);
    history.ok(top, 31, Some(2));
    // A push whose answer got lost: it may be there, or not.
    let _lost = history.invoke(3, 32, Ask::Push(3));
    let first = history.invoke(2, 40, Ask::Pop);
    history.ok(first, 41, Some(2));
    let verdict = check(&Stack, &history, &Limits::default());
    println!("so far: {verdict}");
    assert_eq!(verdict, Verdict::Valid);

    // Two clients are given the same number.
    let second = history.invoke(1, 50, Ask::Pop);
    history.ok(second, 51, Some(1));
    let third = history.invoke(2, 60, Ask::Pop);
    history.ok(third, 61, Some(1));
    let Verdict::Invalid(violation) = check(&Stack, &history, &Limits::default()) else {
        panic!("nobody can pop the same number twice");
    };
    println!("then: {violation}");
    for index in &violation.operations {
        let operation = &history.operations[*index];
        let what = Stack.describe(&operation.input, operation.output());
        println!("  process {} at {}: {what}", operation.process, operation.call);
    }
}
