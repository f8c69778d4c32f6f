//! What a replica is told when it starts.

use core::time::Duration;

/// Timeouts and limits of one replica.
#[derive(Clone, Debug)]
pub struct Config {
    /// Raft's part; its `id` is this member's.
    pub raft: quorate_raft::Config,
    /// Applied entries between two snapshots (etcd's `--snapshot-count`).
    pub snapshot_entries: u64,
    /// Entries kept in the log below a snapshot, so that followers that lag a little need no snapshot.
    pub catchup_entries: u64,
    /// The store's quota in bytes; zero is no limit. (What a flag of zero means is the node's business.)
    pub quota_bytes: u64,
    /// How long a request may wait (etcd: five seconds and two election timeouts).
    pub request_timeout: Duration,
}
