//! The tail of the log, in memory.
//!
//! The log begins after `start`, which a snapshot covers, and never has a gap. Its marks, in the only
//! order they can have:
//!
//! - `start ≤ emitted ≤ commit ≤ last`: what the owner was given to apply, and what is committed.
//! - `persisted < unwritten ≤ last + 1`: what is durable, and what was not yet handed to the disk.
//! - Entries up to `commit` are never truncated; entries up to `emitted` may be forgotten.
//! - `commit` may be ahead of `persisted`: a quorum of other members' disks is as good as our own.
//!
//! Every entry remembers the write that last carried it to the disk, and is durable if and only if that
//! write is. So the completion of a write cannot be mistaken for that of a later write of other entries
//! at the same indexes (etcd's raft needs a term check and a long comment against this "ABA" confusion).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::entry::{Command, Entry, Payload};
use crate::types::{Index, NodeId, Position, Term, WriteId};

/// The log after its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Log<C> {
    /// The position just before the first entry.
    start: Position,
    entries: VecDeque<Stored<C>>,
    /// The highest committed index known.
    commit: Index,
    /// The highest index given to the owner to apply.
    emitted: Index,
    /// Everything up to here is durable, in the log on disk or in a snapshot.
    persisted: Index,
    /// The first index that was not handed to the disk.
    unwritten: Index,
}

/// An entry, and the write that last carried it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored<C> {
    entry: Entry<C>,
    write: WriteId,
}

impl<C: Command> Log<C> {
    /// A log as found on disk, after a snapshot at `start`. Every entry in it is durable.
    ///
    /// The disk may hold entries that the snapshot made obsolete, namely if the snapshot came from a
    /// leader and this member's log had diverged before the snapshot's index. Such entries are older
    /// than the snapshot's last entry: a leader that made an entry after that one, in its term or later,
    /// had that one in its log. So a lower term tells them, and they must not count in elections.
    pub(crate) fn recover(start: Position, entries: Vec<Entry<C>>, commit: Index) -> Log<C> {
        let mut log = Log {
            start,
            entries: VecDeque::with_capacity(entries.len()),
            commit: start.index,
            emitted: start.index,
            persisted: start.index,
            unwritten: start.index.next(),
        };
        for entry in entries.into_iter().skip_while(|entry| entry.index <= start.index) {
            if log.entries.is_empty() && entry.term < start.term {
                break;
            }
            log.append(entry, WriteId(0));
        }
        log.persisted = log.last().index;
        log.unwritten = log.persisted.next();
        // The commit index can be more durable than the entries: it is only a hint.
        log.commit = commit.clamp(start.index, log.last().index);
        log
    }

    pub(crate) fn start(&self) -> Position {
        self.start
    }

    pub(crate) fn last(&self) -> Position {
        self.entries.back().map_or(self.start, |stored| stored.entry.position())
    }

    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    pub(crate) fn persisted(&self) -> Index {
        self.persisted
    }

    pub(crate) fn emitted(&self) -> Index {
        self.emitted
    }

    /// The entries from `first` on.
    pub(crate) fn entries_from(&self, first: Index) -> impl Iterator<Item = &Entry<C>> {
        let skip = self.offset(first).unwrap_or(0);
        self.entries.range(skip.min(self.entries.len())..).map(|stored| &stored.entry)
    }

    /// The term of the entry at `index`, if the log reaches there and still knows.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.entries.get(self.offset(index)?).map(|stored| stored.entry.term)
    }

    /// Whether the log contains the entry at this position. Log matching (Raft §5.3): if so, it equals
    /// the log of every other member that contains it, up to there.
    pub(crate) fn contains(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The last position at or below `limit.index` whose term is at most `limit.term`.
    ///
    /// If another log does not contain an entry of ours at `limit.index` but ends (or conflicts) at
    /// `limit`, then nothing after the result can be common to both. Each side asks its own log this, so
    /// that one exchange skips whole terms on both sides.
    pub(crate) fn common_at_most(&self, limit: Position) -> Position {
        let index = limit.index.min(self.last().index);
        let Some(offset) = self.offset(index) else { return self.start };
        let older = self.entries.range(..=offset).rev().find(|stored| stored.entry.term <= limit.term);
        older.map_or(self.start, |stored| stored.entry.position())
    }

    /// Adds an entry after the last one; `write` will carry it.
    pub(crate) fn append(&mut self, entry: Entry<C>, write: WriteId) {
        let last = self.last();
        assert!(entry.index == last.index.next(), "an entry follows the last one without a gap");
        assert!(entry.term >= last.term, "terms never decrease along the log");
        self.entries.push_back(Stored { entry, write });
    }

    /// Forgets the entry at `from` and all after it, because they conflict with a leader's.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.commit, "a committed entry is never truncated");
        let keep = self.offset(from).expect("entries after the commit index are in memory");
        self.entries.truncate(keep);
        self.persisted = self.persisted.min(from.prev());
        self.unwritten = self.unwritten.min(from);
    }

    /// Learns that everything up to `index` is committed.
    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.last().index, "only entries in the log are committed");
        self.commit = self.commit.max(index);
    }

    /// The entries committed since the last call.
    pub(crate) fn take_committed(&mut self) -> Vec<Entry<C>> {
        if self.emitted == self.commit {
            return Vec::new();
        }
        let first = self.emitted.next();
        let count = usize::try_from(self.commit.0 - self.emitted.0).expect("entries fit in memory");
        self.emitted = self.commit;
        self.entries_from(first).take(count).cloned().collect()
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten <= self.last().index
    }

    /// The entries to hand to the disk.
    pub(crate) fn take_unwritten(&mut self) -> Vec<Entry<C>> {
        let entries = self.entries_from(self.unwritten).cloned().collect();
        self.unwritten = self.last().index.next();
        entries
    }

    /// Learns that every write up to this one is durable.
    pub(crate) fn on_persisted(&mut self, write: WriteId) {
        while let Some(offset) = self.offset(self.persisted.next()) {
            match self.entries.get(offset) {
                Some(stored) if stored.write <= write => self.persisted = self.persisted.next(),
                _ => break,
            }
        }
    }

    /// Entries from `first` on to send to a peer: at least one if there is one, else as many as fit.
    pub(crate) fn slice(&self, first: Index, bytes_max: usize) -> Vec<Entry<C>> {
        let mut bytes = 0;
        let fits = |entry: &&Entry<C>| {
            let before = bytes;
            bytes += entry_size(entry);
            before == 0 || bytes <= bytes_max
        };
        self.entries_from(first).take_while(fits).cloned().collect()
    }

    /// Learns that a durable snapshot covers everything up to `index`, which is therefore durable
    /// even if the log on disk is not that far.
    pub(crate) fn on_snapshot(&mut self, index: Index) {
        assert!(index <= self.commit, "a snapshot covers committed entries");
        self.persisted = self.persisted.max(index);
        self.unwritten = self.unwritten.max(index.next());
    }

    /// Forgets the entries up to `index`, which are durable, be it in the log on disk or in a snapshot.
    pub(crate) fn compact(&mut self, index: Index) {
        assert!(index <= self.emitted, "the owner was given what it compacts");
        let Some(term) = self.term_at(index) else { return };
        while self.entries.front().is_some_and(|stored| stored.entry.index <= index) {
            self.entries.pop_front();
        }
        self.start = Position { term, index };
    }

    /// Starts anew after a snapshot at `start` that this log does not contain.
    ///
    /// By the argument of [`Log::recover`], none of the entries after `start.index` can be
    /// committed or acknowledged to a leader whose log contains `start`.
    pub(crate) fn restore(&mut self, start: Position) {
        assert!(start.index > self.commit, "a snapshot never takes the state back");
        *self = Log::recover(start, Vec::new(), start.index);
    }

    /// Where an index is in `entries` (or would be, past the end); none at or before the start.
    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.0.checked_sub(self.start.index.0 + 1)?;
        usize::try_from(offset).ok()
    }
}

/// About how many bytes an entry takes in a message.
fn entry_size<C: Command>(entry: &Entry<C>) -> usize {
    const OVERHEAD: usize = 32;
    match &entry.payload {
        Payload::Command(command) => OVERHEAD + command.size(),
        Payload::Membership(membership) => {
            let members = membership.configuration.members().count() * size_of::<NodeId>();
            OVERHEAD + members + membership.command.as_ref().map_or(0, Command::size)
        }
        Payload::Noop => OVERHEAD,
    }
}
