//! No transaction may change a key twice: it has one revision, and a key has one version per revision.
//!
//! The rule is etcd's (`checkIntervals` in `v3rpc/key.go`): within one list of operations, a put must not
//! meet another put of the same key, nor a deletion that covers it, whether they stand in the list or in
//! transactions nested in it. Two branches of one nested transaction exclude each other, so both may
//! put the same key. Deletions may overlap. Two things are deliberately stricter than etcd, which lets
//! through what its store then writes as two versions of one key and revision: a deletion "from this key
//! on" covers puts like any other, and so does a deletion in a later nested transaction.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::{Operation, RangeEnd, Txn};

use crate::error::Error;

pub(super) fn check(txn: &Txn) -> Result<(), Error> {
    if let [branch] = &txn.branches[..]
        && branch.success.len() < 2
        && branch.failure.len() < 2
    {
        return Ok(());
    }
    // What is nested comes later than what it is nested in: going backwards, it is known when needed.
    let mut effects: Vec<Option<[Effects<'_>; 2]>> = Vec::new();
    effects.resize_with(txn.branches.len(), || None);
    for (place, branch) in txn.branches.iter().enumerate().rev() {
        let success = effects_of(&branch.success, &mut effects)?;
        let failure = effects_of(&branch.failure, &mut effects)?;
        effects[place] = Some([success, failure]);
    }
    Ok(())
}

/// What a list of operations does, with those nested in it.
#[derive(Default)]
struct Effects<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Ranges<'a>,
}

fn effects_of<'a>(
    operations: &'a [Operation],
    nested: &mut [Option<[Effects<'a>; 2]>],
) -> Result<Effects<'a>, Error> {
    let mut effects = Effects::default();
    for operation in operations {
        match operation {
            Operation::Range(_) => {}
            Operation::Put(put) => effects.put(&put.key)?,
            Operation::DeleteRange(delete) => {
                effects.delete(&delete.range.start, &delete.range.end)?;
            }
            Operation::Nested(place) => {
                let [success, failure] =
                    nested[*place as usize].take().expect("a branch is referred to once, from before it");
                effects.nest(success, failure)?;
            }
        }
    }
    Ok(effects)
}

impl<'a> Effects<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    fn delete(&mut self, start: &'a [u8], end: &'a RangeEnd) -> Result<(), Error> {
        let put_inside = match end {
            RangeEnd::Single => self.puts.contains(start),
            RangeEnd::Before(end) => {
                start < end.as_slice() && self.puts.range(start..end.as_slice()).next().is_some()
            }
            RangeEnd::Unbounded => self.puts.range(start..).next().is_some(),
        };
        if put_inside {
            return Err(Error::DuplicateKey);
        }
        self.deletes.insert(start, end);
        Ok(())
    }

    /// Adds both branches of a nested transaction, of which one will happen.
    fn nest(&mut self, success: Effects<'a>, failure: Effects<'a>) -> Result<(), Error> {
        let clash = |branch: &Effects<'a>| {
            branch.puts.iter().any(|key| self.puts.contains(key) || self.deletes.contains(key))
                || self.puts.iter().any(|key| branch.deletes.contains(key))
        };
        if clash(&success) || clash(&failure) {
            return Err(Error::DuplicateKey);
        }
        for branch in [success, failure] {
            self.puts.extend(branch.puts);
            self.deletes.extend(branch.deletes);
        }
        Ok(())
    }
}

/// A set of keys made of single keys and of disjoint half-open ranges.
#[derive(Default)]
struct Ranges<'a> {
    singles: BTreeSet<&'a [u8]>,
    /// From the start of a range to its end; `None` has none.
    ranges: BTreeMap<&'a [u8], Option<&'a [u8]>>,
}

impl<'a> Ranges<'a> {
    fn contains(&self, key: &[u8]) -> bool {
        let covers = |(_, end): (_, &Option<&[u8]>)| end.is_none_or(|end| key < end);
        self.singles.contains(key)
            || self
                .ranges
                .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(key)))
                .next_back()
                .is_some_and(covers)
    }

    fn insert(&mut self, start: &'a [u8], end: &'a RangeEnd) {
        match end {
            RangeEnd::Single => {
                self.singles.insert(start);
            }
            RangeEnd::Before(end) if start < end.as_slice() => self.insert_range(start, Some(end)),
            RangeEnd::Before(_) => {}
            RangeEnd::Unbounded => self.insert_range(start, None),
        }
    }

    /// Adds a range and melts together those that it touches.
    fn insert_range(&mut self, mut start: &'a [u8], mut end: Option<&'a [u8]>) {
        if let Some((&before, &its_end)) = self.ranges.range(..=start).next_back()
            && its_end.is_none_or(|its_end| its_end >= start)
        {
            start = before;
            end = later(end, its_end);
        }
        while let Some((&next, &its_end)) = self.ranges.range(start..).next()
            && end.is_none_or(|end| next <= end)
        {
            end = later(end, its_end);
            self.ranges.remove(next);
        }
        self.ranges.insert(start, end);
    }

    fn extend(&mut self, other: Ranges<'a>) {
        self.singles.extend(other.singles);
        for (start, end) in other.ranges {
            self.insert_range(start, end);
        }
    }
}

/// The later of two ends, where none is the latest.
fn later<'a>(a: Option<&'a [u8]>, b: Option<&'a [u8]>) -> Option<&'a [u8]> {
    Some(a?.max(b?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges melt together however they come, and hold exactly the keys they were made of.
    #[test]
    fn ranges_hold_what_was_inserted() {
        let before = |end: &str| RangeEnd::Before(end.into());
        let ends = [before("d"), before("c"), before("m"), RangeEnd::Single, before("a"), before("g")];
        let starts = ["b", "a", "k", "p", "z", "d"];
        let mut ranges = Ranges::default();
        for (start, end) in starts.iter().zip(&ends) {
            ranges.insert(start.as_bytes(), end);
        }
        let held: String = ('a'..='z').filter(|c| ranges.contains(c.to_string().as_bytes())).collect();
        assert_eq!(held, "abcdefklp");
        assert_eq!(ranges.ranges.len(), 2);

        ranges.insert(b"e", &RangeEnd::Unbounded);
        assert!(ranges.contains(b"zzz"));
        assert_eq!(ranges.ranges.len(), 1);
    }
}
