//! A lease is there until somebody ends it, and never again.
//!
//! - Whoever asks for a lease after its grant was acknowledged is told "there is none" only if a revocation of it, by
//!   a client or because its time was up, is in somebody's log (etcd issue 14239: leases of negative ids were lost).
//! - Whoever asks for a lease after somebody was told that it is gone is told so as well (etcd issue 20615: a keep-alive
//!   of a revoked lease was confirmed).

use std::collections::{BTreeMap, BTreeSet};

use quorate_jepsen::etcd::{Error, Reply, Request, Response};
use quorate_raft::Payload;
use quorate_replica::{SharedProposal, Write};
use quorate_store::Command;

use super::{Check, broken};
use crate::time::Time;

/// What is known of leases.
#[derive(Debug, Default)]
pub struct LeaseExistence {
    /// When the grant of a lease was first known to somebody.
    granted: BTreeMap<i64, Time>,
    /// When somebody first knew that one is gone.
    gone: BTreeMap<i64, Time>,
    /// Those that somebody's log ends.
    ended: BTreeSet<i64>,
}

impl LeaseExistence {
    /// A member writes entries.
    pub fn on_write(&mut self, write: &Write) {
        for entry in &write.entries {
            if let Payload::Command(SharedProposal(proposal)) = &entry.payload
                && let Command::LeaseRevoke { id } = &proposal.command
            {
                self.ended.insert(id.0);
            }
        }
    }

    /// A client that asked then is answered now.
    pub fn on_answer(&mut self, request: &Request, asked: Time, now: Time, response: &Response) -> Check {
        match (request, &response.result) {
            (&Request::LeaseGrant { id, .. }, Ok(_)) => {
                // (An id may be granted again when the lease is gone.)
                self.gone.remove(&id);
                self.granted.entry(id).or_insert(now);
                Ok(())
            }
            (&Request::LeaseKeepAlive { id }, Ok(Reply::Lease { ttl, .. })) if *ttl <= 0 => {
                self.is_gone(id, asked, now)
            }
            (&Request::LeaseTimeToLive { id }, Ok(Reply::Lease { ttl, .. })) if *ttl < 0 => {
                self.is_gone(id, asked, now)
            }
            (
                &(Request::LeaseKeepAlive { id } | Request::LeaseTimeToLive { id }),
                Ok(Reply::Lease { .. }),
            ) => self.is_there(id, asked),
            (&Request::LeaseRevoke { id }, Err(Error::LeaseNotFound)) => self.is_gone(id, asked, now),
            (Request::Put(put), Err(Error::LeaseNotFound)) => self.is_gone(put.lease, asked, now),
            (Request::Put(put), Ok(_)) if put.lease != 0 => self.is_there(put.lease, asked),
            _ => Ok(()),
        }
    }

    fn is_gone(&mut self, id: i64, asked: Time, now: Time) -> Check {
        if self.granted.get(&id).is_none_or(|granted| asked < *granted) {
            return Ok(());
        }
        if self.ended.contains(&id) {
            self.gone.entry(id).or_insert(now);
            return Ok(());
        }
        broken("leases do not get lost", || {
            format!("lease {id:x} was granted, a client is told that there is none, and nobody has ended it")
        })
    }

    fn is_there(&self, id: i64, asked: Time) -> Check {
        if self.gone.get(&id).is_none_or(|gone| asked <= *gone) {
            return Ok(());
        }
        broken("leases do not come back", || {
            format!("lease {id:x} is gone, and a client that asks later is told that it lives")
        })
    }
}
