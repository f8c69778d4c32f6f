//! Why the store refuses.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a command or a query was refused. Replicated data: every member gives the same error for the
/// same command, so there is no variant for anything a single member's disk or network could cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Error {
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// The revision asked for has been compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision asked for does not exist yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// There is no such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// There is such a lease already.
    #[error("lease already exists")]
    LeaseExists,
    /// The store's quota is used up.
    #[error("database space exceeded")]
    NoSpace,
    /// The members are known to disagree.
    #[error("corrupt cluster")]
    Corrupt,
    /// A transaction whose flattened form is not one (a hostile log entry): nothing was done.
    #[error("malformed transaction")]
    MalformedTxn,
    /// There is no member with this id.
    #[error("member not found")]
    MemberNotFound,
    /// There is or was a member with this id.
    #[error("member ID already exist")]
    MemberExists,
    /// Another member has one of these peer URLs.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// A voter cannot be promoted.
    #[error("can only promote a learner member")]
    MemberNotLearner,
    /// A learner cannot be demoted.
    #[error("can only demote a voting member")]
    MemberNotVoter,
    /// The learner has not caught up.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// There are as many learners as are allowed.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// Too few of the voters could be reached after the change.
    #[error("unhealthy cluster")]
    UnhealthyCluster,
    /// Too few of the voters would have been started after the change.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// A directory wants to join by peer URLs that no member has.
    #[error("no member has these peer URLs: add it first (etcdctl member add)")]
    NoMemberToJoin,
}
