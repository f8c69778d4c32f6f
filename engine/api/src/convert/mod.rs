//! Between etcd's messages and the store's vocabulary.
//!
//! On the way in, a message becomes a domain type or an error; keys and values are copied once, out of
//! the receive buffer. On the way out, long values are shared, not copied.

mod duplicate_keys;
mod kv;
mod lease;
mod member;
mod response;
#[cfg(test)]
mod tests;
mod txn;
mod watch;

pub(crate) use kv::{compact, delete_range, put, range};
pub(crate) use lease::grant_ttl;
pub(crate) use member::{member, peer_urls};
pub(crate) use response::{event, key_bytes, previous, range_response, txn_responses};
pub(crate) use txn::txn;
pub(crate) use watch::{Rejection, watch};
