//! Transactions from operations by name: lists of steps such as `[:append x 1]`, `[:w x 1]` and `[:r x nil]`.

use super::check::Workload;
use super::history::{Outcome, StepKind, Transactions};
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::value::Value;

/// Whether steps are called `read` and `write` rather than `r` and `w`.
#[must_use]
pub fn has_long_names(history: &History<Ask, Answer>) -> bool {
    let mut all = history.operations.iter().filter_map(|operation| steps(&operation.input.value));
    all.any(|steps| steps.iter().any(|step| matches!(head(step), Some("read" | "write"))))
}

/// Which workload these operations are of, if each is a list of steps.
#[must_use]
pub fn looks_like(history: &History<Ask, Answer>) -> Option<Workload> {
    let mut found = None;
    for operation in &history.operations {
        // Nil is what a failed or unknown transaction may have for a value.
        let list = match &operation.input.value {
            Value::Nil => &[],
            value => steps(value)?,
        };
        for step in list {
            match head(step)? {
                "append" => return Some(Workload::ListAppend),
                "w" | "write" => found = Some(Workload::Register),
                "r" | "read" => {
                    // Whole lists are read where lists are appended to.
                    let answer = operation.output().and_then(|answer| steps(&answer.value));
                    let is_list = |step: &Value| matches!(step, Value::List(parts) if matches!(parts.get(2), Some(Value::List(_))));
                    if found.is_none() && answer.is_some_and(|steps| steps.iter().any(is_list)) {
                        found = Some(Workload::ListAppend);
                    }
                }
                _ => return None,
            }
        }
    }
    found
}

fn steps(value: &Value) -> Option<&[Value]> {
    match value {
        Value::List(steps) => Some(steps),
        _ => None,
    }
}

fn head(step: &Value) -> Option<&str> {
    match step {
        Value::List(parts) if (2..=3).contains(&parts.len()) => parts[0].name(),
        _ => None,
    }
}

/// Makes transactions of operations. An error names the operation and says what was expected.
pub fn bind(history: &History<Ask, Answer>, workload: Workload) -> Result<Transactions, (usize, String)> {
    let mut transactions = Transactions::new();
    for (origin, operation) in history.operations.iter().enumerate() {
        transaction(&mut transactions, origin, operation, workload).map_err(|why| (origin, why))?;
    }
    Ok(transactions)
}

fn transaction(
    transactions: &mut Transactions,
    origin: usize,
    operation: &Operation<Ask, Answer>,
    workload: Workload,
) -> Result<(), String> {
    let outcome = match operation.output() {
        Some(answer) if answer.ok => Outcome::Committed,
        Some(_) => Outcome::Aborted,
        None => Outcome::Unknown,
    };
    // The answer repeats the steps, with what was read. Failures often answer with nothing.
    let answer = operation.output().and_then(|answer| steps(&answer.value));
    let list = match (answer, steps(&operation.input.value)) {
        (Some(list), _) if outcome == Outcome::Committed => list,
        (_, Some(list)) => list,
        (Some(list), None) => list,
        (None, None) if operation.input.value == Value::Nil => &[],
        (None, None) => return Err(format!("expected a list of steps, found {}", operation.input.value)),
    };
    let end = if outcome == Outcome::Committed { operation.return_time() } else { u64::MAX };
    transactions.begin(operation.process, operation.call, end, outcome, origin);
    for step in list {
        add_step(transactions, step, outcome, workload)?;
    }
    Ok(())
}

fn add_step(
    transactions: &mut Transactions,
    step: &Value,
    outcome: Outcome,
    workload: Workload,
) -> Result<(), String> {
    let write = if workload == Workload::ListAppend { "append" } else { "w" };
    let wrong = || format!("expected a step [{write} key value] or [r key value], found {step}");
    let (Some(head), Value::List(parts)) = (head(step), step) else { return Err(wrong()) };
    let key = transactions.key(&parts[1]);
    let value = parts.get(2).unwrap_or(&Value::Nil);
    let (kind, values) = match (head, workload) {
        ("append", Workload::ListAppend) => (StepKind::Append, vec![transactions.code(value)]),
        ("w" | "write", Workload::Register) => (StepKind::Write, register_value(transactions, value)),
        // Who does not know whether it happened does not know what it read either.
        ("r" | "read", _) if outcome != Outcome::Committed => (StepKind::Unread, Vec::new()),
        ("r" | "read", Workload::Register) => (StepKind::Read, register_value(transactions, value)),
        ("r" | "read", Workload::ListAppend) => match value {
            Value::Nil => (StepKind::Read, Vec::new()),
            Value::List(values) => {
                (StepKind::Read, values.iter().map(|value| transactions.code(value)).collect())
            }
            other => return Err(format!("expected a list read from key {}, found {other}", parts[1])),
        },
        _ => return Err(wrong()),
    };
    transactions.step(kind, key, values);
    Ok(())
}

/// Nil is what a register holds before it is written: no value.
fn register_value(transactions: &mut Transactions, value: &Value) -> Vec<i64> {
    if *value == Value::Nil { Vec::new() } else { vec![transactions.code(value)] }
}
