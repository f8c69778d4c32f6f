//! The dumbest engine that could be right, and random histories for it.

use std::collections::BTreeSet;

use quorate_jepsen::models::{RegisterInput, RegisterOutput};
use quorate_jepsen::{History, Model, Operation, Returned, Value};

use super::Random;

/// Whether for every part some order of its operations, unknown ones optional, respects real time and the
/// model.
pub fn naive<M: Model>(model: &M, history: &History<M::Input, M::Output>) -> bool {
    let keys: BTreeSet<Option<&str>> =
        history.operations.iter().map(|operation| model.partition_key(&operation.input)).collect();
    keys.into_iter().all(|key| {
        let of_key = |operation: &&Operation<_, _>| model.partition_key(&operation.input) == key;
        permute(model, &model.init(), &mut history.operations.iter().filter(of_key).collect())
    })
}

fn permute<M: Model>(model: &M, state: &M::State, left: &mut Vec<&Operation<M::Input, M::Output>>) -> bool {
    if left.iter().all(|operation| operation.returned.is_none()) {
        return true;
    }
    for index in 0..left.len() {
        let next = left[index];
        if left.iter().any(|other| other.precedes(next)) {
            continue;
        }
        let Some(after) = model.step(state, &next.input, next.output()) else { continue };
        left.remove(index);
        let found = permute(model, &after, left);
        left.insert(index, next);
        if found {
            return true;
        }
    }
    false
}

/// Random operations with overlapping intervals; answers are made up, so about half of the histories are
/// wrong.
pub fn random_history<I, O>(
    random: &mut Random,
    operations: u64,
    mut operation: impl FnMut(&mut Random) -> (I, O),
) -> History<I, O> {
    let mut history = History::new();
    let span = 2 + random.below(30);
    for process in 0..operations {
        let call = random.below(span);
        let (input, output) = operation(random);
        let at = call + random.below(12);
        let returned = (!random.chance(15)).then_some(Returned { at, output });
        history.operations.push(Operation { process, call, input, returned });
    }
    history
}

pub fn register_operation(random: &mut Random, values: u64) -> (RegisterInput, RegisterOutput) {
    let value = |random: &mut Random| match random.below(values) {
        0 => Value::Nil,
        value => Value::Int(value as i64),
    };
    match random.below(5) {
        0 | 1 => (RegisterInput::Read(None), RegisterOutput::Value(value(random))),
        2 | 3 => (RegisterInput::Write(None, value(random)), RegisterOutput::Done),
        _ => {
            let input = RegisterInput::CompareAndSet(None, value(random), value(random));
            (input, RegisterOutput::Swapped(random.chance(60)))
        }
    }
}
