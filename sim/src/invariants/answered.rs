//! Whoever asks a member is answered, while nothing is wrong.
//!
//! A request that gets lost inside of a member harms no data: a read whose round was dropped and that nobody begins again
//! (etcd issue 20418's class), a keep-alive that waits for a revocation for ever. Its client gives up in the end, and "nobody
//! knows" explains everything to a checker. But when for ten election timeouts
//!
//! - there was no fault, not even one about to end,
//! - nobody's term or leader has changed, and no process started,
//! - the request was there,
//!
//! and now the member follows a leader whose log is committed and has applied all of it, but for what clients may have under way,
//! then it has no excuse. Looked at when a client gives up or a member tells one that its time is over, which is rare.

use std::time::Duration;

use quorate_raft::NodeId;

use super::liveness::TIMEOUTS_MAX;
use super::{Check, broken};
use crate::time::Time;

/// How long nothing has been wrong.
#[derive(Debug)]
pub struct Answered {
    limit: Duration,
    quiet_since: Time,
}

impl Answered {
    /// Nothing has happened yet.
    pub fn new(election_timeout: Duration) -> Answered {
        Answered { limit: election_timeout * TIMEOUTS_MAX, quiet_since: Time::ZERO }
    }

    /// Something happens that is an excuse for a while.
    pub fn on_unrest(&mut self, now: Time) {
        self.quiet_since = now;
    }

    /// A member has left a request without an answer since then.
    pub fn on_silence(&self, node: NodeId, asked: Time, now: Time) -> Check {
        let silent = now.since(asked.max(self.quiet_since));
        if silent < self.limit {
            return Ok(());
        }
        broken("requests are answered", || {
            format!(
                "n{node} was asked at {asked} and has not answered; nothing was wrong for the last {silent:?}"
            )
        })
    }
}
