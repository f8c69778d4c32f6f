//! The seeded simulator: a whole cluster in one thread, in which everything that can go wrong does, and which
//! does it again in the very same way if it is given the same seed.
//!
//! # The idea
//!
//! A member of the cluster is a value without clock, disk or network ([`quorate_replica::Replica`]). So all
//! three can be replaced by ones that fail on purpose, and time can be skipped when nothing happens. A run
//! draws everything from one number: the cluster, the clients, the faults, every delay. While it goes on,
//! properties of the protocol are checked after every event; when it is over, what the clients saw goes to
//! the checker (`quorate_jepsen`).
//!
//! # Two depths
//!
//! - **Core** ([`core`]): replicas and the log's record format, driven straight from an event queue. A plain
//!   build. For volume: deep bugs cost thousands of seeds, so seeds per second count.
//! - **Whole** (the program `quorate-sim-whole`): the real driver, storage, codec, services and client library as
//!   async tasks under madsim's executor, one process per seed. For reach.
//!
//! Both share the vocabulary: [`options`], [`mod@env`], [`nemesis`], [`workload`], [`invariants`], [`history`],
//! [`trace`]. A run can be written as a [`scenario`] and run from one, made smaller ([`mod@shrink`]) and drawn
//! ([`page`]).
//!
//! # Bring your own
//!
//! The library simulates any state machine over our Raft, and any client's code against a cluster of Quorate, in some thirty lines:
//! [`own`]. `sim/examples` has a service and a client, each with a bug that is found and its cure.
//!
//! What a real member did is replayed, too: [`recording`].
//!
//! # What holds here
//!
//! - **One seed, one run.** Whatever is random is drawn from a stream of the seed; nothing reads a real
//!   clock, a thread's number or the order of a hash map. The [`trace`] hash tells.
//! - **Every run is survivable** ([`fault_budget`]), so that liveness can be demanded of it.
//! - **An oracle shares no code with the accused.** Invariants look at outputs and disks; the checker is a
//!   crate of its own.
//!
//! # What is not here
//!
//! Real sockets, TLS and HTTP/2. At the whole depth: writing a run down as a scenario, and the invariants that look into
//! members' logs; there the checker judges, and what can be seen from outside.
#![forbid(unsafe_code)]

pub mod command;
pub mod core;
pub mod coverage;
pub mod env;
pub mod fault_budget;
pub mod history;
pub mod invariants;
pub mod ledger;
pub mod messages;
pub mod mutants;
pub mod nemesis;
pub mod options;
pub mod own;
pub mod page;
pub mod queue;
pub mod random;
pub mod recording;
pub mod report;
pub mod scenario;
pub mod shrink;
pub mod time;
pub mod trace;
pub mod workload;
