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
    /// Grants, answered or unknown, each with its end if it is known to have been granted.
    grants: Vec<usize>,
    /// Revocations that succeeded or whose outcome is unknown.
    revocations: Vec<usize>,
    /// Keep-alives that were answered with a time to live.
    renewals: Vec<usize>,
}

/// Nobody uses a lease that cannot be there, or misses one that must be.
pub(super) fn check(rare: &[Rare<'_>], options: &Options) -> Result<(), Violation> {
    let mut leases: HashMap<i64, Lease> = HashMap::new();
    for (index, Rare { operation, .. }) in rare.iter().enumerate() {
        match (&operation.input, operation.output().map(|response| &response.result)) {
            (Request::LeaseGrant { .. }, Some(Ok(Reply::Lease { id, .. }))) => {
                leases.entry(*id).or_default().grants.push(index);
            }
            (Request::LeaseGrant { id, .. }, None) => leases.entry(*id).or_default().grants.push(index),
            (Request::LeaseRevoke { id }, None | Some(Ok(_))) => {
                leases.entry(*id).or_default().revocations.push(index);
            }
            (Request::LeaseKeepAlive { id }, Some(Ok(Reply::Lease { ttl: 1.., .. }))) => {
                leases.entry(*id).or_default().renewals.push(index);
            }
            _ => {}
        }
    }
    for (index, Rare { operation, .. }) in rare.iter().enumerate() {
        let Some(response) = operation.output() else { continue };
        LeaseUse { rare, leases: &leases, options, index, operation }.check(response)?;
    }
    Ok(())
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
        let grants = lease.map_or(&[][..], |lease| &lease.grants);
        let granted = |grant: &&usize| !self.operation.precedes(self.other(**grant));
        let Some(last) = grants.iter().filter(granted).max_by_key(|grant| self.other(**grant).return_time())
        else {
            return Err(self.violation(format!("finds lease {id}, which nobody had granted"), None));
        };
        // A revocation that began after every possible grant had ended and itself ended before this began.
        let ended = lease.and_then(|lease| {
            lease.revocations.iter().find(|revocation| {
                let revocation = self.other(**revocation);
                self.other(*last).precedes(revocation) && revocation.precedes(self.operation)
            })
        });
        match ended {
            Some(revocation) if *revocation != self.index => {
                let by = format!("finds lease {id}, which was revoked before");
                Err(self.violation(by, Some(*revocation)))
            }
            _ => Ok(()),
        }
    }

    /// The lease was not found: nobody had surely granted it, or somebody may have ended it.
    fn may_be_gone(&self, id: i64) -> Result<(), Violation> {
        let Some(lease) = self.leases.get(&id) else { return Ok(()) };
        let surely = lease.grants.iter().find(|grant| self.other(**grant).precedes(self.operation));
        let Some(grant) = surely else { return Ok(()) };
        let revoked = |revocation: &usize| {
            let revocation = self.other(*revocation);
            !revocation.precedes(self.other(*grant)) && !self.operation.precedes(revocation)
        };
        if lease.revocations.iter().any(revoked) || self.options.ticks_per_second.is_none() {
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
        let begins = |begin: &usize| self.other(*begin).precedes(self.operation);
        let renewals = lease.renewals.iter().copied().filter(begins);
        let lives = |begin: &usize| {
            let operation = self.other(*begin);
            let ttl = match operation.output() {
                Some(Response { result: Ok(Reply::Lease { ttl, .. }), .. }) => *ttl,
                _ => 0,
            };
            let life = u64::try_from(ttl).unwrap_or(0).saturating_mul(ticks);
            operation.call.saturating_add(life) > self.operation.return_time()
        };
        std::iter::once(grant).chain(renewals).rfind(lives)
    }

    /// The lease was found by a grant that wanted its id.
    fn may_exist(&self, id: i64) -> Result<(), Violation> {
        if self.options.initial.has_lease(id) {
            return Ok(());
        }
        let others = self.leases.get(&id).map_or(&[][..], |lease| &lease.grants);
        if others.iter().any(|grant| !self.operation.precedes(self.other(*grant))) {
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
