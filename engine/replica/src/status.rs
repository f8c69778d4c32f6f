//! How a member is, in one line and in numbers.

use core::fmt;

use quorate_raft::Index;
use quorate_store::Revision;
use serde::{Deserialize, Serialize};

/// How a member is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its Raft's part.
    pub raft: quorate_raft::Status,
    /// The last index applied to the store.
    pub applied: Index,
    /// The last index that the newest durable snapshot covers.
    pub snapshot: Index,
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
    /// How many times this member has seen a leader come up.
    pub leader_changes: u64,
    /// Whether this member is a learner.
    pub learner: bool,
    /// How many members there are.
    pub members: usize,
    /// How many of them vote.
    pub voters: usize,
    /// How many of them do not.
    pub learners: usize,
    /// Whether this member has been removed from the cluster.
    pub removed: bool,
    /// How many learners this member, as the leader, has seen become voters.
    pub promotions: u64,
    /// How often the table of members had to be made to agree with Raft's configuration, because the command that came with
    /// it did not: a bug, or a log of bad faith.
    pub members_corrected: u64,
    /// Whether this member keeps the time of leases: it leads, and has applied what its predecessors left.
    pub lessor: bool,
    /// Snapshots from a leader that were damaged and thrown away.
    pub snapshots_refused: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} applied={} rev={}", self.raft, self.applied, self.revision)?;
        write!(f, " snapshot={} pending={} watchers={}", self.snapshot, self.pending, self.watchers)?;
        if self.snapshots_refused > 0 {
            write!(f, " snapshots_refused={}", self.snapshots_refused)?;
        }
        if self.lessor {
            f.write_str(" lessor")?;
        }
        if self.learner {
            f.write_str(" learner")?;
        }
        Ok(())
    }
}
