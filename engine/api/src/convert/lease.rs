//! Times to live and ids of leases.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_store::LeaseId;

use crate::error::Error;

/// The longest lease in seconds: about 285 years.
const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// The time to live that is granted when `asked` is asked for.
pub(crate) fn grant_ttl(asked: i64, least: i64) -> Result<i64, Error> {
    if asked > LEASE_TTL_MAX {
        return Err(Error::LeaseTtlTooLarge);
    }
    Ok(asked.max(least))
}

/// A source of ids for leases whose clients leave the choice to us.
///
/// SplitMix64: a counter and a mixing function that is one to one, so that an id comes again only after
/// all others have.
#[derive(Debug)]
pub(crate) struct LeaseIds(AtomicU64);

impl LeaseIds {
    pub(crate) fn new(seed: u64) -> LeaseIds {
        LeaseIds(AtomicU64::new(seed))
    }

    /// A positive id.
    pub(crate) fn next(&self) -> LeaseId {
        loop {
            let id = self.next_u64() >> 1;
            if let Ok(id @ 1..) = i64::try_from(id) {
                return LeaseId(id);
            }
        }
    }

    /// Any number.
    pub(crate) fn next_u64(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
