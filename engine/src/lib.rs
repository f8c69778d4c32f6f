//! See ARCHITECTURE.md.
#![forbid(unsafe_code)]
pub mod config;
mod grpc;
pub mod http;
pub mod local;
pub mod logging;
pub mod metrics;
