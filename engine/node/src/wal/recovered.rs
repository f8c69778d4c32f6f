//! What the log's records add up to.

use quorate_raft::{Entry, HardState, Index, Position};
use quorate_replica::SharedProposal;
use thiserror::Error;

use super::record::Record;

/// The hard state and the log that a row of records describes. Feed it all records in order, then
/// [`finish`](Recovered::finish).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    hard_state: HardState,
    /// The index of the first entry, or of the first to come. What was before it is not known here.
    start: Index,
    entries: Vec<Entry<SharedProposal>>,
    /// The last snapshot that the log has noted.
    noted: Position,
}

impl Default for Recovered {
    fn default() -> Recovered {
        Recovered {
            hard_state: HardState::default(),
            start: Index(1),
            entries: Vec::new(),
            noted: Position::default(),
        }
    }
}

/// Why records and snapshot do not make a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecoveredError {
    /// Entries between the snapshot and the log are missing.
    #[error("the log begins at {begins} but the snapshot ends at {snapshot}")]
    Gap {
        /// The log's first index.
        begins: Index,
        /// What the snapshot covers.
        snapshot: Position,
    },
    /// The log ends too early for what the hard state says.
    #[error("the log ends at {last}, too early for {hard_state:?}")]
    Short {
        /// The log's last entry.
        last: Position,
        /// The hard state.
        hard_state: HardState,
    },
}

impl Recovered {
    /// Takes the next record.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::HardState(hard_state) => self.hard_state = hard_state,
            Record::Entry(entry) => self.put(entry),
            Record::Snapshot(position) => {
                self.noted = position;
                self.note_snapshot(position);
            }
        }
    }

    /// The last snapshot that the log has noted. If the one found on the disk is another, it must be noted
    /// before anything is written: the log would go on behind entries that the snapshot has replaced.
    #[must_use]
    pub fn noted(&self) -> Position {
        self.noted
    }

    /// The hard state so far.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The index that follows the last entry so far.
    #[must_use]
    pub fn next_index(&self) -> Index {
        Index(self.start.0 + self.entries.len() as u64)
    }

    /// The member's hard state, and its log after this snapshot.
    pub fn finish(
        mut self,
        snapshot: Position,
    ) -> Result<(HardState, Vec<Entry<SharedProposal>>), RecoveredError> {
        if self.start > snapshot.index.next() {
            return Err(RecoveredError::Gap { begins: self.start, snapshot });
        }
        // A crash may have come between the snapshot and its note.
        self.note_snapshot(snapshot);
        let covered = (snapshot.index.0 + 1).saturating_sub(self.start.0) as usize;
        self.entries.drain(..covered.min(self.entries.len()));

        let last = self.entries.last().map_or(snapshot, Entry::position);
        let mut hard_state = self.hard_state;
        // A snapshot is committed, and of a term that has begun. A member that got it from a leader may not
        // have heard so otherwise; it cannot have voted in a term that it had not stored.
        hard_state.commit = hard_state.commit.max(snapshot.index);
        if hard_state.term < snapshot.term {
            hard_state = HardState { term: snapshot.term, vote: None, ..hard_state };
        }
        // A write holds the entries before or along with the commit index that covers them, and the term of
        // its entries. So this cannot be a crash's doing.
        if hard_state.commit > last.index || hard_state.term < last.term {
            return Err(RecoveredError::Short { last, hard_state });
        }
        Ok((hard_state, self.entries))
    }

    /// What [`finish`](Recovered::finish) would give now, for whoever goes on to read afterwards. Entries that the
    /// snapshot covers are not even copied.
    pub fn so_far(
        &self,
        snapshot: Position,
    ) -> Result<(HardState, Vec<Entry<SharedProposal>>), RecoveredError> {
        let covered = (snapshot.index.0.saturating_sub(self.start.0) as usize).min(self.entries.len());
        let start = Index(self.start.0 + covered as u64);
        Recovered { start, entries: self.entries[covered..].to_vec(), ..*self }.finish(snapshot)
    }

    fn put(&mut self, entry: Entry<SharedProposal>) {
        if entry.index < self.start || entry.index > self.next_index() {
            // Before the start: replaces everything. After a hole: legal if a snapshot covers the hole, which
            // `finish` finds out.
            self.entries.clear();
            self.start = entry.index;
        }
        self.entries.truncate((entry.index.0 - self.start.0) as usize);
        self.entries.push(entry);
    }

    /// A snapshot at an entry that the log holds changes nothing; at one that it does not hold, it replaces
    /// the log (Raft §7). At an index before the log's start, nobody knows any more; then the log was kept,
    /// or all of it has been replaced since, or a later snapshot follows.
    fn note_snapshot(&mut self, position: Position) {
        if position.index < self.start {
            return;
        }
        let at = (position.index.0 - self.start.0) as usize;
        if self.entries.get(at).is_none_or(|entry| entry.term != position.term) {
            self.entries.clear();
            self.start = position.index.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Term;

    use super::*;
    use crate::testing::put;

    fn recovered(records: impl IntoIterator<Item = Record>) -> Recovered {
        let mut recovered = Recovered::default();
        records.into_iter().for_each(|record| recovered.apply(record));
        recovered
    }

    fn entry(term: u64, index: u64) -> Record {
        Record::Entry(put(term, index, "k", "v"))
    }

    fn position(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    fn hard_state(term: u64, commit: u64) -> Record {
        Record::HardState(HardState { term: Term(term), vote: None, commit: Index(commit) })
    }

    /// The log after a snapshot, as positions.
    fn log(recovered: Recovered, snapshot: Position) -> Result<Vec<Position>, RecoveredError> {
        let so_far = recovered.so_far(snapshot);
        assert_eq!(so_far, recovered.finish(snapshot));
        let (_, entries) = so_far?;
        Ok(entries.iter().map(Entry::position).collect())
    }

    #[test]
    fn a_later_entry_replaces_an_earlier_one_and_all_after_it() {
        let records = [hard_state(2, 0), entry(1, 1), entry(1, 2), entry(1, 3), entry(2, 2)];
        assert_eq!(log(recovered(records), position(0, 0)), Ok(vec![position(1, 1), position(2, 2)]));
    }

    #[test]
    fn entries_that_the_snapshot_covers_are_dropped() {
        let records = || [hard_state(1, 2), entry(1, 1), entry(1, 2), entry(1, 3)];
        assert_eq!(log(recovered(records()), position(1, 2)), Ok(vec![position(1, 3)]));
        assert_eq!(log(recovered(records()), position(1, 3)), Ok(vec![]));
        assert_eq!(log(recovered(records()), position(1, 9)), Ok(vec![]));
    }

    #[test]
    fn a_log_that_disagrees_with_the_snapshot_is_dropped() {
        let records = [hard_state(2, 0), entry(1, 1), entry(1, 2), entry(1, 3)];
        assert_eq!(log(recovered(records), position(2, 2)), Ok(vec![]));
    }

    #[test]
    fn a_log_replaced_by_a_snapshot_goes_on_after_it() {
        let records = [
            hard_state(1, 0),
            entry(1, 1),
            entry(1, 2),
            entry(1, 3),
            Record::Snapshot(position(2, 2)),
            hard_state(2, 2),
            entry(2, 3),
        ];
        assert_eq!(log(recovered(records), position(2, 2)), Ok(vec![position(2, 3)]));
    }

    #[test]
    fn a_hole_is_legal_only_under_a_snapshot() {
        let records = || {
            [
                hard_state(2, 0),
                entry(1, 1),
                Record::Snapshot(position(2, 10)),
                hard_state(2, 10),
                entry(2, 11),
            ]
        };
        assert_eq!(log(recovered(records()), position(2, 10)), Ok(vec![position(2, 11)]));
        let gap = RecoveredError::Gap { begins: Index(11), snapshot: position(1, 1) };
        assert_eq!(log(recovered(records()), position(1, 1)), Err(gap));
    }

    #[test]
    fn a_log_that_a_snapshot_has_overtaken_is_no_log_of_an_older_one() {
        let records = [hard_state(2, 2), entry(1, 1), entry(1, 2), Record::Snapshot(position(2, 10))];
        let gap = RecoveredError::Gap { begins: Index(11), snapshot: position(1, 1) };
        assert_eq!(log(recovered(records), position(1, 1)), Err(gap));
    }

    #[test]
    fn a_log_whose_first_segments_are_pruned_begins_under_the_snapshot() {
        let records = [entry(1, 5), entry(1, 6), hard_state(1, 6), Record::Snapshot(position(1, 4))];
        assert_eq!(log(recovered(records), position(1, 5)), Ok(vec![position(1, 6)]));
    }

    #[test]
    fn a_lost_end_is_noticed() {
        let records = || [hard_state(1, 2), entry(1, 1)];
        assert!(matches!(log(recovered(records()), position(0, 0)), Err(RecoveredError::Short { .. })));
        assert_eq!(log(recovered(records()), position(1, 2)), Ok(vec![]));
        assert!(matches!(
            log(recovered([hard_state(1, 0), entry(2, 1)]), position(0, 0)),
            Err(RecoveredError::Short { .. })
        ));
    }

    #[test]
    fn a_snapshot_of_a_later_term_is_heard_of() {
        let (hard_state, _) = recovered([hard_state(1, 0)]).finish(position(3, 7)).expect("covered");
        assert_eq!(hard_state, HardState { term: Term(3), vote: None, commit: Index(7) });
    }
}
