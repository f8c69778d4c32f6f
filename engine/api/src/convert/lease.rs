//! Times to live of leases.

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
