//! The event queue: what happens next.
//!
//! Events are ordered by time and, at the same time, by when they were scheduled. The heap holds only small
//! keys; the events lie in slots that are used again, so that sifting moves sixteen bytes and nothing is
//! allocated per event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Events by time.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<u128>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    scheduled: u64,
}

/// Time, then the order of scheduling, then the slot (which never decides, for sequences differ), as one number:
/// comparing is what a heap does most.
fn key(at: Time, sequence: u64, slot: u32) -> u128 {
    debug_assert!(sequence < 1 << SEQUENCE_BITS && slot < 1 << SLOT_BITS, "a run schedules less");
    u128::from(at.0) << 64 | u128::from(sequence) << SLOT_BITS | u128::from(slot)
}

const SEQUENCE_BITS: u32 = 42;
const SLOT_BITS: u32 = 22;

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), scheduled: 0 }
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
        self.heap.push(Reverse(key(at, self.scheduled, slot)));
    }

    /// How many events are scheduled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// When the next event happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(key)| Time((key >> 64) as u64))
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse(key) = self.heap.pop()?;
        let (at, slot) = (Time((key >> 64) as u64), key as u32 & ((1 << SLOT_BITS) - 1));
        let event = self.slots[slot as usize].take().expect("a key in the heap has its event");
        self.free.push(slot);
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_scheduled() {
        let mut queue = Queue::default();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            queue.push(Time(at), event);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
