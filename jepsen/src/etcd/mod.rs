//! etcd's operations: the vocabulary of their histories, and the engines that judge them.
//!
//! * [`check`] places known operations by the revision in their responses, explains revisions that nobody
//!   claims by operations with unknown outcome, replays the order against the naive [`Store`], and holds
//!   watch streams against it. Nearly linear. This is the one to call.
//! * [`EtcdModel`](crate::models::EtcdModel) is the same store for the general search, which knows nothing of
//!   revisions as an order. Exponential; it exists so that the two can be compared.
//!
//! * [`check_ownership`], [`check_fencing`] and [`check_hashes`] judge what the order of changes says of locks and
//!   of the members' states.
//!
//! * [`registers`] judges keys as registers, without their revisions: a second opinion.
//!
//! What to record: every response with the revision of its header (zero says that it is not known). An
//! operation that timed out, or whose connection broke, stays without a return; only errors that say that
//! nothing was done are [`Error`]s; those of no interest are [`Error::Refused`].
//!
//! ```
//! use quorate_jepsen::etcd::{self, EtcdHistory, Put, Range, Reply, Request, Response};
//!
//! let mut history = EtcdHistory::default();
//! let put = history.operations.invoke(1, 10, Request::Put(Put::new("k", "v")));
//! history.operations.ok(put, 20, Response::at(2, Reply::Put { previous: None }));
//! // A linearizable read that started after the put returned and yet finds nothing.
//! let read = history.operations.invoke(2, 30, Request::Range(Range::key("k")));
//! history.operations.ok(read, 40, Response::at(1, Reply::Range { kvs: vec![], more: false, count: 0 }));
//!
//! let verdict = etcd::check(&history, &etcd::Options::default());
//! assert!(verdict.is_invalid(), "{verdict}");
//! ```

mod candidates;
mod facts;
mod gaps;
mod hashes;
mod intervals;
mod leases;
mod locks;
pub mod online;
mod order;
mod outcome;
mod placing;
mod realtime;
mod records;
mod registers;
mod request;
mod store;
mod timeline;
mod watch;
mod wire;

pub use hashes::{HashSeen, check_hashes};
pub use locks::{Accepted, Hold, OnlineLock, check_fencing, check_ownership, overlaps};
pub use order::{Options, Stop, check, check_records, check_with_log};
pub use outcome::{Error, KeyValue, Reply, Response};
pub use records::Records;
pub(crate) use records::{Does, Guard, Plain, Shown};
pub use registers::{Registers, registers};
pub(crate) use request::Sharing;
pub use request::{
    Bytes, Compare, Delete, Keys, Put, Range, Relation, Request, SortOrder, SortTarget, Target, Txn,
};
pub use store::{Applied, Expected, Store};
pub use watch::{Change, Event, Log, WatchRequest, WatchResponse, WatchStream, check_watch};

use crate::History;

/// Everything that the clients of one cluster saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EtcdHistory {
    /// The unary operations.
    pub operations: History<Request, Response>,
    /// The watch streams.
    pub watches: Vec<WatchStream>,
}
