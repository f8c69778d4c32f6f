//! What operations by name mean to queues, sets, counters and locks.

use super::named::{Bound, Unmeaning, bind};
use super::{
    Counter, CounterInput, FifoQueue, LockInput, LockOutput, OwnedLock, QueueInput, QueueOutput, Semaphore,
    Set, SetInput, SetOutput, UnorderedQueue,
};
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation};
use crate::model::Model;
use crate::value::Value;

type Named = History<Ask, Answer>;
type Meaning<I, O> = Result<Option<(I, Option<O>)>, String>;

/// Operations `enqueue` and `dequeue`, in order.
pub fn fifo_queue(history: &Named) -> Result<Bound<FifoQueue>, Unmeaning> {
    bind(FifoQueue, history, queue)
}

/// Operations `enqueue` and `dequeue`, in any order.
pub fn unordered_queue(history: &Named) -> Result<Bound<UnorderedQueue>, Unmeaning> {
    // Without an order nobody can tell what a lost answer took along: it stays in, and that somebody found
    // the queue empty says nothing any more.
    let lost =
        |operation: &Operation<Ask, Answer>| operation.input.f == "dequeue" && operation.output().is_none();
    let is_sure = !history.operations.iter().any(lost);
    bind(UnorderedQueue, history, |ask, answer| {
        let says_nothing = answer.is_none_or(|answer| answer.value == Value::Nil && !is_sure);
        if ask.f == "dequeue" && says_nothing { Ok(None) } else { queue(ask, answer) }
    })
}

fn queue(ask: &Ask, answer: Option<&Answer>) -> Meaning<QueueInput, QueueOutput> {
    let failed = answer.is_some_and(|answer| !answer.ok);
    match ask.f.as_str() {
        _ if failed => Ok(None),
        "enqueue" => Ok(Some((QueueInput::Enqueue(ask.value.clone()), answer.map(|_| QueueOutput::Done)))),
        "dequeue" => {
            let value = answer.map(|answer| Some(answer.value.clone()).filter(|value| *value != Value::Nil));
            Ok(Some((QueueInput::Dequeue, value.map(QueueOutput::Value))))
        }
        other => Err(format!("expected enqueue or dequeue, found {other:?}")),
    }
}

/// Operations `add`, `remove`, `contains` and `read`.
pub fn set(history: &Named) -> Result<Bound<Set>, Unmeaning> {
    bind(Set, history, |ask, answer| {
        if answer.is_some_and(|answer| !answer.ok) {
            return Ok(None);
        }
        let value = ask.value.clone();
        let done = answer.map(|_| SetOutput::Done);
        match (ask.f.as_str(), answer) {
            ("add", _) => Ok(Some((SetInput::Add(value), done))),
            ("remove", _) => Ok(Some((SetInput::Remove(value), done))),
            ("read" | "contains", None) => Ok(None),
            ("contains", Some(answer)) => match answer.value {
                Value::Bool(seen) => Ok(Some((SetInput::Contains(value), Some(SetOutput::Contains(seen))))),
                _ => Err(format!("expected true or false, found {}", answer.value)),
            },
            ("read", Some(answer)) => {
                let mut elements = match &answer.value {
                    Value::List(elements) | Value::Set(elements) => elements.clone(),
                    Value::Nil => Vec::new(),
                    other => return Err(format!("expected the elements of a set, found {other}")),
                };
                elements.sort();
                Ok(Some((SetInput::Read, Some(SetOutput::Elements(elements)))))
            }
            (other, _) => Err(format!("expected add, remove, contains or read, found {other:?}")),
        }
    })
}

/// Operations `add` and `read`.
pub fn counter(history: &Named) -> Result<Bound<Counter>, Unmeaning> {
    let number = |value: &Value| match value {
        Value::Int(number) => Ok(*number),
        other => Err(format!("expected a number, found {other}")),
    };
    bind(Counter, history, |ask, answer| {
        if answer.is_some_and(|answer| !answer.ok) {
            return Ok(None);
        }
        match (ask.f.as_str(), answer) {
            ("add", _) => Ok(Some((CounterInput::Add(number(&ask.value)?), answer.map(|_| None)))),
            ("read", Some(Answer { value: Value::Nil, .. }) | None) => Ok(None),
            ("read", Some(answer)) => Ok(Some((CounterInput::Read, Some(Some(number(&answer.value)?))))),
            (other, _) => Err(format!("expected add or read, found {other:?}")),
        }
    })
}

/// Operations `acquire` and `release` of a lock that knows its holder, which is the process.
pub fn owned_lock(history: &Named, lock: OwnedLock) -> Result<Bound<OwnedLock>, Unmeaning> {
    by_process(lock, history)
}

/// Operations `acquire` and `release` of permits, one each.
pub fn semaphore(history: &Named, semaphore: Semaphore) -> Result<Bound<Semaphore>, Unmeaning> {
    by_process(semaphore, history)
}

fn by_process<M>(model: M, history: &Named) -> Result<Bound<M>, Unmeaning>
where
    M: Model<Input = LockInput, Output = LockOutput>,
{
    let mut bound = Bound { model, history: History::new(), origin: Vec::new() };
    for (index, operation) in history.operations.iter().enumerate() {
        if operation.output().is_some_and(|answer| !answer.ok) {
            continue;
        }
        let process = operation.process;
        let input = match operation.input.f.as_str() {
            "acquire" | "lock" => LockInput::Acquire { process },
            "release" | "unlock" => LockInput::Release { process },
            other => {
                let message = format!("expected acquire or release, found {other:?}");
                return Err(Unmeaning { operation: index, message });
            }
        };
        let token = |value: &Value| match (&input, value) {
            (LockInput::Acquire { .. }, Value::Int(token)) => Some(*token),
            _ => None,
        };
        let returned = operation.returned.as_ref().map(|returned| crate::history::Returned {
            at: returned.at,
            output: token(&returned.output.value),
        });
        bound.history.operations.push(Operation { process, call: operation.call, input, returned });
        bound.origin.push(index);
    }
    Ok(bound)
}
