//! How a member is, in one line and in numbers.

use quorate_raft::Index;
use quorate_store::Revision;

/// How a member is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its Raft's part.
    pub raft: quorate_raft::Status,
    /// The last index applied to the store.
    pub applied: Index,
    /// The store's revision.
    pub revision: Revision,
    /// About how many bytes the store takes.
    pub store_bytes: u64,
    /// The store's quota in bytes.
    pub quota_bytes: u64,
    /// Requests that wait for an answer.
    pub pending: usize,
    /// Watchers in place.
    pub watchers: usize,
    /// How many times this member has seen the leader change.
    pub leader_changes: u64,
    /// Whether this member is a learner.
    pub learner: bool,
}
