//! A lock that anybody may hold and whoever holds it may release.

use crate::model::Model;

/// A lock, free at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutex;

/// What can be asked of a lock. The only answer is that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MutexInput {
    /// Takes the lock, which must be free.
    Acquire,
    /// Frees the lock, which must be held.
    Release,
}

impl Model for Mutex {
    type Input = MutexInput;
    type Output = ();
    type State = bool;

    fn init(&self) -> bool {
        false
    }

    fn step(&self, held: &bool, input: &MutexInput, _: Option<&()>) -> Option<bool> {
        match input {
            MutexInput::Acquire => (!held).then_some(true),
            MutexInput::Release => held.then_some(false),
        }
    }

    fn describe(&self, input: &MutexInput, output: Option<&()>) -> String {
        let may = if output.is_some() { "" } else { "may have " };
        match input {
            MutexInput::Acquire => format!("{may}acquired the lock"),
            MutexInput::Release => format!("{may}released the lock"),
        }
    }

    fn describe_state(&self, held: &bool) -> String {
        if *held { "held" } else { "free" }.to_owned()
    }
}
