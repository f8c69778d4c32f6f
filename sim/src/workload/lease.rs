//! Leases: granted, attached to keys, kept alive for a while, then revoked or left to expire.

use quorate_jepsen::etcd::{Bytes, Delete, Keys, Put, Range, Reply, Request};

use super::Context;

/// The prefix of this workload's keys.
const PREFIX: &str = "l";

/// The leases of one client: one at a time, and its keys.
#[derive(Debug)]
pub struct Leases {
    slot: u64,
    granted: u64,
    /// The lease it holds, as far as it knows.
    held: Option<i64>,
    /// Whether it lets this one expire rather than revoke it.
    neglect: bool,
}

impl Leases {
    pub(super) fn new(slot: u64) -> Leases {
        Leases { slot, granted: 0, held: None, neglect: false }
    }

    pub(super) fn next(&mut self, context: &mut Context<'_>) -> Request {
        let Some(id) = self.held else {
            return self.grant(context);
        };
        match context.random.below(20) {
            0..=5 => {
                let put = Put { lease: id, ..Put::new(self.key(context), context.value()) };
                Request::Put(put)
            }
            6..=11 if !self.neglect => {
                // From some renewal on it renews no more.
                self.neglect = context.random.chance(100_000);
                Request::LeaseKeepAlive { id }
            }
            // Or very late.
            6 if context.random.chance(100_000) => Request::LeaseKeepAlive { id },
            12 if !self.neglect => Request::LeaseRevoke { id },
            13 => Request::LeaseTimeToLive { id },
            // A key goes from one lease to another, or to none, or away.
            14 => Request::Put(Put::new(self.key(context), context.value())),
            15 => Request::Delete(Delete { keys: Keys::one(self.key(context)), prev_kv: false }),
            16 if self.neglect && context.random.chance(200_000) => self.grant(context),
            _ => Request::Range(Range { serializable: context.stale(), ..Range::key(self.key(context)) }),
        }
    }

    /// Learns what became of the last request: the reply, or nothing if it failed or is unknown.
    pub(super) fn done(&mut self, request: &Request, reply: Option<&Reply>) {
        match (request, reply) {
            (&Request::LeaseGrant { id, .. }, Some(_)) => self.held = Some(id),
            (Request::LeaseRevoke { .. }, _) => self.held = None,
            (
                Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. },
                Some(Reply::Lease { ttl, .. }),
            ) if *ttl <= 0 => {
                self.held = None;
            }
            // A put that is refused: the lease has expired.
            (Request::Put(put), None) if put.lease != 0 => self.held = None,
            _ => {}
        }
    }

    fn grant(&mut self, context: &mut Context<'_>) -> Request {
        self.granted += 1;
        self.neglect = context.random.chance(500_000);
        self.held = None;
        let id = i64::try_from((self.slot + 1) << 32 | self.granted).expect("small numbers");
        // Any number but zero is a lease's (etcd issue 14239).
        let id = if context.random.chance(100_000) { -id } else { id };
        Request::LeaseGrant { id, ttl: context.random.pick(&[1, 1, 2, 3, 4]) }
    }

    fn key(&self, context: &mut Context<'_>) -> Bytes {
        context.key(PREFIX)
    }
}
