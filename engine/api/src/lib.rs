//! etcd's services over a node.
//!
//! [`Api`] has one method per RPC: it takes the decoded message, parses it into the store's vocabulary,
//! asks the node and renders the answer. What a client can observe of etcd beyond the wire format is
//! decided here: which requests are refused and with which words, what a header holds, in which order a
//! watch stream says things. No transport and no runtime appear, so the same code serves gRPC
//! (`engine/src/grpc`) and the simulator.
//!
//! - Requests are parsed, not validated: `convert` turns a message into a domain type or an [`Error`],
//!   and nothing behind it sees an empty key or an unknown enum value.
//! - Every error a client can be told is a variant of [`Error`], with etcd's code and text.
//! - A request whose outcome is not known is never retried here.
//!
//! Not here yet: authentication, lock and election services, the JSON gateway.
#![forbid(unsafe_code)]

mod config;
mod convert;
mod error;
mod random;
mod service;
pub mod url;

pub use config::{Config, Limits};
pub use error::{Code, Error};
pub use service::{Api, HealthQuery, Metadata, WatchSession};

/// The version of etcd this server answers like; clients parse it to learn which features they may use.
pub const ETCD_VERSION: &str = "3.6.0";

/// The version of etcd's cluster protocol that the members have agreed on.
pub const CLUSTER_VERSION: &str = "3.6.0";
