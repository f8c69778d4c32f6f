//! What happened, by revision: what watchers and snapshots read.
//!
//! Revisions are consecutive, so the events of a revision are found by subtraction. Nearly every
//! revision has one event; that case takes one pointer and no allocation of its own. Storage comes in
//! chunks, so that growing never copies what is there.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::slice;

use serde::{Deserialize, Serialize};

use crate::key_value::KeyValue;
use crate::revision::Revision;

/// The events of consecutive revisions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct History {
    /// The first revision kept.
    first: Revision,
    /// The revision after the last one kept.
    next: Revision,
    /// How many entries of the first chunk have been forgotten.
    skipped: usize,
    /// All but the last hold `CHUNK_LEN` entries.
    chunks: VecDeque<Vec<Entry>>,
}

/// The events of one revision.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Entry {
    One(Arc<KeyValue>),
    Many(Box<[Arc<KeyValue>]>),
}

const _: () = assert!(size_of::<Entry>() == 2 * size_of::<usize>(), "the tag takes no room of its own");

impl History {
    /// An empty history, to begin with the events of `first`.
    pub(crate) fn starting_at(first: Revision) -> History {
        History { first, next: first, skipped: 0, chunks: VecDeque::new() }
    }

    /// The first revision whose events are kept; if there are none, the revision that comes next.
    pub(crate) fn first(&self) -> Revision {
        self.first
    }

    /// The revision that comes next.
    pub(crate) fn next(&self) -> Revision {
        self.next
    }

    /// The events of a revision in the order in which they happened; empty if it is not kept.
    pub(crate) fn events(&self, revision: Revision) -> &[Arc<KeyValue>] {
        if revision < self.first || revision >= self.next {
            return &[];
        }
        let at = self.skipped + (revision.0 - self.first.0) as usize;
        match &self.chunks[at / CHUNK_LEN][at % CHUNK_LEN] {
            Entry::One(event) => slice::from_ref(event),
            Entry::Many(events) => events,
        }
    }

    /// Adds the next revision. Leaves `events` empty, with its capacity.
    pub(crate) fn push(&mut self, revision: Revision, events: &mut Vec<Arc<KeyValue>>) {
        assert_eq!(revision, self.next, "history has no gaps");
        assert!(!events.is_empty(), "a revision without events does not exist");
        let entry = match events.len() {
            1 => Entry::One(events.pop().expect("there is one")),
            _ => Entry::Many(events.drain(..).collect()),
        };
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK_LEN => chunk.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK_LEN);
                chunk.push(entry);
                self.chunks.push_back(chunk);
            }
        }
        self.next = revision.next();
    }

    /// Forgets the first revision. Memory is given back a chunk at a time.
    pub(crate) fn pop_first(&mut self) {
        assert!(self.first < self.next, "there is something to forget");
        self.first = self.first.next();
        self.skipped += 1;
        if self.skipped == CHUNK_LEN {
            self.chunks.pop_front();
            self.skipped = 0;
        }
    }
}

/// How many revisions share one allocation.
const CHUNK_LEN: usize = 512;
