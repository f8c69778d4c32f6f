//! Transactions: which anomalies a history shows, and which levels of isolation that excludes.
//!
//! Two kinds of histories say enough to infer what depends on what. Transactions that *append* to lists and
//! read them show the order of versions in every read ([`Workload::ListAppend`]). Transactions that write
//! values, each only once, and read them show who read from whom, and their order as far as the caller is
//! ready to assume something ([`Workload::Register`], [`Options::order`]). From that:
//!
//! * `append`, `register`: dependencies between transactions, as edges;
//! * `order`: edges for processes and real time;
//! * `graph`: components in which everything depends on everything, in linear time;
//! * `cycle`: the shortest cycle of each shape in each of them;
//! * `append_single`, `register`: anomalies that need no cycle;
//! * [`weak`]: read committed, read atomic and causal consistency of registers, decided rather than inferred;
//! * [`exact`]: serializability and snapshot isolation of registers, decided by a search for an order;
//! * [`Level`]: which levels forbid which anomalies.
//!
//! Every accusation is right, given that values are unique. That no anomaly was found is no proof: what depends
//! on what may not be visible to clients. What is decided is proof both ways.
//!
//! ```
//! use quorate_jepsen::txn::{Options, Outcome, StepKind, Transactions, Workload, check};
//!
//! // Two doctors go off duty, each because the other one is still on it.
//! let mut history = Transactions::new();
//! let (x, y) = (history.key(&"x".into()), history.key(&"y".into()));
//! history.begin(1, 10, 20, Outcome::Committed, 0);
//! history.step(StepKind::Read, x, []);
//! history.step(StepKind::Append, y, [1]);
//! history.begin(2, 11, 21, Outcome::Committed, 1);
//! history.step(StepKind::Read, y, []);
//! history.step(StepKind::Append, x, [2]);
//! let report = check(&history, Workload::ListAppend, &Options::default()).unwrap();
//! assert_eq!(report.anomalies(), ["G2-item"]);
//! assert_eq!(report.excluded[0].name(), "repeatable-read");
//! ```

mod anomaly;
mod append;
mod append_single;
mod check;
mod cycle;
pub mod exact;
mod graph;
mod history;
mod level;
mod named;
mod online;
mod order;
mod register;
mod report;
pub mod weak;

pub use anomaly::Anomaly;
pub use check::{Limits, Options, Unfit, VersionOrder, Workload, check};
pub use history::{Code, Index, Outcome, Step, StepKind, Transaction, Transactions};
pub use level::Level;
pub use named::{bind, has_long_names, looks_like};
pub use online::Lists;
pub use report::{Cycle, CycleEdge, Dependency, Finding, TransactionReport};
