//! What the services are told when the server starts.

use std::time::Duration;

/// Identity, limits and timing of one member's services.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's id, for response headers.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The election timeout: leases shorter than one and a half of it are raised to that, and a stream
    /// that requires a leader ends after three of them without one.
    pub election_timeout: Duration,
    /// How often an idle watcher that asked for it is told how far it is
    /// (etcd's `--watch-progress-notify-interval`).
    pub watch_progress_interval: Duration,
    /// What a client may ask for at most.
    pub limits: Limits,
    /// Where the choice of lease ids and the jitter of timers start from. Two members, and two starts of
    /// one member, should have different seeds.
    pub seed: u64,
}

impl Config {
    /// The shortest lease in seconds: one and a half election timeouts, rounded up, as in etcd. A lease
    /// that is shorter than it takes to elect a leader could not be kept alive across an election.
    pub(crate) fn lease_ttl_min(&self) -> i64 {
        let millis = self.election_timeout.as_millis().saturating_mul(3) / 2;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX).max(1)
    }
}

/// Bounds on what a client may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest encoded write (etcd's `--max-request-bytes`).
    pub request_bytes_max: usize,
    /// Most compares, or operations of one branch, at one level of a transaction
    /// (etcd's `--max-txn-ops`).
    pub txn_ops_max: usize,
    /// Most compares and operations of a transaction with all that are nested in it. etcd has no such
    /// bound; nesting lets a small request stand for a great deal of work.
    pub txn_ops_total_max: usize,
    /// Deepest nesting of transactions.
    pub txn_depth_max: usize,
    /// Most watchers of one stream.
    pub watchers_per_stream_max: usize,
}

impl Limits {
    /// Room that a response or a received message may take on top of `request_bytes_max`.
    pub const OVERHEAD_BYTES: usize = 512 * 1024;

    /// Sets `--max-txn-ops`, and the bound on the whole tree in proportion.
    #[must_use]
    pub fn txn_ops(mut self, ops_max: usize) -> Limits {
        self.txn_ops_max = ops_max;
        self.txn_ops_total_max = ops_max.saturating_mul(8);
        self
    }
}

impl Default for Limits {
    /// etcd's defaults where it has one.
    fn default() -> Limits {
        Limits {
            request_bytes_max: 1536 * 1024,
            txn_ops_max: 128,
            txn_ops_total_max: 1024,
            txn_depth_max: 32,
            watchers_per_stream_max: 10_000,
        }
    }
}
