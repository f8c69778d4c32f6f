//! The replicated half of leases: which there are, and which keys hang on them.
//!
//! No time is known here. How long a lease still lives only the leader's clock knows; when it finds one
//! expired it proposes [`LeaseRevoke`](crate::Command::LeaseRevoke), which is a command like any other.
//!
//! Invariant: a lease's keys are exactly the present keys whose version names it. A snapshot therefore
//! carries the leases without their keys.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::revision::LeaseId;

/// All leases.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
}

/// One lease.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The granted time to live in seconds.
    pub(crate) ttl: i64,
    /// The keys attached.
    pub(crate) keys: BTreeSet<Key>,
}

impl Leases {
    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    /// Ids and times to live, ascending by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, i64)> + '_ {
        self.by_id.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    /// Adds a lease. False if there is one with this id, and for the id that means "no lease".
    pub(crate) fn grant(&mut self, id: LeaseId, ttl: i64) -> bool {
        if id == LeaseId::NONE || self.by_id.contains_key(&id) {
            return false;
        }
        self.by_id.insert(id, Lease { ttl, keys: BTreeSet::new() });
        true
    }

    /// Removes a lease. Its keys are the caller's to delete.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Option<Lease> {
        self.by_id.remove(&id)
    }

    /// Moves a key from the lease it hung on to another; either may be `NONE`.
    pub(crate) fn reattach(&mut self, key: &Key, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if from != LeaseId::NONE
            && let Some(lease) = self.by_id.get_mut(&from)
        {
            // The lease is gone already when its revocation deletes the key.
            lease.keys.remove(key);
        }
        if to != LeaseId::NONE {
            let lease = self.by_id.get_mut(&to).expect("whoever attaches has looked whether it exists");
            lease.keys.insert(key.clone());
        }
    }
}
