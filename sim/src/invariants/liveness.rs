//! Liveness: when faults stop, a quorum serves and everybody catches up.
//!
//! Safety alone is cheap: a cluster that does nothing has it. So each run ends with a calm in which all
//! faults are undone, and it is demanded that a write is served within ten election timeouts, that afterwards
//! there is one leader that all members agree on, that all have applied the same entries, that every lease
//! nobody renews has expired, and that reads at every member are answered. (VOPR's second phase;
//! FoundationDB's quiet database check.)

use std::time::Duration;

use super::{Check, broken};
use crate::time::Time;
use crate::trace::StatusLine;

/// How many election timeouts a healed cluster may take to serve a write.
pub const TIMEOUTS_MAX: u32 = 10;

/// What is demanded after the storm.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    calm_since: Time,
    limit: Duration,
    served: Option<Time>,
}

impl Liveness {
    /// The storm ends now.
    #[must_use]
    pub fn new(calm_since: Time, election_timeout: Duration) -> Liveness {
        Liveness { calm_since, limit: election_timeout * TIMEOUTS_MAX, served: None }
    }

    /// A write that was asked for after the storm is acknowledged.
    pub fn on_served(&mut self, time: Time) {
        self.served.get_or_insert(time);
    }

    /// The latest time for that.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.calm_since + self.limit
    }

    /// Whether a write was served in time.
    pub fn check_served(&self) -> Check {
        match self.served {
            Some(served) if served <= self.deadline() => Ok(()),
            _ => broken("liveness", || {
                format!(
                    "no write was served within {:?} after the faults stopped at {}",
                    self.limit, self.calm_since
                )
            }),
        }
    }
}

/// A member at the end of a run.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where it stands.
    pub status: StatusLine,
    /// How many leases it knows.
    pub leases: usize,
}

/// Whether the members have converged. `content` hashes all that a member's store holds.
pub fn converged(members: &[Member], content: impl Fn(usize) -> u64) -> Check {
    let first = &members[0];
    for member in members {
        let (one, other) = (&first.status, &member.status);
        if one.leader == 0 || (one.term, one.leader) != (other.term, other.leader) {
            return broken("liveness", || format!("no common leader in the end: [{one}] and [{other}]"));
        }
        if one.applied != other.applied || other.applied != other.last {
            return broken("liveness", || {
                format!("a member has not caught up in the end: [{one}] and [{other}]")
            });
        }
        if member.leases > 0 {
            return broken("liveness", || {
                format!("{} leases that nobody renews have not expired: [{other}]", member.leases)
            });
        }
    }
    let same = content(0);
    match (1..members.len()).find(|other| content(*other) != same) {
        None => Ok(()),
        Some(other) => broken("equal states", || {
            format!("in the end [{}] and [{}] differ", first.status, members[other].status)
        }),
    }
}
