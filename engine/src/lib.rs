//! See ARCHITECTURE.md.
#![forbid(unsafe_code)]
pub mod config;
pub mod local;
pub mod logging;
