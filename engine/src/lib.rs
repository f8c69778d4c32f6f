//! See ARCHITECTURE.md.
#![forbid(unsafe_code)]
pub mod clock;
pub mod config;
pub mod disk;
mod grpc;
pub mod http;
pub mod local;
pub mod logging;
pub mod metrics;
pub mod network;
