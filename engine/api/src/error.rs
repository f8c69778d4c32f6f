//! What a client is told when it does not get what it asked for.
//!
//! Clients in several languages match on the text as well as on the code, so both are etcd's to the
//! letter (`api/v3rpc/rpctypes/error.go`); `tests/error_texts.txt` lists them all. Where etcd's table and
//! the code that is sent disagree (`too many requests` goes out as Unknown), the table is followed.

use std::fmt;

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller went away.
    Canceled = 1,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// The caller's time is up.
    DeadlineExceeded = 4,
    /// What is named does not exist.
    NotFound = 5,
    /// Some limit is reached.
    ResourceExhausted = 8,
    /// The system is not in a state to do this.
    FailedPrecondition = 9,
    /// Beyond the valid range.
    OutOfRange = 11,
    /// There is no such RPC here.
    Unimplemented = 12,
    /// A broken promise of ours.
    Internal = 13,
    /// Not now; what was asked may or may not have happened.
    Unavailable = 14,
    /// Data is damaged.
    DataLoss = 15,
}

impl Code {
    /// Every code in use.
    pub const ALL: [Code; 12] = [
        Code::Ok,
        Code::Canceled,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
    ];

    /// Its name in metrics, as grpc-go writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Canceled => "Canceled",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
        }
    }
}

/// Defines `Error` with the code and the text of every variant side by side.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident: $code:ident, $text:literal;)*) => {
        /// Why a client does not get what it asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Error {
            $($(#[$doc])* $name,)*
        }

        impl Error {
            /// Every error, in the order of the table.
            pub const ALL: &[Error] = &[$(Error::$name,)*];

            /// The gRPC status code.
            #[must_use]
            pub const fn code(self) -> Code {
                match self {
                    $(Error::$name => Code::$code,)*
                }
            }

            /// The text, as sent.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $(Error::$name => $text,)*
                }
            }
        }
    };
}

errors! {
    /// A request without a key.
    EmptyKey: InvalidArgument, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a key that does not exist; also, in etcd, an operation of a
    /// transaction that is none.
    KeyNotFound: InvalidArgument, "etcdserver: key not found";
    /// `ignore_value` together with a value.
    ValueProvided: InvalidArgument, "etcdserver: value is provided";
    /// `ignore_lease` together with a lease.
    LeaseProvided: InvalidArgument, "etcdserver: lease is provided";
    /// A transaction beyond its limits.
    TooManyOps: InvalidArgument, "etcdserver: too many operations in txn request";
    /// A transaction that would write a key twice.
    DuplicateKey: InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// The `client-api-version` metadata is not text.
    InvalidClientApiVersion: InvalidArgument, "etcdserver: invalid client api version";
    /// An unknown sort order or target.
    InvalidSortOption: InvalidArgument, "etcdserver: invalid sort option";
    /// Peer URLs that are none, or no URL at all.
    MemberUrlsInvalid: InvalidArgument, "etcdserver: given member URLs are invalid";
    /// A write longer than `--max-request-bytes`.
    RequestTooLarge: InvalidArgument, "etcdserver: request is too large";
    /// There is no such lease.
    LeaseNotFound: NotFound, "etcdserver: requested lease not found";
    /// There is no such member.
    MemberNotFound: NotFound, "etcdserver: member not found";
    /// The quota is used up.
    NoSpace: ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// Too much is waiting already.
    TooManyRequests: ResourceExhausted, "etcdserver: too many requests";
    /// There is such a lease already.
    LeaseExists: FailedPrecondition, "etcdserver: lease already exists";
    /// There is such a member already.
    MemberExists: FailedPrecondition, "etcdserver: member ID already exist";
    /// Another member has one of these URLs.
    PeerUrlExists: FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// After the change, the members that have started would be no quorum (`--strict-reconfig-check`).
    NotEnoughStarted: FailedPrecondition,
        "etcdserver: re-configuration failed due to not enough started members";
    /// A voter cannot be promoted.
    MemberNotLearner: FailedPrecondition, "etcdserver: can only promote a learner member";
    /// A learner cannot be demoted. (etcd demotes nobody.)
    MemberNotVoter: FailedPrecondition, "etcdserver: can only demote a voting member";
    /// A learner that lags behind cannot be promoted.
    LearnerNotReady: FailedPrecondition,
        "etcdserver: can only promote a learner member which is in sync with leader";
    /// `--max-learners` are there already.
    TooManyLearners: FailedPrecondition, "etcdserver: too many learner members in cluster";
    /// Nobody has these peer URLs. (With etcd nobody asks so.)
    NoMemberToJoin: FailedPrecondition,
        "etcdserver: no member has these peer URLs: add it first (etcdctl member add)";
    /// Only the leader can do this, and this member is not the leader.
    NotLeader: FailedPrecondition, "etcdserver: not leader";
    /// Leadership cannot go to somebody who is not a voter.
    BadTransferee: FailedPrecondition, "etcdserver: bad leader transferee";
    /// A learner answers nearly nothing.
    NotForLearners: FailedPrecondition, "etcdserver: rpc not supported for learner";
    /// The revision asked for has been compacted.
    Compacted: OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// The revision asked for does not exist yet.
    FutureRevision: OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// A lease that would outlive us all.
    LeaseTtlTooLarge: OutOfRange, "etcdserver: too large lease TTL";
    /// A transaction that the store does not take for one: parsing should not have let it through.
    MalformedTxn: Internal, "etcdserver: malformed transaction";
    /// There is no leader.
    NoLeader: Unavailable, "etcdserver: no leader";
    /// The member is stopping.
    Stopped: Unavailable, "etcdserver: server stopped";
    /// It took too long.
    Timeout: Unavailable, "etcdserver: request timed out";
    /// It took too long, and the leader changed meanwhile.
    TimeoutLeaderChanged: Unavailable,
        "etcdserver: request timed out, possibly due to previous leader failure";
    /// The next leader did not come up in time.
    TimeoutTransfer: Unavailable, "etcdserver: request timed out, leader transfer took too long";
    /// Too few voters are within reach for a change of the members (`--strict-reconfig-check`).
    UnhealthyCluster: Unavailable, "etcdserver: unhealthy cluster";
    /// The members are known to disagree.
    Corrupt: DataLoss, "etcdserver: corrupt cluster";
    /// The health of a service that is not served.
    UnknownService: NotFound, "unknown service";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

impl From<quorate_store::Error> for Error {
    fn from(error: quorate_store::Error) -> Error {
        match error {
            quorate_store::Error::KeyNotFound => Error::KeyNotFound,
            quorate_store::Error::Compacted => Error::Compacted,
            quorate_store::Error::FutureRevision => Error::FutureRevision,
            quorate_store::Error::LeaseNotFound => Error::LeaseNotFound,
            quorate_store::Error::LeaseExists => Error::LeaseExists,
            quorate_store::Error::NoSpace => Error::NoSpace,
            quorate_store::Error::Corrupt => Error::Corrupt,
            quorate_store::Error::MalformedTxn => Error::MalformedTxn,
            quorate_store::Error::MemberNotFound => Error::MemberNotFound,
            quorate_store::Error::MemberExists => Error::MemberExists,
            quorate_store::Error::PeerUrlExists => Error::PeerUrlExists,
            quorate_store::Error::MemberNotLearner => Error::MemberNotLearner,
            quorate_store::Error::MemberNotVoter => Error::MemberNotVoter,
            quorate_store::Error::LearnerNotReady => Error::LearnerNotReady,
            quorate_store::Error::TooManyLearners => Error::TooManyLearners,
            quorate_store::Error::UnhealthyCluster => Error::UnhealthyCluster,
            quorate_store::Error::NotEnoughStarted => Error::NotEnoughStarted,
            quorate_store::Error::NoMemberToJoin => Error::NoMemberToJoin,
        }
    }
}

impl From<quorate_replica::Error> for Error {
    fn from(error: quorate_replica::Error) -> Error {
        match error {
            quorate_replica::Error::Store(error) => error.into(),
            quorate_replica::Error::NoLeader => Error::NoLeader,
            quorate_replica::Error::Timeout => Error::Timeout,
            quorate_replica::Error::TimeoutLeaderChanged => Error::TimeoutLeaderChanged,
            quorate_replica::Error::TooManyRequests => Error::TooManyRequests,
            quorate_replica::Error::NotLeader => Error::NotLeader,
            quorate_replica::Error::BadTransferee => Error::BadTransferee,
            quorate_replica::Error::TimeoutTransfer => Error::TimeoutTransfer,
            quorate_replica::Error::Stopped => Error::Stopped,
        }
    }
}
