//! Leases: granted with a time to live, given keys, renewed, asked about, revoked, or left to expire.

use quorate_jepsen::etcd::{Put, Range, Request};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Context;
use crate::client::{Client, Outcome};

/// The life of one lease, up to a random point.
pub async fn step(client: &Client, random: &mut StdRng, context: &Context) {
    let id = context.fresh().cast_signed();
    let ttl = context.ttl + random.random_range(0..3);
    if !matches!(client.ask(Request::LeaseGrant { id, ttl }).await, Outcome::Answered(_)) {
        return;
    }
    for _ in 0..random.random_range(1..6) {
        let key = format!("lease/{}", random.random_range(0..context.keys));
        let value = context.fresh().to_string();
        let request = match random.random_range(0..10) {
            0..4 => Request::Put(Put { lease: id, ..Put::new(key.as_str(), value.as_str()) }),
            4..6 => Request::Range(Range::key(key.as_str())),
            6..8 => Request::LeaseKeepAlive { id },
            8 => Request::LeaseTimeToLive { id },
            _ => Request::LeaseRevoke { id },
        };
        client.ask(request).await;
        tokio::time::sleep(context.pause * 2).await;
    }
    // Half of them are left to expire; some are asked after that.
    if random.random() {
        client.ask(Request::LeaseRevoke { id }).await;
    }
}
