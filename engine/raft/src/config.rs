//! What a `Raft` is told when it starts.

use core::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::NodeId;

/// Timeouts and limits of one Raft.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// A follower that hears nothing from a leader for a random time between this and twice this
    /// starts an election. For as long as this after it heard from a leader it refuses to help
    /// anybody else's election; a leader that has not heard from a quorum for as long steps down. And for as long, a
    /// leader waits for its successor to take over, and tells those who were removed that they were.
    pub election_timeout: Duration,
    /// How often a leader with nothing to say says so.
    pub heartbeat_interval: Duration,
    /// Most bytes of entries in one append (a larger single entry travels alone).
    pub append_bytes_max: usize,
    /// Most appends sent to one peer and not yet acknowledged.
    pub inflight_max: usize,
    /// How long a small append may be held back while two others have not been acknowledged yet:
    /// entries that come in the meantime travel with it. Zero holds nothing back.
    pub append_hold: Duration,
    /// Most reads that may wait for their read index; more are dropped at once.
    pub reads_max: usize,
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
            append_hold: Duration::from_millis(1),
            reads_max: 1 << 16,
            pre_vote: true,
        }
    }

    /// Whether a Raft can work with this. [`Raft::recover`](crate::Raft::recover) insists on it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.id == NodeId(0) {
            return Err(ConfigError::NoId);
        }
        if self.heartbeat_interval.is_zero() || self.election_timeout < 2 * self.heartbeat_interval {
            return Err(ConfigError::Timeouts {
                election_timeout: self.election_timeout,
                heartbeat_interval: self.heartbeat_interval,
            });
        }
        if self.append_bytes_max == 0 || self.inflight_max == 0 || self.reads_max == 0 {
            return Err(ConfigError::ZeroLimit);
        }
        Ok(())
    }
}

/// Why a [`Config`] makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Zero is never a member.
    #[error("a member's id must not be zero")]
    NoId,
    /// Followers would start elections between two heartbeats.
    #[error("election timeout {election_timeout:?} is under two heartbeat intervals {heartbeat_interval:?}")]
    Timeouts {
        /// As given.
        election_timeout: Duration,
        /// As given.
        heartbeat_interval: Duration,
    },
    /// With a limit of zero nothing would ever be sent or read.
    #[error("the limits on appends and reads must not be zero")]
    ZeroLimit,
}
