//! Time in production: the operating system's monotonic clock.

use std::time::Duration;

use quorate_node::Clock;
use quorate_raft::Instant;

/// Nanoseconds since this clock was made. Clones share the origin.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock that starts at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this adaptor is where time comes from")]
    pub fn new() -> SystemClock {
        SystemClock { origin: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        // Saturates after 584 years.
        Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    async fn sleep_until(&self, at: Instant) {
        match self.origin.checked_add(Duration::from_nanos(at.0)) {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

/// Wall-clock time, for the names of files that people look at; no part of the system's state.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this adaptor is where time comes from")]
pub fn seconds_since_1970() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_into_the_past_is_over_at_once_and_one_into_the_far_future_is_not() {
        let clock = SystemClock::new();
        clock.sleep_until(Instant(0)).await;
        let forever = clock.sleep_until(Instant(u64::MAX));
        tokio::select! {
            biased;
            () = forever => panic!("slept for centuries"),
            () = std::future::ready(()) => {}
        }
    }

    #[test]
    fn clones_tell_the_same_time_and_it_never_goes_back() {
        let clock = SystemClock::new();
        let clone = clock;
        let (first, second, third) = (clock.now(), clone.now(), clock.now());
        assert!(first <= second && second <= third);
    }
}
