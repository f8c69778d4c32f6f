//! The production server of Quorate: tokio adaptors for a node, etcd's services on sockets, and the program's flags.
//!
//! [`Server::start`](server::Server::start) runs a member inside any tokio program; the binary `quorate` is little more
//! than that and a signal handler. What a request means is decided in `quorate-api`, what is agreed upon in
//! `quorate-replica`; here are only the things that touch the outside:
//!
//! - [`clock`], [`disk`], [`network`]: the world as the node's traits want it;
//! - [`http`], `http2` and `grpc`: one port for gRPC and plain HTTP;
//! - [`config`]: etcd's flags and environment variables; [`logging`] and [`metrics`] with etcd's names;
//! - [`aside`]: what becomes of a data directory that the cluster has disowned;
//! - [`flight`]: recordings of what happens to a member;
//! - [`local`]: a cluster on one machine, for trying things out.
#![forbid(unsafe_code)]

pub mod aside;
pub mod clock;
pub mod config;
pub mod disk;
pub mod flight;
mod grpc;
pub mod http;
mod http2;
pub mod local;
pub mod logging;
pub mod metrics;
pub mod network;
pub mod server;
