//! A member's wake-up: an event at the time at which its deadline passes by its clock.
//!
//! Deadlines move with nearly every turn, and nearly always later. So the earliest wake-up stays scheduled: one that turns
//! out to be too early only looks again. An earlier deadline takes the place of a later one, whose event then means nothing.

use quorate_raft::Instant;

use super::clock::NodeClock;
use crate::time::Time;

/// The earliest wake-up of a member that is scheduled, if one is.
#[derive(Clone, Copy, Debug, Default)]
pub struct WakeUp(Option<Scheduled>);

#[derive(Clone, Copy, Debug)]
struct Scheduled {
    at: Time,
    number: u64,
    /// The deadline that it is for.
    deadline: Instant,
}

impl WakeUp {
    /// The wake-up that has to be scheduled, now and for this deadline, if one has; `count` numbers them all.
    pub fn schedule(
        &mut self,
        deadline: Option<(Instant, &'static str)>,
        clock: &NodeClock,
        time: Time,
        count: &mut u64,
    ) -> Option<(Time, u64)> {
        let deadline = deadline?.0;
        // Asked after every turn: nearly always the clock need not be.
        if self.0.is_some_and(|scheduled| scheduled.deadline <= deadline) {
            return None;
        }
        let at = clock.reaches(time, deadline)?;
        if self.0.is_some_and(|scheduled| scheduled.at <= at) {
            return None;
        }
        *count += 1;
        self.0 = Some(Scheduled { at, number: *count, deadline });
        Some((at, *count))
    }

    /// The wake-up of this number has come. False if another one has taken its place.
    pub fn comes(&mut self, number: u64) -> bool {
        self.0.take_if(|scheduled| scheduled.number == number).is_some()
    }

    /// What is scheduled means nothing any more: the clock has changed, or the process is over.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Whether a deadline may have passed: none has as long as a wake-up is still to come.
    #[must_use]
    pub fn may_be_due(&self, time: Time) -> bool {
        self.0.is_none_or(|scheduled| scheduled.at <= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_deadline_takes_the_place_of_a_later_one() {
        let (mut wake, clock, mut count) = (WakeUp::default(), NodeClock::default(), 0);
        let mut schedule =
            |wake: &mut WakeUp, at| wake.schedule(Some((Instant(at), "")), &clock, Time(1), &mut count);
        assert_eq!(schedule(&mut wake, 50), Some((Time(50), 1)));
        assert_eq!(schedule(&mut wake, 60), None, "an early enough one is scheduled");
        assert_eq!(schedule(&mut wake, 40), Some((Time(40), 2)));
        assert!(!wake.may_be_due(Time(39)) && wake.may_be_due(Time(40)));
        assert!(!wake.comes(1) && wake.comes(2) && !wake.comes(2));
        assert!(wake.may_be_due(Time(2)), "nothing is scheduled");
    }
}
