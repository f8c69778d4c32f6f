//! List-append: what depends on what, if transactions append to lists and read them.
//!
//! A read of a list shows its history: whoever reads `[1 2 3]` saw the versions made by the appends of 1, 2
//! and 3, in that order. So the longest read of a key is the order of its versions, every other read must be
//! a beginning of it, and dependencies follow: who appended the next element overwrote (write-write) the one
//! before and everybody who read up to it (read-write). An append that nobody read came after all that was
//! read. Source: Kingsbury & Alvaro, VLDB 2020, section 4.
//!
//! Everything is linear: reads are compared as slices, and elements are found by direct tables per key.

use super::check::{Limits, Unfit};
use super::graph::{Edges, kind};
use super::history::{Code, Index, NOBODY, Outcome, Step, StepKind, Transactions};
use super::report::Dependency;
use crate::hash::FastMap;
use crate::value::Value;

/// The order of versions of every key.
pub(super) struct Versions {
    /// By key: where its elements are; one more at the end.
    pub first: Vec<u32>,
    /// All keys' elements, in the order of the versions that they made.
    pub elements: Vec<Code>,
    /// Who appended the element, aborted or not.
    pub writer: Vec<Index>,
    /// Whether the append was the last of its transaction to the key.
    pub is_last: Vec<bool>,
    tables: Vec<Table>,
    places: Vec<u32>,
    sparse: FastMap<(u32, Code), u32>,
    /// Appends that nobody read, by key: sorted pairs of key and transaction.
    pub unread: Vec<(u32, Index)>,
}

/// Finds elements of one key: by their difference from `base` if they are dense.
#[derive(Clone, Copy, Default)]
struct Table {
    base: Code,
    start: u32,
    length: u32,
}

/// How a read looks by the order of versions.
pub(super) enum Shown {
    /// A beginning of the order.
    Version,
    /// An element twice.
    Duplicates,
    /// Something else.
    Incompatible,
}

impl Versions {
    /// Finds the order of versions.
    pub fn new(transactions: &Transactions) -> Result<Versions, Unfit> {
        let keys = transactions.keys();
        let longest = longest_reads(transactions);
        let mut versions = Versions {
            first: Vec::with_capacity(keys + 1),
            elements: Vec::new(),
            writer: Vec::new(),
            is_last: Vec::new(),
            tables: Vec::with_capacity(keys),
            places: Vec::new(),
            sparse: FastMap::default(),
            unread: Vec::new(),
        };
        versions.first.push(0);
        for (key, values) in longest.into_iter().enumerate() {
            versions.add_key(key as u32, values);
        }
        versions.writer = vec![NOBODY; versions.elements.len()];
        versions.is_last = vec![false; versions.elements.len()];
        versions.find_writers(transactions)?;
        Ok(versions)
    }

    /// The elements of a key.
    #[inline]
    pub fn of(&self, key: u32) -> &[Code] {
        &self.elements[self.range(key)]
    }

    #[inline]
    pub fn range(&self, key: u32) -> std::ops::Range<usize> {
        self.first[key as usize] as usize..self.first[key as usize + 1] as usize
    }

    /// Where an element is among its key's.
    #[inline]
    pub fn place(&self, key: u32, code: Code) -> Option<usize> {
        let table = &self.tables[key as usize];
        let offset = code.wrapping_sub(table.base);
        if (0..Code::from(table.length)).contains(&offset) {
            let place = self.places[table.start as usize + offset as usize];
            return (place != NOBODY).then_some(place as usize);
        }
        if table.length > 0 || self.sparse.is_empty() {
            return None;
        }
        self.sparse.get(&(key, code)).map(|place| *place as usize)
    }

    fn add_key(&mut self, key: u32, values: &[Code]) {
        let begin = self.elements.len();
        let (least, greatest) =
            (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
        let spread = greatest.checked_sub(least).and_then(|spread| usize::try_from(spread).ok());
        if let Some(spread) = spread.filter(|spread| *spread < 4 * values.len() + 64) {
            let length = if values.is_empty() { 0 } else { spread as u32 + 1 };
            let table = Table { base: least, start: self.places.len() as u32, length };
            self.places.resize(self.places.len() + length as usize, NOBODY);
            self.tables.push(table);
            for code in values {
                let cell = &mut self.places[table.start as usize + (code - least) as usize];
                if *cell == NOBODY {
                    *cell = (self.elements.len() - begin) as u32;
                    self.elements.push(*code);
                }
            }
        } else {
            self.tables.push(Table::default());
            for code in values {
                let next = (self.elements.len() - begin) as u32;
                if *self.sparse.entry((key, *code)).or_insert(next) == next {
                    self.elements.push(*code);
                }
            }
        }
        self.first.push(self.elements.len() as u32);
    }

    fn find_writers(&mut self, transactions: &Transactions) -> Result<(), Unfit> {
        // The last transaction, seen from its end, that appended to the key.
        let mut later = vec![NOBODY; transactions.keys()];
        for (index, transaction, steps) in transactions.each() {
            for step in steps.iter().rev().filter(|step| step.kind == StepKind::Append) {
                let is_last = std::mem::replace(&mut later[step.key as usize], index) != index;
                let code = transactions.values(step)[0];
                let Some(place) = self.place(step.key, code) else {
                    if transaction.outcome != Outcome::Aborted {
                        self.unread.push((step.key, index));
                    }
                    continue;
                };
                let place = self.range(step.key).start + place;
                let before = self.writer[place];
                let aborted = |index: Index| transactions.list[index as usize].outcome == Outcome::Aborted;
                if before != NOBODY && !aborted(before) {
                    if aborted(index) {
                        continue;
                    }
                    return Err(Unfit {
                        transactions: vec![before, index],
                        why: format!(
                            "{} is appended to key {} twice, so nobody can tell who made the version",
                            transactions.value(code),
                            transactions.key_name(step.key)
                        ),
                    });
                }
                self.writer[place] = index;
                self.is_last[place] = is_last;
            }
        }
        self.unread.sort_unstable();
        self.unread.dedup();
        Ok(())
    }

    /// How a read of a key looks.
    pub fn shown(&self, key: u32, values: &[Code]) -> Shown {
        if self.of(key).get(..values.len()).is_some_and(|beginning| beginning == values) {
            return Shown::Version;
        }
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) { Shown::Duplicates } else { Shown::Incompatible }
    }

    /// The place of the last element that a read shows; `None` if it is not known. For an empty read the
    /// place is the one before the first.
    #[inline]
    pub fn last_shown(&self, key: u32, values: &[Code]) -> Option<isize> {
        match values {
            [] => Some(-1),
            [.., last] => self.place(key, *last).map(|place| place as isize),
        }
    }

    /// The appends to a key that nobody read.
    pub fn unread_of(&self, key: u32) -> &[(u32, Index)] {
        let from = self.unread.partition_point(|(other, _)| *other < key);
        let to = self.unread.partition_point(|(other, _)| *other <= key);
        &self.unread[from..to]
    }
}

/// The longest read of every key. A key that was appended to once and never read has one version anyway.
fn longest_reads(transactions: &Transactions) -> Vec<&[Code]> {
    let mut longest: Vec<&[Code]> = vec![&[]; transactions.keys()];
    let mut appends: Vec<(u32, &[Code])> = vec![(0, &[]); transactions.keys()];
    for (_, transaction, steps) in transactions.each() {
        if transaction.outcome == Outcome::Aborted {
            continue;
        }
        for step in steps {
            let values = transactions.values(step);
            if step.kind == StepKind::Append {
                let only = &mut appends[step.key as usize];
                *only = (only.0 + 1, values);
            } else if values.len() > longest[step.key as usize].len() {
                longest[step.key as usize] = values;
            }
        }
    }
    for (longest, (count, only)) in longest.iter_mut().zip(appends) {
        if longest.is_empty() && count == 1 {
            *longest = only;
        }
    }
    longest
}

/// Adds all dependencies between transactions that did not abort. False: there are too many of those that
/// unread appends give, and some were left out.
pub(super) fn dependencies(
    transactions: &Transactions,
    versions: &Versions,
    limits: &Limits,
    edges: &mut Edges,
) -> bool {
    let lives =
        |index: Index| index != NOBODY && transactions.list[index as usize].outcome != Outcome::Aborted;
    for key in 0..transactions.keys() as u32 {
        let writers = &versions.writer[versions.range(key)];
        for pair in writers.windows(2) {
            if lives(pair[0]) && lives(pair[1]) {
                edges.link(pair[0], pair[1], kind::WW);
            }
        }
        if let Some(last) = writers.last().filter(|last| lives(**last)) {
            versions.unread_of(key).iter().for_each(|(_, unread)| edges.link(*last, *unread, kind::WW));
        }
    }
    let room = edges.len() + limits.unread_edges_max;
    let mut complete = true;
    for (index, transaction, steps) in transactions.each() {
        if transaction.outcome == Outcome::Aborted {
            continue;
        }
        for step in steps.iter().filter(|step| step.kind == StepKind::Read) {
            let values = transactions.values(step);
            let Some(place) = versions.last_shown(step.key, values) else { continue };
            let writers = &versions.writer[versions.range(step.key)];
            if place >= 0 && lives(writers[place as usize]) {
                edges.link(writers[place as usize], index, kind::WR);
            }
            match writers.get((place + 1) as usize) {
                Some(next) if lives(*next) => edges.link(index, *next, kind::RW),
                Some(_) => {}
                None if versions.unread.is_empty() => {}
                None => {
                    for (_, unread) in versions.unread_of(step.key) {
                        if edges.len() < room {
                            edges.link(index, *unread, kind::RW);
                        } else {
                            complete = false;
                        }
                    }
                }
            }
        }
    }
    complete
}

/// Why one transaction comes before another, by an edge of a kind.
pub(super) fn why(
    transactions: &Transactions,
    versions: &Versions,
    (from, to): (Index, Index),
    edge: u8,
) -> Option<Dependency> {
    let steps = |index| transactions.steps[transactions.steps_of(index)].iter();
    let reads = |step: &&Step| step.kind == StepKind::Read;
    if edge == kind::WR {
        return steps(to).filter(reads).find_map(|read| {
            let last = *transactions.values(read).last()?;
            let place = versions.place(read.key, last)?;
            (versions.writer[versions.range(read.key)][place] == from).then(|| Dependency::Read {
                key: transactions.key_name(read.key).clone(),
                value: transactions.value(last),
            })
        });
    }
    steps(to).filter(|step| step.kind == StepKind::Append).find_map(|append| {
        let code = transactions.values(append)[0];
        let elements = versions.of(append.key);
        let place = versions.place(append.key, code).unwrap_or(elements.len());
        let before = place.checked_sub(1).map(|before| (before, elements[before]));
        let key = transactions.key_name(append.key).clone();
        let value = transactions.value(code);
        if edge == kind::WW {
            let (before, old) = before?;
            let writer = versions.writer[versions.range(append.key)][before];
            return (writer == from).then(|| Dependency::Overwrote {
                key,
                old: transactions.value(old),
                new: value,
            });
        }
        let last = before.map(|(_, code)| code);
        let mut read = steps(from).filter(reads).filter(|read| read.key == append.key);
        read.any(|read| transactions.values(read).last().copied() == last).then(|| Dependency::Missed {
            key,
            seen: last.map_or(Value::Nil, |last| transactions.value(last)),
            written: value,
        })
    })
}
