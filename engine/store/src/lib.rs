//! etcd's data model as a pure state machine.
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
    AlarmKind, Branch, Command, Compare, CompareResult, CompareTarget, DeleteRange, MemberAttributes,
    Operation, Put, Txn,
};
pub use error::Error;
pub use key::{Key, KeyRange, RangeEnd, Value};
pub use key_value::KeyValue;
pub use query::{Query, RangeQuery, RevisionFilter, Sort, SortBy, WatchRequest};
pub use response::{Applied, Event, EventKind, LeaseResponse, RangeResponse, Response, WatchUpdate};
pub use revision::{LeaseId, Revision};
pub use snapshot::{SnapshotCursor, SnapshotHead, SnapshotPart};
pub use store::{ImportError, Store, WatchId};
