//! The harness of the black-box tests: real processes on real sockets, and real programs as their clients.
//!
//! - [`Cluster`] starts members with etcd's flags on free loopback ports and in a temporary directory, and kills, stops,
//!   pauses and restarts them. Whatever it started is dead when it is dropped.
//! - The program under test is the workspace's own `quorate`, built by [`program`] when it is first needed.
//!   `QUORATE_TEST_SERVER=/path/to/program` tests another one that takes etcd's flags: with etcd itself in that place, the
//!   tests show that they expect the right thing.
//! - Peer programs (etcd, etcdctl) are found on `PATH`. Without them a test is ignored and says what to install, unless
//!   `QUORATE_REQUIRE_PEERS=1` makes it fail (`build.rs`).
//!
//! Tests wait for what they need, with generous limits, and never sleep for a fixed time: a slow machine makes them
//! slow, not wrong.

#![forbid(unsafe_code)]

mod clock;
mod cluster;
mod etcdctl;
mod ports;
mod process;
mod programs;

pub use clock::{Deadline, Stopwatch};
pub use cluster::{Cluster, Member, MemberOptions};
pub use etcdctl::{Etcdctl, ListedMember, MemberStatus, Output};
pub use ports::free_port;
pub use process::{Exit, Process};
pub use programs::{Program, peer, program, workspace_program};
