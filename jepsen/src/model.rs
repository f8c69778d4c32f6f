//! What a sequential object is: the one thing that a user of the general search has to write.
//!
//! ```
//! use quorate_jepsen::{History, Limits, Model, check};
//!
//! /// A counter that answers an increment with the number before it.
//! struct Counter;
//!
//! impl Model for Counter {
//!     type Input = ();
//!     type Output = u64;
//!     type State = u64;
//!
//!     fn init(&self) -> u64 {
//!         0
//!     }
//!
//!     fn step(&self, state: &u64, _: &(), output: Option<&u64>) -> Option<u64> {
//!         // An unknown output (`None`) is compatible with every state.
//!         output.is_none_or(|output| output == state).then_some(state + 1)
//!     }
//! }
//!
//! let mut history = History::new();
//! let first = history.invoke(1, 0, ());
//! let second = history.invoke(2, 1, ());
//! history.ok(second, 2, 0);
//! history.ok(first, 3, 1);
//! assert!(check(&Counter, &history, &Limits::default()).is_valid());
//!
//! let third = history.invoke(1, 4, ());
//! history.ok(third, 5, 1); // again!
//! assert!(check(&Counter, &history, &Limits::default()).is_invalid());
//! ```

use std::fmt::Debug;
use std::hash::Hash;

use crate::history::Operation;

/// A sequential object. Only the first two functions are needed; the others make checks faster or their
/// messages clearer, and each must keep its promise or verdicts go wrong.
pub trait Model: Sync {
    /// What can be asked.
    type Input: Clone + Eq + Hash + Debug + Sync;
    /// What can be answered.
    type Output: Clone + Eq + Hash + Debug + Sync;
    /// What is remembered. Equal states must behave alike.
    type State: Clone + Eq + Hash + Debug;

    /// The state before the first operation.
    fn init(&self) -> Self::State;

    /// The state after `input`, or `None` if `input` cannot be answered by `output` in `state`. Without an
    /// output (it is unknown) any answer is possible.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// Whether this operation, answered like this, leaves every state as it is. Promise: then `step` never
    /// gives a state that differs from the one before.
    fn is_read(&self, _input: &Self::Input, _output: Option<&Self::Output>) -> bool {
        false
    }

    /// The part of the object that this operation concerns. Promise: parts are independent of each other.
    /// Used if every operation of a history names one.
    fn partition_key<'a>(&self, _input: &'a Self::Input) -> Option<&'a str> {
        None
    }

    /// Whether the next two functions are of any use.
    fn looks_ahead(&self) -> bool {
        false
    }

    /// Whether `state` is on the way to a state in which the read `input` is answered by `output`, without a
    /// write that [`Model::produces`] that answer.
    fn is_on_the_way(&self, _state: &Self::State, _input: &Self::Input, _output: &Self::Output) -> bool {
        true
    }

    /// Whether `write` leads to a state that is on the way to `read`'s answer from one that is not. Promise:
    /// every operation that does is named here.
    fn produces(
        &self,
        _write: (&Self::Input, Option<&Self::Output>),
        _read: (&Self::Input, &Self::Output),
    ) -> bool {
        true
    }

    /// Whether two states behave alike if neither is on the way to the answer of any read of the history. Promise: then
    /// every operation that is not such a read is legal in both, and leads to states that behave alike.
    fn unseen_states_are_alike(&self) -> bool {
        false
    }

    /// Calls `visit` with every value that the operation writes or finds. Promise, if true is returned for
    /// all operations: leaving out all operations of a value, and of all values tied to it by an operation
    /// that has both, leaves the others as legal as they were. Without this, counterexamples keep all writes.
    fn values(
        &self,
        _input: &Self::Input,
        _output: Option<&Self::Output>,
        _visit: &mut dyn FnMut(&dyn Debug),
    ) -> bool {
        false
    }

    /// An engine of the model's own for a whole partition, if it has one that fits: the operations that
    /// refute it (indices into `operations`) and a sentence that says why.
    fn decide(
        &self,
        _operations: &[&Operation<Self::Input, Self::Output>],
    ) -> Option<Result<(), Refutation>> {
        None
    }

    /// Of a partition that the search has refuted: what shows it most simply, if the model knows better than leaving
    /// out operations one by one. Promise: these operations alone show it.
    fn simplest(&self, _operations: &[&Operation<Self::Input, Self::Output>]) -> Option<Refutation> {
        None
    }

    /// An operation in words.
    fn describe(&self, input: &Self::Input, output: Option<&Self::Output>) -> String {
        match output {
            Some(output) => format!("{input:?} -> {output:?}"),
            None => format!("{input:?} -> unknown"),
        }
    }

    /// A state in words.
    fn describe_state(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }
}

/// Why a model's own engine refutes a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refutation {
    /// The operations that show it, the offender first.
    pub operations: Vec<usize>,
    /// Why.
    pub sentence: String,
}
