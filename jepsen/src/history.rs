//! Histories: what clients asked, what they were told, and when.
//!
//! Programs record one with [`History::invoke`] and [`History::ok`]:
//!
//! ```
//! use quorate_jepsen::History;
//!
//! let mut history: History<&str, i64> = History::new();
//! let write = history.invoke(1, 100, "write 5"); // process 1 calls at time 100
//! let read = history.invoke(2, 110, "read");
//! history.ok(read, 120, 5);
//! // `write` is never answered: its outcome is unknown.
//! assert!(history.operations[0].returned.is_none());
//! # let _ = write;
//! ```
//!
//! Times are `u64`s of any unit, taken from one clock. Only their order matters, except where an engine
//! says otherwise (lease times to live).

use std::fmt;

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<I, O> {
    /// Which client. Only for people: no engine assumes that a process does one thing at a time.
    pub process: u64,
    /// When it was called.
    pub call: u64,
    /// What was asked.
    pub input: I,
    /// When it returned and what was answered; `None` if the outcome is unknown.
    pub returned: Option<Returned<O>>,
}

/// The end of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned<O> {
    /// When; not before the call.
    pub at: u64,
    /// What was answered.
    pub output: O,
}

impl<I, O> Operation<I, O> {
    /// When it returned; the end of time if the outcome is unknown.
    #[must_use]
    pub fn return_time(&self) -> u64 {
        self.returned.as_ref().map_or(u64::MAX, |returned| returned.at)
    }

    /// What was answered, if anything was.
    pub fn output(&self) -> Option<&O> {
        self.returned.as_ref().map(|returned| &returned.output)
    }

    /// Whether it ended before `other` began.
    pub fn precedes<J, P>(&self, other: &Operation<J, P>) -> bool {
        self.return_time() < other.call
    }
}

/// Names an operation while a history is being recorded: its index in [`History::operations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub usize);

/// What clients of one system saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<I, O> {
    /// All operations, in the order of their calls if recorded by [`History::invoke`]. No engine relies on
    /// the order.
    pub operations: Vec<Operation<I, O>>,
    failed: Vec<OperationId>,
}

impl<I, O> Default for History<I, O> {
    fn default() -> Self {
        History { operations: Vec::new(), failed: Vec::new() }
    }
}

impl<I, O> History<I, O> {
    /// An empty history.
    #[must_use]
    pub fn new() -> Self {
        History::default()
    }

    /// Process `process` asks `input` at time `at`. Until [`History::ok`] the outcome is unknown.
    pub fn invoke(&mut self, process: u64, at: u64, input: I) -> OperationId {
        self.operations.push(Operation { process, call: at, input, returned: None });
        OperationId(self.operations.len() - 1)
    }

    /// The operation was answered.
    ///
    /// # Panics
    /// If it already was, or if it returns before it was called: the recorder is at fault, not the system.
    pub fn ok(&mut self, id: OperationId, at: u64, output: O) {
        let operation = &mut self.operations[id.0];
        assert!(operation.returned.is_none(), "operation {} returns twice", id.0);
        assert!(operation.call <= at, "operation {} returns before its call", id.0);
        operation.returned = Some(Returned { at, output });
    }

    /// The operation certainly did not happen and its error tells nothing about the state. It is taken out
    /// of the history by [`History::finish`]. Never use this for a time-out.
    pub fn fail(&mut self, id: OperationId) {
        self.failed.push(id);
    }

    /// Ends the recording: takes out what failed. Indices change.
    #[must_use]
    pub fn finish(mut self) -> Self {
        let mut failed = std::mem::take(&mut self.failed);
        failed.sort_unstable();
        let mut index = 0;
        self.operations.retain(|_| {
            let keep = failed.binary_search(&OperationId(index)).is_err();
            index += 1;
            keep
        });
        self
    }
}

impl<I, O> FromIterator<Operation<I, O>> for History<I, O> {
    fn from_iter<T: IntoIterator<Item = Operation<I, O>>>(operations: T) -> Self {
        History { operations: operations.into_iter().collect(), failed: Vec::new() }
    }
}

impl<I: fmt::Display, O: fmt::Display> fmt::Display for Operation<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} [{}, ", self.process, self.call)?;
        match &self.returned {
            Some(returned) => write!(f, "{}] {} -> {}", returned.at, self.input, returned.output),
            None => write!(f, "?] {} -> unknown", self.input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_operations_leave_the_history() {
        let mut history: History<u8, u8> = History::new();
        let first = history.invoke(0, 1, 10);
        let second = history.invoke(1, 2, 20);
        history.ok(second, 3, 21);
        history.fail(first);
        let history = history.finish();
        assert_eq!(history.operations.len(), 1);
        assert_eq!(history.operations[0].input, 20);
        assert_eq!(history.operations[0].output(), Some(&21));
    }

    #[test]
    fn equal_times_are_concurrent() {
        let first =
            Operation { process: 0, call: 1, input: (), returned: Some(Returned { at: 5, output: () }) };
        let second = Operation { process: 1, call: 5, input: (), returned: None::<Returned<()>> };
        assert!(!first.precedes(&second));
        assert!(!second.precedes(&first), "an operation that never returned precedes nothing");
    }
}
