//! What was: the state at the end of what is judged, and the changes before it, as many as fit.

use super::super::order::EtcdOperation;
use super::super::outcome::{Reply, Response};
use super::super::request::{Range, Request};
use super::super::store::Store;
use super::super::watch::{self, Change, Log, WatchStream};
use crate::Violation;

/// States, from the horizon up to the base.
pub(super) struct Past {
    /// With the versions from the horizon on.
    store: Store,
    log: Log,
    /// The oldest revision whose state is known.
    horizon: i64,
    /// Stretches of revisions whose states are those of one explanation of several: from the first guess up to where the
    /// state is certain again.
    guessed: Vec<(i64, i64)>,
    bytes: usize,
    bytes_max: usize,
}

impl Past {
    /// Nothing is known but this state.
    pub fn new(store: Store, bytes_max: usize) -> Past {
        let horizon = store.revision();
        Past { store, log: Log::default(), horizon, guessed: Vec::new(), bytes: 0, bytes_max }
    }

    /// The revision up to which everything is judged.
    pub fn base(&self) -> i64 {
        self.store.revision()
    }

    /// The oldest revision whose state is known.
    pub fn horizon(&self) -> i64 {
        self.horizon
    }

    /// The present state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The state to judge a part from, with what is needed to read at an older revision.
    pub fn initial(&self, oldest: i64) -> Store {
        if oldest < self.base() {
            return self.store.clone();
        }
        Store::at(self.base(), self.store.present().cloned())
    }

    /// Goes on.
    pub fn extend(&mut self, changes: &[Change], compacted: bool) {
        self.log.compacted |= compacted;
        for change in changes {
            self.store.add(change);
            self.bytes += size(change);
            self.log.changes.push(change.clone());
        }
        if self.bytes <= self.bytes_max {
            return;
        }
        // Half at a time, so that what is left is moved seldom.
        let mut gone = 0;
        while self.bytes > self.bytes_max / 2 && gone < self.log.changes.len() {
            self.bytes -= size(&self.log.changes[gone]);
            gone += 1;
        }
        let gone: Vec<Change> = self.log.changes.drain(..gone).collect();
        self.horizon = gone.last().map_or(self.horizon, |change| change.revision);
        self.guessed.retain(|(_, end)| *end > self.horizon);
        for event in gone.iter().flat_map(|change| &change.events) {
            self.store.forget(&event.kv.key, self.horizon);
        }
    }

    /// Not all explanations have the same states from the first of these revisions on, up to the last.
    pub fn note_guesses(&mut self, first: i64, certain: i64) {
        if first < certain {
            self.guessed.push((first, certain));
        }
    }

    /// Whether some state of these revisions is one explanation's only.
    pub fn is_guessed(&self, first: i64, last: i64) -> bool {
        self.guessed.iter().any(|(begin, end)| first < *end && *begin <= last)
    }

    /// Judges a serializable read of a state that is past; none if that is forgotten.
    pub fn judge_stale(
        &mut self,
        index: usize,
        operation: &EtcdOperation,
        response: &Response,
    ) -> Option<Result<(), Violation>> {
        let Ok(reply) = &response.result else { return Some(Ok(())) };
        let at = response.revision;
        if at < self.horizon {
            return None;
        }
        let mut requests: Vec<(&Range, &Reply)> = Vec::new();
        match (&operation.input, reply) {
            (Request::Range(range), reply) => requests.push((range, reply)),
            (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
                // Its compares are of the same state, which the store cannot go back to.
                if !txn.compares.is_empty() {
                    return None;
                }
                let branch = if *succeeded { &txn.success } else { &txn.failure };
                for (request, reply) in branch.iter().zip(replies) {
                    let Request::Range(range) = request else { return None };
                    requests.push((range, reply));
                }
            }
            _ => return None,
        }
        for (range, reply) in requests {
            let revision = if range.revision > 0 { range.revision } else { at };
            if revision < self.horizon {
                return None;
            }
            let expected = match self.store.execute(&Request::Range(Range { revision, ..range.clone() })) {
                Ok(applied) => applied.expected,
                Err(_) => return None,
            };
            if !expected.permits(reply) && self.is_guessed(revision, revision) {
                return None;
            }
            if !expected.permits(reply) {
                let expected = expected.into_reply();
                let sentence =
                    format!("{operation} [#{index}], but the answer at that revision is {expected}");
                return Some(Err(Violation { rule: "stale-prefix", sentence, operations: vec![index] }));
            }
        }
        Some(Ok(()))
    }

    /// Judges what a watch received; none if that is of what is forgotten.
    pub fn judge_watch(&self, index: usize, stream: &WatchStream) -> Option<Result<(), Violation>> {
        let events = stream.responses.iter().flat_map(|response| &response.events);
        let first = match stream.request.start_revision {
            0 => events.map(watch::Event::revision).min().unwrap_or(i64::MAX),
            start => start,
        };
        let shows = watch::last_revision(stream) >= first;
        // The changes that are kept begin behind the horizon.
        if shows && first <= self.horizon && self.horizon > 1 {
            return None;
        }
        match watch::check_content(index, stream, &self.log) {
            Err(_) if self.is_guessed(first, watch::last_revision(stream)) => None,
            judged => Some(judged),
        }
    }
}

/// The memory that a change takes, about.
fn size(change: &Change) -> usize {
    let of_event = |event: &watch::Event| {
        let previous =
            event.previous.as_ref().map_or(0, |kv| kv.key.as_slice().len() + kv.value.as_slice().len());
        EVENT_BYTES + event.kv.key.as_slice().len() + event.kv.value.as_slice().len() + previous
    };
    CHANGE_BYTES + change.events.iter().map(of_event).sum::<usize>()
}

const CHANGE_BYTES: usize = 48;
const EVENT_BYTES: usize = 320;
