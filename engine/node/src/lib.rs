//! A node is a replica plus I/O.
#![forbid(unsafe_code)]

mod env;
mod handle;

pub use env::{Clock, Disk, File, Network};
pub use handle::{NodeHandle, WatchStream};
