//! One member's monotonic clock.
//!
//! Leases and elections are measured with a monotonic clock, so an *offset* between members cannot be seen by
//! construction. What can hurt is a different *rate* (a bad oscillator), a *freeze* (the virtual machine was
//! stopped and its clock with it) and a *jump* forward (it was stopped and its clock was not). The clock here
//! does all three and keeps the one promise a monotonic clock gives: it never goes back.

use std::time::Duration;

use quorate_raft::Instant;

use crate::time::{Time, nanos};

/// The rate of a clock that is right, in millionths.
pub const TRUE_RATE: u64 = 1_000_000;

/// A clock: a line through a point, with a slope.
#[derive(Clone, Debug)]
pub struct NodeClock {
    /// How many millionths of a second pass here in one true second; zero while frozen.
    rate: u64,
    /// The true time since which this rate holds.
    since: Time,
    /// What the clock read then, counted from the simulation's begin.
    reading: u64,
    /// What the clock read when the member last started: the origin of its instants.
    origin: u64,
}

impl Default for NodeClock {
    fn default() -> NodeClock {
        NodeClock { rate: TRUE_RATE, since: Time::ZERO, reading: 0, origin: 0 }
    }
}

impl NodeClock {
    /// What the clock reads, counted from when its member last started: the node's `now`.
    #[must_use]
    pub fn now(&self, time: Time) -> Instant {
        Instant(self.reading(time) - self.origin)
    }

    /// What the clock reads, counted from the simulation's begin: it goes on through restarts, so that
    /// a lease's age can be measured by whoever's clock decided on it.
    #[must_use]
    pub fn reading(&self, time: Time) -> u64 {
        let passed = nanos(time.since(self.since));
        // Asked for with every event: nearly always, no wide division is needed.
        let elapsed = match passed.checked_mul(self.rate) {
            Some(product) => product / TRUE_RATE,
            None => (u128::from(passed) * u128::from(self.rate) / u128::from(TRUE_RATE)) as u64,
        };
        self.reading + elapsed
    }

    /// The first true time, not before `time`, at which the clock reads at least `at`; `None` while it is
    /// frozen short of that.
    #[must_use]
    pub fn reaches(&self, time: Time, at: Instant) -> Option<Time> {
        let wanted = at.0.saturating_add(self.origin);
        let missing = wanted.saturating_sub(self.reading);
        if wanted <= self.reading(time) {
            return Some(time);
        }
        if self.rate == 0 {
            return None;
        }
        // Rounded up: a wake-up that comes a nanosecond early would come again and again.
        let passed = match missing.checked_mul(TRUE_RATE) {
            Some(product) => product.div_ceil(self.rate),
            None => {
                let passed = (u128::from(missing) * u128::from(TRUE_RATE)).div_ceil(u128::from(self.rate));
                u64::try_from(passed).unwrap_or(u64::MAX)
            }
        };
        Some(Time(self.since.0.saturating_add(passed)))
    }

    /// Lets the clock run at another rate from now on (in millionths; zero freezes it).
    pub fn set_rate(&mut self, time: Time, rate: u64) {
        self.rebase(time);
        self.rate = rate;
    }

    /// Moves the clock forward.
    pub fn jump(&mut self, time: Time, by: Duration) {
        self.rebase(time);
        self.reading += nanos(by);
    }

    /// The member starts again: its instants begin at zero.
    pub fn restart(&mut self, time: Time) {
        self.rebase(time);
        self.origin = self.reading;
    }

    fn rebase(&mut self, time: Time) {
        let reading = self.reading(time);
        assert!(reading >= self.reading, "a monotonic clock went back");
        self.reading = reading;
        self.since = time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Time {
        Time::ZERO + SECOND * u32::try_from(seconds).expect("small")
    }

    #[test]
    fn a_clock_reaches_an_instant_exactly_when_it_reads_it() {
        for rate in [1, 333_333, 500_000, TRUE_RATE, 1_000_001, 2_000_000] {
            let mut clock = NodeClock::default();
            clock.set_rate(at(3), rate);
            let wanted = Instant(nanos(SECOND * 5));
            let when = clock.reaches(at(3), wanted).expect("it runs");
            assert!(clock.now(when) >= wanted, "rate {rate}: too early");
            assert!(clock.now(Time(when.0 - 1)) < wanted, "rate {rate}: too late");
        }
    }

    #[test]
    fn a_frozen_clock_reaches_nothing_new_and_goes_on_where_it_stood() {
        let mut clock = NodeClock::default();
        clock.set_rate(at(2), 0);
        assert_eq!(clock.now(at(9)), clock.now(at(2)));
        assert_eq!(clock.reaches(at(9), Instant(nanos(SECOND * 3))), None);
        assert_eq!(clock.reaches(at(9), Instant(nanos(SECOND))), Some(at(9)));
        clock.set_rate(at(10), TRUE_RATE);
        assert_eq!(clock.now(at(11)), Instant(nanos(SECOND * 3)));
    }

    #[test]
    fn a_restart_resets_instants_but_not_the_reading() {
        let mut clock = NodeClock::default();
        clock.jump(at(1), SECOND * 4);
        clock.restart(at(2));
        assert_eq!(clock.now(at(3)), Instant(nanos(SECOND)));
        assert_eq!(clock.reading(at(3)), nanos(SECOND * 7));
    }
}
