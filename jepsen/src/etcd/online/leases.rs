//! Leases, as it goes on: what outlives the operations that name them.
//!
//! Of each lease its grant is kept, what may have ended it, and the renewal that lets it live longest. That is all that
//! [`leases`](crate::etcd::leases) needs to judge what comes later. A lease is forgotten some time after it was revoked, and when
//! there are too many; whoever names one that may have been forgotten is not judged.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::Held;
use crate::Violation;
use crate::etcd::leases;
use crate::etcd::order::{EtcdOperation, Options};
use crate::etcd::outcome::{Reply, Response};
use crate::etcd::records::Rare;
use crate::etcd::request::Request;

/// The leases of a history.
#[derive(Default)]
pub(super) struct Leases {
    /// What is still to be judged, by call.
    fresh: Vec<Held>,
    /// By id: what is kept of it, by call.
    kept: BTreeMap<i64, Lease>,
    /// How many leases have been forgotten.
    forgotten: usize,
    /// Operations that name one of these, perhaps.
    pub unjudged: usize,
}

/// What is kept of a lease.
#[derive(Default)]
struct Lease {
    grants: Vec<Held>,
    revocations: Vec<Held>,
    renewal: Option<Held>,
    /// The last operation that named it.
    named: usize,
    /// It surely ended by then.
    revoked: Option<u64>,
}

impl Leases {
    /// Adds an operation if it names a lease.
    pub fn add(&mut self, index: usize, operation: &EtcdOperation) {
        let mut ids = Vec::new();
        named(&operation.input, operation.output(), &mut |id| ids.push(id));
        if ids.is_empty() {
            return;
        }
        for id in ids {
            if let Some(lease) = self.kept.get_mut(&id) {
                lease.named = index;
            }
        }
        self.fresh.push(Held { index, operation: operation.clone() });
    }

    /// How many operations are held.
    pub fn held(&self) -> usize {
        let kept = self
            .kept
            .values()
            .map(|lease| lease.grants.len() + lease.revocations.len() + usize::from(lease.renewal.is_some()));
        self.fresh.len() + kept.sum::<usize>()
    }

    /// Judges what returned before now, and keeps what later ones need. `in_use`: leases that have keys, or may get
    /// some.
    pub fn judge(
        &mut self,
        now: u64,
        options: &Options,
        in_use: &BTreeSet<i64>,
        kept_max: usize,
    ) -> Result<(), Violation> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        self.skip_forgotten();
        let mut list: Vec<(usize, Cow<'_, EtcdOperation>)> = Vec::new();
        for lease in self.kept.values() {
            let kept = lease.grants.iter().chain(&lease.revocations).chain(&lease.renewal);
            list.extend(kept.map(|held| (held.index, Cow::Borrowed(&held.operation))));
        }
        for held in &self.fresh {
            // What has not returned by now may have been answered by what is called later.
            let operation = if held.operation.return_time() < now {
                Cow::Borrowed(&held.operation)
            } else {
                Cow::Owned(EtcdOperation { returned: None, ..held.operation.clone() })
            };
            list.push((held.index, operation));
        }
        list.sort_unstable_by_key(|(index, _)| *index);
        let rare: Vec<Rare<'_>> =
            list.into_iter().map(|(index, operation)| Rare { index: index as u32, operation }).collect();
        leases::check(&rare, options)?;
        drop(rare);
        self.keep(now, options);
        self.forget(now, in_use, kept_max);
        Ok(())
    }

    /// Takes out what names leases that may have been forgotten.
    fn skip_forgotten(&mut self) {
        if self.forgotten == 0 {
            return;
        }
        let granted: BTreeSet<i64> = self.fresh.iter().filter_map(|held| grant_of(&held.operation)).collect();
        let (kept, before) = (&self.kept, self.fresh.len());
        self.fresh.retain(|held| {
            let mut known = true;
            let output = held.operation.output();
            if grant_of(&held.operation).is_none() {
                named(&held.operation.input, output, &mut |id| {
                    known &= id == 0 || kept.contains_key(&id) || granted.contains(&id);
                });
            }
            known
        });
        self.unjudged += before - self.fresh.len();
    }

    /// Keeps what was judged, as far as it matters later.
    fn keep(&mut self, now: u64, options: &Options) {
        let (done, fresh): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.fresh).into_iter().partition(|held| {
                let operation = &held.operation;
                operation.returned.is_none() || operation.return_time() < now
            });
        self.fresh = fresh;
        for held in done {
            let operation = &held.operation;
            let index = held.index;
            if let Some(id) = grant_of(operation) {
                let lease = self.kept.entry(id).or_default();
                (lease.named, lease.revoked) = (index, None);
                lease.grants.push(held);
                continue;
            }
            match (&operation.input, operation.output().map(|response| &response.result)) {
                (Request::LeaseRevoke { id }, None | Some(Ok(_))) => {
                    let lease = self.kept.entry(*id).or_default();
                    lease.revoked = operation.returned.as_ref().map(|returned| returned.at).or(lease.revoked);
                    lease.revocations.push(held);
                }
                (Request::LeaseKeepAlive { id }, Some(Ok(Reply::Lease { ttl: 1.., .. }))) => {
                    let ticks = options.ticks_per_second.unwrap_or(0);
                    let lease = self.kept.entry(*id).or_default();
                    let until = |held: &Held| leases::lives_until(&held.operation, ticks);
                    if lease.renewal.as_ref().is_none_or(|other| until(other) <= until(&held)) {
                        lease.renewal = Some(held);
                    }
                }
                _ => {}
            }
        }
    }

    /// Forgets leases that nobody will find any more, and the oldest if there are too many.
    fn forget(&mut self, now: u64, in_use: &BTreeSet<i64>, kept_max: usize) {
        if self.kept.len() <= kept_max {
            return;
        }
        let may_go = |(id, lease): &(&i64, &Lease)| {
            let over = lease
                .grants
                .iter()
                .all(|held| held.operation.return_time() < now || held.operation.returned.is_none());
            over && !in_use.contains(id)
        };
        let mut idle: Vec<(bool, usize, i64)> = self
            .kept
            .iter()
            .filter(may_go)
            .map(|(id, lease)| (lease.revoked.is_none(), lease.named, *id))
            .collect();
        idle.sort_unstable();
        let excess = self.kept.len() - kept_max / 2;
        for (_, _, id) in idle.into_iter().take(excess) {
            self.kept.remove(&id);
            self.forgotten += 1;
        }
    }

    /// The grants of some leases, as what the search for unclaimed revisions needs to know: when they may end.
    pub fn grants(&self, ids: &BTreeSet<i64>) -> Vec<(usize, EtcdOperation)> {
        let kept = self.kept.values().flat_map(|lease| &lease.grants);
        let all = kept.chain(&self.fresh).filter_map(|held| {
            let id = grant_of(&held.operation).filter(|id| ids.contains(id))?;
            let ttl = match (&held.operation.input, held.operation.output()) {
                (_, Some(Response { result: Ok(Reply::Lease { ttl, .. }), .. })) => *ttl,
                (Request::LeaseGrant { ttl, .. }, _) => *ttl,
                _ => 0,
            };
            let input = Request::LeaseGrant { id, ttl };
            Some((held.index, EtcdOperation { input, returned: None, ..held.operation }))
        });
        all.collect()
    }

    /// A grant, if there was any: keys may always have gone with a lease then.
    pub fn any(&self) -> Option<i64> {
        self.kept.keys().next().copied()
    }
}

/// The lease that an operation grants, or may grant.
fn grant_of(operation: &EtcdOperation) -> Option<i64> {
    match (&operation.input, operation.output().map(|response| &response.result)) {
        (Request::LeaseGrant { .. }, Some(Ok(Reply::Lease { id, .. })))
        | (Request::LeaseGrant { id, .. }, None) => Some(*id),
        _ => None,
    }
}

/// Calls `visit` with every lease that an operation names, in whichever branch.
pub(super) fn named(request: &Request, response: Option<&Response>, visit: &mut impl FnMut(i64)) {
    match request {
        Request::Put(put) if put.lease != 0 => visit(put.lease),
        Request::Txn(txn) => {
            txn.success.iter().chain(&txn.failure).for_each(|request| named(request, None, visit));
        }
        Request::LeaseGrant { id, .. } => match response {
            Some(Response { result: Ok(Reply::Lease { id, .. }), .. }) => visit(*id),
            _ => visit(*id),
        },
        Request::LeaseRevoke { id } | Request::LeaseKeepAlive { id } | Request::LeaseTimeToLive { id } => {
            visit(*id);
        }
        _ => {}
    }
}
