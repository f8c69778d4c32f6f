//! The write-ahead log: what a member must not forget, in the order in which it learned it.
//!
//! - [`record`] is the format, as functions between values and byte slices. The simulator that has no files
//!   uses it directly.
//! - [`Recovered`] is what records add up to: a hard state and a log.
//! - `Wal` (not public) keeps the records in segment files and prunes them.
//!
//! # What recovery promises
//!
//! Whatever a crash leaves behind, the records found are those of the first *n* writes, for some *n* that
//! is not less than the number of writes that were synced: a write is found whole or not at all, and none
//! before a missing one is missing.
//!
//! # Torn or damaged?
//!
//! After a crash, writes that were not synced may be there, may be gone, or may be there in parts, in any
//! order of their sectors. All of that must be cut off silently. But bytes that *were* synced and have
//! changed since are lost data: cutting them off would make the member forget what it has acknowledged, and
//! a forgetful majority loses committed writes. So the two must be told apart, and a checksum alone cannot
//! do that. Therefore every record says how far its segment was synced when the record was written. A bad
//! record at offset *d* is damage if any record behind it, even a torn one with a whole header, says
//! "synced up to *s*" with *s* > *d*; otherwise all that follows was written in the same unsynced window,
//! and it is a torn tail.
//!
//! What this cannot tell is whether the very last synced window was damaged before anything was written
//! after it: no member can know that from its own disk alone (Alagappan et al., "Protocol-Aware Recovery",
//! FAST 2018).

pub mod record;
mod recovered;
mod segments;

pub use recovered::{Recovered, RecoveredError};
pub(crate) use segments::{Wal, segment_names};
