//! What is due at the members themselves: a turn, the end of what the disk is busy with.
//!
//! A third of what happens is one of these, and a member has at most one of each. So they are no events with a slot each,
//! but places in one short sorted row; and one that does not hold any more is taken back, rather than left to be noticed.

use quorate_raft::NodeId;

use super::event::Event;
use crate::queue::{Place, Queue};
use crate::time::Time;

/// What a member has at most one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// It looks at what has arrived.
    Turn,
    /// Its disk has done an append.
    Disk,
}

const TIMERS: [Timer; 2] = [Timer::Turn, Timer::Disk];

/// Every member's timers, the very next at the end.
#[derive(Debug, Default)]
pub struct Timers(Vec<Place>);

impl Timers {
    /// A timer that is not set is due at a time.
    pub fn set(&mut self, node: NodeId, timer: Timer, at: Time, queue: &mut Queue<Event>) {
        let place = queue.place(at, number(node, timer));
        debug_assert!(self.0.iter().all(|other| other.number() != place.number()), "it is set already");
        let mut index = self.0.len();
        self.0.push(place);
        while index > 0 && self.0[index - 1] < place {
            self.0[index] = self.0[index - 1];
            index -= 1;
        }
        self.0[index] = place;
    }

    /// None of a member's timers is due any more.
    pub fn clear_all(&mut self, node: NodeId) {
        self.0.retain(|place| place.number() / COUNT != node.0 as u32);
    }

    /// Takes the next one, if it comes before the next event.
    pub fn pop_before(&mut self, event: Option<Place>) -> Option<(Time, NodeId, Timer)> {
        let place = *self.0.last()?;
        if event.is_some_and(|event| event < place) {
            return None;
        }
        self.0.pop();
        let (node, timer) = (place.number() / COUNT, place.number() % COUNT);
        Some((place.at(), NodeId(u64::from(node)), TIMERS[timer as usize]))
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn number(node: NodeId, timer: Timer) -> u32 {
    node.0 as u32 * COUNT + timer as u32
}

const COUNT: u32 = TIMERS.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn timers_and_events_come_by_time_and_then_as_they_were_set() {
        let (mut queue, mut timers) = (Queue::default(), Timers::default());
        timers.set(A, Timer::Disk, Time(5), &mut queue);
        queue.push(Time(5), Event::Nemesis);
        timers.set(B, Timer::Disk, Time(5), &mut queue);
        timers.set(B, Timer::Turn, Time(2), &mut queue);
        timers.set(A, Timer::Turn, Time(9), &mut queue);
        let mut next = |queue: &Queue<Event>| timers.pop_before(queue.next_place());
        assert_eq!(next(&queue), Some((Time(2), B, Timer::Turn)));
        assert_eq!(next(&queue), Some((Time(5), A, Timer::Disk)));
        assert_eq!(next(&queue), None, "the event comes first");
        queue.pop();
        assert_eq!(next(&queue), Some((Time(5), B, Timer::Disk)));
        assert_eq!(next(&queue), Some((Time(9), A, Timer::Turn)));
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn one_that_is_cleared_is_not_due() {
        let (mut queue, mut timers) = (Queue::default(), Timers::default());
        for (node, timer, at) in [(A, Timer::Turn, 1), (A, Timer::Disk, 2), (B, Timer::Disk, 4)] {
            timers.set(node, timer, Time(at), &mut queue);
        }
        timers.clear_all(A);
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.pop_before(None), Some((Time(4), B, Timer::Disk)));
    }
}
