//! Checksums of what is replicated.
//!
//! Two members that applied the same commands must hold the same state; comparing a number tells. This
//! guards against bugs and failing memory, not against people, so speed decides: one rotation, one
//! exclusive or and one multiplication per eight bytes. Each step is a bijection both of the state and of
//! the word, so that a single differing word is never lost on the way. Such steps wait for each other, so
//! long values are read in four lanes at a time, whose ends are words of the chain in their turn.
//!
//! * The **chain** runs over the effects of commands in the order of the log and costs nothing to read.
//!   Being part of a snapshot it goes on where it was.
//! * The **content hash** runs over the content itself, as a snapshot would export it. It costs a walk
//!   over everything, and finds what has rotted since it was written.

use serde::{Deserialize, Serialize};

use crate::key_value::KeyValue;

/// A running checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksum(pub(crate) u64);

impl Checksum {
    /// Of nothing yet.
    pub(crate) const EMPTY: Checksum = Checksum(0x9e37_79b9_7f4a_7c15);

    pub(crate) fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }

    /// Bytes, with their number: neighbouring fields must not run into each other.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let rest = if bytes.len() < LONG { bytes } else { self.lanes(bytes) };
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        // Little-endian, and fewer than eight: not worth a call to copy them.
        self.word(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }

    /// Many bytes, but for fewer than a row of words at their end, which are given back.
    fn lanes<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut lanes = [1, 2, 3, 4].map(Checksum);
        let (rows, rest) = bytes.as_chunks::<32>();
        for row in rows {
            for (lane, word) in lanes.iter_mut().zip(row.as_chunks::<8>().0) {
                lane.word(u64::from_le_bytes(*word));
            }
        }
        lanes.iter().for_each(|lane| self.word(lane.0));
        rest
    }

    pub(crate) fn version(&mut self, kv: &KeyValue) {
        self.bytes(&kv.key);
        self.bytes(&kv.value);
        self.word(kv.create_revision.0 as u64);
        self.word(kv.mod_revision.0 as u64);
        self.word(kv.version as u64);
        self.word(kv.lease.0 as u64);
    }

    /// The checksum so far, every bit of it depending on every bit that went in.
    pub(crate) fn value(self) -> u64 {
        let mut x = self.0;
        x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ (x >> 32)
    }
}

/// What is worth four lanes.
const LONG: usize = 128;

/// What an effect that is not a version is, so that equal fields of different effects differ.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    Revision = 1,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    Member,
    Alarm,
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn of(bytes: &[u8]) -> u64 {
        let mut checksum = Checksum::EMPTY;
        checksum.bytes(bytes);
        checksum.value()
    }

    #[test]
    fn every_byte_counts_and_so_does_their_number() {
        for len in [0, 1, 7, 8, 9, 31, 32, 127, 128, 129, 160, 167, 1_000] {
            let mut bytes = vec![7; len];
            let whole = of(&bytes);
            for at in 0..len {
                bytes[at] ^= 1 << (at % 8);
                assert_ne!(of(&bytes), whole, "byte {at} of {len}");
                bytes[at] ^= 1 << (at % 8);
            }
            bytes.push(0);
            assert_ne!(of(&bytes), whole, "a zero after {len}");
        }
    }

    #[test]
    fn where_words_stand_counts() {
        let mut bytes = vec![0; 256];
        bytes[0] = 1;
        let first = of(&bytes);
        for at in (8..256).step_by(8) {
            bytes.swap(at - 8, at);
            assert_ne!(of(&bytes), first, "the word at {at}");
        }
    }
}
