//! Direct checks: objects whose promise is not, or not only, linearizability.
//!
//! Each file has one check, a pass over the operations by name, with the meaning that Jepsen gives to tests of
//! that name: counters whose reads must lie between bounds, sets and queues that must not lose anything, bank
//! accounts whose sum stays. They are linear or nearly so, and take histories of any concurrency.

mod bank;
mod comments;
mod counter;
mod ids;
mod queue;
mod set;
mod set_full;

pub use bank::bank;
pub use comments::comments;
pub use counter::counter;
pub use ids::unique_ids;
pub use queue::total_queue;
pub use set::set;
pub use set_full::set_full;

use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::value::Value;
use crate::verdict::{Verdict, Violation};

/// Operations by name.
type NamedHistory = History<Ask, Answer>;
type NamedOperation = Operation<Ask, Answer>;

fn invalid(rule: &'static str, operations: impl IntoIterator<Item = usize>, sentence: String) -> Verdict {
    Verdict::Invalid(Violation { rule, sentence, operations: operations.into_iter().collect() })
}

/// Whether an operation certainly happened.
fn happened(operation: &NamedOperation) -> bool {
    operation.output().is_some_and(|answer| answer.ok)
}

/// Whether an operation certainly did not happen.
fn failed(operation: &NamedOperation) -> bool {
    operation.output().is_some_and(|answer| !answer.ok)
}

/// The operations of a name that did not fail, with their indices.
fn possible<'h>(
    history: &'h NamedHistory,
    f: &'static str,
) -> impl Iterator<Item = (usize, &'h NamedOperation)> {
    let operations = history.operations.iter().enumerate();
    operations.filter(move |(_, operation)| operation.input.f == f && !failed(operation))
}

/// The operations of a name that happened, with their indices and answers.
fn done<'h>(
    history: &'h NamedHistory,
    f: &'static str,
) -> impl Iterator<Item = (usize, &'h NamedOperation, &'h Value)> {
    possible(history, f).filter_map(|(index, operation)| Some((index, operation, &operation.output()?.value)))
}

/// The values of a list or a set; nil has none.
fn members(value: &Value) -> Option<&[Value]> {
    match value {
        Value::List(values) | Value::Set(values) => Some(values),
        Value::Nil => Some(&[]),
        _ => None,
    }
}

/// An error that says which operation has what instead of what was expected.
fn unexpected(index: usize, expected: &str, found: &Value) -> String {
    format!("operation {index}: expected {expected}, found {found}")
}
