//! Nothing grows without end: what waits in a member, for it and around it stays in proportion to what
//! clients have asked for. A queue that only grows is an outage that has not happened yet. (TigerBeetle's
//! "put a limit on everything"; etcd issue 17529, in which starved watch streams kept everything.)

use quorate_raft::NodeId;

use super::{Check, broken};

/// What waits somewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// Requests that a member owes an answer.
    pub pending: usize,
    /// Inputs that a running member has not looked at.
    pub inbox: usize,
    /// Everything that is scheduled in the whole simulated world: messages on their way, above all.
    pub scheduled: usize,
}

/// A member after its turn, in a world of so many clients. `askers` ask one thing at a time.
pub fn check(node: NodeId, waiting: Waiting, askers: u64) -> Check {
    let Waiting { pending, inbox, scheduled } = waiting;
    let pending_max = usize::try_from(askers * PENDING_EACH).unwrap_or(usize::MAX);
    if pending <= pending_max && inbox <= INBOX_MAX && scheduled <= SCHEDULED_MAX {
        return Ok(());
    }
    broken("bounded queues", || {
        format!(
            "n{node} has {pending} requests pending (at most {pending_max} make sense), {inbox} inputs unread; \
             {scheduled} events are scheduled"
        )
    })
}

/// A request that was given up may stay for as long as requests may wait.
const PENDING_EACH: u64 = 100;

/// Far more than the busiest honest member was seen to have.
const INBOX_MAX: usize = 20_000;

/// Far more than the busiest honest run was seen to have.
const SCHEDULED_MAX: usize = 100_000;
