//! What etcd promises about leases, judged by the times of the requests that name them.
//!
//! * *Granted*: whoever finds a lease finds one that somebody may have granted by then.
//! * *Gone for good*: after a revocation nobody finds it again; it takes no keys and is not kept alive.
//! * *Not before its time*: after a grant or a keep-alive that was answered with a time to live of *t*, it does
//!   not end by itself before *t* has passed since that request was sent. A new leader may only lengthen that.
//!   Needs [`Options::ticks_per_second`].
//!
//! That the keys of a lease go with it, in one revision, is judged in the replay.
//!
//! Sources: etcd's `lessor.go` (`Promote` extends, `Renew` refreshes), and the lease RPCs of `rpc.proto`. The
//! robustness suite grants leases of two hours only, so it never sees one expire.

use std::collections::HashMap;

use super::order::{EtcdOperation, Options};
use super::outcome::{Error, Reply, Response};
use super::records::Rare;
use super::request::Request;
use crate::Violation;

/// What is known of one lease id: places among the rare operations, which are all that name leases.
#[derive(Default)]
struct Lease {
    /// Grants, answered or unknown.
    grants: Vec<usize>,
    /// By call: how late they ended.
    granted: Farthest,
    /// Revocations that succeeded or whose outcome is unknown, by call: how late they ended; by end: how late they
    /// were called.
    revoked: Farthest,
    revocations: Farthest,
    /// Keep-alives that were answered with a time to live, by end: how long the lease lives at least.
    renewals: Farthest,
}

/// Points in time, and of all up to one of them which reaches farthest: clients renew a lease again and again, and
/// ask for it as often.
#[derive(Default)]
struct Farthest(Vec<(u64, u64, usize)>);

impl Farthest {
    /// Adds something that is found from a time on and reaches to another.
    fn add(&mut self, from: u64, reach: u64, which: usize) {
        self.0.push((from, reach, which));
    }

    /// Sorts what was added, and keeps at each point the farthest up to there.
    fn sort(&mut self) {
        self.0.sort_unstable_by_key(|(from, ..)| *from);
        let mut best: Option<(u64, usize)> = None;
        for (_, reach, which) in &mut self.0 {
            if let Some((farthest, at)) = best.filter(|(farthest, _)| farthest >= reach) {
                (*reach, *which) = (farthest, at);
            }
            best = Some((*reach, *which));
        }
    }

    /// The farthest of all that is found at a time, and what it is.
    fn until(&self, at: u64) -> Option<(u64, usize)> {
        let later = self.0.partition_point(|(from, ..)| *from <= at);
        self.0[..later].last().map(|(_, reach, which)| (*reach, *which))
    }

    /// The same of what is found before a time.
    fn before(&self, at: u64) -> Option<(u64, usize)> {
        self.until(at.checked_sub(1)?)
    }
}

/// Nobody uses a lease that cannot be there, or misses one that must be.
pub(super) fn check(rare: &[Rare<'_>], options: &Options) -> Result<(), Violation> {
    let mut leases: HashMap<i64, Lease> = HashMap::new();
    for (index, Rare { operation, .. }) in rare.iter().enumerate() {
        let (call, end) = (operation.call, operation.return_time());
        match (&operation.input, operation.output().map(|response| &response.result)) {
            (Request::LeaseGrant { .. }, Some(Ok(Reply::Lease { id, .. })))
            | (Request::LeaseGrant { id, .. }, None) => {
                let lease = leases.entry(*id).or_default();
                lease.grants.push(index);
                lease.granted.add(call, end, index);
            }
            (Request::LeaseRevoke { id }, None | Some(Ok(_))) => {
                let lease = leases.entry(*id).or_default();
                lease.revoked.add(call, end, index);
                lease.revocations.add(end, call, index);
            }
            (Request::LeaseKeepAlive { id }, Some(Ok(Reply::Lease { ttl: 1.., .. }))) => {
                let until = options.ticks_per_second.map_or(0, |ticks| lives_until(operation, ticks));
                leases.entry(*id).or_default().renewals.add(end, until, index);
            }
            _ => {}
        }
    }
    for Lease { granted, revoked, revocations, renewals, .. } in leases.values_mut() {
        [granted, revoked, revocations, renewals].into_iter().for_each(Farthest::sort);
    }
    for (index, Rare { operation, .. }) in rare.iter().enumerate() {
        let Some(response) = operation.output() else { continue };
        LeaseUse { rare, leases: &leases, options, index, operation }.check(response)?;
    }
    Ok(())
}

/// Until when a lease lives by its grant or a renewal: a second counts so many ticks.
pub(super) fn lives_until(operation: &EtcdOperation, ticks: u64) -> u64 {
    let ttl = match operation.output() {
        Some(Response { result: Ok(Reply::Lease { ttl, .. }), .. }) => *ttl,
        _ => 0,
    };
    operation.call.saturating_add(u64::try_from(ttl).unwrap_or(0).saturating_mul(ticks))
}

/// One answered operation and the leases that it names.
struct LeaseUse<'a> {
    rare: &'a [Rare<'a>],
    leases: &'a HashMap<i64, Lease>,
    options: &'a Options,
    index: usize,
    operation: &'a EtcdOperation,
}

impl<'a> LeaseUse<'a> {
    fn check(&self, response: &Response) -> Result<(), Violation> {
        match (&self.operation.input, &response.result) {
            (Request::Put(put), Ok(_)) if put.lease != 0 => self.must_be_there(put.lease),
            (Request::Put(put), Err(Error::LeaseNotFound)) => self.may_be_gone(put.lease),
            (request @ Request::Txn(_), Ok(reply)) => self.check_branch(request, reply),
            (Request::LeaseRevoke { id }, Ok(_)) => self.must_be_there(*id),
            (Request::LeaseRevoke { id }, Err(Error::LeaseNotFound)) => self.may_be_gone(*id),
            (Request::LeaseKeepAlive { id }, Ok(Reply::Lease { ttl: 0, .. })) => self.may_be_gone(*id),
            (
                Request::LeaseKeepAlive { id } | Request::LeaseTimeToLive { id },
                Ok(Reply::Lease { ttl, .. }),
            ) => match ttl {
                1.. => self.must_be_there(*id),
                // Less than a second is left.
                0 => Ok(()),
                _ => self.may_be_gone(*id),
            },
            (Request::LeaseGrant { id, .. }, Err(Error::LeaseExists)) => self.may_exist(*id),
            _ => Ok(()),
        }
    }

    fn check_branch(&self, request: &Request, reply: &Reply) -> Result<(), Violation> {
        match (request, reply) {
            (Request::Put(put), _) if put.lease != 0 => self.must_be_there(put.lease),
            (Request::Txn(txn), Reply::Txn { succeeded, replies }) => {
                let requests = if *succeeded { &txn.success } else { &txn.failure };
                let mut parts = requests.iter().zip(replies);
                parts.try_for_each(|(request, reply)| self.check_branch(request, reply))
            }
            _ => Ok(()),
        }
    }

    fn other(&self, at: usize) -> &'a EtcdOperation {
        &self.rare[at].operation
    }

    /// The lease was found: somebody may have granted it by then, and nobody had surely ended it.
    fn must_be_there(&self, id: i64) -> Result<(), Violation> {
        if self.options.initial.has_lease(id) {
            return Ok(());
        }
        let lease = self.leases.get(&id);
        let last = lease.and_then(|lease| lease.granted.until(self.operation.return_time()));
        let (Some(lease), Some((granted, _))) = (lease, last) else {
            return Err(self.violation(format!("finds lease {id}, which nobody had granted"), None));
        };
        // A revocation that began after every possible grant had ended and itself ended before this began.
        match lease.revocations.before(self.operation.call) {
            Some((called, revocation)) if granted < called => {
                let by = format!("finds lease {id}, which was revoked before");
                Err(self.violation(by, Some(revocation)))
            }
            _ => Ok(()),
        }
    }

    /// The lease was not found: nobody had surely granted it, or somebody may have ended it.
    fn may_be_gone(&self, id: i64) -> Result<(), Violation> {
        let Some(lease) = self.leases.get(&id) else { return Ok(()) };
        let surely = lease.grants.iter().find(|grant| self.other(**grant).precedes(self.operation));
        let Some(grant) = surely else { return Ok(()) };
        // One that may have been carried out after that and before this ended.
        let revoked = lease.revoked.until(self.operation.return_time());
        let is_revoked = revoked.is_some_and(|(ended, _)| ended >= self.other(*grant).call);
        if is_revoked || self.options.ticks_per_second.is_none() {
            return Ok(());
        }
        match self.early_expiry(*grant, lease) {
            Some(begin) => {
                let what =
                    format!("does not find lease {id}, which nobody had ended and whose time was not over");
                Err(self.violation(what, Some(begin)))
            }
            None => Ok(()),
        }
    }

    /// Whether its time may have run out since the grant and since every renewal that was answered before.
    fn early_expiry(&self, grant: usize, lease: &Lease) -> Option<usize> {
        let ticks = self.options.ticks_per_second?;
        let renewed = lease.renewals.before(self.operation.call);
        let lives = |until: u64| until > self.operation.return_time();
        match renewed.filter(|(until, _)| lives(*until)) {
            Some((_, renewal)) => Some(renewal),
            None => lives(lives_until(self.other(grant), ticks)).then_some(grant),
        }
    }

    /// The lease was found by a grant that wanted its id.
    fn may_exist(&self, id: i64) -> Result<(), Violation> {
        if self.options.initial.has_lease(id) {
            return Ok(());
        }
        let possible =
            self.leases.get(&id).and_then(|lease| lease.granted.until(self.operation.return_time()));
        if possible.is_some() {
            return Ok(());
        }
        Err(self.violation(format!("finds lease {id}, which nobody had granted"), None))
    }

    fn violation(&self, what: String, other: Option<usize>) -> Violation {
        let place = |at: usize| self.rare[at].index as usize;
        let mut sentence = format!("{} [#{}] {what}", self.operation, place(self.index));
        if let Some(other) = other {
            sentence += &format!(": {} [#{}]", self.other(other), place(other));
        }
        let operations = std::iter::once(self.index).chain(other).map(place).collect();
        Violation { rule: "lease", sentence, operations }
    }
}
