//! What can be asked of the store without a change.

use serde::{Deserialize, Serialize};

use crate::command::Txn;
use crate::key::{Key, KeyRange};
use crate::revision::{LeaseId, Revision};

/// A question about one state of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The keys of a range.
    Range(RangeQuery),
    /// A transaction whose operations are all ranges, none nested.
    Txn(Txn),
    /// The ids of all leases.
    Leases,
    /// The granted time to live of a lease, and its keys if `keys`.
    Lease {
        /// Which.
        id: LeaseId,
        /// Whether the answer lists the keys.
        keys: bool,
    },
    /// The members.
    Members,
    /// The alarms that are on.
    Alarms,
    /// A checksum over the versions of all keys, or a part of it.
    Hash(HashQuery),
}

/// A part of a checksum: a walk over millions of keys is asked for in parts, so that nobody has to wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashQuery {
    /// At which state; zero is the present one. All parts name the same.
    pub revision: Revision,
    /// Where the part before ended; `None` for the first.
    pub behind: Option<HashPoint>,
    /// End this part after about so many bytes.
    pub bytes_max: u64,
}

/// Where a part of a checksum has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashPoint {
    /// The key of the last version that went in.
    pub key: Key,
    /// Its revision.
    pub revision: Revision,
    /// The checksum up to there.
    pub so_far: u64,
}

/// Which versions of which keys, in which order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeQuery {
    /// The keys.
    pub range: KeyRange,
    /// At which state; `None` is the present one.
    pub revision: Option<Revision>,
    /// At most so many keys; zero is no limit.
    pub limit: u64,
    /// The order; `None` is by key, ascending, and lets the limit end the walk early.
    pub sort: Option<Sort>,
    /// Leave the values out.
    pub keys_only: bool,
    /// Answer with the number of keys only.
    pub count_only: bool,
    /// Only versions whose revisions lie in these bounds; `None` is no filter.
    pub filter: Option<RevisionFilter>,
}

impl RangeQuery {
    /// All of `range` at the present revision.
    #[must_use]
    pub fn of(range: KeyRange) -> RangeQuery {
        RangeQuery {
            range,
            revision: None,
            limit: 0,
            sort: None,
            keys_only: false,
            count_only: false,
            filter: None,
        }
    }
}

/// An order of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// Greatest first.
    pub descending: bool,
    /// Whether the limit is applied in key order before sorting: etcd does so when a target other
    /// than the key is given without an order.
    pub limit_first: bool,
}

/// By what to sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortBy {
    /// The key.
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value.
    Value,
}

/// Inclusive bounds; zero is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionFilter {
    /// Least mod revision.
    pub min_mod: i64,
    /// Greatest mod revision.
    pub max_mod: i64,
    /// Least create revision.
    pub min_create: i64,
    /// Greatest create revision.
    pub max_create: i64,
}

/// Asks to be told of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// The keys.
    pub range: KeyRange,
    /// The first revision of interest; `None` is whatever comes next.
    pub start: Option<Revision>,
    /// Events carry the version before.
    pub previous: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletes.
    pub no_delete: bool,
}
