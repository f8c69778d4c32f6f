//! Why the store refuses.

use thiserror::Error;

/// Why a command or a query was refused. Replicated data: every member gives the same error for the
/// same command, so there is no variant for anything a single member's disk or network could cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
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
}
