//! What operations by name mean to the models: `:f :write :value 5` becomes a write of 5.
//!
//! The same history can mean different things, and verdicts differ by it; so what others decide silently is
//! an option here ([`Semantics`]).

use super::{
    KeyValue, KeyValueInput, MicroOperation, MultiRegister, Mutex, MutexInput, Register, RegisterInput,
    RegisterOutput,
};
use crate::format::jepsen::{Answer, Ask};
use crate::history::{History, Operation, Returned};
use crate::model::Model;
use crate::value::Value;

/// How to read what a history leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Semantics {
    /// What registers hold at first.
    pub initial: Value,
    /// What a failed compare-and-set says.
    pub failed_cas: FailedCas,
    /// What a read of nil says.
    pub nil_read: NilRead,
}

/// What a failed compare-and-set says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedCas {
    /// It did not happen: nothing is known (Jepsen, Knossos).
    #[default]
    Drop,
    /// The register did not hold the expected value (Porcupine).
    Observe,
}

/// What a read of nil says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NilRead {
    /// The register held nil, which is also what it holds at first unless said otherwise.
    #[default]
    Absent,
    /// The register held its initial value, whatever that is.
    Initial,
    /// Nothing: the value is not known (Knossos).
    Any,
}

/// A history with a meaning.
#[derive(Clone, Debug)]
pub struct Bound<M: Model> {
    /// The object.
    pub model: M,
    /// What was done to it.
    pub history: History<M::Input, M::Output>,
    /// Where each operation stands in the history by name.
    pub origin: Vec<usize>,
}

/// An operation that the model does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation {operation}: {message}")]
pub struct Unmeaning {
    /// Its index in the history by name.
    pub operation: usize,
    /// What was expected.
    pub message: String,
}

/// Gives every operation the meaning that `meaning` finds, or takes it out (`None`).
pub(super) fn bind<M: Model>(
    model: M,
    history: &History<Ask, Answer>,
    meaning: impl Fn(&Ask, Option<&Answer>) -> Result<Option<(M::Input, Option<M::Output>)>, String>,
) -> Result<Bound<M>, Unmeaning> {
    let mut bound = Bound { model, history: History::new(), origin: Vec::new() };
    for (index, operation) in history.operations.iter().enumerate() {
        let unmeaning = |message| Unmeaning { operation: index, message };
        let Some((input, output)) = meaning(&operation.input, operation.output()).map_err(unmeaning)? else {
            continue;
        };
        let at = operation.return_time();
        bound.history.operations.push(Operation {
            process: operation.process,
            call: operation.call,
            input,
            returned: output.map(|output| Returned { at, output }),
        });
        bound.origin.push(index);
    }
    Ok(bound)
}

/// Operations `read`, `write` and `cas` on a register, or on one per key.
pub fn register(history: &History<Ask, Answer>, semantics: &Semantics) -> Result<Bound<Register>, Unmeaning> {
    let model = Register { initial: semantics.initial.clone(), ..Register::default() };
    bind(model, history, |ask, answer| {
        let key = ask.key.clone();
        let failed = answer.is_some_and(|answer| !answer.ok);
        match ask.f.as_str() {
            "read" if failed => Ok(None),
            "read" => {
                Ok(read_output(answer, semantics)?.map(|output| (RegisterInput::Read(key), Some(output))))
            }
            "write" if failed => Ok(None),
            "write" => {
                Ok(Some((RegisterInput::Write(key, ask.value.clone()), answer.map(|_| RegisterOutput::Done))))
            }
            "cas" => {
                let Some((from, to)) = ask.value.pair() else {
                    return Err(format!("expected cas of a pair [old new], found {}", ask.value));
                };
                if failed && semantics.failed_cas == FailedCas::Drop {
                    return Ok(None);
                }
                let input = RegisterInput::CompareAndSet(key, from.clone(), to.clone());
                Ok(Some((input, answer.map(|answer| RegisterOutput::Swapped(answer.ok)))))
            }
            other => Err(format!("expected read, write or cas, found {other:?}")),
        }
    })
}

/// What a read found; `None` if that is not known.
fn read_output(answer: Option<&Answer>, semantics: &Semantics) -> Result<Option<RegisterOutput>, String> {
    let Some(answer) = answer else { return Ok(None) };
    Ok(match (&answer.value, semantics.nil_read) {
        (Value::Nil, NilRead::Any) => None,
        (Value::Nil, NilRead::Initial) => Some(RegisterOutput::Value(semantics.initial.clone())),
        (value, _) => Some(RegisterOutput::Value(value.clone())),
    })
}

/// Operations `get`, `put` and `append` on strings by key.
pub fn key_value(history: &History<Ask, Answer>) -> Result<Bound<KeyValue>, Unmeaning> {
    bind(KeyValue, history, |ask, answer| {
        let key = ask.key.clone().ok_or("expected a key")?;
        let text = |value: &Value| match value {
            Value::Nil => String::new(),
            value => crate::format::jepsen::plain_text(value),
        };
        if answer.is_some_and(|answer| !answer.ok) {
            return Ok(None);
        }
        match ask.f.as_str() {
            "get" => Ok(answer.map(|answer| (KeyValueInput::Get(key), Some(Some(text(&answer.value)))))),
            "put" => Ok(Some((KeyValueInput::Put(key, text(&ask.value)), answer.map(|_| None)))),
            "append" => Ok(Some((KeyValueInput::Append(key, text(&ask.value)), answer.map(|_| None)))),
            other => Err(format!("expected get, put or append, found {other:?}")),
        }
    })
}

/// Operations `acquire` and `release`.
pub fn mutex(history: &History<Ask, Answer>) -> Result<Bound<Mutex>, Unmeaning> {
    bind(Mutex, history, |ask, answer| {
        if answer.is_some_and(|answer| !answer.ok) {
            return Ok(None);
        }
        match ask.f.as_str() {
            "acquire" => Ok(Some((MutexInput::Acquire, answer.map(|_| ())))),
            "release" => Ok(Some((MutexInput::Release, answer.map(|_| ())))),
            other => Err(format!("expected acquire or release, found {other:?}")),
        }
    })
}

/// Operations `txn` (or Knossos's `read` and `write`) of steps `[read x nil]` and `[write x 5]`, also written
/// `r` and `w`.
pub fn multi_register(
    history: &History<Ask, Answer>,
    semantics: &Semantics,
) -> Result<Bound<MultiRegister>, Unmeaning> {
    let model = MultiRegister { initial: semantics.initial.clone() };
    bind(model, history, |ask, answer| {
        if answer.is_some_and(|answer| !answer.ok) {
            return Ok(None);
        }
        let input = steps(&ask.value)?.into_iter().map(|(step, _)| step).collect();
        let output = match answer {
            Some(answer) => {
                let seen = |(step, seen): (MicroOperation, Value)| match step {
                    MicroOperation::Read(_) if seen != Value::Nil => Some(seen),
                    _ => None,
                };
                Some(steps(&answer.value)?.into_iter().map(seen).collect())
            }
            None => None,
        };
        Ok(Some((input, output)))
    })
}

fn steps(value: &Value) -> Result<Vec<(MicroOperation, Value)>, String> {
    let Value::List(steps) = value else { return Err(format!("expected a list of steps, found {value}")) };
    let step = |step: &Value| {
        let wrong = || format!("expected a step [read x value] or [write x value], found {step}");
        let Value::List(parts) = step else { return Err(wrong()) };
        let [name, register, value] = parts.as_slice() else { return Err(wrong()) };
        match name.name() {
            Some("read" | "r") => Ok((MicroOperation::Read(register.clone()), value.clone())),
            Some("write" | "w") => {
                Ok((MicroOperation::Write(register.clone(), value.clone()), value.clone()))
            }
            _ => Err(wrong()),
        }
    };
    steps.iter().map(step).collect()
}
