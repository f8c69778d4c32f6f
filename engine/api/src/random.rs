//! Choices that need not be predicted by anybody, from a seed.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_store::LeaseId;

/// A source of ids for new members and for leases whose clients leave the choice to us, and of jitter.
///
/// SplitMix64: a counter and a mixing function that is one to one, so that an id comes again only after
/// all others have.
#[derive(Debug)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(AtomicU64::new(seed))
    }

    /// A positive id.
    pub(crate) fn lease_id(&self) -> LeaseId {
        loop {
            if let Ok(id @ 1..) = i64::try_from(self.number() >> 1) {
                return LeaseId(id);
            }
        }
    }

    /// The id of a member to be. No member has the id zero.
    pub(crate) fn member_id(&self) -> u64 {
        loop {
            if let id @ 1.. = self.number() {
                return id;
            }
        }
    }

    /// Any number.
    pub(crate) fn number(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_are_positive_and_follow_from_the_seed() {
        let ids = |seed| {
            let random = Random::new(seed);
            std::iter::repeat_with(move || random.lease_id()).take(100).collect::<Vec<_>>()
        };
        assert!(ids(1).iter().all(|id| id.0 > 0));
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }
}
