//! No event storm: members that answer each other for ever without getting anywhere look busy and alive, and
//! are neither (openraft's append-entries live lock, commit 6d53aa12).

use std::time::Duration;

use super::{Check, broken};
use crate::time::Time;

/// How many events there were in the present stretch of time.
#[derive(Debug, Default)]
pub struct Storm {
    since: Time,
    events: u64,
}

impl Storm {
    /// An event happens.
    pub fn on_event(&mut self, time: Time) -> Check {
        if time.since(self.since) > STRETCH {
            self.since = time;
            self.events = 0;
        }
        self.events += 1;
        if self.events > EVENTS_MAX {
            return broken("no event storm", || {
                format!("more than {EVENTS_MAX} events since {}", self.since)
            });
        }
        Ok(())
    }
}

const STRETCH: Duration = Duration::from_millis(100);

/// The busiest honest runs have a fiftieth of this.
const EVENTS_MAX: u64 = 500_000;
