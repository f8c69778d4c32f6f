//! What is on a machine's disk for sure: its log, read as it is synced.
//!
//! At the core depth an onlooker sees every write and hears when it is durable. Here there is a real log in real files, so the
//! onlooker reads those: whatever a sync has reached is decoded at once, and what members say to each other, and to
//! themselves when they start again, is held against it. (The properties are those of
//! `quorate_sim::invariants::durability` and `log_matching`; Raft figure 2 and §5.3.)
//!
//! An entry is known by its term and the checksum of its record: the same entry is the same bytes on every disk.

use std::collections::BTreeMap;

use quorate_node::wal::record::{Record, Scan};
use quorate_raft::{Body, HardState, NodeId, Term};
use quorate_replica::Message;
use quorate_sim::env::disk::FileId;
use quorate_sim::invariants::{Check, Violation};
use quorate_sim::trace::StatusLine;

use super::disk::SimDisk;

/// What a disk holds for sure.
#[derive(Default)]
pub struct Durable {
    /// The log's files, as far as they were read.
    segments: BTreeMap<FileId, Scan>,
    hard_state: HardState,
    /// How a hard state took back what the one before had promised.
    taken_back: Option<String>,
    /// By index, from behind the snapshot on.
    entries: BTreeMap<u64, Entry>,
    /// What the newest snapshot covers that the log has noted.
    snapshot: u64,
    /// Entries that nobody has looked at yet.
    fresh: Vec<(u64, Entry)>,
}

/// An entry, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    term: Term,
    checksum: u32,
}

/// Every entry that ever was on a disk, by index and term (Raft §5.3: there is only one).
#[derive(Default)]
pub struct Entries(BTreeMap<(u64, u64), u32>);

impl Durable {
    /// These are the bytes of a file that are durable now, its first ones the same as before. Files that are not the log's
    /// are none of its business.
    pub fn on_sync(&mut self, file: FileId, bytes: &[u8]) {
        if !self.segments.contains_key(&file) {
            let Ok(scan) = Scan::begin(bytes) else { return };
            self.segments.insert(file, scan);
        }
        let scan = self.segments.get_mut(&file).expect("it is there");
        let mut checksums = Vec::new();
        let read = scan.extend_by(bytes, true, |body| {
            checksums.push(body.checksum);
            body.decode()
        });
        // A file that cannot be read is what recovery has to notice, not this.
        if read.is_err() {
            return;
        }
        let records = std::mem::take(&mut scan.records);
        for (record, checksum) in records.into_iter().zip(checksums) {
            self.apply(record, checksum);
        }
    }

    fn apply(&mut self, record: Record, checksum: u32) {
        match record {
            Record::HardState(hard_state) => self.promise(hard_state),
            Record::Entry(entry) => {
                let index = entry.index.0;
                self.entries.split_off(&index);
                let entry = Entry { term: entry.term, checksum };
                self.entries.insert(index, entry);
                self.fresh.push((index, entry));
            }
            Record::Snapshot(position) => {
                let index = position.index.0;
                let agrees = self.entries.get(&index).is_some_and(|entry| entry.term == position.term);
                let behind = self.entries.split_off(&(index + 1));
                // A log that does not go on behind the snapshot is replaced by it.
                self.entries = if agrees || index <= self.snapshot { behind } else { BTreeMap::new() };
                self.snapshot = self.snapshot.max(index);
            }
        }
    }

    /// Terms grow, and in each there is one vote (Raft figure 2), through restarts.
    fn promise(&mut self, now: HardState) {
        let before = std::mem::replace(&mut self.hard_state, now);
        let same_term = now.term == before.term && (before.vote.is_none() || now.vote == before.vote);
        if now.term <= before.term && !same_term {
            self.taken_back.get_or_insert_with(|| format!("{before:?} became {now:?}"));
        }
    }

    /// Whether everything up to this index is there.
    fn reaches(&self, index: u64) -> bool {
        index <= self.snapshot || self.entries.contains_key(&index)
    }

    fn last(&self) -> u64 {
        self.entries.keys().next_back().map_or(self.snapshot, |last| (*last).max(self.snapshot))
    }

    /// What it has learned since the last time takes nothing back, and is what all other disks hold there, if the term is the same.
    pub fn compare(&mut self, machine: NodeId, all: &mut Entries) -> Check {
        if let Some(how) = self.taken_back.take() {
            let detail = format!("on the disk of n{machine} {how}");
            return Err(Violation { invariant: "durable votes", detail });
        }
        for (index, Entry { term, checksum }) in self.fresh.drain(..) {
            let first = *all.0.entry((index, term.0)).or_insert(checksum);
            if first != checksum {
                let detail = format!("n{machine} holds another entry {index}@{term} than others have held");
                return Err(Violation { invariant: "log matching", detail });
            }
        }
        Ok(())
    }

    /// The machine's member says this to a peer: what it promises must be on its disk.
    pub fn on_send(&self, machine: NodeId, to: NodeId, message: &Message) -> Check {
        let Message::Raft(message) = message else { return Ok(()) };
        let term = message.term;
        match message.body {
            Body::AppendAck { matched, .. } if !self.reaches(matched.0) => Err(Violation {
                invariant: "durable acknowledgements",
                detail: format!(
                    "n{machine} acknowledges entry {matched} in term {term}; its disk ends at {}",
                    self.last()
                ),
            }),
            Body::VoteReply { granted: true } if !self.has_voted(to, term) => Err(Violation {
                invariant: "durable votes",
                detail: format!(
                    "n{machine} votes for member {to} in term {term}; its disk says {:?}",
                    self.hard_state
                ),
            }),
            _ => Ok(()),
        }
    }

    /// It may have moved on to a later term, durably, before the reply left.
    fn has_voted(&self, to: NodeId, term: Term) -> bool {
        let HardState { term: durable, vote, .. } = self.hard_state;
        durable > term || durable == term && vote == Some(to)
    }

    /// The machine's member has started again, and stands there.
    pub fn on_start(&self, machine: NodeId, line: &StatusLine) -> Check {
        let (term, last) = (self.hard_state.term.0, self.last());
        if line.term >= term && line.last >= last {
            return Ok(());
        }
        Err(Violation {
            invariant: "durable restarts",
            detail: format!("n{machine} had term {term} and entry {last} on its disk and starts as [{line}]"),
        })
    }
}

/// An entry is known to be committed: a majority of these disks, those of all voters, must hold it (Raft §5.3).
pub fn check_commit(index: u64, disks: &[SimDisk]) -> Check {
    // (A snapshot holds what was committed, whatever the term was.)
    let (mut covered, mut held) = (0, BTreeMap::<Term, usize>::new());
    for disk in disks {
        disk.with_durable(|durable| {
            if index <= durable.snapshot {
                covered += 1;
            } else if let Some(entry) = durable.entries.get(&index) {
                *held.entry(entry.term).or_default() += 1;
            }
        });
    }
    let holders = covered + held.values().max().copied().unwrap_or(0);
    if holders * 2 > disks.len() {
        return Ok(());
    }
    let detail = format!("entry {index} is committed and on {holders} of {} disks only", disks.len());
    Err(Violation { invariant: "durable commits", detail })
}
