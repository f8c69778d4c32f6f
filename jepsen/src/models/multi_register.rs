//! Several registers read and written by transactions.

use std::collections::BTreeMap;

use crate::model::Model;
use crate::value::Value;

/// Registers by name; each has the same initial value.
#[derive(Clone, Debug, Default)]
pub struct MultiRegister {
    /// What every register holds at first.
    pub initial: Value,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MicroOperation {
    /// Reads a register; the answer is in the output.
    Read(Value),
    /// Writes a register.
    Write(Value, Value),
}

/// An operation is a list of steps that happen at once; the answer is what each step read, `None` for a write
/// and for a read without an answer.
impl Model for MultiRegister {
    type Input = Vec<MicroOperation>;
    type Output = Vec<Option<Value>>;
    type State = BTreeMap<Value, Value>;

    fn init(&self) -> BTreeMap<Value, Value> {
        BTreeMap::new()
    }

    fn step(
        &self,
        state: &BTreeMap<Value, Value>,
        input: &Vec<MicroOperation>,
        output: Option<&Vec<Option<Value>>>,
    ) -> Option<BTreeMap<Value, Value>> {
        let mut state = state.clone();
        for (index, step) in input.iter().enumerate() {
            match step {
                MicroOperation::Read(name) => {
                    let seen = output.and_then(|output| output.get(index)).and_then(Option::as_ref);
                    if seen.is_some_and(|seen| seen != state.get(name).unwrap_or(&self.initial)) {
                        return None;
                    }
                }
                MicroOperation::Write(name, value) => {
                    state.insert(name.clone(), value.clone());
                }
            }
        }
        Some(state)
    }

    fn is_read(&self, input: &Vec<MicroOperation>, _: Option<&Vec<Option<Value>>>) -> bool {
        input.iter().all(|step| matches!(step, MicroOperation::Read(_)))
    }

    fn describe(&self, input: &Vec<MicroOperation>, output: Option<&Vec<Option<Value>>>) -> String {
        let mut parts = Vec::new();
        for (index, step) in input.iter().enumerate() {
            let seen = output.and_then(|output| output.get(index)).and_then(Option::as_ref);
            parts.push(match (step, seen) {
                (MicroOperation::Read(name), Some(seen)) => format!("read {name}={seen}"),
                (MicroOperation::Read(name), None) => format!("read {name} without an answer"),
                (MicroOperation::Write(name, value), _) => format!("wrote {name}={value}"),
            });
        }
        parts.join(", ")
    }

    fn describe_state(&self, state: &BTreeMap<Value, Value>) -> String {
        let parts: Vec<String> = state.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{{{}}}", parts.join(" "))
    }
}
