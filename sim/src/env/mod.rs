//! The simulated world under a node: clocks, links and disks that can go wrong.
//!
//! These are plain values that answer questions ("when does this message arrive?", "what is on the disk
//! after a crash?"). They have no executor and no event queue, so both depths of simulation use the same.

pub mod clock;
pub mod disk;
pub mod network;
pub mod wake;
