//! What a replica is told when it starts.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Timeouts and limits of one replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Raft's part; its `id` is this member's.
    pub raft: quorate_raft::Config,
    /// Applied entries between two snapshots (etcd's `--snapshot-count`).
    pub snapshot_entries: u64,
    /// Entries kept in the log below a snapshot, so that followers that lag a little need no snapshot.
    pub catchup_entries: u64,
    /// The store's quota in bytes; zero is no limit. (What a flag of zero means is the node's business.)
    pub quota_bytes: u64,
    /// Whether changes of the membership are refused that would leave too few voters started, or within reach
    /// (etcd's `--strict-reconfig-check`).
    pub strict_reconfig_check: bool,
    /// How many learners there may be (etcd's `--max-learners`). One that takes the place of a lost member is not
    /// counted.
    pub learners_max: usize,
    /// Whether every learner that is added becomes a voter as soon as it has caught up, and not only those that take
    /// the place of a lost voter.
    pub auto_promote: bool,
    /// The higher, the rather this member shall lead: it is told to the others by what the member publishes.
    pub priority: u32,
    /// How long a request may wait (etcd: five seconds and two election timeouts).
    pub request_timeout: Duration,
}
