//! Times become ranks, operations get slots.
//!
//! Only the order of calls and returns matters. The search goes from return to return: before the *n*-th
//! return, everything called by then is a candidate. A slot is a bit in a configuration: an operation holds
//! one from its call to its return, then the slot is free for another. Operations that never return keep
//! theirs for good.
//!
//! Slots come in three regions, so that one mask per region serves the whole search: writes that return,
//! reads, and writes that never do. (Reads that never return say nothing and are left out.)

use std::hash::{Hash, Hasher};

use super::states::Class;
use crate::hash::FastHasher;
use crate::history::Operation;
use crate::model::Model;
use crate::nearly::sort_nearly;

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

/// What all operations of a class ask and were answered.
pub(super) struct Alike<'h, M: Model> {
    pub input: &'h M::Input,
    pub output: Option<&'h M::Output>,
    /// Whether they leave every state as it is.
    pub is_read: bool,
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
    /// By write, in the order of their calls: its class, and the return before which it is called.
    pub write_calls: Vec<(Class, u32)>,
    /// By class.
    pub classes: Vec<Alike<'h, M>>,
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
    /// How many of all writes have.
    calls: u32,
}

impl<'h, M: Model> Window<'h, M> {
    /// Prepares a partition; none if that takes more than so many bytes. With thousands of operations
    /// pending at once, every one of thousands of returns sees all of them.
    pub fn new(model: &M, operations: &[&'h Operation<M::Input, M::Output>], bytes_max: u64) -> Option<Self> {
        let (classes, mut members) = classify(model, operations);
        let (calls, returns) = ends(operations, &classes, &members);
        for (number, (_, index)) in (0..).zip(&returns) {
            members[*index as usize].last = number;
        }
        let mut builder = Builder {
            members,
            free: [Slots::default(), Slots::default()],
            pending: [Vec::with_capacity(16), Vec::with_capacity(16)],
            window: Window {
                writes: Vec::with_capacity((returns.len() * 4).min(PENDING)),
                reads: Vec::with_capacity((returns.len() * 4).min(PENDING)),
                returns: Vec::with_capacity(returns.len()),
                unknown: Vec::with_capacity(calls.len() - returns.len()),
                write_calls: Vec::with_capacity(calls.len()),
                classes,
                slots: [0; 3],
            },
        };
        let mut calls = calls.into_iter().peekable();
        for (at, index) in returns {
            // Calls first at equal times: intervals are closed.
            while let Some((_, called)) = calls.next_if(|(call, _)| *call <= at) {
                builder.call(called);
            }
            builder.give_back(index);
            if builder.window.bytes() as u64 > bytes_max {
                return None;
            }
        }
        calls.for_each(|(_, called)| builder.call(called));
        Some(builder.finish())
    }

    /// The memory that this takes.
    #[inline]
    pub fn bytes(&self) -> usize {
        let members = self.writes.capacity() + self.reads.capacity() + self.unknown.capacity();
        members * size_of::<Member>() + self.returns.capacity() * size_of::<Return>()
    }

    #[inline]
    pub fn writes(&self, at: usize) -> &[Member] {
        let end = self.returns.get(at + 1).map_or(self.writes.len(), |next| next.writes as usize);
        &self.writes[self.returns[at].writes as usize..end]
    }

    #[inline]
    pub fn reads(&self, at: usize) -> &[Member] {
        let end = self.returns.get(at + 1).map_or(self.reads.len(), |next| next.reads as usize);
        &self.reads[self.returns[at].reads as usize..end]
    }

    #[inline]
    pub fn unknown(&self, at: usize) -> &[Member] {
        &self.unknown[..self.returns[at].unknown as usize]
    }

    /// The classes of the writes that are called after one return and before another.
    pub fn calls_between(&self, after: usize, before: u32) -> &[(Class, u32)] {
        &self.write_calls[self.returns[after].calls as usize..self.returns[before as usize].calls as usize]
    }

    /// Bits in a configuration.
    pub fn width(&self) -> usize {
        self.slots.iter().sum()
    }
}

/// Numbers the distinct pairs of input and output, and gives each operation the number of its own.
fn classify<'h, M: Model>(
    model: &M,
    operations: &[&'h Operation<M::Input, M::Output>],
) -> (Vec<Alike<'h, M>>, Vec<Member>) {
    let mut classes: Vec<Alike<'h, M>> = Vec::with_capacity(operations.len().min(64));
    // Open addressing, at most half full: classes from one on, zero is free.
    let mut table = vec![0; (operations.len() * 2).next_power_of_two()];
    let mask = table.len() - 1;
    let class_of = |operation: &&'h Operation<M::Input, M::Output>| {
        let (input, output) = (&operation.input, operation.output());
        let mut hasher = FastHasher::default();
        input.hash(&mut hasher);
        output.hash(&mut hasher);
        let mut place = hasher.finish() as usize & mask;
        loop {
            let class: Class = table[place];
            if class == 0 {
                classes.push(Alike { input, output, is_read: model.is_read(input, output) });
                table[place] = classes.len() as Class;
                return classes.len() as Class - 1;
            }
            let known = &classes[class as usize - 1];
            if known.input == input && known.output == output {
                return class - 1;
            }
            place = (place + 1) & mask;
        }
    };
    let member = |class| Member { slot: 0, class, last: u32::MAX };
    let members = operations.iter().map(class_of).map(member).collect();
    (classes, members)
}

/// When an operation is called or returns, and its index.
type End = (u64, u32);

/// Calls and returns in their orders, without reads that never return.
fn ends<M: Model>(
    operations: &[&Operation<M::Input, M::Output>],
    classes: &[Alike<'_, M>],
    members: &[Member],
) -> (Vec<End>, Vec<End>) {
    let mut calls = Vec::with_capacity(operations.len());
    let mut returns = Vec::with_capacity(operations.len());
    for (index, (operation, member)) in (0..).zip(operations.iter().zip(members)) {
        match &operation.returned {
            Some(returned) => returns.push((returned.at.max(operation.call), index)),
            None if classes[member.class as usize].is_read => continue,
            None => {}
        }
        calls.push((operation.call, index));
    }
    sort_nearly(&mut calls, |end| *end);
    sort_nearly(&mut returns, |end| *end);
    (calls, returns)
}

/// Walks through calls and returns.
struct Builder<'h, M: Model> {
    /// Slots are relative to their regions.
    members: Vec<Member>,
    /// Of writes and reads.
    free: [Slots; 2],
    /// Writes and reads that were called and will return, by their returns.
    pending: [Vec<Member>; 2],
    window: Window<'h, M>,
}

impl<'h, M: Model> Builder<'h, M> {
    fn is_read(&self, member: Member) -> bool {
        self.window.classes[member.class as usize].is_read
    }

    fn call(&mut self, index: u32) {
        let member = &mut self.members[index as usize];
        let region = usize::from(self.window.classes[member.class as usize].is_read);
        if region == 0 {
            self.window.write_calls.push((member.class, self.window.returns.len() as u32));
        }
        if member.last == u32::MAX {
            member.slot = self.window.unknown.len() as u32;
            self.window.unknown.push(*member);
        } else {
            member.slot = self.free[region].take();
            let place = self.pending[region].partition_point(|other| other.last < member.last);
            self.pending[region].insert(place, *member);
        }
    }

    /// Records who is pending when `index` returns, and frees its slot.
    fn give_back(&mut self, index: u32) {
        let member = self.members[index as usize];
        let window = &mut self.window;
        window.returns.push(Return {
            operation: index,
            member,
            writes: window.writes.len() as u32,
            reads: window.reads.len() as u32,
            unknown: window.unknown.len() as u32,
            calls: window.write_calls.len() as u32,
        });
        window.writes.extend_from_slice(&self.pending[0]);
        window.reads.extend_from_slice(&self.pending[1]);
        let region = usize::from(self.is_read(member));
        let first = self.pending[region].remove(0);
        assert!(first.last == member.last, "what returns now is the first that returns");
        self.free[region].give(member.slot);
    }

    /// Moves the regions one behind the other.
    fn finish(self) -> Window<'h, M> {
        let mut window = self.window;
        let [writes, reads] = self.free.map(|slots| slots.used);
        window.slots = [writes as usize, reads as usize, window.unknown.len()];
        window.reads.iter_mut().for_each(|member| member.slot += writes);
        window.unknown.iter_mut().for_each(|member| member.slot += writes + reads);
        for at in &mut window.returns {
            at.member.slot += if window.classes[at.member.class as usize].is_read { writes } else { 0 };
        }
        window
    }
}

/// Room for so many pending operations is made at once; longer lists grow as they need.
const PENDING: usize = 1 << 12;

/// Hands out the lowest free slot.
#[derive(Default)]
struct Slots {
    /// A bit per slot that was given back.
    free: Vec<u64>,
    used: u32,
}

impl Slots {
    fn take(&mut self) -> u32 {
        for (word, bits) in (0..).zip(&mut self.free) {
            if *bits != 0 {
                let slot = word * u64::BITS + bits.trailing_zeros();
                *bits &= *bits - 1;
                return slot;
            }
        }
        if self.used.is_multiple_of(u64::BITS) {
            self.free.push(0);
        }
        self.used += 1;
        self.used - 1
    }

    fn give(&mut self, slot: u32) {
        self.free[(slot / u64::BITS) as usize] |= 1 << (slot % u64::BITS);
    }
}
