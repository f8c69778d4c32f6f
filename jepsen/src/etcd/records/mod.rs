//! A history of etcd as the engine reads it: one record of 48 bytes per operation, in one array.
//!
//! Nearly all of a long history are gets, puts, deletions and guarded puts of single keys, answered as they
//! usually are. Such an operation is *plain*: its record says everything, keys and values are numbers
//! ([`Atoms`]), and what a get showed is 16 bytes in a second array. Everything else (ranges, leases,
//! options, refusals, unknown outcomes, numbers beyond 32 bits) is *rare* and kept as it is. So a walk through
//! a million operations touches 60 MB in their order and no heap, and files are read into records directly.
//!
//! [`EtcdHistory`] is what people record and change; either can be made of the other without a loss.

mod atoms;
mod plain;

use std::borrow::Cow;

pub(in crate::etcd) use atoms::{Atom, Atoms, NO_ATOM};
pub(crate) use plain::{Does, Guard, Plain, Shown};

use super::EtcdHistory;
use super::order::EtcdOperation;
use super::request::Request;
use super::watch::WatchStream;
use crate::history::History;

/// A history of etcd, compact. See [`EtcdHistory`] for the same in the open.
#[derive(Clone, Debug, Default)]
pub struct Records<'a> {
    records: Vec<Record>,
    seen: Vec<Seen>,
    /// What is not plain, with its place.
    rare: Vec<Rare<'a>>,
    /// The members that answered.
    members: Vec<u64>,
    atoms: Atoms,
    watches: Cow<'a, [WatchStream]>,
}

/// An operation. What its fields mean depends on its kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub call: u64,
    /// The end of time if the outcome is unknown.
    pub end: u64,
    /// Of the response; zero if it is rare.
    pub revision: u32,
    process: u32,
    pub key: Atom,
    /// What it writes.
    pub value: Atom,
    /// A guarded put: the mod revision that the key must have.
    pub expected: u32,
    /// What it showed, or its number among the rare ones.
    detail: u32,
    /// The number of the member that answered.
    member: u16,
    pub kind: Kind,
    flags: u8,
}

const _: () = assert!(size_of::<Record>() == 48, "three quarters of a cache line");

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something else, kept as it is.
    Rare,
    /// A linearizable read of one key.
    Get,
    /// A put without options.
    Put,
    /// A deletion of one key.
    Delete,
    /// A put of a key if that has a certain mod revision; otherwise nothing, or a get of it.
    Guarded,
}

/// A version that a plain operation showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub value: Atom,
    pub modified: u32,
    pub created: u32,
    pub version: u32,
}

/// An operation that is not plain.
#[derive(Clone, Debug)]
pub(super) struct Rare<'a> {
    /// Its place in the history.
    pub index: u32,
    pub operation: Cow<'a, EtcdOperation>,
}

/// A version is shown.
const SHOWS: u8 = 1;
/// It changed its key: a deletion found it, or a guard held.
const CHANGES: u8 = 2;
/// A guarded put has a get for the other case.
const OR_GET: u8 = 4;

/// No member is named.
const NOBODY: u16 = u16::MAX;

impl Record {
    /// Whether it changed its key.
    pub fn changes(&self) -> bool {
        self.flags & CHANGES != 0
    }

    /// Whether it read its key, and so showed it or that it was not there.
    pub fn reads(&self) -> bool {
        match self.kind {
            Kind::Get => true,
            Kind::Guarded => self.flags & (OR_GET | CHANGES) == OR_GET,
            Kind::Put | Kind::Delete | Kind::Rare => false,
        }
    }
}

impl<'a> Records<'a> {
    /// The records of a history, which lends what is not plain.
    #[must_use]
    pub fn of(history: &'a EtcdHistory) -> Records<'a> {
        let operations = &history.operations.operations;
        let mut records = Records { watches: Cow::Borrowed(&history.watches), ..Records::default() };
        records.records.reserve_exact(operations.len());
        for operation in operations {
            records.add(Cow::Borrowed(operation));
        }
        records
    }

    /// Adds an operation.
    pub fn push(&mut self, operation: EtcdOperation) {
        self.add(Cow::Owned(operation));
    }

    /// Adds a watch.
    pub fn push_watch(&mut self, watch: WatchStream) {
        self.watches.to_mut().push(watch);
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The watch streams.
    #[must_use]
    pub fn watches(&self) -> &[WatchStream] {
        &self.watches
    }

    /// An operation in the open.
    #[must_use]
    pub fn operation(&self, index: usize) -> Cow<'_, EtcdOperation> {
        let record = &self.records[index];
        match record.kind {
            Kind::Rare => Cow::Borrowed(&*self.rare[record.detail as usize].operation),
            _ => Cow::Owned(self.opened(record)),
        }
    }

    /// The whole history in the open.
    #[must_use]
    pub fn history(&self) -> EtcdHistory {
        let operations = (0..self.len()).map(|index| self.operation(index).into_owned());
        EtcdHistory {
            operations: operations.collect::<History<_, _>>(),
            watches: self.watches.clone().into_owned(),
        }
    }

    /// Whether some answer lacks the revision that would place it.
    #[must_use]
    pub fn lacks_revisions(&self) -> bool {
        let mut answers = self.rare.iter().filter_map(|rare| rare.operation.output());
        answers.any(|response| response.revision == 0 && response.result.is_ok())
    }

    /// The memory that this takes, what is rare aside.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
            + self.seen.capacity() * size_of::<Seen>()
            + self.rare.capacity() * size_of::<Rare<'_>>()
            + self.atoms.memory()
    }

    pub(super) fn all(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn rare(&self) -> &[Rare<'a>] {
        &self.rare
    }

    pub(super) fn atoms(&self) -> &Atoms {
        &self.atoms
    }

    /// The number of an operation among the rare ones.
    pub(super) fn rare_number(&self, record: &Record) -> Option<u32> {
        (record.kind == Kind::Rare).then_some(record.detail)
    }

    /// A rare operation.
    pub(super) fn rare_of(&self, record: &Record) -> Option<&EtcdOperation> {
        self.rare_number(record).map(|number| &*self.rare[number as usize].operation)
    }

    /// The version that a plain operation showed.
    pub(super) fn seen(&self, record: &Record) -> Option<&Seen> {
        (record.flags & SHOWS != 0).then(|| &self.seen[record.detail as usize])
    }

    /// The revision in the response; zero if there is none.
    pub(super) fn revision(&self, index: usize) -> i64 {
        let record = &self.records[index];
        match self.rare_of(record) {
            Some(operation) => operation.output().map_or(0, |response| response.revision),
            None => i64::from(record.revision),
        }
    }

    /// The member that answered.
    pub(super) fn member(&self, index: usize) -> Option<u64> {
        let record = &self.records[index];
        match self.rare_of(record) {
            Some(operation) => operation.output().and_then(|response| response.member),
            None => self.members.get(record.member as usize).copied(),
        }
    }

    /// Whether an operation ended before another began.
    pub(super) fn precedes(&self, earlier: usize, later: usize) -> bool {
        self.records[earlier].end < self.records[later].call
    }

    /// Adds an operation that is lent, or not.
    pub(super) fn add(&mut self, operation: Cow<'a, EtcdOperation>) {
        let is_plain = match plain::of(&operation) {
            Some(plain) => self.push_plain(&plain),
            None => false,
        };
        if is_plain {
            return;
        }
        note_written(&operation.input, &mut self.atoms);
        let index = self.records.len() as u32;
        self.records.push(Record {
            call: operation.call,
            end: operation.return_time(),
            revision: 0,
            process: 0,
            key: NO_ATOM,
            value: NO_ATOM,
            expected: 0,
            detail: self.rare.len() as u32,
            member: NOBODY,
            kind: Kind::Rare,
            flags: 0,
        });
        self.rare.push(Rare { index, operation });
    }
}

impl From<EtcdHistory> for Records<'static> {
    fn from(history: EtcdHistory) -> Self {
        let mut records = Records { watches: Cow::Owned(history.watches), ..Records::default() };
        records.records.reserve_exact(history.operations.operations.len());
        history.operations.operations.into_iter().for_each(|operation| records.push(operation));
        records
    }
}

/// Equal if they record the same.
impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.watches == other.watches
            && self.len() == other.len()
            && (0..self.len()).all(|index| self.operation(index) == other.operation(index))
    }
}

/// Gives numbers to all that a request may write.
fn note_written(request: &Request, atoms: &mut Atoms) {
    match request {
        Request::Put(put) => {
            atoms.intern(put.key.as_slice());
            atoms.intern(put.value.as_slice());
        }
        Request::Txn(txn) => {
            txn.success.iter().chain(&txn.failure).for_each(|request| note_written(request, atoms));
        }
        _ => {}
    }
}
