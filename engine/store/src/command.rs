//! What can be asked of the store by way of the log.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::key::{Key, KeyRange, Value};
use crate::query::RangeQuery;
use crate::revision::{LeaseId, Revision};

/// A change, applied by every member in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes every key of a range.
    DeleteRange(DeleteRange),
    /// Compares, then does one of two lists of operations, as one revision.
    Txn(Txn),
    /// Forgets history up to and including a revision.
    Compact(Revision),
    /// Creates a lease. The id is chosen by the member that took the request, never zero here.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Its time to live in seconds, already raised to the minimum.
        ttl: i64,
    },
    /// Ends a lease and deletes its keys in one revision.
    LeaseRevoke {
        /// Its id.
        id: LeaseId,
    },
    /// A member makes known what it was started with, at each start.
    MemberPublish {
        /// The member.
        id: u64,
        /// Its name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
        /// The higher, the rather it shall lead.
        priority: u32,
    },
    /// A member more. It has been added, and not yet started.
    MemberAdd {
        /// Its id, which nobody has had before.
        id: u64,
        /// Where its peers will reach it.
        peer_urls: Vec<String>,
        /// Whether it has no vote at first.
        learner: bool,
        /// Whether it gets one as soon as it has caught up.
        auto_promote: bool,
    },
    /// A member less, for ever.
    MemberRemove {
        /// Which.
        id: u64,
    },
    /// A member has other peer URLs.
    MemberUpdate {
        /// Which.
        id: u64,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
    },
    /// A learner gets a vote.
    MemberPromote {
        /// Which.
        id: u64,
    },
    /// A voter becomes a learner.
    MemberDemote {
        /// Which.
        id: u64,
    },
    /// A data directory wants to be the member with these peer URLs; see `member.rs`. The answer is its id.
    MemberJoin {
        /// The id that it gets if the member's directory was another one, which is lost.
        id: u64,
        /// The directory's number, never zero.
        owner: u64,
        /// The name it was started with.
        name: String,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
    },
    /// The leader has looked at a change of members and refused it. In the log in the place of that command, so
    /// that whoever sent it gets one answer, and the command cannot take effect later.
    MemberRefused {
        /// Why.
        error: Error,
    },
    /// Raises or clears an alarm.
    Alarm {
        /// The member it concerns.
        member: u64,
        /// Which alarm.
        kind: AlarmKind,
        /// Whether it is on from now.
        active: bool,
    },
}

/// Writes one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// The new value; `None` keeps the present one (etcd's `ignore_value`).
    pub value: Option<Value>,
    /// The lease to attach to; `None` keeps the present one (etcd's `ignore_lease`).
    pub lease: Option<LeaseId>,
    /// Whether to answer with the previous version.
    pub previous: bool,
}

/// Deletes every key of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// The range.
    pub range: KeyRange,
    /// Whether to answer with the deleted versions.
    pub previous: bool,
}

/// A transaction, flattened: no type here is recursive, so that decoding one cannot overflow a stack.
///
/// `branches[0]` is the transaction; an operation `Nested(i)` of branch *b* stands for `branches[i]`,
/// with *i* greater than *b*, and every branch but the first is referred to exactly once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// The transaction and those nested in it.
    pub branches: Vec<Branch>,
}

/// One level of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// What is done if they do.
    pub success: Vec<Operation>,
    /// What is done if they do not.
    pub failure: Vec<Operation>,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Reads a range, seeing what the transaction has written so far.
    Range(RangeQuery),
    /// Writes a key.
    Put(Put),
    /// Deletes a range.
    DeleteRange(DeleteRange),
    /// Does another branch of the same [`Txn`].
    Nested(u32),
}

/// A condition on every key of a range (on the missing key, if the range is empty).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The keys.
    pub range: KeyRange,
    /// How the key's property must relate to the target.
    pub result: CompareResult,
    /// The property and what it is compared with.
    pub target: CompareTarget,
}

/// How two things must relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareResult {
    /// The property equals the target.
    Equal,
    /// The property is greater than the target.
    Greater,
    /// The property is less than the target.
    Less,
    /// The property differs from the target.
    NotEqual,
    /// Holds always: etcd's answer to a result it does not know.
    Always,
}

/// A property of a key, and what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value.
    Value(Value),
    /// The lease.
    Lease(i64),
}

/// What an alarm says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The store's quota is used up: no command that may add to it is accepted.
    NoSpace,
    /// Members disagree: no write is accepted.
    Corrupt,
}

impl Command {
    /// How many bytes the command may add, as etcd's quota reckons: of the two branches of a transaction
    /// the dearer one counts. Zero for whatever adds nothing, which is allowed even without space.
    #[must_use]
    pub fn cost(&self) -> u64 {
        match self {
            Command::Put(put) => put.cost(),
            Command::Txn(txn) => txn.cost(),
            Command::LeaseGrant { .. } => LEASE_COST,
            Command::DeleteRange(_)
            | Command::Compact(_)
            | Command::LeaseRevoke { .. }
            | Command::MemberPublish { .. }
            | Command::MemberAdd { .. }
            | Command::MemberRemove { .. }
            | Command::MemberUpdate { .. }
            | Command::MemberPromote { .. }
            | Command::MemberDemote { .. }
            | Command::MemberJoin { .. }
            | Command::MemberRefused { .. }
            | Command::Alarm { .. } => 0,
        }
    }

    /// Whether the command changes who the members are and where: only the leader can tell whether it may, and
    /// does one after the other.
    #[must_use]
    pub const fn changes_members(&self) -> bool {
        matches!(
            self,
            Command::MemberAdd { .. }
                | Command::MemberRemove { .. }
                | Command::MemberUpdate { .. }
                | Command::MemberPromote { .. }
                | Command::MemberDemote { .. }
                | Command::MemberJoin { .. }
        )
    }

    /// Whether the command is about members, and not about data.
    #[must_use]
    pub const fn is_about_members(&self) -> bool {
        self.changes_members()
            || matches!(self, Command::MemberPublish { .. } | Command::MemberRefused { .. })
    }
}

impl Put {
    fn cost(&self) -> u64 {
        PUT_COST + self.key.len() as u64 + self.value.as_ref().map_or(0, |value| value.len() as u64)
    }
}

impl Txn {
    /// From the innermost branch to the outermost, which needs no recursion because inner branches have
    /// greater numbers. (References that break this rule count for nothing; they will not be applied.)
    fn cost(&self) -> u64 {
        let mut costs = alloc::vec![0u64; self.branches.len()];
        for (index, branch) in self.branches.iter().enumerate().rev() {
            let sum = |operations: &[Operation]| {
                operations.iter().fold(0u64, |sum, operation| {
                    sum.saturating_add(match operation {
                        Operation::Put(put) => put.cost(),
                        Operation::Nested(inner) if *inner as usize > index => {
                            costs.get(*inner as usize).copied().unwrap_or(0)
                        }
                        Operation::Nested(_) | Operation::Range(_) | Operation::DeleteRange(_) => 0,
                    })
                })
            };
            costs[index] = sum(&branch.success).max(sum(&branch.failure));
        }
        costs.first().copied().unwrap_or(0)
    }
}

/// What a put costs beyond key and value.
const PUT_COST: u64 = 256;

/// What a lease costs.
const LEASE_COST: u64 = 64;
