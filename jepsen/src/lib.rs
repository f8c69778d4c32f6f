//! Histories and their verdict.
//!
//! A *history* is what clients of a concurrent system saw: who asked what and when, what came back and
//! when, and which questions were never answered. The verdict says whether some sequential order of the
//! operations, each placed between its call and its return, explains every answer (linearizability:
//! Herlihy & Wing 1990).
//!
//! * [`history`] is the data: operations, and how they are recorded or paired from Jepsen's events.
//! * [`etcd`] judges etcd's own operations. Every response carries a revision, so the order of writes is
//!   given and checking is nearly linear ([`etcd::check`]); watch streams are judged against that order.
//! * [`Model`] says what a sequential object is; [`models`] has the usual ones. [`check`] is the general
//!   engine: it searches for an order that the model permits.
//! * [`mod@format`] reads and writes histories.
//! * [`explain`] makes a verdict plain to people: in words, and as a picture of the history.
//! * [`direct`] has checks that are not of linearizability: nothing lost, sums kept, bounds kept.
//! * [`txn`] judges transactions: anomalies, and the levels of isolation that they exclude.
//! * [`report`] is what the command line does.
//! * [`zones`] decides registers with unique values without a search.
//! * [`Verdict`] is the answer, and always one of three: valid, invalid with a reason that can be checked by
//!   hand, or unknown with the reason why. No engine here guesses.
//!
//! Rules that every engine shares:
//!
//! * Intervals are closed: an operation precedes another only if it returned *strictly before* the other
//!   was called. Equal times are concurrent.
//! * An operation without a return has an unknown outcome: it may have happened at any time after its call,
//!   or never, or may yet happen. An operation known to have failed is not part of the history at all.
//! * Nothing here depends on the store that is judged. The semantics in [`etcd`] are written from etcd's
//!   documentation, naively, so that an error in one is not repeated in the other.
#![forbid(unsafe_code)]

pub mod direct;
pub mod etcd;
pub mod explain;
pub mod format;
mod hash;
pub mod history;
mod model;
pub mod models;
mod nearly;
pub mod online;
pub mod pipe;
pub mod report;
pub mod robustness;
mod search;
pub mod txn;
mod value;
mod verdict;
pub mod zones;

pub use history::{History, Operation, OperationId, Returned};
pub use model::{Model, Refutation};
pub use search::{Limits, Reductions, Search, check};
pub use value::Value;
pub use verdict::{Verdict, Violation};
