//! etcd's data model as a pure state machine: keys with all their versions, transactions, leases and
//! watchers.
//!
//! A [`Store`] is what every member of a cluster holds a copy of. It has no clock, no disk, no network and
//! no randomness; it knows nothing of terms or log indexes. It is changed by one method,
//! [`apply`](Store::apply), with one [`Command`] of the log at a time.
//!
//! # Revisions
//!
//! A store is a sequence of states, numbered by [`Revision`]s. The empty store is revision 1. A command
//! that changes a key makes the next revision, however many keys it changes; one that changes none makes
//! none. Every state since the last compaction can be read, and every change since then can be watched.
//!
//! Each put makes a version of its key, a [`KeyValue`], which carries the revision that created the key,
//! its own revision and its number since the creation. A version is allocated once and then shared, by
//! reference count, by the index, the history, every response and every watcher.
//!
//! # What `apply` promises
//!
//! * **It is total.** Whatever can be decoded can be applied: the answer is a [`Response`] or an
//!   [`Error`], never a panic, and recursion is bounded. Commands come from a log that a peer may have
//!   written.
//! * **It is deterministic.** The same commands lead to the same answers and the same state on every
//!   member. What the answer depends on is replicated, alarms included. What is not replicated (watchers,
//!   open exports, garbage that has not been removed yet) affects no answer.
//! * **It is atomic.** A command that is refused has done nothing; there is no error after the first
//!   write (etcd #18667, #18799).
//!
//! [`state_hash`](Store::state_hash) is a checksum over the effects of all commands so far;
//! [`content_hash`](Store::content_hash) one over what is in memory.
//!
//! # How it is built
//!
//! | module | subject |
//! |---|---|
//! | `store` | what each command does |
//! | `mvcc` | versions: the present, the past, the history; ranges; compaction |
//! | `txn` | how a transaction is checked before it is done |
//! | `lease` | leases and their keys |
//! | `member` | the members of the cluster |
//! | `watch` | watchers: cursors over the history, with credit |
//! | `snapshot` | export in parts while writes go on; import that trusts nobody |
//! | `hash`, `alarm` | checksums; what alarms forbid |
//!
//! # Cost
//!
//! With *n* keys, *w* watchers and *m* of them concerned:
//!
//! | what | steps |
//! |---|---|
//! | put, get, delete of a key | O(log n) |
//! | finding whom an event concerns | O(log w + m) |
//! | range of *k* keys | O(log n + k); its count O(n / 64) more, at a past revision O(n) |
//! | compaction | O(1) at once, then bounded work per command until the garbage is gone |
//! | a watcher that starts in the past | the revisions since, or the versions in its range: whichever is less |
//!
//! A key with one version takes about 150 bytes beyond its own and its value's: 112 of them are the
//! version and the headers of its three allocations, the rest its places in index and history. A million
//! keys of 16 bytes with values of 256 take 420 MB. The arithmetic is in `examples/bytes_per_key.rs`,
//! which also measures it. A superseded version takes as much again; its key, once, some 90 bytes in the
//! past.
//!
//! # Where it differs from etcd
//!
//! * Equal elements of a sorted range are in key order, where etcd leaves the order open.
//! * A transaction whose path writes a key twice is refused with [`Error::MalformedTxn`], and so is one
//!   nested deeper than 128. The API layer refuses the former before it gets into the log, as etcd does;
//!   the latter no client can encode.
//! * A lease's remaining time is not replicated: a new leader lets every lease live for its full time.
//! * The checksum of HashKV is equal on equal members, but not the one that etcd would have.
//! * Not here: users and roles; ranges in streams.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod alarm;
mod bytes;
mod command;
mod error;
mod hash;
mod key;
mod key_value;
mod lease;
mod member;
mod mvcc;
mod query;
mod response;
mod revision;
mod snapshot;
mod store;
mod txn;
mod watch;

pub use bytes::Blob;
pub use command::{
    AlarmKind, Branch, Command, Compare, CompareResult, CompareTarget, DeleteRange, Operation, Put, Txn,
};
pub use error::Error;
pub use key::{Key, KeyRange, RangeEnd, Value};
pub use key_value::KeyValue;
pub use member::{Member, MemberChange, Members};
pub use query::{HashPoint, HashQuery, Query, RangeQuery, RevisionFilter, Sort, SortBy, WatchRequest};
pub use response::{
    Applied, Event, EventKind, HashResponse, LeaseResponse, RangeResponse, Response, WatchUpdate,
};
pub use revision::{LeaseId, Revision};
pub use snapshot::{SnapshotCursor, SnapshotHead, SnapshotPart};
pub use store::{ImportError, Store, StoreCopy, WatchId};
