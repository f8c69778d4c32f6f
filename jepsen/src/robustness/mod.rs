//! Reports of etcd's robustness tests, judged as etcd's own validators judge them.
//!
//! Those tests record less than etcd answers (no create revisions, no leases, hashes of long values), and know
//! more than clients do: the requests that reached the servers' logs. So they have their own small model here:
//!
//! * `record`: what the files hold;
//! * `model`: the state machine, for one request after the other and for the general search;
//! * `replay`: the requests of the servers' logs, one state per revision;
//! * `watch`: the promises about watch streams;
//! * `validate`: what is checked, in which order.
//!
//! Source: etcd's `tests/robustness` (`model`, `validate`), as of 2025.

mod model;
mod record;
mod replay;
mod validate;
mod watch;

pub use model::{RobustnessModel, RobustnessState};
pub use record::{Kind, Operation as RecordedOperation, Report, read};
pub use validate::check;
