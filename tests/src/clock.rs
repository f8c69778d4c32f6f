//! Time limits: the only place of the tests that reads a clock.

use std::thread;
use std::time::{Duration, Instant};

/// A moment by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// What is left; `None` when it has passed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    pub fn remaining(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Tries until it succeeds.
    ///
    /// # Panics
    /// When the deadline passes first; the message has the last failure.
    pub fn retry<T, E: std::fmt::Display>(self, what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
        loop {
            match attempt() {
                Ok(value) => return value,
                Err(error) if self.remaining().is_none() => panic!("{what}: {error}"),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// Nanoseconds since it was started, from one clock for all threads.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "histories of real processes have real times")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn nanoseconds(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("tests end within centuries")
    }
}
