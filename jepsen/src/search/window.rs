//! Times become ranks, operations get slots.
//!
//! Only the order of calls and returns matters. The search goes from return to return: before the *n*-th
//! return, everything called by then is a candidate. A slot is a bit in a configuration: an operation holds
//! one from its call to its return, then the slot is free for another. Operations that never return keep
//! theirs for good.
//!
//! Slots come in three regions, so that one mask per region serves the whole search: writes that return,
//! reads, and writes that never do. (Reads that never return say nothing and are left out.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use super::states::Class;
use crate::hash::FastMap;
use crate::history::Operation;
use crate::model::Model;

/// One operation as the search sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Its bit.
    pub slot: u32,
    /// What it asks and was answered.
    pub class: Class,
    /// The number of its return; the greatest number if it has none.
    pub last: u32,
}

/// A partition, prepared for the search.
pub(super) struct Window<'h, M: Model> {
    /// Per return: the operation that returns, by its index in the partition.
    pub returns: Vec<Return>,
    /// Pending writes per return, in the order of their returns; see [`Return::writes`].
    writes: Vec<Member>,
    /// Pending reads per return; see [`Return::reads`].
    reads: Vec<Member>,
    /// Writes that never return, in the order of their calls.
    unknown: Vec<Member>,
    /// By write: its class, and the return before which it is called.
    pub write_calls: Vec<(Class, u32)>,
    /// What each class asks and was answered.
    pub classes: Vec<(&'h M::Input, Option<&'h M::Output>)>,
    /// How many slots returning writes, reads and unknown writes take.
    pub slots: [usize; 3],
}

/// A moment at which an operation returns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    /// The operation that returns: its place in the partition.
    pub operation: u32,
    pub member: Member,
    /// Where the pending writes and reads begin; they end where those of the next return begin.
    writes: u32,
    reads: u32,
    /// How many of the unknown writes have been called.
    unknown: u32,
}

impl<'h, M: Model> Window<'h, M> {
    /// Prepares a partition; none if that takes more than so many bytes. With thousands of operations
    /// pending at once, every one of thousands of returns sees all of them.
    pub fn new(model: &M, operations: &[&'h Operation<M::Input, M::Output>], bytes_max: u64) -> Option<Self> {
        let (classes, members) = classify(model, operations);
        let reads = members.iter().map(|(_, is_read)| *is_read).collect::<Vec<bool>>();
        let mut ends = ends(operations, &reads);
        ends.sort_unstable();
        let mut last = vec![u32::MAX; operations.len()];
        for (number, (_, _, index)) in ends.iter().filter(|(_, is_return, _)| *is_return).enumerate() {
            last[*index as usize] = number as u32;
        }
        let mut builder = Builder {
            operations,
            reads,
            class: members.into_iter().map(|(class, _)| class).collect(),
            slot: vec![0; operations.len()],
            last,
            free: [Slots::default(), Slots::default()],
            pending: [Vec::new(), Vec::new()],
            window: Window {
                returns: Vec::with_capacity(operations.len()),
                writes: Vec::new(),
                reads: Vec::new(),
                unknown: Vec::new(),
                write_calls: Vec::new(),
                classes,
                slots: [0; 3],
            },
        };
        for end in ends {
            builder.add(end);
            if builder.window.bytes() as u64 > bytes_max {
                return None;
            }
        }
        Some(builder.finish())
    }

    /// The memory that this takes.
    pub fn bytes(&self) -> usize {
        let members = self.writes.capacity() + self.reads.capacity() + self.unknown.capacity();
        members * size_of::<Member>() + self.returns.capacity() * size_of::<Return>()
    }

    pub fn writes(&self, at: usize) -> &[Member] {
        let end = self.returns.get(at + 1).map_or(self.writes.len(), |next| next.writes as usize);
        &self.writes[self.returns[at].writes as usize..end]
    }

    pub fn reads(&self, at: usize) -> &[Member] {
        let end = self.returns.get(at + 1).map_or(self.reads.len(), |next| next.reads as usize);
        &self.reads[self.returns[at].reads as usize..end]
    }

    pub fn unknown(&self, at: usize) -> &[Member] {
        &self.unknown[..self.returns[at].unknown as usize]
    }

    /// Bits in a configuration.
    pub fn width(&self) -> usize {
        self.slots.iter().sum()
    }
}

/// Numbers the distinct pairs of input and output, and tells for each operation its class and whether it is a
/// read.
#[expect(clippy::type_complexity, reason = "two lists that are taken apart at once")]
fn classify<'h, M: Model>(
    model: &M,
    operations: &[&'h Operation<M::Input, M::Output>],
) -> (Vec<(&'h M::Input, Option<&'h M::Output>)>, Vec<(Class, bool)>) {
    let mut classes = Vec::new();
    let mut is_read = Vec::new();
    let mut ids: FastMap<Pair<'h, M>, Class> = FastMap::default();
    let members = operations.iter().map(|operation| {
        let pair = (&operation.input, operation.output());
        let class = *ids.entry(Pair(pair.0, pair.1)).or_insert_with(|| {
            classes.push(pair);
            is_read.push(model.is_read(pair.0, pair.1));
            classes.len() as Class - 1
        });
        (class, is_read[class as usize])
    });
    let members = members.collect();
    (classes, members)
}

/// Input and output as a key. (Derived traits would demand them of the model itself.)
struct Pair<'h, M: Model>(&'h M::Input, Option<&'h M::Output>);

impl<M: Model> PartialEq for Pair<'_, M> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 && self.1 == other.1
    }
}

impl<M: Model> Eq for Pair<'_, M> {}

impl<M: Model> Hash for Pair<'_, M> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

/// A call or a return: when, whether it is a return (calls sort first: intervals are closed), and of which
/// operation.
type End = (u64, bool, u32);

fn ends<I, O>(operations: &[&Operation<I, O>], reads: &[bool]) -> Vec<End> {
    let mut ends = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        match &operation.returned {
            Some(returned) => {
                ends.push((operation.call, false, index as u32));
                ends.push((returned.at.max(operation.call), true, index as u32));
            }
            None if reads[index] => {}
            None => ends.push((operation.call, false, index as u32)),
        }
    }
    ends
}

/// Walks through calls and returns.
struct Builder<'h, 'o, M: Model> {
    operations: &'o [&'h Operation<M::Input, M::Output>],
    reads: Vec<bool>,
    class: Vec<Class>,
    /// Relative to its region.
    slot: Vec<u32>,
    /// The number of its return.
    last: Vec<u32>,
    /// Of writes and reads.
    free: [Slots; 2],
    /// Writes and reads that were called and will return, by their returns.
    pending: [Vec<u32>; 2],
    window: Window<'h, M>,
}

impl<'h, M: Model> Builder<'h, '_, M> {
    fn add(&mut self, (_, is_return, index): End) {
        let operation = self.operations[index as usize];
        let region = usize::from(self.reads[index as usize]);
        if !is_return && region == 0 {
            self.window.write_calls.push((self.class[index as usize], self.window.returns.len() as u32));
        }
        if operation.returned.is_none() {
            let slot = self.window.unknown.len() as u32;
            let class = self.class[index as usize];
            self.window.unknown.push(Member { slot, class, last: u32::MAX });
        } else if is_return {
            self.snapshot(index);
            self.pending[region].retain(|other| *other != index);
            self.free[region].give(self.slot[index as usize]);
        } else {
            self.slot[index as usize] = self.free[region].take();
            let last = self.last[index as usize];
            let place = self.pending[region].partition_point(|other| self.last[*other as usize] < last);
            self.pending[region].insert(place, index);
        }
    }

    /// Records who is pending when `index` returns.
    fn snapshot(&mut self, index: u32) {
        let window = &mut self.window;
        let (writes, reads, unknown) = (window.writes.len(), window.reads.len(), window.unknown.len());
        let member = |index: u32| Member {
            slot: self.slot[index as usize],
            class: self.class[index as usize],
            last: self.last[index as usize],
        };
        window.writes.extend(self.pending[0].iter().map(|index| member(*index)));
        window.reads.extend(self.pending[1].iter().map(|index| member(*index)));
        window.returns.push(Return {
            operation: index,
            member: member(index),
            writes: writes as u32,
            reads: reads as u32,
            unknown: unknown as u32,
        });
    }

    /// Moves the regions one behind the other.
    fn finish(self) -> Window<'h, M> {
        let mut window = self.window;
        let [writes, reads] = self.free.map(|slots| slots.used);
        window.slots = [writes as usize, reads as usize, window.unknown.len()];
        window.reads.iter_mut().for_each(|member| member.slot += writes);
        window.unknown.iter_mut().for_each(|member| member.slot += writes + reads);
        for at in &mut window.returns {
            at.member.slot += if self.reads[at.operation as usize] { writes } else { 0 };
        }
        window
    }
}

/// Hands out the lowest free slot.
#[derive(Default)]
struct Slots {
    free: BinaryHeap<Reverse<u32>>,
    used: u32,
}

impl Slots {
    fn take(&mut self) -> u32 {
        self.free.pop().map_or_else(
            || {
                self.used += 1;
                self.used - 1
            },
            |Reverse(slot)| slot,
        )
    }

    fn give(&mut self, slot: u32) {
        self.free.push(Reverse(slot));
    }
}
