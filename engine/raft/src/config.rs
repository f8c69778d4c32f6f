//! What a `Raft` is told when it starts.

use core::time::Duration;

use crate::types::NodeId;

/// Timeouts and sizes of one Raft.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// A follower that hears nothing from a leader for a random time between this and twice this
    /// starts an election.
    pub election_timeout: Duration,
    /// How often a leader with nothing to say says so.
    pub heartbeat_interval: Duration,
    /// Most bytes of entries in one append (a larger single entry travels alone).
    pub append_bytes_max: usize,
    /// Most appends sent to one peer and not yet acknowledged.
    pub inflight_max: usize,
    /// Whether a follower asks around before it starts an election (thesis §9.6).
    pub pre_vote: bool,
}

impl Config {
    /// The defaults of etcd: 1,000 ms and 100 ms.
    #[must_use]
    pub const fn new(id: NodeId) -> Config {
        Config {
            id,
            election_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            append_bytes_max: 1 << 20,
            inflight_max: 256,
            pre_vote: true,
        }
    }
}
