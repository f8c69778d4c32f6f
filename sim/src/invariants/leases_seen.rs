//! Leases as clients see them: none that was renewed is gone before its time, none is left long after.
//!
//! The exact check of early expiries (`lease_expiry.rs`) looks into the members' logs. Where only answers are seen, the same
//! promise can still be held against them: a client that was told "this lease lives for *t* seconds" had asked before; if somebody is
//! told later that there is no such lease, and nobody has asked to revoke it, then some member must have seen *t* seconds pass on
//! its clock in between. If no member's clock has gone that far, whoever decided it was wrong. (Gray and Cheriton, "Leases",
//! SOSP 1989; etcd issues 12528, 15247 and 20615.)
//!
//! The other side is checked when the faults are over, and all clocks right: whoever leads gives every lease its full time once
//! more, and then it has to go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_jepsen::etcd::{Error, Reply, Request};

use super::{Check, broken};
use crate::time::Time;
use crate::workload::Outcome;

/// What is known of leases from answers.
#[derive(Debug, Default)]
pub struct LeasesSeen {
    renewed: BTreeMap<i64, Renewal>,
    /// Somebody has asked to end these.
    revoked: BTreeSet<i64>,
}

/// A lease was granted or kept alive.
#[derive(Debug)]
struct Renewal {
    /// For so many nanoseconds.
    ttl: u64,
    /// What every member's clock read when that was asked.
    asked: Vec<u64>,
    /// When the answer was there.
    told: Time,
}

/// A question, and when it was asked.
#[derive(Clone, Debug)]
pub struct AskedAt {
    /// By true time.
    pub time: Time,
    /// By every member's clock.
    pub readings: Vec<u64>,
}

impl LeasesSeen {
    /// A client asks for something.
    pub fn on_ask(&mut self, request: &Request) {
        if let Request::LeaseRevoke { id } = request {
            self.revoked.insert(*id);
        }
    }

    /// A client was answered, when the members' clocks read this.
    pub fn on_answer(
        &mut self,
        request: &Request,
        outcome: &Outcome,
        asked: AskedAt,
        now: (Time, &[u64]),
    ) -> Check {
        let Outcome::Answered(response) = outcome else { return Ok(()) };
        let gone = |error: &Error| *error == Error::LeaseNotFound;
        match (request, &response.result) {
            (Request::LeaseGrant { .. } | Request::LeaseKeepAlive { .. }, Ok(Reply::Lease { id, ttl }))
                if *ttl > 0 =>
            {
                self.renew(*id, *ttl, asked, now.0);
                Ok(())
            }
            (Request::LeaseKeepAlive { id }, Ok(Reply::Lease { ttl, .. })) if *ttl <= 0 => {
                self.on_gone(*id, &asked, now.1)
            }
            // (Zero is what is left of the last second.)
            (Request::LeaseTimeToLive { id }, Ok(Reply::Lease { ttl, .. })) if *ttl < 0 => {
                self.on_gone(*id, &asked, now.1)
            }
            (Request::LeaseKeepAlive { id } | Request::LeaseTimeToLive { id }, Err(error)) if gone(error) => {
                self.on_gone(*id, &asked, now.1)
            }
            (Request::Put(put), Err(error)) if gone(error) => self.on_gone(put.lease, &asked, now.1),
            _ => Ok(()),
        }
    }

    fn renew(&mut self, lease: i64, ttl: i64, asked: AskedAt, told: Time) {
        let ttl = u64::try_from(ttl).unwrap_or(0) * 1_000_000_000;
        // Of two that were under way at once the later one counts.
        let later =
            |known: &Renewal| known.asked.iter().zip(&asked.readings).all(|(known, new)| known <= new);
        if self.renewed.get(&lease).is_none_or(later) {
            self.renewed.insert(lease, Renewal { ttl, asked: asked.readings, told });
        }
    }

    /// A client was told that there is no such lease.
    fn on_gone(&self, lease: i64, asked: &AskedAt, now: &[u64]) -> Check {
        let Some(renewal) = self.renewed.get(&lease) else { return Ok(()) };
        if self.revoked.contains(&lease) || asked.time < renewal.told {
            return Ok(());
        }
        // (A machine that was not there then has a clock of which nothing is known.)
        let passed = |(at, now): (usize, &u64)| renewal.asked.get(at).map_or(u64::MAX, |then| now - then);
        let most = now.iter().enumerate().map(passed).max().unwrap_or(u64::MAX);
        if most >= renewal.ttl {
            return Ok(());
        }
        broken("leases do not expire early", || {
            format!(
                "lease {lease:x} was renewed for {} s; {:.3} s later, by the fastest clock, there is no such lease",
                renewal.ttl / 1_000_000_000,
                most as f64 / 1e9
            )
        })
    }
}

/// Until when leases of this length may be left, if nobody has renewed one since `quiet`, and the faults were over
/// then: a leader may come up within the usual time, and gives them all their time again.
#[must_use]
pub fn leases_end(quiet: Time, ttl_max: Duration, election_timeout: Duration) -> Time {
    quiet + ttl_max + election_timeout * super::TIMEOUTS_MAX
}

/// No lease is left.
///
/// # Errors
/// Some are.
pub fn no_lease_is_left(leases: usize, member: u64, due: Time) -> Check {
    if leases == 0 {
        return Ok(());
    }
    broken("leases expire in time", || {
        format!("n{member} still has {leases} leases at {due}, long after anybody renewed one")
    })
}

#[cfg(test)]
mod tests {
    use quorate_jepsen::etcd::Response;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn answered(result: Result<Reply, Error>) -> Outcome {
        Outcome::Answered(Response { revision: 1, member: None, result })
    }

    /// Grants a lease of two seconds at second 10, and asks for it when the clocks read this.
    fn gone_at(readings: &[u64], revoked: bool) -> Check {
        let mut leases = LeasesSeen::default();
        let asked = |second: u64, readings: &[u64]| AskedAt {
            time: Time(second * SECOND),
            readings: readings.to_vec(),
        };
        let grant = Request::LeaseGrant { id: 7, ttl: 2 };
        let told = answered(Ok(Reply::Lease { id: 7, ttl: 2 }));
        let clocks = [10 * SECOND, 50 * SECOND];
        leases.on_ask(&grant);
        leases.on_answer(&grant, &told, asked(10, &clocks), (Time(10 * SECOND), &clocks))?;
        if revoked {
            leases.on_ask(&Request::LeaseRevoke { id: 7 });
        }
        let keep = Request::LeaseKeepAlive { id: 7 };
        let gone = answered(Ok(Reply::Lease { id: 7, ttl: 0 }));
        leases.on_answer(&keep, &gone, asked(11, &clocks), (Time(11 * SECOND), readings))
    }

    #[test]
    fn a_lease_that_no_clock_saw_run_out_is_missed() {
        assert!(gone_at(&[11 * SECOND, 51 * SECOND], false).is_err());
        assert_eq!(gone_at(&[11 * SECOND, 51 * SECOND], true), Ok(()), "somebody asked for its end");
        assert_eq!(gone_at(&[11 * SECOND, 52 * SECOND], false), Ok(()), "one clock went fast");
        assert_eq!(gone_at(&[11 * SECOND, 51 * SECOND, 0], false), Ok(()), "a new machine may have led");
    }

    #[test]
    fn what_was_asked_before_the_renewal_says_nothing() {
        let mut leases = LeasesSeen::default();
        let asked = |second: u64| AskedAt { time: Time(second * SECOND), readings: vec![second * SECOND] };
        let grant = Request::LeaseGrant { id: 7, ttl: 2 };
        let told = answered(Ok(Reply::Lease { id: 7, ttl: 2 }));
        assert_eq!(leases.on_answer(&grant, &told, asked(1), (Time(3 * SECOND), &[3 * SECOND])), Ok(()));
        let ask = Request::LeaseTimeToLive { id: 7 };
        let gone = answered(Ok(Reply::Lease { id: 7, ttl: -1 }));
        let now = (Time(3 * SECOND), &[2 * SECOND][..]);
        assert_eq!(leases.on_answer(&ask, &gone, asked(2), now), Ok(()));
        assert!(leases.on_answer(&ask, &gone, asked(3), now).is_err());
    }
}
