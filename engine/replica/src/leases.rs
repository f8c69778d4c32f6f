//! The clock half of leases, which only the leader has.
//!
//! The store knows which leases exist and what they were granted; when each one's time is up, only the
//! leader says, by its own monotonic clock. A [`Leases`] exists exactly while this member leads *and*
//! has applied an entry of its own term; it is dropped in the same call in which the member learns that
//! it leads no more.
//!
//! # Why an acknowledged keep-alive is never followed by an early expiry
//!
//! A leader moves the deadline when the keep-alive arrives, and acknowledges it after a read round has
//! confirmed that it still leads.
//!
//! * *The same leader* revokes the lease only when the new deadline has passed by its clock.
//! * *A later leader* gives every lease its full time again, counted from when it has applied an entry of
//!   its own term. It was elected after the round, hence after the client sent the keep-alive.
//! * *An earlier leader* proposes revocations to its own Raft only, in its own term; they are never
//!   forwarded nor sent again. One that was deposed meanwhile cannot commit any. What it had proposed
//!   before may commit through the log of its successor, but then before the successor's own first
//!   entry, and therefore before the successor answers any keep-alive: that answer will be "no such lease".
//! * *A leader that was paused* (or whose process was) handles the inputs that have piled up before it
//!   judges deadlines, and asks for a read round before it revokes anything: if somebody else leads by
//!   now, it learns that instead. (etcd issue 15247: a stuck leader went on revoking.)
//! * *A revocation under way* makes keep-alives of that lease wait until it is applied, and answers them
//!   with zero; if it is not applied, its leader has lost its office and the question goes to the next.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use quorate_raft::{Instant, Term};
use quorate_store::LeaseId;
use serde::{Deserialize, Serialize};

use crate::limits::REVOKES_MAX;
use crate::reads::LeaseAsk;

/// The leader's clock of all leases.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Leases {
    /// The term in which this member leads.
    term: Term,
    table: BTreeMap<LeaseId, Lease>,
    /// The deadlines of all leases that are `Alive`, earliest first.
    queue: BTreeSet<(Instant, LeaseId)>,
    /// How many are not `Alive`.
    leaving: usize,
    /// Questions about leases that are being revoked.
    parked: BTreeMap<LeaseId, Vec<LeaseAsk>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Lease {
    ttl: i64,
    deadline: Instant,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// The deadline has not been seen to pass.
    Alive,
    /// The deadline has passed; a read round is to confirm that this member may say so.
    Expired,
    /// A revocation has been proposed.
    Revoked,
}

/// What became of a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The lease lives for this many seconds.
    Renewed(i64),
    /// There is no such lease.
    Unknown,
    /// It is being revoked; the answer is known when that is applied.
    Leaving,
}

impl Leases {
    /// What a member starts with when it may keep the time: every lease lives for its full time again.
    pub(crate) fn new(term: Term, leases: impl Iterator<Item = (LeaseId, i64)>, now: Instant) -> Leases {
        let mut this = Leases {
            term,
            table: BTreeMap::new(),
            queue: BTreeSet::new(),
            leaving: 0,
            parked: BTreeMap::new(),
        };
        for (id, ttl) in leases {
            this.grant(id, ttl, now);
        }
        this
    }

    /// The term in which this member leads.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// A grant was applied.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl: i64, now: Instant) {
        let deadline = now + seconds(ttl);
        let previous = self.table.insert(id, Lease { ttl, deadline, phase: Phase::Alive });
        assert!(previous.is_none(), "the store grants a lease once");
        self.queue.insert((deadline, id));
    }

    /// A revocation was applied, whoever proposed it. Gives back the questions that waited for it.
    pub(crate) fn remove(&mut self, id: LeaseId) -> Vec<LeaseAsk> {
        if let Some(lease) = self.table.remove(&id) {
            match lease.phase {
                Phase::Alive => assert!(self.queue.remove(&(lease.deadline, id)), "it is in the queue"),
                Phase::Expired | Phase::Revoked => self.leaving -= 1,
            }
        }
        self.parked.remove(&id).unwrap_or_default()
    }

    /// A revocation was refused: the lease lives on, and its time is up again at `until`. Gives back the
    /// questions that waited.
    pub(crate) fn put_off(&mut self, id: LeaseId, until: Instant) -> Vec<LeaseAsk> {
        if let Some(lease) = self.table.get_mut(&id)
            && lease.phase == Phase::Revoked
        {
            lease.phase = Phase::Alive;
            lease.deadline = until;
            self.leaving -= 1;
            self.queue.insert((until, id));
        }
        self.parked.remove(&id).unwrap_or_default()
    }

    /// Lets a lease live for its full time from now, unless it is too late.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Instant) -> Renewal {
        let Some(lease) = self.table.get_mut(&id) else { return Renewal::Unknown };
        match lease.phase {
            Phase::Alive => assert!(self.queue.remove(&(lease.deadline, id)), "it is in the queue"),
            Phase::Expired => self.leaving -= 1,
            Phase::Revoked => return Renewal::Leaving,
        }
        lease.phase = Phase::Alive;
        lease.deadline = now + seconds(lease.ttl);
        self.queue.insert((lease.deadline, id));
        Renewal::Renewed(lease.ttl)
    }

    /// Keeps a question until the lease's revocation is applied.
    pub(crate) fn park(&mut self, ask: LeaseAsk) {
        self.parked.entry(ask.lease).or_default().push(ask);
    }

    /// The whole seconds that a lease still has, and those it was granted.
    pub(crate) fn remaining(&self, id: LeaseId, now: Instant) -> Option<(i64, i64)> {
        let lease = self.table.get(&id)?;
        let left = lease.deadline.since(now).as_secs();
        Some((i64::try_from(left).unwrap_or(i64::MAX), lease.ttl))
    }

    /// A lease whose time is up, if any more may be on their way out.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<LeaseId> {
        if self.deadline()? > now {
            return None;
        }
        let (_, id) = self.queue.pop_first()?;
        let lease = self.table.get_mut(&id).expect("the queue holds existing leases");
        lease.phase = Phase::Expired;
        self.leaving += 1;
        Some(id)
    }

    /// The read round that an expired lease took part in is confirmed. True if it shall be revoked:
    /// nobody has renewed or revoked it meanwhile.
    pub(crate) fn confirm_expired(&mut self, id: LeaseId) -> bool {
        match self.table.get_mut(&id) {
            Some(lease) if lease.phase == Phase::Expired => {
                lease.phase = Phase::Revoked;
                true
            }
            _ => false,
        }
    }

    /// When the next lease's time is up; `None` while as many as allowed are on their way out.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (deadline, _) = self.queue.first()?;
        (self.leaving < REVOKES_MAX).then_some(*deadline)
    }
}

/// A time to live. The store holds none below zero.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const LEASE: LeaseId = LeaseId(7);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn leases() -> Leases {
        Leases::new(Term(1), vec![(LEASE, 10)].into_iter(), at(0))
    }

    #[test]
    fn a_renewal_during_the_read_round_saves_the_lease() {
        let mut leases = leases();
        assert_eq!(leases.pop_expired(at(9)), None);
        assert_eq!(leases.pop_expired(at(10)), Some(LEASE));
        assert_eq!(leases.renew(LEASE, at(11)), Renewal::Renewed(10));
        assert!(!leases.confirm_expired(LEASE));
        assert_eq!(leases.deadline(), Some(at(21)));
    }

    #[test]
    fn a_proposed_revocation_is_final() {
        let mut leases = leases();
        assert_eq!(leases.pop_expired(at(10)), Some(LEASE));
        assert!(leases.confirm_expired(LEASE));
        assert!(!leases.confirm_expired(LEASE), "proposed once");
        assert_eq!(leases.renew(LEASE, at(11)), Renewal::Leaving);
        assert_eq!(leases.remaining(LEASE, at(11)), Some((0, 10)));
        leases.remove(LEASE);
        assert_eq!(leases.renew(LEASE, at(12)), Renewal::Unknown);
        assert_eq!(leases.leaving, 0);
    }

    #[test]
    fn a_refused_revocation_is_tried_again() {
        let mut leases = leases();
        assert_eq!(leases.pop_expired(at(10)), Some(LEASE));
        assert!(leases.confirm_expired(LEASE));
        leases.put_off(LEASE, at(11));
        assert_eq!(leases.leaving, 0);
        assert_eq!(leases.pop_expired(at(10)), None);
        assert_eq!(leases.pop_expired(at(11)), Some(LEASE));
    }

    #[test]
    fn remaining_seconds_are_rounded_down() {
        assert_eq!(leases().remaining(LEASE, Instant(1)), Some((9, 10)));
        assert_eq!(leases().remaining(LEASE, at(20)), Some((0, 10)));
        assert_eq!(leases().remaining(LeaseId(8), at(0)), None);
    }

    #[test]
    fn only_so_many_leave_at_once() {
        let all = (1..=REVOKES_MAX as i64 + 1).map(|id| (LeaseId(id), 1));
        let mut leases = Leases::new(Term(1), all, at(0));
        let leaving = core::iter::from_fn(|| leases.pop_expired(at(1))).count();
        assert_eq!(leaving, REVOKES_MAX);
        assert_eq!(leases.deadline(), None, "no deadline that could not be met");
        leases.remove(LeaseId(1));
        assert_eq!(leases.pop_expired(at(1)), Some(LeaseId(REVOKES_MAX as i64 + 1)));
    }
}
