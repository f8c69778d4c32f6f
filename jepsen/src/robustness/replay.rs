//! The requests that reached the servers' logs, done one after the other.

use super::model::{RobustnessState, Version};
use super::record::{OperationKind, Request, ValueOrHash};

/// The state after every revision, and what each changed.
pub(super) struct Replay {
    states: Vec<RobustnessState>,
    pub changes: Vec<Change>,
}

/// One change of one key.
pub(super) struct Change {
    pub kind: OperationKind,
    pub key: String,
    pub value: ValueOrHash,
    pub revision: i64,
}

impl Replay {
    pub fn new(requests: &[Request]) -> Replay {
        let mut state = RobustnessState::default();
        let mut replay = Replay { states: vec![state.clone()], changes: Vec::new() };
        for request in requests {
            let before = state.clone();
            state.execute(request);
            if state.revision > before.revision {
                replay.note_changes(request, &before, &state);
                replay.states.push(state.clone());
            } else if let Some(last) = replay.states.last_mut() {
                // Leases and compactions change no revision.
                last.clone_from(&state);
            }
        }
        replay
    }

    /// In the order of a transaction's operations; of a lease's keys in theirs.
    fn note_changes(&mut self, request: &Request, before: &RobustnessState, after: &RobustnessState) {
        let revision = after.revision;
        let mut keys: Vec<&str> = Vec::new();
        if let Some(txn) = &request.txn {
            for operation in txn.operations_on_success.iter().chain(&txn.operations_on_failure) {
                match operation.kind {
                    OperationKind::Put => keys.push(&operation.put.key),
                    OperationKind::Delete => keys.push(&operation.delete.key),
                    OperationKind::Range => {}
                }
            }
        } else {
            keys.extend(before.keys.keys().map(String::as_str));
        }
        let mut seen: Vec<&str> = Vec::new();
        for key in keys {
            let (old, new) = (before.keys.get(key), after.keys.get(key));
            if old == new || seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let (kind, value) = match new {
                Some(version) => (OperationKind::Put, version.value.clone()),
                None => (OperationKind::Delete, ValueOrHash::Nothing),
            };
            self.changes.push(Change { kind, key: key.to_owned(), value, revision });
        }
    }

    pub fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    /// The state after a revision, if there was one.
    pub fn at(&self, revision: i64) -> Option<&RobustnessState> {
        let index = usize::try_from(revision.checked_sub(1)?).ok()?;
        self.states.get(index)
    }

    /// A key just before a revision.
    pub fn before(&self, key: &str, revision: i64) -> Option<&Version> {
        self.at(revision.checked_sub(1)?)?.keys.get(key)
    }
}
