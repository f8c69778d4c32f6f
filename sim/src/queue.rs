//! The event queue: what happens next.
//!
//! Events are ordered by time and, at the same time, by when they were scheduled. What is ordered are only small
//! keys; the events lie in slots that are used again, so that ordering moves sixteen bytes and nothing is
//! allocated per event.
//!
//! Most of what is scheduled happens within a few events from now, and the rest (a client's patience, an election's time,
//! what waits behind a clogged link) waits long. So the next few keys are a sorted row, into which the next ones
//! slip near its end; only what comes after those is in a heap, and changes over in batches.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Events by time.
#[derive(Debug)]
pub struct Queue<E> {
    /// The next ones, in descending order: the very next is the last. Empty only if nothing is scheduled.
    near: Vec<u128>,
    /// Those that come after all of `near`.
    far: BinaryHeap<Reverse<u128>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    scheduled: u64,
}

/// A place in the order of everything that is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u128);

impl Place {
    /// When.
    #[must_use]
    pub fn at(self) -> Time {
        Time((self.0 >> 64) as u64)
    }

    /// Under which number it is kept.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0 as u32 & ((1 << SLOT_BITS) - 1)
    }
}

/// Time, then the order of scheduling, then the slot (which never decides, for sequences differ), as one number:
/// comparing is what a heap does most.
fn key(at: Time, sequence: u64, slot: u32) -> u128 {
    debug_assert!(sequence < 1 << SEQUENCE_BITS && slot < 1 << SLOT_BITS, "a run schedules less");
    u128::from(at.0) << 64 | u128::from(sequence) << SLOT_BITS | u128::from(slot)
}

/// How many of the next keys are sorted, at most.
const NEAR_MAX: usize = 32;

const SEQUENCE_BITS: u32 = 42;
const SLOT_BITS: u32 = 22;

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue {
            near: Vec::with_capacity(NEAR_MAX + 1),
            far: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            scheduled: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Schedules an event.
    pub fn push(&mut self, at: Time, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slots.push(Some(event));
                let slot = u32::try_from(self.slots.len() - 1).ok().filter(|slot| *slot < 1 << SLOT_BITS);
                slot.expect("fewer than four million events at a time")
            }
        };
        self.scheduled += 1;
        let key = key(at, self.scheduled, slot);
        match self.near.first() {
            Some(last) if key > *last && (!self.far.is_empty() || self.near.len() >= NEAR_MAX) => {
                self.far.push(Reverse(key));
            }
            _ => self.push_near(key),
        }
    }

    fn push_near(&mut self, key: u128) {
        let place = self.near.partition_point(|near| *near > key);
        self.near.insert(place, key);
        if self.near.len() > NEAR_MAX {
            self.far.extend(self.near.drain(..NEAR_MAX / 2).map(Reverse));
        }
    }

    /// A place in the order of everything that is scheduled, for something that happens at this time and is kept elsewhere,
    /// under this number.
    pub fn place(&mut self, at: Time, number: u32) -> Place {
        self.scheduled += 1;
        Place(key(at, self.scheduled, number))
    }

    /// The place of the next event.
    #[must_use]
    pub fn next_place(&self) -> Option<Place> {
        self.near.last().map(|key| Place(*key))
    }

    /// How many events are scheduled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.near.len() + self.far.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// When the next event happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.next_place().map(Place::at)
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        let key = self.near.pop()?;
        if self.near.is_empty() {
            let next = std::iter::from_fn(|| self.far.pop()).map(|Reverse(key)| key);
            self.near.extend(next.take(NEAR_MAX / 2));
            self.near.reverse();
        }
        let (at, slot) = (Place(key).at(), Place(key).number());
        let event = self.slots[slot as usize].take().expect("what is scheduled has its event");
        self.free.push(slot);
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::{Random, Stream};

    #[test]
    fn events_come_by_time_and_then_as_scheduled() {
        let mut queue = Queue::default();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            queue.push(Time(at), event);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    #[test]
    fn many_events_come_by_time_whenever_they_are_scheduled() {
        let (mut queue, mut random) = (Queue::default(), Random::new(1, Stream::Network));
        let mut expected = BTreeSet::new();
        let mut now = 0;
        for number in 0..20_000u64 {
            // Grows to a thousand or so, and shrinks again; now and then something is due in a long time.
            let grows = number / 2_000 % 2 == 0;
            let far = if random.chance(100_000) { 1_000_000 } else { 0 };
            let at = now + far + random.below(50);
            queue.push(Time(at), number);
            expected.insert((at, number));
            for _ in 0..random.below(if grows { 2 } else { 4 }) {
                assert_eq!(queue.next_at(), expected.first().map(|(at, _)| Time(*at)));
                let next = queue.pop().map(|(at, number)| (at.0, number));
                assert_eq!(next, expected.pop_first());
                now = next.map_or(now, |(at, _)| at);
            }
            assert_eq!((queue.len(), queue.is_empty()), (expected.len(), expected.is_empty()));
        }
        assert!(std::iter::from_fn(|| queue.pop()).map(|(at, number)| (at.0, number)).eq(expected));
    }
}
